"""An endpoint's engine without a model, for tests and for trying the endpoint out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from attrs import define, field

from application.ports.serving import AnswerFailedError, Call


@define
class InMemoryAnswerer:
    """An :class:`application.ports.serving.Answerer` that says who it is, and repeats the newest turn.

    Attributes:
        adapters: the adapters that it pretends to hold.
        base_name: what it calls the base model.
        refused: adapters that it does not offer, with the reason.
        calls: everything that it was asked, in order.
        fails: raised in place of an answer, if set; in a stream after the first piece.
    """

    adapters: tuple[str, ...]
    base_name: str = "base-model"
    refused: Mapping[str, str] = field(factory=dict)
    calls: list[Call] = field(factory=list)
    fails: AnswerFailedError | None = None

    @property
    def offered(self) -> tuple[str, ...]:
        """The adapters that are not refused."""
        return tuple(name for name in self.adapters if name not in self.refused)

    async def prove(self, names: tuple[str, ...]) -> None:
        """Have nothing to prove."""

    async def complete(self, call: Call) -> dict[str, Any]:
        """Return the whole answer at once."""
        self.calls.append(call)
        if self.fails is not None:
            raise self.fails
        words = self._words(call)
        usage = {"prompt_tokens": len(words) - 1, "completion_tokens": len(words)}
        text = " ".join(words)
        shown = {"message": {"role": "assistant", "content": text}} if call.is_chat else {"text": text}
        return {
            "object": "chat.completion" if call.is_chat else "text_completion",
            "model": call.model,
            "created": 0,
            "choices": [{"index": 0, **shown, "finish_reason": "stop"}],
            "usage": {**usage, "total_tokens": sum(usage.values())},
        }

    async def stream(self, call: Call) -> AsyncIterator[dict[str, Any]]:
        """Yield a word at a time."""
        self.calls.append(call)
        head = {
            "object": "chat.completion.chunk" if call.is_chat else "text_completion",
            "model": call.model,
            "created": 0,
        }
        for position, word in enumerate(self._words(call)):
            if position == 1 and self.fails is not None:
                raise self.fails
            piece = word if position == 0 else f" {word}"
            shown = {"delta": {"role": "assistant", "content": piece}} if call.is_chat else {"text": piece}
            yield {**head, "choices": [{"index": 0, **shown, "finish_reason": None}]}
        end: dict[str, Any] = {"delta": {}} if call.is_chat else {"text": ""}
        yield {**head, "choices": [{"index": 0, **end, "finish_reason": "stop"}]}
        if (call.body.get("stream_options") or {}).get("include_usage"):
            usage = {"prompt_tokens": 1, "completion_tokens": len(self._words(call)), "total_tokens": 1}
            yield {**head, "choices": [], "usage": usage}

    async def aclose(self) -> None:
        """Have nothing to end."""

    def _words(self, call: Call) -> list[str]:
        said = call.body["messages"][-1]["content"] if call.is_chat else call.body["prompt"]
        return [f"{call.model}:", *str(said).split()]
