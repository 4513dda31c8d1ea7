"""The answer of a training row is found wherever its shape keeps it."""

from __future__ import annotations

from typing import Any

import pytest

from domain.conversations import extract_prompt
from domain.references import reference_answer
from domain.row_shapes import columns_format, detect_shape
from domain.turns import TurnChoice

CALL = {"id": "1", "type": "function", "function": {"name": "open", "arguments": '{"day": 3}'}}
ASKED = [{"role": "user", "content": "Open May 3"}]


def turn(speaker: str, value: str) -> dict[str, str]:
    return {"from": speaker, "value": value}


SHAPES: dict[str, tuple[dict[str, Any], str]] = {
    "sharegpt": ({"conversations": [turn("human", "<image>Open May 3"), turn("gpt", "Done.")]}, "Done."),
    "openai": ({"messages": [*ASKED, {"role": "assistant", "content": "Done."}]}, "Done."),
    "alpaca": ({"instruction": "Open May 3", "input": "", "output": "Done."}, "Done."),
    "completion": ({"prompt": "Open May 3", "completion": " Done."}, "Done."),
    "chats": ({"prompt": ASKED, "completion": [{"role": "assistant", "content": "Done."}]}, "Done."),
    "preference": ({"prompt": "Open May 3", "chosen": "Done.", "rejected": "No."}, "Done."),
    "chosen chat": (
        {"prompt": ASKED, "chosen": [*ASKED, {"role": "assistant", "content": "Done."}], "rejected": []},
        "Done.",
    ),
    "llamafactory chosen": (
        {"conversations": [turn("human", "Open May 3")], "chosen": turn("gpt", "Done.")},
        "Done.",
    ),
    "plain": ({"question": "Open May 3", "answer": "Done."}, "Done."),
    "chatml": ({"text": "<|im_start|>user\nOpen May 3<|im_end|>\n<|im_start|>assistant\nDone.<|im_end|>\n"}, "Done."),
    "llama 2": ({"text": "<s>[INST] Open May 3 [/INST] Done. </s>"}, "Done."),
    "gemma": (
        {"text": "<start_of_turn>user\nOpen May 3<end_of_turn>\n<start_of_turn>model\nDone.<end_of_turn>"},
        "Done.",
    ),
    "deepseek": ({"text": "<｜User｜>Open May 3<｜Assistant｜>Done.<｜end▁of▁sentence｜>"}, "Done."),
    "zephyr": ({"text": "<|user|>\nOpen May 3</s>\n<|assistant|>\nDone.</s>"}, "Done."),
    "alpaca text": ({"text": "### Instruction:\nOpen May 3\n\n### Response:\nDone."}, "Done."),
    "vicuna": ({"text": "USER: Open May 3 ASSISTANT: Done.</s>"}, "Done."),
    "guanaco": ({"text": "### Human: Open May 3### Assistant: Done."}, "Done."),
    "human": ({"text": "\n\nHuman: Open May 3\n\nAssistant: Done."}, "Done."),
    "llama 3": (
        {
            "text": "<|start_header_id|>user<|end_header_id|>\n\nOpen May 3<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\nDone.<|eot_id|>"
        },
        "Done.",
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_gives_its_answer(shape: str) -> None:
    row, answer = SHAPES[shape]
    fmt = detect_shape([row])
    assert extract_prompt(row, fmt) == "Open May 3"
    found = reference_answer(row, fmt, TurnChoice.LAST)
    assert found is not None
    chat, said = found
    assert [(one.role, one.content) for one in chat] == [("user", "Open May 3")]
    assert (said.role, said.content) == ("assistant", answer)


LONG = {
    "conversations": [
        turn("system", "Be brief."),
        turn("human", "Open the first of May"),
        turn("gpt", "Opened 1."),
        turn("human", "Now the third of May"),
        turn("gpt", "Opened 3."),
        turn("human", "<image>"),
        turn("gpt", "I see."),
    ]
}


@pytest.mark.parametrize(
    ("choice", "before", "answer"), [("first", 2, "Opened 1."), ("last", 4, "Opened 3."), ("all", 4, "Opened 3.")]
)
def test_the_answer_is_the_one_to_the_routed_turn(choice: str, before: int, answer: str) -> None:
    found = reference_answer(LONG, detect_shape([LONG]), TurnChoice(choice))
    assert found is not None
    assert (len(found[0]), found[0][0].content, found[1].content) == (before, "Be brief.", answer)


def test_tool_calls_are_an_answer() -> None:
    row = {"messages": [*ASKED, {"role": "assistant", "content": None, "tool_calls": [CALL]}]}
    found = reference_answer(row, detect_shape([row]), TurnChoice.LAST)
    assert found is not None
    assert [(one.name, one.arguments) for one in found[1].tool_calls] == [("open", '{"day": 3}')]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": ASKED},
        {"messages": [*ASKED, {"role": "assistant", "content": " "}]},
        {"messages": [*ASKED, {"role": "tool", "content": "x"}, *ASKED]},
        {"prompt": "Open May 3"},
        {"prompt": "Open May 3", "completion": 3},
        {"text": "<|im_start|>user\nOpen May 3<|im_end|>\n"},
    ],
)
def test_rows_without_an_answer(row: dict[str, Any]) -> None:
    assert reference_answer(row, detect_shape([row]), TurnChoice.LAST) is None


def test_columns_that_a_person_named() -> None:
    fmt = columns_format({"prompt": "utterance", "answer": "reply"})
    found = reference_answer({"utterance": "Open", "reply": "Done.", "output": "x"}, fmt, TurnChoice.LAST)
    assert found is not None
    assert found[1].content == "Done."
    turns = columns_format({"messages": "talk", "role": "who", "content": "said", "user": "Customer"})
    row = {"talk": [{"who": "Customer", "said": "Open"}, {"who": "assistant", "said": "Done."}]}
    found = reference_answer(row, turns, TurnChoice.LAST)
    assert found is not None
    assert (found[0][0].role, found[1].content) == ("user", "Done.")
