"""An upstream as the engine behind the endpoint."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final

from attrs import define, field

from adapters.upstream.dialects import Dialect, check_echo
from adapters.upstream.proofs import Sign, probe_body, problems, sign
from adapters.upstream.upstream_http import UpstreamHttp
from application.ports.serving import AnswerFailedError, Call

PROBES: Final = ("Answer the request in one line.", "Please do it now.")


@define(eq=False)
class UpstreamAnswerer:
    """An :class:`application.ports.serving.Answerer` that forwards.

    Everything in a request passes through but who answers; everything in an answer but ``model``, which becomes the
    adapter's own name after it was checked against the one that was asked for.

    Attributes:
        http: the connections.
        dialect: how this kind of upstream is asked.
        on_mismatch: is called when somebody else answered than was asked.
    """

    http: UpstreamHttp
    dialect: Dialect
    on_mismatch: Callable[[], None] = lambda: None
    _offered: tuple[str, ...] = field(default=(), init=False)
    _refused: Mapping[str, str] = field(factory=dict, init=False)
    _base: str = field(default="base", init=False)

    @property
    def offered(self) -> tuple[str, ...]:
        """The adapters that were proved."""
        return self._offered

    @property
    def refused(self) -> Mapping[str, str]:
        """Why others were not."""
        return self._refused

    @property
    def base_name(self) -> str:
        """The base model's name at the upstream."""
        return self._base

    async def prove(self, names: tuple[str, ...]) -> None:
        """Ask the upstream what it holds, then every adapter and the base model the same questions."""
        survey = await self.dialect.survey(self.http, names)
        refused = dict(survey.refused)
        base = [await self._signs(None) for _ in range(2)]
        asked: dict[str, list[Sign]] = {}
        for name in names:
            if name not in refused:
                try:
                    asked[name] = await self._signs(name)
                except AnswerFailedError as error:
                    refused[name] = error.what
        refused.update(problems(base, asked))
        self._base, self._refused = survey.base, refused
        self._offered = tuple(name for name in names if name not in refused)

    async def complete(self, call: Call) -> dict[str, Any]:
        """Return the upstream's answer."""
        body = {**self.dialect.body(call.body, call.adapter), "stream": False}
        answer = await self.http.post(f"/v1/{call.endpoint}", body, call.headers)
        return self._checked(answer, call)

    async def stream(self, call: Call) -> AsyncIterator[dict[str, Any]]:
        """Yield the upstream's chunks."""
        body = {**self.dialect.body(call.body, call.adapter), "stream": True}
        async for chunk in self.http.events(f"/v1/{call.endpoint}", body, call.headers):
            yield self._checked(chunk, call)

    async def aclose(self) -> None:
        """Close the connections."""
        await self.http.aclose()

    async def _signs(self, name: str | None) -> list[Sign]:
        found = []
        for prompt in PROBES:
            body = self.dialect.body(probe_body(prompt), name)
            answer = await self.http.post("/v1/chat/completions", body)
            self._check_echo(answer, name)
            found.append(sign(answer))
        return found

    def _checked(self, answer: Any, call: Call) -> dict[str, Any]:
        self._check_echo(answer, call.adapter)
        return {**answer, "model": call.model}

    def _check_echo(self, answer: Any, adapter: str | None) -> None:
        try:
            check_echo(self.dialect, answer, adapter)
        except AnswerFailedError:
            self.on_mismatch()
            raise
