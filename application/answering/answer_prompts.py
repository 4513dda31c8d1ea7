"""Use case: route prompts, and answer each with the LoRA adapter that the router chose."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter

from attrs import field, frozen

from application.ports.answering import AnswerEngine, AnswerRequest, Generation, GenerationRequest
from application.routing.route_prompts import RoutePrompts, RouteRequest
from domain.answer_policy import (
    AnswerPolicy,
    WhoAnswers,
    check_available,
    who_answers,
    who_answers_without_choice,
)
from domain.answers import Answer, Prompt
from domain.chats import routing_text
from domain.errors import MoeRouterError
from domain.routing import RoutingDecision

GROUP = 256
"""Prompts that are routed together, in the order in which they are given."""


@frozen
class _Routed:
    decision: RoutingDecision | None
    who: WhoAnswers


def all_answered(outcomes: Iterable[tuple[int, Answer | MoeRouterError]]) -> list[Answer]:
    """Return the answers in the order of their prompts; raises the first error that stands in place of one."""
    answers = []
    for _, outcome in sorted(outcomes, key=itemgetter(0)):
        if isinstance(outcome, MoeRouterError):
            raise outcome
        answers.append(outcome)
    return answers


@frozen(eq=False)
class AnswerPrompts:
    """Answers prompts; never with the bare base model unless the answer says so.

    Attributes:
        route: routes prompts on the base model's own states.
        engine: generates answers.
        refused: LoRA adapters that the engine does not hold because a check refused them, and why.
        weights: hash of each LoRA adapter's weights, as far as known.
    """

    route: RoutePrompts
    engine: AnswerEngine
    refused: Mapping[str, str] = field(factory=dict)
    weights: Mapping[str, str] = field(factory=dict)

    def __call__(self, request: AnswerRequest) -> list[Answer]:
        """Return one answer per prompt, in order; raises the first error that stands in place of one."""
        return all_answered(self.stream(request))

    def stream(self, request: AnswerRequest) -> Iterator[tuple[int, Answer | MoeRouterError]]:
        """Yield ``(index, answer)`` as mixed batches finish, in any order within `GROUP` prompts routed together.

        A prompt that cannot be answered gives its error in place of an answer, and touches no other: it has no text,
        is too long, or the router abstains on it and that was asked to be an error.

        Raises:
            UsageError, LoraAdapterError: the request's policy cannot hold; see `check_available`.
        """
        check_available(self.route.router.card.labels, self.engine.adapters, request.policy)
        for start in range(0, len(request.prompts), GROUP):
            waiting = [
                index for index in range(start, min(start + GROUP, len(request.prompts))) if index not in request.done
            ]
            if waiting:
                yield from self._answer_group(request, start, waiting)

    def _answer_group(
        self, request: AnswerRequest, start: int, waiting: Sequence[int]
    ) -> Iterator[tuple[int, Answer | MoeRouterError]]:
        found = self._route(request.prompts[start : start + GROUP], request.policy)
        routed: dict[int, _Routed] = {}
        for index in waiting:
            each = found[index - start]
            if isinstance(each, MoeRouterError):
                yield index, each
            else:
                routed[index] = each
        asked = [(index, request.prompts[index], each.who.adapter) for index, each in routed.items()]
        generations = self.engine.generate(
            [GenerationRequest(prompt.chat, adapter, prompt.images) for _, prompt, adapter in asked], request.options
        )
        for position, generation in generations:
            index = asked[position][0]
            if isinstance(generation, MoeRouterError):
                yield index, generation
            else:
                yield index, self._answer(routed[index], generation)

    def _route(self, prompts: Sequence[Prompt], policy: AnswerPolicy) -> list[_Routed | MoeRouterError]:
        """Route all at once; when that fails each alone, so that one bad prompt decides for itself only."""
        try:
            texts = tuple(routing_text(prompt.chat, self.route.router.card.turn) for prompt in prompts)
            limits = policy.limits.over(self.route.router.card.thresholds)
            decisions = self.route(RouteRequest(texts, disabled=policy.disabled, thresholds=limits))
        except MoeRouterError as error:
            if len(prompts) == 1:
                return [self._unrouted(prompts[0], error, policy)]
            return [each for prompt in prompts for each in self._route((prompt,), policy)]
        return [self._who(each, text, policy) for each, text in zip(decisions, texts, strict=True)]

    def _unrouted(self, prompt: Prompt, error: MoeRouterError, policy: AnswerPolicy) -> _Routed | MoeRouterError:
        """Return who answers where routing failed; a prompt without text is nobody's."""
        try:
            routing_text(prompt.chat)
        except MoeRouterError as empty:
            return empty
        if not policy.fallback.stands_in:
            return error
        return _Routed(None, who_answers_without_choice(f"the router failed: {error.what}", policy.fallback))

    def _who(self, decision: RoutingDecision, text: str, policy: AnswerPolicy) -> _Routed | MoeRouterError:
        try:
            who = who_answers(decision, self.engine.adapters, policy.fallback, self.refused)
        except MoeRouterError as error:
            shown = text if len(text) <= 60 else text[:60] + "…"
            return type(error)(error.what, where=f"prompt {shown!r}", hint=error.hint)
        return _Routed(decision, who)

    def _answer(self, routed: _Routed, generation: Generation) -> Answer:
        adapter = routed.who.adapter
        return Answer(
            routed.decision,
            adapter,
            routed.who.fallback,
            generation.text,
            generation.tokens,
            generation.finish,
            self.weights.get(adapter or ""),
        )
