"""What the app's functions are asked, and answer: values that travel, with the containers' paths."""

from __future__ import annotations

from pathlib import Path

from attrs import field, frozen

from application.answering.answers import Answer, Prompt
from domain.answers import GREEDY, GenerationOptions
from domain.routing import RoutingDecision


@frozen
class RemoteEvaluation:
    """What to score.

    Attributes:
        router: router file.
        dataset_dir: folder of the data set.
        data_path: file of rows; goes before `dataset_dir`.
        base_model: hub id or folder; else the one that the router was trained on.
        out_of_scope: file of prompts that belong to no adapter.
        robustness: whether changed prompts are routed as well.
        use_cache: whether the feature cache may be used.
        environment: the caller's ``VAL_DATA``, for when no data is named.
    """

    router: Path
    dataset_dir: Path | None = None
    data_path: Path | None = None
    base_model: str | None = None
    out_of_scope: Path | None = None
    robustness: bool = True
    use_cache: bool = True
    environment: dict[str, str] = field(factory=dict)


@frozen
class RemoteQuestions:
    """What to route or answer; None leaves a choice to the defaults there.

    Attributes:
        prompts: the prompts, without images.
        options: how answers are generated.
        router: router file.
        base_model: hub id or folder; else the one that the router was trained on.
        lora_dir: folder with one folder per LoRA adapter; None for the checkpoints volume.
        loras: folders of LoRA adapters by name; they go before those in `lora_dir`.
        fallback: see :meth:`domain.answers.Fallback.parse`.
        disabled: adapters that are not to answer.
        route_only: decide only; load no LoRA adapter.
    """

    prompts: tuple[Prompt, ...]
    router: Path
    options: GenerationOptions = GREEDY
    base_model: str | None = None
    lora_dir: Path | None = None
    loras: dict[str, Path] = field(factory=dict)
    fallback: str | None = None
    disabled: tuple[str, ...] = ()
    route_only: bool = False


@frozen
class RemoteAnswers:
    """Decisions in the order of the prompts when only routing was asked for, else answers."""

    decisions: tuple[RoutingDecision, ...] = ()
    answers: tuple[Answer, ...] = ()
