"""What a training run leaves in checkpoints, and how it finds itself again in them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path

from attrs import evolve, field, frozen

from application.ports import Checkpoint, CheckpointStore, HeadSession, TrainJob
from application.ports.checkpoints import Scalar
from application.training.choose_features import ChosenFeatures
from application.training.training_data import TrainingData
from application.training.training_loop import LoopState
from domain.early_stopping import EarlyStopState
from domain.features import BaseModel, FeatureSpec, Matrix, Pooling
from domain.training import StopReason

FORMAT = 3
"""Part of every key: raise it when checkpoints of older versions must not be resumed."""

_FEATURES = "features"
_HEAD = "head"


def checkpoint_folder(router_out: Path) -> Path:
    """Return the folder beside the router that keeps the checkpoints while it is being trained."""
    return router_out.with_name(f"{router_out.name}.checkpoint")


def job_key(job: TrainJob, data: TrainingData, base: BaseModel) -> str:
    """Return what decides the result of a job's loop, hashed: data, base model, options; not where things lie."""
    options = evolve(job.options, target_error=0.0)  # matters after the loop only
    parts = (
        FORMAT,
        data.sha256,
        data.prompts.texts,
        data.prompts.n_given,
        str(data.labels),
        base.fingerprint,
        repr(options),
    )
    return hashlib.sha256(repr(parts).encode("utf-8", "backslashreplace")).hexdigest()


@frozen
class RunCheckpoints:
    """The checkpoints of one run.

    Attributes:
        store: keeps them.
        folder: where.
        key: whose they are, see :func:`job_key`.
    """

    store: CheckpointStore
    folder: Path
    key: str

    def save_features(self, chosen: ChosenFeatures, run_name: str) -> None:
        """Keep the run's features, so that a resumed run sees the same bits, whatever became of the feature cache.

        Args:
            chosen: the features.
            run_name: name of the run's metrics folder, which a resumed run goes on with.
        """
        values: dict[str, Scalar] = {
            "layers": "+".join(map(str, chosen.spec.layers)),
            "pooling": str(chosen.spec.pooling),
            "max_tokens": chosen.spec.max_tokens,
            "run_name": run_name,
        }
        self.store.save(self.folder, _FEATURES, Checkpoint(self.key, values, {"features": chosen.matrix}))

    def load_features(self, base: BaseModel) -> tuple[ChosenFeatures, str] | None:
        """Return the features and the run's name as they were kept, if they were."""
        kept = self.store.load(self.folder, _FEATURES, self.key)
        if kept is None or not math.isfinite(float(kept.tensors["features"].sum())):
            return None
        layers = tuple(int(layer) for layer in str(kept.values["layers"]).split("+"))
        spec = FeatureSpec(base, layers, Pooling(str(kept.values["pooling"])), int(kept.values["max_tokens"] or 0))
        return ChosenFeatures(spec, kept.tensors["features"]), str(kept.values["run_name"])

    def save_head(self, kind: str, session: HeadSession, state: LoopState, best: Mapping[str, Matrix]) -> None:
        """Keep everything that the loop needs to go on."""
        values: dict[str, Scalar] = {
            "kind": kind,
            "learning_rate": state.early.learning_rate,
            "best_loss": state.early.best_loss,
            "waited": state.early.waited,
            "reductions": state.early.reductions,
            "step": state.step,
            "best_accuracy": state.best_accuracy,
            "best_step": state.best_step,
            "loss_sum": state.loss_sum,
            "correct": state.correct,
            "rows": state.rows,
            "started": state.started,
            "reason": state.reason,
        }
        tensors = {f"session:{name}": value for name, value in session.snapshot().items()}
        tensors |= {f"best:{name}": value for name, value in best.items()}
        self.store.save(self.folder, _HEAD, Checkpoint(self.key, values, tensors))

    def load_head(self) -> SavedHead | None:
        """Return the loop's last checkpoint, if there is one."""
        kept = self.store.load(self.folder, _HEAD, self.key)
        return None if kept is None else SavedHead(kept)

    def clear(self) -> None:
        """Forget the run: it is complete."""
        self.store.clear(self.folder)


@frozen(eq=False)
class SavedHead:
    """A loop's checkpoint, read back.

    Attributes:
        kind: kind of head.
        state: where the loop stands.
        session: snapshot of the head session.
        best: the best weights so far; empty when nothing improved.
    """

    _checkpoint: Checkpoint = field()

    @property
    def kind(self) -> str:
        """Kind of head."""
        return str(self._checkpoint.values["kind"])

    @property
    def state(self) -> LoopState:
        """Where the loop stands."""
        values = self._checkpoint.values
        early = EarlyStopState(
            learning_rate=float(values["learning_rate"] or 0),
            best_loss=float(values["best_loss"] or 0),
            waited=int(values["waited"] or 0),
            reductions=int(values["reductions"] or 0),
        )
        reason, best_step = values["reason"], values["best_step"]
        return LoopState(
            early=early,
            step=int(values["step"] or 0),
            best_accuracy=float(values["best_accuracy"] or 0),
            best_step=None if best_step is None else int(best_step),
            loss_sum=float(values["loss_sum"] or 0),
            correct=int(values["correct"] or 0),
            rows=int(values["rows"] or 0),
            started=bool(values["started"]),
            reason=None if reason is None else StopReason(str(reason)),
        )

    @property
    def session(self) -> dict[str, Matrix]:
        """Snapshot of the head session."""
        return self._tensors("session:")

    @property
    def best(self) -> dict[str, Matrix]:
        """The best weights so far; empty when nothing improved."""
        return self._tensors("best:")

    def _tensors(self, prefix: str) -> dict[str, Matrix]:
        tensors = self._checkpoint.tensors.items()
        return {name.removeprefix(prefix): value for name, value in tensors if name.startswith(prefix)}
