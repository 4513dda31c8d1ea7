"""Use case: route prompts, and answer each with the LoRA adapter that the router chose."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from attrs import frozen

from application.answering.answers import Answer, Prompt
from application.ports.answering import AnswerEngine, Generation, GenerationRequest
from application.routing.route_prompts import RoutePrompts, RouteRequest
from domain.answers import (
    GREEDY,
    STRICT,
    Fallback,
    GenerationOptions,
    Speaker,
    check_available,
    choose_speaker,
    speaker_without_choice,
)
from domain.chats import routing_text
from domain.errors import DataRejectedError, MoeRouterError
from domain.routing import RoutingDecision


@frozen
class AnswerRequest:
    """What to answer and how.

    Attributes:
        prompts: the prompts.
        options: how answers are generated.
    """

    prompts: tuple[Prompt, ...]
    options: GenerationOptions = GREEDY


@frozen
class _Routed:
    decision: RoutingDecision | None
    speaker: Speaker


@frozen(eq=False)
class AnswerPrompts:
    """Answers prompts; never with the bare base model unless the answer says so.

    Attributes:
        route: routes prompts on the base model's own states.
        engine: generates on the same base model.
        fallback: who speaks when the router abstains or fails, or its choice is missing.
        disabled: adapters that are not to answer.
    """

    route: RoutePrompts
    engine: AnswerEngine
    fallback: Fallback = STRICT
    disabled: frozenset[str] = frozenset()

    def __attrs_post_init__(self) -> None:
        """Raise unless there is a LoRA adapter, or a fallback, for every choice; see `check_available`."""
        check_available(self.route.router.card.labels, self.engine.adapters, self.fallback, self.disabled)

    def __call__(self, request: AnswerRequest) -> list[Answer]:
        """Return one answer per prompt, in order; for errors see `stream`."""
        found = dict(self.stream(request))
        return [found[index] for index in range(len(request.prompts))]

    def stream(self, request: AnswerRequest) -> Iterator[tuple[int, Answer]]:
        """Route all prompts in one pass, then yield ``(index, answer)`` as mixed batches finish, in any order.

        Raises:
            DataRejectedError: a prompt without text or that is too long; an abstention, if that is an error.
        """
        routed = self._route(request.prompts)
        generations = self.engine.generate(
            [
                GenerationRequest(prompt.chat, each.speaker.adapter, prompt.images)
                for prompt, each in zip(request.prompts, routed, strict=True)
            ],
            request.options,
        )
        for index, generation in generations:
            yield index, _answer(routed[index], generation)

    def _route(self, prompts: Sequence[Prompt]) -> list[_Routed]:
        texts = tuple(routing_text(prompt.chat) for prompt in prompts)
        try:
            decisions = self.route(RouteRequest(texts, disabled=self.disabled))
        except MoeRouterError as error:
            if not self.fallback.stands_in:
                raise
            speaker = speaker_without_choice(f"the router failed: {error.what}", self.fallback)
            return [_Routed(None, speaker) for _ in prompts]
        return [_Routed(each, self._speaker(each, text)) for each, text in zip(decisions, texts, strict=True)]

    def _speaker(self, decision: RoutingDecision, text: str) -> Speaker:
        try:
            return choose_speaker(decision, self.engine.adapters, self.fallback)
        except DataRejectedError as error:
            shown = text if len(text) <= 60 else text[:60] + "…"
            raise type(error)(error.what, where=f"prompt {shown!r}", hint=error.hint) from error


def _answer(routed: _Routed, generation: Generation) -> Answer:
    return Answer(
        routed.decision,
        routed.speaker.adapter,
        routed.speaker.fallback,
        generation.text,
        generation.tokens,
        generation.finish,
    )
