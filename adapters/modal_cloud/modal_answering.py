"""Routing and answering prompts on a Modal GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attrs import field, frozen

from adapters.modal_cloud.modal_gpu_trainer import Relay
from adapters.modal_cloud.modal_jobs import ModalJobs
from adapters.modal_cloud.modal_wire import from_wire, to_wire
from application.answering.answers import Answer, Prompt
from application.ports import ProgressReporter
from domain.answers import GREEDY, GenerationOptions
from domain.routing import RoutingDecision


@frozen
class RemoteQuestions:
    """What to answer, by the containers' paths; None leaves a choice to the defaults there.

    Attributes:
        prompts: the prompts, without images.
        options: how answers are generated.
        router: router file.
        base_model: hub id or folder; else the one that the router was trained on.
        loras: folders of LoRA adapters by name, beside those on the checkpoints volume.
        fallback: see :meth:`domain.answers.Fallback.parse`.
        disabled: adapters that are not to answer.
        route_only: decide only; load no LoRA adapter.
    """

    prompts: tuple[Prompt, ...]
    router: Path
    options: GenerationOptions = GREEDY
    base_model: str | None = None
    loras: dict[str, Path] = field(factory=dict)
    fallback: str | None = None
    disabled: tuple[str, ...] = ()
    route_only: bool = False


@frozen
class RemoteAnswers:
    """Decisions in the order of the prompts when only routing was asked for, else answers."""

    decisions: tuple[RoutingDecision, ...] = ()
    answers: tuple[Answer, ...] = ()


@frozen
class ModalAnswering:
    """Answers prompts with the app's function ``infer``.

    Attributes:
        jobs: calls the app.
        progress: shows here how far the container is.
    """

    jobs: ModalJobs
    progress: ProgressReporter

    def __call__(self, request: RemoteQuestions) -> RemoteAnswers:
        """Return decisions or answers, as the local use cases would; raises as they do, and RemoteError."""
        with Relay(self.progress) as relay:
            result: dict[str, Any] = self.jobs.run("infer", to_wire(request), relay)
        return from_wire(RemoteAnswers, result)
