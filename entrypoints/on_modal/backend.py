"""Modal as a place to run: containers with a GPU do the work, this process follows them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import evolve, frozen

from domain.errors import MissingFileError, UsageError
from entrypoints.backend import Comparison, Deciding, Evaluation, Questions, StartedRun, Where, setting
from entrypoints.on_modal.places import (
    MOST_SHARED,
    OUTPUT,
    ROUTER_WITH_TORCH_FILE,
    THERE,
    VOLUMES,
    read_path,
    shared_tags,
    written_path,
)
from entrypoints.on_modal.wiring import ModalParts
from entrypoints.settings import DataFiles, Places, Training
from entrypoints.version import tool_version

if TYPE_CHECKING:  # every command pays for what is imported here
    from adapters.modal_cloud.modal_answering import ModalAnswering
    from adapters.modal_cloud.modal_gpu_trainer import ModalGpuTrainer
    from application.comparing.compare_report import CompareReport
    from application.ports import TrainingObserver, TrainJob, TrainReport
    from application.ports.answering import AnswerRequest
    from application.routing.evaluate_router import EvaluateReport
    from domain.answers import Prompt
    from domain.routing import RoutingDecision

Report = TypeVar("Report")


def open_backend(app: ModalParts, where: Where) -> ModalBackend:
    """Return Modal as a backend; nothing is contacted before it is used."""
    return ModalBackend(app, where)


@frozen(eq=False)
class ModalBackend:
    """A :class:`entrypoints.backend.Backend` whose work the app's functions do; paths are their containers'.

    Attributes:
        app: knows how to call Modal.
        where: the options of the command line.
        places: where things are in a container.
        is_here: False, its files are the containers'.
        least_at_a_time: see the protocol.
    """

    app: ModalParts
    where: Where
    places: Places = THERE
    is_here: bool = False
    least_at_a_time: int = 4096

    def train(self, request: Training, observer: TrainingObserver) -> TrainReport:
        """Train in a container, or wait for the run that was asked for by its id."""
        if self.where.attach is not None:
            return self._trainer().attach(self.where.attach)
        return self._trainer(request).train(self._job(request), observer)

    def start(self, request: Training) -> StartedRun:
        """Start a run in a container and leave it to itself."""
        job = self._job(request)
        started = self._trainer(request).start(job)
        follow = f"modal app logs {started.app_id}"
        return StartedRun(started.call_id, started.app_id, job.router_out, follow, self.fetch_command(job.router_out))

    def fetch_command(self, router: Path) -> str:
        """Return the command that brings a router here, in the form that this software reads."""
        there = router.with_suffix(THERE.router.suffix)
        volume = [] if there.is_relative_to("/output") else ["--volume", VOLUMES[f"/{there.parts[1]}"]]
        return " ".join(["moe-router download", there.relative_to(f"/{there.parts[1]}").as_posix(), *volume])

    @contextmanager
    def logs(self, log_dir: Path | None) -> Iterator[Path]:
        """Give copies of the logs on the output volume, which grow as runs commit; raises RemoteError."""
        from tempfile import TemporaryDirectory

        from adapters.metrics.tensorboard_mirror import RemoteLogs

        there = written_path(log_dir or self.places.log_dir, "the TensorBoard logs").relative_to("/output")
        with TemporaryDirectory(prefix="moe-router-logs-") as here:
            mirror = RemoteLogs(self.app.modal_volume(OUTPUT), there.as_posix(), Path(here))
            with mirror.followed() as found:
                if not found:
                    raise MissingFileError(
                        "no TensorBoard logs", where=f"{OUTPUT}:{there}", hint="train with --backend modal first"
                    )
                yield Path(here)

    def evaluate(self, request: Evaluation) -> EvaluateReport:
        """Score in a container, which keeps the figures on its volume as well."""
        from application.routing.evaluate_router import EvaluateReport

        asked = evolve(
            request,
            router=read_path(request.router, "the router", "/output"),
            data=_data(request.data),
            out_of_scope=request.out_of_scope and read_path(request.out_of_scope, "the file of prompts"),
        )
        return self._call("evaluate", asked, EvaluateReport, shared=self._shared(asked))

    def compare(self, request: Comparison) -> CompareReport:
        """Measure in a container: LoRA adapters are looked for in ``/checkpoints``."""
        from application.comparing.compare_report import CompareReport

        if request.upstream is not None:
            raise UsageError("--upstream goes without --backend modal")
        asked = evolve(
            request,
            dataset_dir=read_path(request.dataset_dir, "the data set"),
            router=request.router and read_path(request.router, "the router", "/output"),
            lora_dir=request.lora_dir and read_path(request.lora_dir, "--lora-dir", "/checkpoints"),
            loras={
                name: read_path(path, f"LoRA adapter {name}", "/checkpoints") for name, path in request.loras.items()
            },
        )
        return self._call("compare", asked, CompareReport)

    def check(self, questions: Questions) -> None:
        """Raise UsageError for images, which would have to travel, and for paths that no container sees."""
        self._placed(questions)
        if any(prompt.images for prompt in questions.prompts):
            raise UsageError(
                "images cannot be sent to Modal", hint="answer prompts with images here, with --backend local"
            )

    def deciding(self, questions: Questions) -> Deciding:
        """Return routing in a container, which loads everything when it is asked."""
        from adapters.modal_cloud.modal_answering import RemoteDecisions

        def decide(prompts: Sequence[Prompt]) -> Sequence[tuple[str, RoutingDecision]]:
            asked = evolve(questions, prompts=tuple(prompts))
            self.check(asked)
            placed = self._placed(asked)
            more = {"route_only": True, "shared": self._shared(placed)}
            return self._call("infer", placed, RemoteDecisions, **more).decisions

        return decide

    def answering(self, questions: Questions) -> ModalAnswering:
        """Return answering in a container, which loads everything when it is asked."""
        from adapters.modal_cloud.modal_answering import ModalAnswering
        from adapters.modal_cloud.modal_wire import to_wire

        def ask(request: AnswerRequest) -> dict[str, Any]:
            asked = evolve(questions, prompts=request.prompts, options=request.options)
            self.check(asked)
            placed = self._placed(asked)
            return self._request({**to_wire(placed), "shares": self.where.shards, "shared": self._shared(placed)})

        jobs, where = self.app.modal_jobs(self.where), self.where
        return ModalAnswering(jobs, self.app.progress, ask, where.shards, where.attach)

    def setting(self, questions: Questions) -> str:
        """Return a hash over the paths and options; what lies at the paths is not looked at."""
        return setting("modal", evolve(questions, prompts=()))

    def _trainer(self, request: Training | None = None) -> ModalGpuTrainer:
        from adapters.modal_cloud.modal_gpu_trainer import ModalGpuTrainer

        return ModalGpuTrainer(
            self.app.modal_jobs(self.where),
            self.app.progress,
            tool_version(),
            self.where.encode_shards,
            self.app.settings.commit_seconds,
            self.where.encode_batch,
            None if request is None else self._verification(request),
        )

    def _verification(self, request: Training) -> dict[str, Any]:
        """Return which data set is to be checked: files that are named one by one are none."""
        data, default = request.data, self.places.dataset
        folder = data.dataset_dir or (default if data.data_path is None and data.eval_data_path is None else None)
        return {"folder": folder and str(read_path(folder, "the data set")), "strict": request.verify}

    def _job(self, request: Training) -> TrainJob:
        asked = evolve(
            request,
            data=_data(request.data),
            router_out=written_path(request.router_out or ROUTER_WITH_TORCH_FILE, "the router"),
            log_dir=request.log_dir and written_path(request.log_dir, "the TensorBoard logs"),
            out_of_scope=request.out_of_scope and read_path(request.out_of_scope, "the file of prompts"),
        )
        return asked.job(self.places, is_file=lambda _path: True)  # whether it is there is found out there

    def _call(self, function: str, request: object, report: type[Report], **more: Any) -> Report:
        from adapters.modal_cloud.modal_answering import require_about
        from adapters.modal_cloud.modal_messages import Relay
        from adapters.modal_cloud.modal_wire import from_wire, to_wire

        jobs, asked = self.app.modal_jobs(self.where), self._request({**to_wire(request), **more})
        if self.where.attach is not None:
            result = jobs.attach(function, self.where.attach)
            require_about(asked, result, self.where.attach)
        else:
            with Relay(self.app.progress) as relay:
                result = jobs.run(function, asked, relay)
        return from_wire(report, result)

    def _shared(self, asked: Evaluation | Questions) -> dict[str, str] | None:
        """Return which endpoint may do this with what it has loaded; None when it needs a container of its own."""
        if self.where != Where("modal"):
            return None
        if not isinstance(asked, Questions):
            return {"router": shared_tags(asked.router, asked.base_model, None)["router"]}
        if asked.loras or len(asked.prompts) > MOST_SHARED:
            return None
        return shared_tags(asked.router, asked.base_model, asked.lora_dir)

    def _request(self, request: dict[str, Any]) -> dict[str, Any]:
        return {
            **request,
            "encode_batch": self.where.encode_batch,
            "max_batch": self.where.max_batch,
            "commit_seconds": self.app.settings.commit_seconds,
            "token": token_hex(8),
        }

    @staticmethod
    def _placed(questions: Questions) -> Questions:
        return evolve(
            questions,
            router=read_path(questions.router, "the router", "/output"),
            lora_dir=questions.lora_dir and read_path(questions.lora_dir, "--lora-dir", "/checkpoints"),
            loras={
                name: read_path(path, f"LoRA adapter {name}", "/checkpoints")
                for name, path in questions.loras.items()
            },
        )


def _data(data: DataFiles) -> DataFiles:
    """Return which rows a container reads: none of its own choice, so relative paths cannot be meant."""
    return DataFiles(
        *(
            path and read_path(path, "the data set")
            for path in (data.dataset_dir, data.data_path, data.eval_data_path)
        )
    )
