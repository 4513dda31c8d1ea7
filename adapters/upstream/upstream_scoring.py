"""How likely given answers are under an upstream's adapters, by the probabilities that vLLM tells of a prompt.

vLLM's ``/tokenize`` turns a conversation into token ids. ``/v1/completions`` with ``prompt_logprobs`` tells, for each
token of a prompt but the first, ``{"<token id>": {"logprob": …, "rank": …, "decoded_token": …}}``: the token's own
and those of the likeliest others. So the conversation with its answer is the prompt, and nothing is generated but one
token, which vLLM insists on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

from attrs import evolve, frozen

from adapters.upstream.dialects import Dialect, check_echo
from adapters.upstream.upstream_http import UpstreamHttp
from application.ports.scoring import AnswerScore, ScoreRequest
from application.ports.serving import AnswerFailedError
from domain.chats import Chat, Message, as_turn, with_calls
from domain.errors import DataRejectedError, MoeRouterError, UsageError


@frozen
class _Text:
    """A conversation with its answer: token ids, of which those from `begin` on are the answer's."""

    ids: list[int]
    begin: int


@frozen(eq=False)
class UpstreamAnswerScorer:
    """An :class:`application.ports.scoring.AnswerScorer` that asks a vLLM.

    Conversations are read by the upstream's chat template, and no adapter's system turn is put before them: as when
    the upstream answers.

    Attributes:
        connect: opens connections.
        dialect: what adapters are called there; it has looked at what is there.
        adapters: the LoRA adapters that can be asked.
        at_once: most requests that are under way.
    """

    connect: Callable[[], UpstreamHttp]
    dialect: Dialect
    adapters: tuple[str, ...]
    at_once: int = 16

    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[tuple[int, AnswerScore | MoeRouterError]]:
        """Yield scores as they come; see the port. Raises AnswerFailedError when the upstream itself fails."""
        with asyncio.Runner() as runner:
            scores = self._scores(requests)
            while (found := runner.run(_next(scores))) is not None:
                yield found

    async def _scores(
        self, requests: Sequence[ScoreRequest]
    ) -> AsyncIterator[tuple[int, AnswerScore | MoeRouterError]]:
        http, free = self.connect(), asyncio.Semaphore(self.at_once)
        texts: dict[tuple[Chat, Message], asyncio.Task[_Text]] = {}

        async def scored(index: int, request: ScoreRequest) -> tuple[int, AnswerScore | MoeRouterError]:
            said = (request.chat, request.answer)
            async with free:
                try:
                    if request.adapter not in (None, *self.adapters):
                        raise UsageError(f"the upstream is not asked for LoRA adapter {request.adapter!r}")
                    if said not in texts:
                        texts[said] = asyncio.ensure_future(self._text(http, *said))
                    return index, await self._score(http, await texts[said], request.adapter)
                except AnswerFailedError as error:
                    if error.status not in (400, 413):
                        raise
                    return index, DataRejectedError(f"the upstream does not take it: {error.what}")
                except MoeRouterError as error:
                    return index, error

        tasks = [asyncio.ensure_future(scored(*each)) for each in enumerate(requests)]
        try:
            for task in asyncio.as_completed(tasks):
                yield await task
        finally:
            for each in (*tasks, *texts.values()):
                each.cancel()
            await http.aclose()

    async def _text(self, http: UpstreamHttp, chat: Chat, answer: Message) -> _Text:
        """Return what the upstream reads; raises DataRejectedError for a template that changes what was before."""
        before = await self._ids(http, chat, add_generation_prompt=True)
        ids = await self._ids(http, (*chat, answer), add_generation_prompt=False)
        if ids[: len(before)] != before or len(ids) == len(before):
            raise DataRejectedError("the upstream's chat template does not put the answer after the conversation")
        return _Text(ids, len(before))

    async def _ids(self, http: UpstreamHttp, chat: Chat, *, add_generation_prompt: bool) -> list[int]:
        """Return a conversation's token ids; tool calls that the template leaves out are written into contents."""

        async def ids(chat: Chat) -> list[int]:
            body = {"messages": [as_turn(turn) for turn in chat], "add_generation_prompt": add_generation_prompt}
            answer = await http.post("/tokenize", self.dialect.body(body, None))
            try:
                return [int(each) for each in answer["tokens"]]
            except (KeyError, TypeError, ValueError):
                raise _unlike_vllm("/tokenize gives no tokens") from None

        found = await ids(chat)
        if any(turn.tool_calls for turn in chat) and found == await ids(
            tuple(evolve(turn, tool_calls=()) for turn in chat)
        ):
            return await ids(tuple(evolve(turn, content=with_calls(turn), tool_calls=()) for turn in chat))
        return found

    async def _score(self, http: UpstreamHttp, text: _Text, adapter: str | None) -> AnswerScore:
        body = {"prompt": text.ids, "prompt_logprobs": 1, "max_tokens": 1, "temperature": 0.0}
        answer = await http.post("/v1/completions", self.dialect.body(body, adapter))
        check_echo(self.dialect, answer, adapter)
        return _score(answer, text)


def _score(answer: Any, text: _Text) -> AnswerScore:
    try:
        told = answer["choices"][0]["prompt_logprobs"]
        pairs = list(zip(text.ids, told, strict=True))[text.begin :]
        tokens = [each[str(token)] for token, each in pairs]
        while len(tokens) > 1 and not (tokens[-1].get("decoded_token") or "x").strip():
            tokens.pop()  # line ends after the mark that ends the turn
        return AnswerScore(-sum(float(each["logprob"]) for each in tokens), len(tokens))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        raise _unlike_vllm("its answer has no prompt_logprobs") from None


def _unlike_vllm(what: str) -> AnswerFailedError:
    return AnswerFailedError(f"the upstream does not answer as vLLM does: {what}", status=502, code="upstream_error")


async def _next(
    scores: AsyncIterator[tuple[int, AnswerScore | MoeRouterError]],
) -> tuple[int, AnswerScore | MoeRouterError] | None:
    return await anext(scores, None)


def upstream_scorer(
    connect: Callable[[], UpstreamHttp], dialect: Dialect, names: Sequence[str]
) -> UpstreamAnswerScorer:
    """Return a scorer after a look at what the upstream holds.

    Raises:
        UsageError: it does not hold one of these LoRA adapters as it should.
        AnswerFailedError: it cannot be asked.
    """

    async def survey() -> None:
        http = connect()
        try:
            found = await dialect.survey(http, tuple(names))
        finally:
            await http.aclose()
        if found.refused:
            raise UsageError("; ".join(f"{name}: {problem}" for name, problem in found.refused.items()))

    asyncio.run(survey())
    return UpstreamAnswerScorer(connect, dialect, tuple(names))
