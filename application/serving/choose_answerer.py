"""Use case: decide who answers one turn of a conversation, and say why."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from time import perf_counter

from attrs import evolve, field, frozen

from application.ports.serving import PromptRouter
from application.routing.route_prompts import RouteRequest
from application.serving.sessions import SessionKey, Sessions
from application.serving.wishes import NO_WISHES, RoutingWishes
from domain.answer_policy import Fallback, FallbackKind
from domain.chats import Chat, routing_text
from domain.errors import MoeRouterError
from domain.routing import ROUTERS_OWN, AbstentionThresholds, OtherLimits, RoutingDecision
from domain.stickiness import SWITCH_MARGIN, ServedReason, SessionDecision, Strategy, settle
from domain.turns import is_short, plain_text

BASE_ANSWERS = Fallback(FallbackKind.BASE)
"""The bare base model answers where there is no choice."""

ABSTAINED = frozenset(
    {ServedReason.OUT_OF_SCOPE, ServedReason.LOW_CONFIDENCE, ServedReason.DISABLED, ServedReason.ROUTER_ERROR}
)
"""Reasons that leave the turn to the fallback."""


@frozen
class ChooseRequest:
    """One turn.

    Attributes:
        chat: the conversation, the turn to be answered last.
        wishes: what the request asks of routing.
        names: names of the conversation that came beside the request, see ``sessions.HEADERS``.
        named: the adapter that the client asked for by name; None for the base model when `by_name`.
        by_name: whether the client asked for a model by name.
        nearest: how many of the nearest remembered prompts to show.
    """

    chat: Chat
    wishes: RoutingWishes = NO_WISHES
    names: Mapping[str, str] = field(factory=dict)
    named: str | None = None
    by_name: bool = False
    nearest: int = 0


@frozen
class Choice:
    """Who answers a turn, and why.

    Attributes:
        adapter: who answers; None for the bare base model.
        reason: why.
        fallback: "base" or an adapter's name when the fallback answers, "error" when nobody may; else None.
        decision: the router's; None when it was not asked or failed.
        text: the text that was routed; None when none was.
        session: what the turn did to its conversation; None where conversations do not count.
        source: where the conversation's name came from; None likewise.
        router: the router's sha256.
        limits: the limits that applied.
        milliseconds: time that deciding took.
        error: what failed, for ROUTER_ERROR.
        weights: hash of the weights of the LoRA adapter that answers, as the doctor shows it; None where it is not
            known.
    """

    adapter: str | None
    reason: ServedReason
    fallback: str | None = None
    decision: RoutingDecision | None = None
    text: str | None = None
    session: SessionDecision | None = None
    source: str | None = None
    router: str = ""
    limits: AbstentionThresholds = field(factory=AbstentionThresholds)
    milliseconds: float = 0.0
    error: str | None = None
    weights: str | None = None

    @property
    def nobody(self) -> bool:
        """Whether the router chose no one and no fallback is allowed."""
        return self.fallback == "error"


@frozen(eq=False)
class ChooseAnswerer:
    """Decides who answers a turn.

    Attributes:
        router: decides on texts.
        offered: the adapters that can answer.
        sessions: what is remembered of conversations.
        fallback: who answers when there is no choice, unless the request says otherwise.
        limits: limits in place of the router's own, unless the request says otherwise.
        margin: see :func:`domain.stickiness.settle`.
        clock: seconds that only grow.
    """

    router: PromptRouter
    offered: Collection[str]
    sessions: Sessions
    fallback: Fallback = BASE_ANSWERS
    limits: OtherLimits = ROUTERS_OWN
    margin: float = SWITCH_MARGIN
    clock: Callable[[], float] = perf_counter

    async def __call__(self, request: ChooseRequest) -> Choice:
        """Return the choice.

        Raises:
            UsageError: the wishes name an adapter that the router does not know.
            DataRejectedError: the conversation has no text of a user.
        """
        start = self.clock()
        masked = request.wishes.masked(self.router.labels)
        limits = request.wishes.limits(self.limits.over(self.router.thresholds))
        if request.by_name:
            choice = Choice(request.named, ServedReason.NAMED)
        else:
            choice = self._standing_in(await self._chosen(request, masked, limits), request.wishes)
        spent = (self.clock() - start) * 1000
        return evolve(choice, router=self.router.sha256, limits=limits, milliseconds=spent)

    async def _chosen(self, request: ChooseRequest, masked: frozenset[str], limits: AbstentionThresholds) -> Choice:
        chat = request.chat
        text = routing_text(chat, self.router.turn)
        ask = RouteRequest((text,), request.nearest, masked, limits)
        if request.wishes.strategy is Strategy.NONE:
            return evolve(await self._routed(ask, chat, None), session=None)
        key = self.sessions.key(request.wishes.session_id, request.names, chat)
        held = self.sessions.held(key, chat)
        if held in masked or held not in self.offered:
            held = None
        if held is not None and (chat[-1].role == "tool" or request.wishes.strategy is Strategy.STICKY):
            choice = Choice(held, ServedReason.STICKY, session=SessionDecision.RETAIN)
        else:
            choice = await self._routed(ask, chat, held)
        self._remember(key, choice)
        return evolve(choice, source=key.source, text=text)

    async def _routed(self, ask: RouteRequest, chat: Chat, held: str | None) -> Choice:
        text = ask.prompts[0]
        try:
            decision = await self.router.route(ask)
        except MoeRouterError as error:
            if held is not None:
                return Choice(held, ServedReason.STICKY, session=SessionDecision.RETAIN, text=text, error=str(error))
            return Choice(None, ServedReason.ROUTER_ERROR, text=text, error=str(error))
        newest = next(plain_text(turn.content) for turn in reversed(chat) if turn.role == "user")
        settled = settle(decision, held, short=is_short(newest), margin=self.margin)
        return Choice(settled.adapter, settled.reason, decision=decision, text=text, session=settled.session)

    def _remember(self, key: SessionKey, choice: Choice) -> None:
        if choice.adapter is not None and choice.adapter in self.offered:
            self.sessions.remember(key, choice.adapter)

    def _standing_in(self, choice: Choice, wishes: RoutingWishes) -> Choice:
        """Let the fallback answer where nobody was chosen, or where the chosen adapter is not there."""
        if choice.adapter is not None and choice.adapter in self.offered:
            return choice
        reason = ServedReason.DISABLED if choice.adapter is not None else choice.reason
        fallback = wishes.fallback or self.fallback
        if fallback.kind is FallbackKind.ERROR:
            return evolve(choice, adapter=None, reason=reason, fallback="error")
        if fallback.adapter is not None and fallback.adapter not in self.offered:
            return evolve(choice, adapter=None, reason=reason, fallback="error")
        return evolve(choice, adapter=fallback.adapter, reason=reason, fallback=fallback.adapter or "base")
