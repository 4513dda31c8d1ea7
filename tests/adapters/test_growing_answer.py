"""An answer is the same in pieces and whole, and ends where it should."""

from __future__ import annotations

import random
from typing import Any

import pytest

from adapters.lora.growing_answer import GrowingAnswer
from domain.answers import Finish, GenerationOptions
from tests.tiny_models import tiny_tokenizer

TOKENIZER = tiny_tokenizer()
TOKENIZER.add_special_tokens({"additional_special_tokens": ["<|tool_call|>", "<|eot|>"]})
END = TOKENIZER.eos_token_id


def grow(tokens: list[int], *, taken: bool = True, **options: Any) -> tuple[GrowingAnswer, list[str]]:
    answer = GrowingAnswer(
        TOKENIZER, GenerationOptions(**{"max_new_tokens": 999, **options}), frozenset({END}), frozenset({END, 0, 1})
    )
    pieces = []
    for token in tokens:
        answer.push(token)
        if taken:
            pieces.append(answer.take())
    return answer, pieces


def test_text_that_nobody_waits_for_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(GrowingAnswer, "_decoded", lambda self, tokens: calls.append(tokens) or "")
    answer, _ = grow([*ids("some words and more of them"), END], taken=False)
    assert answer.generation.finish is Finish.STOP
    assert len(calls) == 2  # what is settled, and what is new


def ids(text: str) -> list[int]:
    found: list[int] = TOKENIZER(text, add_special_tokens=False).input_ids
    return found


@pytest.mark.parametrize("seed", range(8))
def test_pieces_make_the_whole(seed: int) -> None:
    tokens = [random.Random(seed).randrange(3, len(TOKENIZER)) for _ in range(60)]
    tokens = [token for token in tokens if token != END]
    stop = ("ab", "the end", TOKENIZER.decode(tokens[40:42]) or "x")
    for options in ({}, {"stop": stop}, {"max_new_tokens": 17}):
        answer, taken = grow([*tokens, END], **options)
        assert "".join(taken) == answer.generation.text
        quiet, _ = grow([*tokens, END], **options, taken=False)
        assert quiet.generation.text == answer.generation.text
        if not options:
            assert answer.generation.text == TOKENIZER.decode(tokens, clean_up_tokenization_spaces=False).strip()


def test_a_character_is_given_out_when_it_is_whole() -> None:
    _, taken = grow(ids("Grüße 😀!"))
    assert not any("\ufffd" in piece for piece in taken)


def test_marks_that_are_said_stay_and_marks_that_end_go() -> None:
    text = "<|tool_call|>{x:1}"
    answer, _ = grow([1, *ids(text), 0, END, *ids("more")])
    assert answer.generation.text == text
    assert (answer.generation.finish, answer.tokens) == (Finish.STOP, len(ids(text)) + 3)


@pytest.mark.parametrize("stop", ["<|eot|>", "eot|>", "k<|eo"])
def test_a_special_token_can_be_a_stop_string(stop: str) -> None:
    answer, taken = grow(ids("ok<|eot|>more"), stop=(stop,))
    assert (answer.generation.text, answer.finish) == ("ok<|eot|>more".partition(stop)[0], Finish.STOP)
    assert "".join(taken) == answer.generation.text
