"""What runs inside a Modal container: the same use cases as elsewhere, on the paths of the mounted volumes.

The volumes are read after a reload and written with a commit; nothing else reaches them. User's errors are returned
as values, because Modal would repeat a call that raises; a container that is taken away raises KeyboardInterrupt
after its last commit, so that Modal starts the same input again elsewhere.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from attrs import evolve, field, frozen, mutable

from adapters.lora.lora_files import lora_folders
from adapters.modal_cloud.answer_journal import AnswerJournal, clear_journals
from adapters.modal_cloud.cancellation import kept_cancellation
from adapters.modal_cloud.committed_checkpoints import CommittedCheckpointStore
from adapters.modal_cloud.modal_answering import RemoteDecisions, question_keys
from adapters.modal_cloud.modal_messages import QueueObserver, QueueProgressReporter, Updates, kinds_of_share
from adapters.modal_cloud.modal_volumes import Volumes
from adapters.modal_cloud.modal_wire import (
    ELSEWHERE,
    OF,
    bug_to_wire,
    error_to_wire,
    from_wire,
    outcome_to_wire,
    raise_remote_error,
    to_wire,
)
from adapters.modal_cloud.started_calls import Calls, StartedCalls
from application.ports import Interruption, ProgressReporter, TrainingObserver, TrainJob
from application.ports.answering import AnswerRequest
from application.training.encode_share import EncodeShare, balanced_shares
from domain.answers import Answer
from domain.errors import InterruptedRunError, MissingFileError, MoeRouterError, OutOfMemoryError
from entrypoints.backend import Comparison, Evaluation, Questions
from entrypoints.logs import set_up_logs
from entrypoints.on_modal.places import EVALUATION, LORA_DIR, LORA_FOLDERS, THERE
from entrypoints.on_modal.warm import NotHeldError, Warm, take_from_files
from entrypoints.reports.training import TrainingLines
from entrypoints.settings import Places
from entrypoints.wiring.local import LocalApplication
from entrypoints.wiring.local_backend import LocalBackend

if TYPE_CHECKING:
    from adapters.base_model.feature_cache import CachedBase
    from adapters.base_model.transformers_base import LoadedBase
    from adapters.lora.peft_engine import PeftEngine
    from application.answering.check_lora_adapters import LoraCheck
    from application.comparing.compare_adapters import CompareAdapters
    from application.ports import FeatureExtractor, TrainReport
    from application.training.train_router import TrainRouter


_CACHE_BYTES: Final = 1 << 38
"""Size of the feature cache: containers hand features to each other through it, so that few runs must not fill it."""

_FULL: Final = OutOfMemoryError(
    "the container's memory is full",
    hint="--encode-batch or --max-batch with a lower number needs less; or ask for a larger --gpu",
)


@mutable(slots=False)
class ContainerApplication(LocalApplication):
    """The composition root with what differs in a container: progress goes to the caller, checkpoints are committed.

    Attributes:
        updates: the way to the caller.
        volumes: what is read and written.
        warm: what earlier calls have loaded.
        tool_version: the caller's version of this software, for a router's card.
        cached_base: the base model whose features were cached last.
    """

    updates: Updates = field(kw_only=True)
    volumes: Volumes = field(kw_only=True)
    warm: Warm = field(factory=Warm, kw_only=True)
    tool_version: str = field(default="", kw_only=True)
    cached_base: CachedBase | None = field(default=None, init=False)

    @cached_property
    def progress(self) -> ProgressReporter:
        """Progress bars on the caller's side."""
        return QueueProgressReporter(self.updates)

    def train_router(self, interruption: Interruption) -> TrainRouter:
        """The local trainer, whose checkpoints outlive the container."""
        local = super().train_router(interruption)
        checkpoints = CommittedCheckpointStore(local.checkpoints, self.volumes.commit_soon)
        return evolve(local, checkpoints=checkpoints, tool_version=self.tool_version)

    def load_base(self, name_or_path: str | None = None, **options: Any) -> LoadedBase:
        """Load a base model unless it is loaded already; keep for the next container what had to be downloaded."""
        load = super().load_base

        def loaded() -> LoadedBase:
            base = load(name_or_path, **options)
            take_from_files(base)
            print(f"Loaded base model {base.info.name}", file=sys.stderr)
            self.volumes.commit()
            return base

        return self.warm.base(name_or_path, options.get("max_layer"), loaded)

    def feature_extractor(
        self, base: LoadedBase, *, max_tokens: int = 512, use_cache: bool = True
    ) -> FeatureExtractor:
        """Return the features of a loaded base model; others may find those in the cache without loading it."""
        from adapters.base_model.feature_cache import CachedFeatureExtractor

        extractor = super().feature_extractor(base, max_tokens=max_tokens, use_cache=use_cache)
        if not isinstance(extractor, CachedFeatureExtractor):
            return extractor
        self.cached_base = extractor.without_base()
        return evolve(extractor, max_bytes=_CACHE_BYTES)

    def train_on_cached(self, job: TrainJob, base: CachedBase, observer: TrainingObserver) -> TrainReport:
        """Train on features that are cached already, without the base model; raises MissingFeaturesError."""
        from adapters.base_model.feature_cache import CachedFeatureExtractor

        def cached(base_model: str | None, **_options: Any) -> FeatureExtractor:
            return CachedFeatureExtractor(base, self.cache_dir / "features", base.variant)

        return evolve(self.train_router(self.interruption), extractors=cached).train(job, observer)

    def fetch_base(self, name_or_path: str | None) -> None:
        """Bring a base model's files into the cache volume, unless they are there."""
        with self.progress.track("Fetching the base model", None):
            super().fetch_base(name_or_path)
        self.volumes.commit()

    def check_lora_adapters(
        self, base: LoadedBase, folders: Mapping[str, Path], *, allow_twins: bool = False
    ) -> tuple[LoraCheck, PeftEngine]:
        """Prove LoRA adapters, unless those that are loaded are the same."""
        if allow_twins:  # what a comparison holds, nobody else may
            return super().check_lora_adapters(base, folders, allow_twins=True)
        check, engine = self.warm.loras(folders, lambda: self.lora_host(base))
        engine.max_batch = self.max_batch
        return check, engine

    def compare_adapters(self, *args: Any, **options: Any) -> CompareAdapters:
        """Measure on a base model of its own: nothing that it puts in is there for later calls."""
        self.warm.clear()
        compare = super().compare_adapters(*args, **options)
        self.warm.clear()
        return compare

    def trained_on(self, router: Path) -> str | None:
        """Return the base model that a router was trained on; None for the embedded one."""
        from adapters.base_model.embedded_base import EMBEDDED_NAME

        name = self.routers.load(router).card.features.base.name
        return None if name == EMBEDDED_NAME else name

    def call_folder(self, request: Mapping[str, Any]) -> Path:
        """Return the folder for what a call must know when its container is replaced."""
        return self.cache_dir / "calls" / str(request["token"])

    def encode_share(self) -> EncodeShare:
        """Encoding a share of a job's prompts ahead of it."""
        from adapters.datasets.prompt_files import PromptFileReader
        from entrypoints.wiring.training import packaged_companions

        return EncodeShare(self.datasets, PromptFileReader(), self.load_features, packaged_companions())


