"""Where work runs: the seam between commands and the machines that train, score and answer.

A command describes what is wanted in the values of this module and hands it to the backend that ``--backend``
names. Another place to run is one module with an ``open_backend`` function, listed in
:data:`entrypoints.bootstrap.BACKENDS`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from attrs import field, fields, frozen

from application.ports.answering import AnswerStream
from domain.answer_policy import AnswerPolicy, Fallback
from domain.answers import GREEDY, GenerationOptions, Prompt
from domain.errors import UsageError
from domain.routing import ROUTERS_OWN, OtherLimits
from entrypoints.settings import DataFiles, Places, Training

if TYPE_CHECKING:  # every command pays for what is imported here, --help included
    from application.comparing.compare_report import CompareReport
    from application.ports import TrainingObserver, TrainReport
    from application.ports.answering import AnswerRequest
    from application.routing.evaluate_router import EvaluateReport
    from domain.answers import Answer
    from domain.routing import RoutingDecision


@frozen
class Where:
    """Where work is to run.

    Attributes:
        name: the backend, see :data:`entrypoints.bootstrap.BACKENDS`.
        gpu: kind of GPU to ask for.
        hf_secret: name of the secret with ``HF_TOKEN``, for gated base models.
        encode_shards: containers that encode prompts together.
        hours: time limit of a call.
        attach: id of a call of the same command that was started before and is to be waited for.
        redeploy: whether a deployed app is replaced by what is defined here.
        encode_batch: most prompts that are encoded at a time; None for what fits.
        max_batch: most prompts that are answered at a time; None for what fits.
        shards: containers that answer prompts together.
    """

    name: str = "local"
    gpu: str | None = None
    hf_secret: str | None = None
    encode_shards: int = 1
    hours: float | None = None
    attach: str | None = None
    redeploy: bool = False
    encode_batch: int | None = None
    max_batch: int | None = None
    shards: int = 1

    def __attrs_post_init__(self) -> None:
        """Raise UsageError for a number that makes no sense."""
        for name in ("encode_batch", "max_batch", "shards"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UsageError(f"--{name.replace('_', '-')} {value} is below 1")
        if self.hours is not None and not 0 < self.hours <= 24:
            raise UsageError(f"--hours {self.hours:g} is not above 0 and at most 24")
        if self.attach is not None and not self.attach.startswith("fc-"):
            raise UsageError(
                f"--attach {self.attach} is not the id of a call",
                hint="a run says it when it starts: `runs on Modal as call fc-…`",
            )

    def refuse_remote_options(self) -> None:
        """Raise UsageError for options that a backend on this machine would ignore."""
        here = ("name", "encode_batch", "max_batch")
        given = [each.name for each in fields(Where) if each.name not in here]
        given = [name for name in given if getattr(self, name) != getattr(_HERE, name)]
        if given:
            flags = " and ".join(f"--{name.replace('_', '-')}" for name in given)
            raise UsageError(f"{flags} {'belongs' if len(given) == 1 else 'belong'} to --backend modal")


_HERE = Where()


@frozen
class Evaluation:
    """What to score; paths are those of the machine that scores.

    Attributes:
        router: router file.
        data: which rows.
        base_model: hub id or folder; else the one that the router was trained on.
        out_of_scope: file of prompts that belong to no adapter.
        robustness: whether changed prompts are routed as well.
        use_cache: whether the feature cache may be used.
    """

    router: Path
    data: DataFiles = field(factory=DataFiles)
    base_model: str | None = None
    out_of_scope: Path | None = None
    robustness: bool = True
    use_cache: bool = True


@frozen
class Upstream:
    """Where an upstream is and how it is asked.

    Attributes:
        url: its address.
        kind: see :data:`adapters.upstream.dialects.KINDS`.
        template: an adapter's name there; None takes the kind's usual one.
        base: the base model's name there; None finds it.
        key: the key that it asks for.
        timeout: seconds for a whole answer.
    """

    url: str
    kind: str = "vllm"
    template: str | None = None
    base: str | None = None
    key: str | None = None
    timeout: float = 300.0


@frozen
class Comparison:
    """What to measure LoRA adapters by; paths are those of the machine that measures.

    Attributes:
        dataset_dir: data set with reference answers.
        lora_dir: folder with one folder per LoRA adapter.
        loras: folders of LoRA adapters by name; they go before those in `lora_dir`.
        router: router whose choices are measured, too.
        base_model: hub id or folder; else the router's own, else the embedded one.
        samples: most held-out prompts per adapter.
        own_system: whether source rows' own system turns are kept.
        generation: how answers are generated that are to be compared; None for the likelihoods alone.
        seed: decides the intervals' resamples.
        use_cache: whether the cache of scores may be used.
        upstream: a server that holds the LoRA adapters and tells how likely an answer is; None to load them.
    """

    dataset_dir: Path
    lora_dir: Path | None = None
    loras: dict[str, Path] = field(factory=dict)
    router: Path | None = None
    base_model: str | None = None
    samples: int = 50
    own_system: bool = False
    generation: GenerationOptions | None = None
    seed: int = 42
    use_cache: bool = True
    upstream: Upstream | None = None


@frozen
class Questions:
    """What to route or answer, and with what; paths are those of the machine that answers.

    Attributes:
        router: router file.
        prompts: the prompts.
        options: how answers are generated.
        base_model: hub id or folder; else the one that the router was trained on.
        lora_dir: folder with one folder per LoRA adapter.
        loras: folders of LoRA adapters by name; they go before those in `lora_dir`.
        fallback: see :meth:`domain.answer_policy.Fallback.parse`.
        disabled: adapters that are not to answer.
        limits: when the router abstains, where its own limits are not wanted.
    """

    router: Path
    prompts: tuple[Prompt, ...] = ()
    options: GenerationOptions = GREEDY
    base_model: str | None = None
    lora_dir: Path | None = None
    loras: dict[str, Path] = field(factory=dict)
    fallback: str | None = None
    disabled: tuple[str, ...] = ()
    limits: OtherLimits = ROUTERS_OWN

    @property
    def policy(self) -> AnswerPolicy:
        """Who may answer; raises UsageError for a fallback that cannot be an adapter's name."""
        return AnswerPolicy(Fallback.parse(self.fallback), frozenset(self.disabled), self.limits)


