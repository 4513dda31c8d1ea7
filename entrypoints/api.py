"""The door for other programs: generate, train, evaluate, route and answer, each in a few lines.

    from entrypoints.api import open_answering, open_router

    router = open_router("router-head.safetensors")
    print(router.route("Open June 30").adapter)

    async with open_answering("router-head.safetensors", loras="loras") as answers:
        answer = await answers.answer("Open June 30")

What is stable is what :data:`__all__` lists: these names, their parameters and the attributes of what they return
change only with a new minor version while the project is below 1.0, and the changelog says so. Everything else
(modules, ports, wiring) may move at any time.

Importing this module loads no model library. What reads the environment is said in ``docs/embedding.md``.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import field, frozen

from application.datasets.dataset_request import GenerateReport, GenerateRequest
from application.ports import TrainingObserver, TrainReport
from application.ports.datasets import Source
from application.routing.evaluate_router import EvaluateReport
from application.routing.route_prompts import RoutePrompts, RouteRequest
from domain.answer_policy import AnswerPolicy, Fallback
from domain.answers import Answer, GenerationOptions
from domain.chats import Message, as_chat, routing_text
from domain.errors import (
    DataRejectedError,
    InterruptedRunError,
    LoraAdapterError,
    MismatchError,
    MissingFileError,
    MoeRouterError,
    RemoteError,
    RouterFileError,
    StorageError,
    TargetExistsError,
    TrainingDivergedError,
    UsageError,
)
from domain.router import RouterCard
from domain.routing import ROUTERS_OWN, OtherLimits, RoutingDecision
from domain.training import TrainOptions
from domain.training_events import TrainingEvent
from entrypoints.backend import Evaluation, Where
from entrypoints.bootstrap import Application
from entrypoints.settings import DataFiles, Training
from entrypoints.version import tool_version

if TYPE_CHECKING:
    from application.answering.answer_queue import AsyncAnswerEngine

__all__ = [
    "Answer",
    "Application",
    "DataRejectedError",
    "EvaluateReport",
    "GenerateReport",
    "GenerationOptions",
    "InterruptedRunError",
    "LoraAdapterError",
    "Message",
    "MismatchError",
    "MissingFileError",
    "MoeRouterError",
    "OpenRouter",
    "OtherLimits",
    "RemoteError",
    "RouterFileError",
    "RoutingDecision",
    "StorageError",
    "TargetExistsError",
    "TrainOptions",
    "TrainReport",
    "TrainingDivergedError",
    "TrainingObserver",
    "UsageError",
    "evaluate",
    "generate",
    "open_answering",
    "open_router",
    "train",
]

AnyPath = str | PathLike[str]
AnyPrompt = str | Sequence[Message]


class _Nobody:
    """A :class:`application.ports.TrainingObserver` that does nothing."""

    def on_event(self, event: TrainingEvent) -> None:
        """Do nothing."""


@frozen(eq=False)
class OpenRouter:
    """A trained router with its base model in memory, as far as routing needs it. Safe for several threads.

    Attributes:
        card: what the router is: labels, base model, layers, limits.
        sha256: hash of the router's file.
    """

    card: RouterCard
    sha256: str | None
    _route: RoutePrompts = field(repr=False)
    _one_at_a_time: threading.Lock = field(factory=threading.Lock, init=False, repr=False)

    def route(
        self,
        prompt: AnyPrompt,
        *,
        nearest: int = 0,
        disabled: Collection[str] = frozenset(),
        limits: OtherLimits = ROUTERS_OWN,
    ) -> RoutingDecision:
        """Decide which adapter should answer a prompt, a text or a chat; see :meth:`route_many`."""
        return self.route_many([prompt], nearest=nearest, disabled=disabled, limits=limits)[0]

    def route_many(
        self,
        prompts: Iterable[AnyPrompt],
        *,
        nearest: int = 0,
        disabled: Collection[str] = frozenset(),
        limits: OtherLimits = ROUTERS_OWN,
    ) -> list[RoutingDecision]:
        """Decide for many prompts at once, which is faster than one by one; decisions come in their order.

        Args:
            prompts: texts, or chats, which are read as the router was trained to.
            nearest: how many of the nearest remembered prompts to add to each decision.
            disabled: adapters that must not be chosen.
            limits: when to abstain, where the router's own limits are not wanted.

        Raises:
            UsageError: an adapter is unknown, or `nearest` is negative.
            DataRejectedError: a prompt holds no text.
        """
        texts = tuple(routing_text(as_chat(prompt), self.card.turn) for prompt in prompts)
        request = RouteRequest(texts, nearest, frozenset(disabled), limits.over(self.card.thresholds))
        with self._one_at_a_time:
            return self._route(request)


def open_router(path: AnyPath, *, base_model: str | None = None, app: Application | None = None) -> OpenRouter:
    """Load a router and its base model for routing; no LoRA adapter is loaded.

    Args:
        path: the router: a file, or a folder that was exported.
        base_model: hub id, folder, or a trunk that was exported; else the trunk that the router lies in, or the base
            model that it was trained on.
        app: composition root with other parts than the real ones.

    Raises:
        MissingFileError, RouterFileError: the router is missing or not sound.
        MismatchError: `base_model` is another one than the router's.
    """
    app = app or Application()
    router = app.routers.load(Path(path))
    base = app.read_with(Path(path), base_model)
    return OpenRouter(router.card, router.sha256, app.route_prompts(router, base_model=base))


@asynccontextmanager
async def open_answering(
    router: AnyPath,
    *,
    loras: AnyPath | Mapping[str, AnyPath],
    base_model: str | None = None,
    fallback: str | None = None,
    disabled: Collection[str] = frozenset(),
    limits: OtherLimits = ROUTERS_OWN,
    max_batch: int = 16,
    app: Application | None = None,
) -> AsyncIterator[AsyncAnswerEngine]:
    """Load a router, its base model and LoRA adapters, all checked; answer until the context ends.

    Prompts of any number of callers that wait at the same time are answered in one batch, by one thread of its own.

    Args:
        router: the router: a file, or a folder that was exported.
        loras: folder with one folder per LoRA adapter, or their folders by name.
        base_model: hub id or folder; else the one that the router was trained on.
        fallback: "base", "error" or an adapter's name: who answers where the router abstains or fails, or its
            choice is missing. Without it the base model answers where the router abstains, and all else is an error.
        disabled: adapters that are not to answer.
        limits: when the router abstains, where its own limits are not wanted.
        max_batch: most prompts of one batch.
        app: composition root with other parts than the real ones.

    Raises:
        LoraAdapterError: a LoRA adapter is missing, does not fit, or has no effect.
        MissingFileError, RouterFileError, MismatchError: as :func:`open_router`.
    """
    import asyncio

    from adapters.lora.lora_files import lora_folders
    from application.answering.answer_queue import AsyncAnswerEngine

    app = app or Application()
    if isinstance(loras, Mapping):
        folders = {name: Path(folder) for name, folder in loras.items()}
    else:
        folders = lora_folders({}, Path(loras))
    trained = app.routers.load(Path(router))
    policy = AnswerPolicy(Fallback.parse(fallback), frozenset(disabled), limits)
    answering = await asyncio.to_thread(app.answer_prompts, trained, folders, base_model, policy=policy)
    async with AsyncAnswerEngine(answering, max_batch, policy) as answers:
        yield answers


def generate(
    sources: Mapping[str, AnyPath],
    output_dir: AnyPath | None = None,
    *,
    train_samples: int = 100,
    eval_samples: int = 100,
    train_val_split: float = 0.8,
    seed: int = 42,
    allow_fewer: bool = False,
    replace: bool = False,
    app: Application | None = None,
) -> GenerateReport:
    """Make a balanced routing data set out of each adapter's own training data.

    Args:
        sources: JSONL file of each adapter, in the order of their labels.
        output_dir: the data set's folder; else ``datasets/routing_<time>``.
        train_samples: rows per adapter for training and validation.
        eval_samples: held-out rows per adapter.
        train_val_split: share of training among the training samples.
        seed: decides what is drawn and its order.
        allow_fewer: keep the balance at the smallest adapter's count instead of failing.
        replace: replace a data set that is already there.
        app: composition root with other parts than the real ones.

    Raises:
        MissingFileError, DataRejectedError: a source is not there, or has too few usable rows.
        TargetExistsError: the folder is there already.
    """
    request = GenerateRequest(
        [Source(name, Path(path)) for name, path in sources.items()],
        train_samples=train_samples,
        eval_samples=eval_samples,
        train_val_split=train_val_split,
        output_dir=None if output_dir is None else Path(output_dir),
        seed=seed,
        allow_fewer=allow_fewer,
        replace=replace,
        tool_version=tool_version(),
    )
    return (app or Application()).generate_dataset()(request)


def train(
    dataset_dir: AnyPath,
    router_out: AnyPath = "router-head.safetensors",
    *,
    base_model: str | None = None,
    options: TrainOptions | None = None,
    out_of_scope: AnyPath | None = None,
    log_dir: AnyPath | None = None,
    use_cache: bool = True,
    observer: TrainingObserver | None = None,
    app: Application | None = None,
) -> TrainReport:
    """Train a router in this process; a run that was cut off goes on when the same call is made again.

    Args:
        dataset_dir: the data set's folder.
        router_out: the router's file; ``.safetensors``, or ``.pt`` for a torch file beside it.
        base_model: hub id or folder; else the embedded one.
        options: how to train; the command line's defaults without them.
        out_of_scope: file of prompts that belong to no adapter, to fit abstention to.
        log_dir: folder for TensorBoard logs; none without it.
        use_cache: whether features may be kept for later runs.
        observer: receives the events of the run.
        app: composition root with other parts than the real ones.

    Raises:
        MissingFileError, DataRejectedError: the data set is not there, or cannot be used.
        TrainingDivergedError: the loss left the finite numbers.
    """
    request = Training(
        DataFiles(Path(dataset_dir)),
        options or TrainOptions(),
        base_model=base_model,
        router_out=Path(router_out),
        log_dir=_path(log_dir),
        out_of_scope=_path(out_of_scope),
        use_cache=use_cache,
    )
    return (app or Application()).backend(Where()).train(request, observer or _Nobody())


def evaluate(
    router: AnyPath,
    dataset_dir: AnyPath | None = None,
    *,
    data_path: AnyPath | None = None,
    out_of_scope: AnyPath | None = None,
    robustness: bool = True,
    base_model: str | None = None,
    use_cache: bool = True,
    app: Application | None = None,
) -> EvaluateReport:
    """Score a router on held-out prompts.

    Args:
        router: the router: a file, or a folder that was exported.
        dataset_dir: the data set's folder; its ``eval.jsonl`` is scored, else its ``val.jsonl``.
        data_path: file of rows; goes before `dataset_dir`.
        out_of_scope: file of prompts that belong to no adapter.
        robustness: whether changed prompts are routed as well.
        base_model: hub id or folder; else the one that the router was trained on.
        use_cache: whether features may be kept for later runs.
        app: composition root with other parts than the real ones.

    Raises:
        MissingFileError, RouterFileError, MismatchError: as :func:`open_router`, or there is no data.
    """
    data = DataFiles(_path(dataset_dir), _path(data_path))
    request = Evaluation(Path(router), data, base_model, _path(out_of_scope), robustness, use_cache)
    return (app or Application()).backend(Where()).evaluate(request)


def _path(value: AnyPath | None) -> Path | None:
    return None if value is None else Path(value)
