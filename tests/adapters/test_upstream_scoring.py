"""An upstream that serves ``prompt_logprobs`` tells how likely an answer is, as the same model does here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from adapters.base_model.transformers_base import load_base
from adapters.lora.peft_engine import PeftEngine
from adapters.lora.peft_scoring import PeftAnswerScorer
from application.ports.scoring import AnswerScore, ScoreRequest
from application.ports.serving import AnswerFailedError
from domain.chats import Message, ToolCall, as_chat
from domain.errors import DataRejectedError, UsageError
from tests.lora_world import NAMES, write_loras
from tests.upstream_world import BASE, FakeVllm, scorer

LISTED = dict.fromkeys(NAMES, BASE)
REQUEST = ScoreRequest(as_chat("book a table"), Message("assistant", "It is done."), NAMES[0])


class TinyVllm(FakeVllm):
    """Tokenizes and computes with a real model, which holds LoRA adapters."""

    engine: PeftEngine

    def ids(self, messages: list[dict[str, Any]], add_generation_prompt: bool) -> list[int]:
        tokenizer: Any = self.engine.base.tokenizer
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=add_generation_prompt)
        return list(tokenizer(text, add_special_tokens=False).input_ids)

    def prompt_logprobs(self, name: str, ids: list[int]) -> list[Any]:
        with torch.inference_mode(), self.engine.speaking([None if name == BASE else name]) as model:
            told = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        read = self.engine.base.tokenizer.convert_ids_to_tokens
        return [None] + [
            {str(token): {"logprob": float(told[place, token]), "decoded_token": read(token).replace("Ċ", "\n")}}
            for place, token in enumerate(ids[1:])
        ]


def test_the_same_model_gives_the_same_scores_here_and_there(tiny_base: Path, tmp_path: Path) -> None:
    base = load_base(str(tiny_base), cache_dir=tmp_path, device="cpu")
    engine = PeftEngine(base, write_loras(base, tmp_path / "loras"))
    fake = TinyVllm(LISTED)
    fake.engine = engine
    called = Message("assistant", "", (ToolCall("book", '{"day": 3}'),))
    requests = [
        ScoreRequest(as_chat(asked), answer, name)
        for asked, answer in (("book a table", Message("assistant", "It is done.")), ("on the third", called))
        for name in (None, *NAMES)
    ]
    here, there = dict(PeftAnswerScorer(engine).score(requests)), dict(scorer(fake, NAMES).score(requests))
    for index, one in here.items():
        other = there[index]
        assert isinstance(one, AnswerScore)
        assert isinstance(other, AnswerScore)
        assert (other.tokens, other.loss) == (one.tokens, pytest.approx(one.loss, rel=1e-4))


def test_the_answers_tokens_count_with_the_mark_that_ends_it_and_without_the_line_end_after_it() -> None:
    fake = FakeVllm(LISTED)
    ((_, found),) = scorer(fake, NAMES).score([REQUEST])
    body = fake.seen[-1][0]
    *_, mark, end_of_line = ids = body["prompt"]
    assert (body["model"], fake.words[mark], fake.words[end_of_line]) == (NAMES[0], "</>", "\n")
    expected = -sum(fake.logprob(NAMES[0], ids[:place], ids[place]) for place in range(len(ids) - 5, len(ids) - 1))
    assert found == AnswerScore(pytest.approx(expected), 4)


def test_a_conversation_is_tokenized_once_for_all_adapters() -> None:
    asked: list[Any] = []

    class Counting(FakeVllm):
        def ids(self, *said: Any) -> list[int]:
            asked.append(said)
            return FakeVllm.ids(self, *said)

    fake = Counting(LISTED)
    requests = [ScoreRequest(REQUEST.chat, REQUEST.answer, name) for name in (None, *NAMES)]
    assert len(dict(scorer(fake, NAMES).score(requests))) == 4
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("fake", "words"),
    [
        (FakeVllm(LISTED, logprobs=False), "its answer has no prompt_logprobs"),
        (FakeVllm(LISTED, faults={NAMES[0]: 500}), "status 500"),
        (FakeVllm(LISTED, faults={NAMES[0]: "wrong-echo"}), "answered as 'another'"),
        (FakeVllm(LISTED, key="right"), "refuses this server's key"),
    ],
)
def test_an_upstream_that_fails_ends_the_run(fake: FakeVllm, words: str) -> None:
    with pytest.raises(AnswerFailedError, match=words):
        list(scorer(fake, NAMES).score([REQUEST] * 40))


def test_a_template_that_rewrites_the_conversation_is_an_error_of_that_request() -> None:
    class Rewriting(FakeVllm):
        def ids(self, messages: list[dict[str, Any]], add_generation_prompt: bool) -> list[int]:
            return [len(messages), 1, 2]

    ((_, found),) = scorer(Rewriting(LISTED), NAMES).score([REQUEST])
    assert isinstance(found, DataRejectedError)
    assert "does not put the answer after the conversation" in found.what


def test_adapters_that_the_upstream_does_not_hold_are_refused_at_once() -> None:
    fake = FakeVllm({"calendar": BASE, "claim-window": "other-base"})
    with pytest.raises(UsageError, match="provider-select: the upstream has no model") as error:
        scorer(fake, NAMES)
    assert "claim-window: the upstream says that its base model is 'other-base'" in error.value.what
