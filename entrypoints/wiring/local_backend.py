"""This process as a place to run."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import evolve, frozen

from domain.errors import DataRejectedError, MissingFileError, UsageError
from entrypoints.backend import Comparison, Deciding, Evaluation, Questions, StartedRun, Where, setting
from entrypoints.settings import HERE, Places, Training
from entrypoints.wiring.local import LocalApplication

if TYPE_CHECKING:  # every command pays for what is imported here
    from application.answering.answer_prompts import AnswerPrompts
    from application.comparing.compare_report import CompareReport
    from application.ports import TrainedRouter, TrainingObserver, TrainReport
    from application.routing.evaluate_router import EvaluateReport
    from application.routing.route_prompts import RoutePrompts
    from domain.answers import Prompt
    from domain.routing import RoutingDecision


def open_backend(app: LocalApplication, where: Where) -> LocalBackend:
    """Return this process as a backend; raises UsageError for options that it would ignore."""
    where.refuse_remote_options()
    app.encode_batch, app.max_batch = where.encode_batch, where.max_batch
    return LocalBackend(app)


@frozen(eq=False)
class LocalBackend:
    """A :class:`entrypoints.backend.Backend` that works in this process.

    Attributes:
        app: builds the use cases.
        places: where things are unless a request says otherwise.
        is_here: True, its files are this machine's.
        least_at_a_time: 1, what is loaded stays loaded.
    """

    app: LocalApplication
    places: Places = HERE
    is_here: bool = True
    least_at_a_time: int = 1

    def train(self, request: Training, observer: TrainingObserver) -> TrainReport:
        """Train here; what cannot be written or read is an error before seconds of imports."""
        job = request.job(self.places)
        self.app.routers.check_target(job.router_out)
        self._read_once(request.out_of_scope)
        if request.data.dataset_dir is not None:
            self.verify(request.data.dataset_dir, observer, strict=request.verify)
        return self.app.train_router(self.app.interruption).train(job, observer)

    def _read_once(self, prompts: Path | None) -> None:
        """Raise what keeps a file of prompts from being read; a pipe can be read only once, later."""
        if prompts is not None and str(prompts) != "-" and not prompts.is_fifo():
            self.app.prompt_reader.read_prompts(prompts)

    def verify(self, folder: Path, observer: TrainingObserver, *, strict: bool) -> None:
        """Refuse, or warn of, a data set of ours that `verify` rejects; other rows are taken as they are."""
        from domain.training_events import Noted

        try:
            ours = "schema_version" in self.app.datasets.read_metadata(folder)
        except MissingFileError:
            ours = False
        if not ours or (report := self.app.verify_dataset()(folder)).passed:
            return
        failed = "; ".join(f"{one.name}: {one.detail}" for one in report.checks if one.outcome == "failed")
        if strict:
            raise DataRejectedError(
                f"the data set cannot be trusted ({failed})",
                where=folder,
                hint=f"look into it with moe-router verify {folder}, make it anew, or train on it with --no-verify",
            )
        observer.on_event(Noted(f"warning: the data set cannot be trusted ({failed})"))

    def start(self, request: Training) -> StartedRun:
        """Raise UsageError: this process ends with its command."""
        raise UsageError("--detach belongs to --backend modal")

    def fetch_command(self, router: Path) -> None:
        """Return None: it is here."""

    @contextmanager
    def logs(self, log_dir: Path | None) -> Iterator[Path]:
        """Give the folder itself; raises MissingFileError when it is not there."""
        folder = log_dir or self.places.log_dir
        if not folder.is_dir():
            hint = "train a router first, or name the folder that its runs are in"
            raise MissingFileError("no such folder of TensorBoard logs", where=folder, hint=hint)
        yield folder

    def evaluate(self, request: Evaluation) -> EvaluateReport:
        """Score here."""
        from application.routing.evaluate_router import EvaluateRequest

        path = request.data.evaluation(self.places.dataset)
        self._read_once(request.out_of_scope)
        router = self.app.routers.load(request.router)
        base = self.app.read_with(request.router, request.base_model)
        evaluate = self.app.evaluate_router(router, base_model=base, use_cache=request.use_cache)
        return evaluate(EvaluateRequest(path, request.out_of_scope, request.robustness))

    def compare(self, request: Comparison) -> CompareReport:
        """Measure here."""
        from application.comparing.compare_report import CompareRequest

        asked = CompareRequest(
            request.dataset_dir, request.samples, request.own_system, request.generation, request.seed
        )
        answers = self.app.datasets.read_answers(request.dataset_dir)  # before anything slow
        router = None if request.router is None else self.app.routers.load(request.router)
        labels = () if router is None else router.card.labels.names
        names = dict.fromkeys((*labels, *sorted(one.adapter for one in answers)))
        if request.upstream is not None:
            return self.app.compare_upstream(self._route(request, router), request.upstream, tuple(names))(asked)
        folders = self.lora_folders(Questions(Path(), lora_dir=request.lora_dir, loras=request.loras))
        folders = _distinct(folders, {*names, *request.loras})
        if not folders:
            raise UsageError("no LoRA adapters to compare", hint="name them with --lora-dir or --lora NAME=PATH")
        base_model = request.base_model or (self.places.base_model if router is None else None)
        return self.app.compare_adapters(router, folders, base_model, use_cache=request.use_cache)(asked)

    def _route(self, request: Comparison, router: TrainedRouter | None) -> RoutePrompts | None:
        if request.router is None or router is None:
            return None
        return self.app.route_prompts(router, base_model=self.app.read_with(request.router, request.base_model))

    def check(self, questions: Questions) -> None:
        """Raise unless router and LoRA adapters are there and named as the router names them."""
        self._named(questions)

    def deciding(self, questions: Questions) -> Deciding:
        """Load router and base model."""
        from application.routing.route_prompts import RouteRequest
        from domain.chats import routing_text

        router = self.app.routers.load(questions.router)
        base = self.app.read_with(questions.router, questions.base_model)
        route = self.app.route_prompts(router, base_model=base)
        asked = RouteRequest(
            (), disabled=frozenset(questions.disabled), thresholds=questions.limits.over(router.card.thresholds)
        )

        def decide(prompts: Sequence[Prompt]) -> list[tuple[str, RoutingDecision]]:
            texts = tuple(routing_text(prompt.chat, router.card.turn) for prompt in prompts)
            return list(zip(texts, route(evolve(asked, prompts=texts)), strict=True))

        return decide

    def answering(self, questions: Questions) -> AnswerPrompts:
        """Load router, base model and LoRA adapters."""
        router, folders = self._named(questions)
        return self.app.answer_prompts(router, folders, questions.base_model, policy=questions.policy)

    def setting(self, questions: Questions) -> str:
        """Return a hash over the router's bytes, the LoRA adapters' bytes, and the options."""
        from adapters.lora.lora_files import contents

        router, folders = self._named(questions)
        disabled = sorted(set(questions.disabled))
        how = (questions.options, questions.fallback, disabled, questions.limits)
        return setting(router.sha256, contents(folders), *how)

    def lora_folders(self, questions: Questions) -> dict[str, Path]:
        """Return the folders of the LoRA adapters by name; raises MissingFileError."""
        from adapters.lora.lora_files import lora_folders

        return lora_folders(questions.loras, questions.lora_dir)

    def _named(self, questions: Questions) -> tuple[TrainedRouter, dict[str, Path]]:
        folders = self.lora_folders(questions)
        router = self.app.routers.load(questions.router)
        for name in questions.loras:
            if name != questions.policy.fallback.adapter:
                router.card.labels.label_of(name)  # a mistyped --lora must not go unnoticed
        return router, folders


def _distinct(folders: Mapping[str, Path], named: Collection[str]) -> dict[str, Path]:
    """Return folders by name without the names that are not `named`, of a folder that has another name, too."""
    paths = [*folders.values()]
    return {name: path for name, path in folders.items() if name in named or paths.count(path) == 1}