@frozen(eq=False)
class ContainerBackend(LocalBackend):
    """The container's own process as a place to run: LoRA adapters lie on the checkpoints volume."""

    places: Places = THERE

    def lora_folders(self, questions: Questions) -> dict[str, Path]:
        """Return the LoRA adapters' folders; the volume may lack some, a folder that was asked for none."""
        try:
            found = lora_folders({}, questions.lora_dir or LORA_DIR)
        except MissingFileError:
            if questions.lora_dir is not None:
                raise
            found = {}
        named = {name: found[folder] for name, folder in LORA_FOLDERS.items() if folder in found}
        return named | found | questions.loras


@frozen(eq=False)
class Worker:
    """One call of a function of the app.

    Attributes:
        queue: where the caller listens, or None.
        volumes: what is read and written.
        warm: what earlier calls in this container have loaded.
        application: makes the composition root.
    """

    queue: Any | None
    volumes: Volumes
    warm: Warm = field(factory=Warm)
    application: Callable[..., ContainerApplication] = ContainerApplication

    def train(self, request: dict[str, Any], fit: Calls, encode: Calls) -> dict[str, Any]:
        """Train a router; containers with a GPU encode the prompts, and what needs no GPU is done here.

        Args:
            request: see :func:`adapters.modal_cloud.modal_gpu_trainer.train_request`; with a true ``log`` the
                remote log shows the run, too, although somebody listens.
            fit: calls the app's function ``fit``, which does everything in one place when the features do not come
                through the cache.
            encode: calls the app's function ``encode``.
        """

        def work(app: ContainerApplication) -> dict[str, Any]:
            from adapters.base_model.feature_cache import MissingFeaturesError

            job, verify = from_wire(TrainJob, request["job"]), request["verify"]
            observer, calls = self._observer(app, request), app.call_folder(request)
            if folder := verify.get("folder"):
                ContainerBackend(app).verify(Path(folder), observer, strict=verify["strict"])
            app.fetch_base(job.base_model)
            result: dict[str, Any] = {}
            if job.use_cache:
                started = StartedCalls(encode, calls / "encode.json", app.volumes.commit)
                base = _fan_out(app, request, started)
                with suppress(MissingFeaturesError):  # more than the cache holds
                    result = to_wire(app.train_on_cached(job, base, observer))
            if not result:
                started = StartedCalls(fit, calls / "fit.json", app.volumes.commit)
                started([request], lambda _, fitted: result.update(fitted))
            clear_journals(calls)
            return result

        return self._answer("train", request, work)

    def fit(self, request: dict[str, Any]) -> dict[str, Any]:
        """Train a router in this container."""

        def work(app: ContainerApplication) -> dict[str, Any]:
            job = from_wire(TrainJob, request["job"])
            return to_wire(app.train_router(app.interruption).train(job, self._observer(app, request)))

        return self._answer("fit", request, work)

    def encode(self, request: dict[str, Any]) -> dict[str, Any]:
        """Encode one share of a job's prompts into the feature cache; return of which base model its features are."""

        def work(app: ContainerApplication) -> dict[str, Any]:
            job = from_wire(TrainJob, request["job"])
            report = app.encode_share()(job, request["share"], request["shares"])
            print(f"Encoded {report.prompts} prompts at {report.taps} layers")
            return to_wire(app.cached_base)

        return self._answer("encode", request, work)

    def evaluate(self, request: dict[str, Any]) -> dict[str, Any]:
        """Score a router, and keep the figures on the output volume."""

        def work(app: ContainerApplication) -> dict[str, Any]:
            from entrypoints.reports.evaluation import as_text, as_values
            from entrypoints.reports.printing import json_bytes

            report = ContainerBackend(app).evaluate(from_wire(Evaluation, request))
            app.write_file(EVALUATION, json_bytes(as_values(report)))
            if app.updates.queue is None and request.get("log", True):
                print(f"{as_text(report)}\nSaved {EVALUATION}")
            return to_wire(report)

        return self._answer("evaluate", request, work)

    def compare(self, request: dict[str, Any]) -> dict[str, Any]:
        """Measure LoRA adapters by reference answers."""

        def work(app: ContainerApplication) -> dict[str, Any]:
            return to_wire(ContainerBackend(app).compare(from_wire(Comparison, request)))

        return self._answer("compare", request, work)

    def infer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Route prompts, and answer them unless only routing is asked for.

        A share of a larger request has ``positions`` there, and the number ``share``.
        """

        def work(app: ContainerApplication) -> dict[str, Any]:
            asked, here = from_wire(Questions, request), ContainerBackend(app)
            if request.get("route_only"):
                decisions = RemoteDecisions(tuple(here.deciding(asked)(asked.prompts)))
                return {**to_wire(decisions), "keys": question_keys(request)}
            share, folder = request.get("share"), app.call_folder(request)
            positions = request.get("positions") or range(len(asked.prompts))
            about = {} if share is None else {"share": share}
            journal = AnswerJournal(folder / f"{share or 0}.jsonl", app.volumes.commit, request["commit_seconds"])
            given: dict[int, Answer | MoeRouterError] = {**journal.read()}
            if given:
                print(f"Going on: {len(given)} of {len(asked.prompts)} prompts have been answered", file=sys.stderr)
            try:
                for index, outcome in _outcomes(here, asked, frozenset(given)):
                    wired = outcome_to_wire(outcome)
                    app.updates.send({"kind": "answer", "index": positions[index], "outcome": wired, **about})
                    if not isinstance(outcome, MoeRouterError):
                        journal.keep(index, outcome)
                    given[index] = outcome
            except SystemExit:  # a signal: the container goes away
                journal.write()
                raise
            if share is None and folder.exists():
                clear_journals(folder)
                app.volumes.commit()
            every = [outcome_to_wire(given[index]) for index in range(len(asked.prompts))]
            return {"outcomes": every, "keys": question_keys(request)}

        return self._answer("infer", request, work, writes=False)

    def infer_in_shares(self, request: dict[str, Any], infer: Calls) -> dict[str, Any]:
        """Answer prompts in ``shares`` containers at the same time; `infer` calls the method of this name."""

        def work(app: ContainerApplication) -> dict[str, Any]:
            asked, folder = from_wire(Questions, request), app.call_folder(request)
            app.fetch_base(asked.base_model or app.trained_on(asked.router))
            prompts = asked.prompts
            shares = balanced_shares([len(repr(prompt.chat)) for prompt in prompts], request["shares"])
            shares = [share for share in shares if share]
            requests = [
                {
                    **request,
                    **to_wire(evolve(asked, prompts=tuple(prompts[index] for index in share))),
                    "share": number,
                    "positions": share,
                }
                for number, share in enumerate(shares)
            ]
            outcomes: dict[int, dict[str, Any]] = {}

            def take(number: int, result: dict[str, Any]) -> None:
                raise_remote_error(result)
                outcomes.update(zip(shares[number], result["outcomes"], strict=True))

            StartedCalls(infer, folder / "calls.json", app.volumes.commit)(requests, take)
            app.volumes.reload()  # what the shares have written
            clear_journals(folder)
            return {"outcomes": [outcomes[index] for index in range(len(prompts))], "keys": question_keys(request)}

        return self._answer("infer", request, work)

    def _observer(self, app: ContainerApplication, request: Mapping[str, Any]) -> TrainingObserver:
        log = TrainingLines(print).on_event if self.queue is None or request.get("log") else None
        return QueueObserver(app.updates, log)

    def _answer(
        self,
        command: str,
        request: dict[str, Any],
        work: Callable[[ContainerApplication], dict[str, Any]],
        *,
        writes: bool = True,
    ) -> dict[str, Any]:
        """Do the work of a command between a reload and, if it `writes` without committing, a commit."""
        set_up_logs()  # unconfigured, structlog would print debug lines into the remote log
        with kept_cancellation() as check:
            return {**self._result(check, request, work, writes), OF: command}

    def _result(
        self,
        check: Callable[[], None],
        request: dict[str, Any],
        work: Callable[[ContainerApplication], dict[str, Any]],
        writes: bool,
    ) -> dict[str, Any]:
        share = request.get("share")
        only = None if share is None else kinds_of_share(request["shares"])
        app = self.application(
            updates=Updates(self.queue, only=only, check=check),
            volumes=self.volumes,
            warm=self.warm,
            encode_batch=request.get("encode_batch"),
            max_batch=request.get("max_batch"),
            tool_version=request.get("tool_version", ""),
        )
        about = {"kind": "started"} if share is None else {"kind": "share", "share": share}
        app.updates.send({**about, "container": os.environ.get("MODAL_TASK_ID", "")}, now=True)
        self._reload()
        try:
            with app.interruption():
                result = work(app)
        except InterruptedRunError as error:
            raise KeyboardInterrupt from error  # Modal starts the input again in another container
        except NotHeldError as error:
            result = {ELSEWHERE: str(error)}
        except MoeRouterError as error:
            result = error_to_wire(_with_data_sets(error))
        except Exception as error:
            traceback.print_exc()  # into the remote log: Modal would repeat a call that raises, and bugs stay bugs
            result = error_to_wire(_FULL) if _is_full(error) else bug_to_wire(error)
        finally:
            if writes:
                app.volumes.commit()
        app.updates.send({"kind": "finished"}, now=True)
        return result

    def _reload(self) -> None:
        """Bring in what others have committed; weights that are still read from their files must go for that."""
        try:
            self.volumes.reload(but_busy=self.warm.pinned)
        except RuntimeError:  # modal's error for a volume with open files
            if self.warm.is_empty:
                raise
            self.warm.clear()
            self.volumes.reload()


def _is_full(error: Exception) -> bool:
    """Whether memory ran out, the container's or, in torch's words, the GPU's."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def _outcomes(
    here: ContainerBackend, asked: Questions, done: frozenset[int]
) -> Iterator[tuple[int, Answer | MoeRouterError]]:
    """Answer what is not done; nothing is loaded where all is."""
    if len(done) < len(asked.prompts):
        yield from here.answering(asked).stream(AnswerRequest(asked.prompts, asked.options, asked.policy, done))


