"""The ports of an endpoint: who decides, who answers, and what is kept of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol

from attrs import field, frozen

from application.routing.route_prompts import RouteRequest
from domain.errors import RemoteError
from domain.labels import LabelMap
from domain.routing import AbstentionThresholds, RoutingDecision
from domain.turns import TurnChoice


class PromptRouter(Protocol):
    """Decides for one prompt at a time, for many callers at once."""

    @property
    def labels(self) -> LabelMap:
        """The adapters that it knows."""
        ...

    @property
    def thresholds(self) -> AbstentionThresholds:
        """The router's own limits."""
        ...

    @property
    def turn(self) -> TurnChoice:
        """Which turns of a conversation it was trained on."""
        ...

    @property
    def sha256(self) -> str:
        """The router's version, 64 hexadecimal digits."""
        ...

    @property
    def base_name(self) -> str:
        """The base model that it was trained on."""
        ...

    async def route(self, request: RouteRequest) -> RoutingDecision:
        """Return the decision on the request's first prompt; raises what ``RoutePrompts`` raises."""
        ...


@frozen
class Call:
    """One request that is to be answered, in the words of OpenAI's interface.

    Attributes:
        endpoint: "chat/completions" or "completions".
        body: the request's object without ``model`` and ``routing``.
        adapter: who answers; None for the bare base model.
        model: the name under which that answerer is known to clients.
        request_id: the request's name, for logs on both sides.
        trace: headers by which another server goes on with the request's trace.
    """

    endpoint: str
    body: Mapping[str, Any]
    adapter: str | None
    model: str
    request_id: str = ""
    trace: Mapping[str, str] = field(factory=dict)

    @property
    def headers(self) -> dict[str, str]:
        """What another server that answers is told beside the body."""
        return {**({"x-request-id": self.request_id} if self.request_id else {}), **self.trace}

    @property
    def is_chat(self) -> bool:
        """Whether this is a conversation (else plain text is continued)."""
        return self.endpoint == "chat/completions"


class AnswerFailedError(RemoteError):
    """A request that was not answered, with what an HTTP endpoint says of it.

    Attributes:
        status: HTTP status.
        code: a short fixed name for programs.
        param: the field of the request that it is about, or None.
        retry_after: seconds after which another try may succeed, or None.
    """

    def __init__(
        self, what: str, *, status: int, code: str, param: str | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(what)
        self.status = status
        self.code = code
        self.param = param
        self.retry_after = retry_after


class Answerer(Protocol):
    """Answers calls through named adapters, in the objects of OpenAI's interface.

    The contract: an answer comes from exactly the adapter that the call names, or from the bare base model, and its
    ``model`` says so in every object; what cannot be proved to come from there is an error. A caller that stops
    iterating ends the work for it.
    """

    @property
    def offered(self) -> tuple[str, ...]:
        """The adapters that are there and proved to have an effect."""
        ...

    @property
    def refused(self) -> Mapping[str, str]:
        """Why others are not offered, by name."""
        ...

    @property
    def base_name(self) -> str:
        """What clients call the bare base model."""
        ...

    async def prove(self, names: tuple[str, ...]) -> None:
        """Find out which of these adapters can be offered; raises RemoteError when nobody can be asked."""
        ...

    async def complete(self, call: Call) -> dict[str, Any]:
        """Return the whole answer as an object; raises AnswerFailedError."""
        ...

    def stream(self, call: Call) -> AsyncIterator[dict[str, Any]]:
        """Yield the answer as chunk objects; raises AnswerFailedError, also between chunks."""
        ...

    async def aclose(self) -> None:
        """End everything that is going on."""
        ...


class DecisionLog(Protocol):
    """Keeps a line for each decision and each piece of feedback; never makes a request wait."""

    @property
    def dropped(self) -> int:
        """Lines that were not kept, because they came faster than they could be written."""
        ...

    def append(self, line: Mapping[str, Any]) -> None:
        """Keep one line, or count it as dropped."""
        ...

    def close(self) -> None:
        """Write what waits."""
        ...