@frozen
class StartedRun:
    """A training run that goes on without us.

    Attributes:
        call_id: id of the run.
        app_id: id of what it runs in.
        router: where the router will be.
        follow: command that shows how it gets on.
        fetch: command that fetches the router.
    """

    call_id: str
    app_id: str
    router: Path
    follow: str
    fetch: str


class Answering(AnswerStream, Protocol):
    """Answers prompts, all at once or as a stream."""

    def __call__(self, request: AnswerRequest) -> list[Answer]:
        """Return one answer per prompt, in order."""
        ...


class Deciding(Protocol):
    """Routes prompts."""

    def __call__(self, prompts: Sequence[Prompt], /) -> Sequence[tuple[str, RoutingDecision]]:
        """Return for each prompt the text that was routed, and the decision."""
        ...


class Backend(Protocol):
    """Somewhere that trains, scores and answers; every method raises what the local use case raises."""

    @property
    def places(self) -> Places:
        """Where it reads and writes unless it is told otherwise."""
        ...

    @property
    def is_here(self) -> bool:
        """Whether its files are this machine's, so that other commands find them under the same paths."""
        ...

    def train(self, request: Training, observer: TrainingObserver) -> TrainReport:
        """Train a router to the end of the run."""
        ...

    def start(self, request: Training) -> StartedRun:
        """Start training a router and leave the run to itself."""
        ...

    def fetch_command(self, router: Path) -> str | None:
        """Return the command that brings a router here; None when it is here already."""
        ...

    def logs(self, log_dir: Path | None) -> AbstractContextManager[Path]:
        """Give a folder on this machine that holds the metrics of all runs, kept up to date in the context."""
        ...

    def evaluate(self, request: Evaluation) -> EvaluateReport:
        """Score a router on held-out prompts."""
        ...

    def compare(self, request: Comparison) -> CompareReport:
        """Measure LoRA adapters, and maybe a router's choices, by reference answers."""
        ...

    def check(self, questions: Questions) -> None:
        """Raise what is wrong with questions, as far as it can be told before anything slow."""
        ...

    @property
    def least_at_a_time(self) -> int:
        """Prompts of a file that one call should hold at least, because every call loads everything again."""
        ...

    def deciding(self, questions: Questions) -> Deciding:
        """Return what routes prompts, loaded; those in `questions` are ignored, and so are the LoRA adapters."""
        ...

    def answering(self, questions: Questions) -> Answering:
        """Return what answers prompts, loaded and checked; those in `questions` are ignored."""
        ...

    def setting(self, questions: Questions) -> str:
        """Return what answers, as one short word: answers with another are not put into one file."""
        ...


def setting(*parts: object) -> str:
    """Return 12 hexadecimal digits that change when any part's ``repr`` does."""
    return hashlib.sha256(repr(parts).encode("utf-8", "backslashreplace")).hexdigest()[:12]
