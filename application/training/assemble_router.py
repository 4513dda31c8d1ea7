"""From a trained head to a router: calibration, the card, the file."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

from application.ports import (
    Clock,
    LabelledFeatures,
    RouterCalibrator,
    RouterStore,
    TrainedRouter,
    TrainJob,
    UncalibratedRouter,
)
from application.training.choose_features import ChosenFeatures
from application.training.fit_head import FittedHead
from application.training.training_data import TrainingData
from domain.features import Matrix
from domain.router import RouterCard
from domain.samples import RoutingSample


@frozen
class RouterAssembly:
    """Makes and saves routers.

    Attributes:
        calibrator: fits confidence and abstention.
        routers: where routers go.
        clock: tells when the router was made.
        tool_version: version of this software.
    """

    calibrator: RouterCalibrator
    routers: RouterStore
    clock: Clock
    tool_version: str

    def __call__(
        self, job: TrainJob, data: TrainingData, chosen: ChosenFeatures, fitted: FittedHead
    ) -> tuple[Path, RouterCard, tuple[str, ...]]:
        """Calibrate and save; return the file to load the router from, its card, and notes for people.

        Raises:
            StorageError: the file system refused.
        """
        assert fitted.tensors is not None, "there is no head to assemble"
        n_train, n_labelled = len(data.train), len(data.train) + len(data.val)
        calibration = self.calibrator.calibrate(
            UncalibratedRouter(data.labels, chosen.spec, fitted.kind, fitted.tensors, fitted.left_out),
            _labelled(chosen.matrix[:n_train], data.train),
            _labelled(chosen.matrix[n_train:n_labelled], data.val),
            target_error=job.options.target_error,
            out_of_scope=chosen.matrix[n_labelled:] if data.out_of_scope else None,
        )
        card = RouterCard(
            labels=data.labels,
            features=chosen.spec,
            head=fitted.kind,
            temperature=calibration.temperature,
            thresholds=calibration.thresholds,
            target_error=job.options.target_error,
            seed=job.options.seed,
            n_train=n_train,
            n_val=len(data.val),
            val_accuracy=fitted.state.best_accuracy,
            dataset=data.dataset,
            dataset_sha256=data.sha256,
            created_at=self.clock.now().isoformat(),
            tool_version=self.tool_version,
            turn=data.turn,
        )
        router = TrainedRouter(card, {**fitted.tensors, **calibration.tensors}, calibration.bank_texts)
        return self.routers.save(router, job.router_out), card, calibration.notes


def _labelled(features: Matrix, rows: tuple[RoutingSample, ...]) -> LabelledFeatures:
    return LabelledFeatures(features, tuple(row.label for row in rows), tuple(row.text for row in rows))