def _fan_out(app: ContainerApplication, request: Mapping[str, Any], encode: StartedCalls) -> CachedBase:
    """Have the prompts of a job encoded; return the base model that did it."""
    from adapters.base_model.feature_cache import CachedBase

    shares = request["encode_shards"]
    asked = {key: request.get(key) for key in ("job", "encode_batch")}
    requests = [{**asked, "share": share, "shares": shares} for share in range(shares)]
    found: list[CachedBase] = []
    several = app.progress.track(f"Encoding prompts in {shares} containers", shares)
    with several if shares > 1 else nullcontext() as task:  # a single one tells of its own progress

        def take(_share: int, result: dict[str, Any]) -> None:
            raise_remote_error(result)
            found.append(from_wire(CachedBase, result))
            if task is not None:
                task.advance()

        encode(requests, take)
    app.volumes.reload()
    return found[0]


def _with_data_sets(error: MoeRouterError, folder: Path = THERE.dataset.parent) -> MoeRouterError:
    """Return the error; when it is about a data set that is not there, with those that are."""
    where = Path(error.where or "")
    if not isinstance(error, MissingFileError) or folder not in where.parents or _data_set(where, folder).is_dir():
        return error
    found = sorted(path.parent.name for path in folder.glob("*/train.jsonl"))
    return MissingFileError(error.what, where=error.where, hint=f"data sets there: {', '.join(found) or 'none'}")


def _data_set(path: Path, folder: Path) -> Path:
    return folder / path.relative_to(folder).parts[0]
