"""A base model in this process, with its LoRA adapters, as the engine behind the endpoint."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from time import time
from typing import Any, Final

from attrs import define, field, frozen

from application.ports.answering import AnswerPiece, GenerationRequest, StreamingEngine
from application.ports.serving import AnswerFailedError, Call
from domain.answers import Finish, GenerationOptions
from domain.chats import Chat, as_chat, parse_turns
from domain.errors import DataRejectedError, UsageError

DEFAULT_TOKENS: Final = 256
MAX_STOPS: Final = 4
_IGNORED: Final = frozenset(
    {"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "stream", "stream_options"}
)
_NEUTRAL: Final[Mapping[str, tuple[Any, ...]]] = {
    "n": (1,),
    "best_of": (1,),
    "top_p": (1, 1.0),
    "presence_penalty": (0, 0.0),
    "frequency_penalty": (0, 0.0),
    "logprobs": (False, 0),
    "echo": (False,),
    "logit_bias": ({},),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
}
"""Fields that are taken with these values only, as they ask for nothing that this engine does not do anyway."""


@frozen
class _Asked:
    """A call as this engine takes it."""

    request: GenerationRequest
    options: GenerationOptions
    usage: bool


@define(eq=False)
class EmbeddedAnswerer:
    """An :class:`application.ports.serving.Answerer` over a :class:`application.ports.answering.StreamingEngine`.

    A plain prompt (``/v1/completions``) is one turn of the user, as for ``infer``. Without a temperature the most
    likely tokens are taken, as ``infer`` does. A field that this engine cannot honour is refused, not ignored.

    Attributes:
        engine: generates.
        base_name: what clients call the base model.
        refused: LoRA adapters that were found to be unsound, with the reason.
        prompt_tokens: counts the tokens of a rendered prompt.
        max_tokens: longest answer.
        timeout: seconds for one answer, waiting included.
    """

    engine: StreamingEngine
    base_name: str
    refused: Mapping[str, str] = field(factory=dict)
    prompt_tokens: Callable[[GenerationRequest], int] = lambda _request: 0
    max_tokens: int = 512
    timeout: float = 300.0
    _running: Counter[str] = field(factory=Counter, init=False)
    _waiting: Counter[str] = field(factory=Counter, init=False)

    @property
    def offered(self) -> tuple[str, ...]:
        """The LoRA adapters that were checked when they were loaded."""
        return self.engine.adapters

    async def prove(self, names: tuple[str, ...]) -> None:
        """Have it proved already: an adapter is loaded only after the check."""

    async def complete(self, call: Call) -> dict[str, Any]:
        """Return the whole answer."""
        asked = self._asked(call)
        pieces = [piece async for piece in self._pieces(asked)]
        text = "".join(piece.text for piece in pieces)
        shown = {"message": {"role": "assistant", "content": text}} if call.is_chat else {"text": text}
        choice = {"index": 0, **shown, "logprobs": None, "finish_reason": str(pieces[-1].finish)}
        return {**_head(call, "chat.completion"), "choices": [choice], "usage": self._usage(asked, pieces[-1])}

    async def stream(self, call: Call) -> AsyncIterator[dict[str, Any]]:
        """Yield the answer as it grows."""
        asked, head = self._asked(call), _head(call, "chat.completion.chunk")
        first, last = True, AnswerPiece("", 0, Finish.STOP)
        async for last in self._pieces(asked):
            shown: dict[str, Any] = {"text": last.text}
            if call.is_chat:
                shown = {"delta": {**({"role": "assistant"} if first else {}), "content": last.text}}
            first = False
            finish = None if last.finish is None else str(last.finish)
            yield {**head, "choices": [{"index": 0, **shown, "finish_reason": finish}]}
        if asked.usage:
            yield {**head, "choices": [], "usage": self._usage(asked, last)}

    async def aclose(self) -> None:
        """End all answers."""
        await self.engine.aclose()

    def metrics_text(self) -> bytes:
        """Return which adapters run and wait, as vLLM tells it: balancers in front of several servers read that."""
        running, waiting = (",".join(sorted(+each)) for each in (self._running, self._waiting))
        labels = f'max_lora="{len(self.offered)}",running_lora_adapters="{running}",waiting_lora_adapters="{waiting}"'
        return (
            "# HELP vllm:lora_requests_info Running stats on lora requests.\n"
            f"# TYPE vllm:lora_requests_info gauge\nvllm:lora_requests_info{{{labels}}} {time()}\n"
        ).encode()

    async def _pieces(self, asked: _Asked) -> AsyncIterator[AnswerPiece]:
        name, place = asked.request.adapter, self._waiting
        counted = {name} if name is not None else set()
        place.update(counted)
        stream = self.engine.stream(asked.request, asked.options, timeout=self.timeout)
        try:
            async for piece in stream:
                if place is self._waiting:
                    place.subtract(counted)
                    place = self._running
                    place.update(counted)
                yield piece
        finally:
            place.subtract(counted)
            close = getattr(stream, "aclose", None)
            if close is not None:
                await close()

    def _usage(self, asked: _Asked, last: AnswerPiece) -> dict[str, int]:
        prompt = self.prompt_tokens(asked.request)
        return {"prompt_tokens": prompt, "completion_tokens": last.tokens, "total_tokens": prompt + last.tokens}

    def _asked(self, call: Call) -> _Asked:
        body = call.body
        for name, value in body.items():
            if value is None or name in _KNOWN or name in _IGNORED:
                continue
            if value not in _NEUTRAL.get(name, ()):
                raise _refused(f"this server's own engine does not do {name}={value!r:.60}", name)
        chat = _chat(body) if call.is_chat else as_chat(_prompt(body.get("prompt")))
        stream_options = body.get("stream_options") or {}
        usage = isinstance(stream_options, Mapping) and bool(stream_options.get("include_usage"))
        return _Asked(GenerationRequest(chat, call.adapter), self._options(body), usage)

    def _options(self, body: Mapping[str, Any]) -> GenerationOptions:
        wanted = [body.get(name) for name in ("max_completion_tokens", "max_tokens")]
        tokens = next((each for each in wanted if each is not None), min(DEFAULT_TOKENS, self.max_tokens))
        if not isinstance(tokens, int) or isinstance(tokens, bool) or not 1 <= tokens <= self.max_tokens:
            raise _refused(f"max_tokens is not a number from 1 to {self.max_tokens}", "max_tokens")
        stop = body.get("stop") or []
        stops = (stop,) if isinstance(stop, str) else tuple(stop) if isinstance(stop, list) else None
        if stops is None or len(stops) > MAX_STOPS or not all(isinstance(each, str) for each in stops):
            raise _refused(f"stop is not a text or a list of at most {MAX_STOPS} texts", "stop")
        temperature, seed = _number(body, "temperature", 0.0), _number(body, "seed", 42)
        try:
            return GenerationOptions(tokens, float(temperature), int(seed), stops)
        except UsageError as error:
            raise _refused(error.what, None) from None


_KNOWN: Final = frozenset(
    {"messages", "prompt", "max_tokens", "max_completion_tokens", "temperature", "seed", "stop"}
)


def _head(call: Call, kind: str) -> dict[str, Any]:
    return {
        "id": call.request_id,
        "object": kind if call.is_chat else "text_completion",
        "created": int(time()),
        "model": call.model,
    }


def _chat(body: Mapping[str, Any]) -> Chat:
    messages = body.get("messages")
    for turn in messages if isinstance(messages, list) else ():
        content = turn.get("content") if isinstance(turn, Mapping) else None
        if isinstance(content, list) and any(
            isinstance(part, Mapping) and part.get("type", "text") != "text" for part in content
        ):
            raise _refused("this server's own engine reads text only", "messages")
    try:
        return parse_turns(messages)
    except DataRejectedError as error:
        raise _refused(str(error), "messages") from None


def _prompt(value: Any) -> str:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, str):
        raise _refused("prompt is not one text", "prompt")
    return value


def _number(body: Mapping[str, Any], name: str, default: float) -> float:
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _refused(f"{name} is not a number", name)
    return value


def _refused(what: str, param: str | None) -> AnswerFailedError:
    return AnswerFailedError(what, status=400, code="invalid_request_error", param=param)
