"""Training texts that were rendered with a chat template: who says what, found by the template's marks."""

from __future__ import annotations

import re
from itertools import zip_longest
from typing import Final

_END: Final = r"(?=<\|(?:user|assistant|system|end|endoftext)\|>|</s>|\Z)"

_MARKS: Final = tuple(
    (name, re.compile(user, re.DOTALL), re.compile(assistant, re.DOTALL))
    for name, user, assistant in (
        (
            "ChatML",
            r"<\|im_start\|>user\n(.*?)(?=<\|im_end\|>|<\|im_start\|>|\Z)",
            r"<\|im_start\|>assistant\n(.*?)(?=<\|im_end\|>|<\|im_start\|>|\Z)",
        ),
        (
            "Llama 3",
            r"<\|start_header_id\|>user<\|end_header_id\|>(.*?)(?=<\|eot_id\|>|<\|start_header_id\|>|\Z)",
            r"<\|start_header_id\|>assistant<\|end_header_id\|>(.*?)(?=<\|eot_id\|>|<\|start_header_id\|>|\Z)",
        ),
        (
            "Gemma",
            r"<start_of_turn>user\n(.*?)(?=<end_of_turn>|<start_of_turn>|\Z)",
            r"<start_of_turn>model\n(.*?)(?=<end_of_turn>|<start_of_turn>|\Z)",
        ),
        (
            "DeepSeek",
            r"<｜User｜>(.*?)(?=<｜Assistant｜>|<｜User｜>|\Z)",
            r"<｜Assistant｜>(.*?)(?=<｜end▁of▁sentence｜>|<｜User｜>|\Z)",
        ),
        ("Zephyr or Phi", r"<\|user\|>(.*?)" + _END, r"<\|assistant\|>(.*?)" + _END),
        (
            "Llama 2 or Mistral",
            r"\[INST\](?:\s*<<SYS>>.*?<</SYS>>)?(.*?)\[/INST\]",
            r"\[/INST\](.*?)(?=</s>|\[INST\]|\Z)",
        ),
        (
            "Alpaca prompt",
            r"### Instruction:(.*?)(?=\n### Response:|\Z)",
            r"### Response:(.*?)(?=\n### |</s>|\Z)",
        ),
        (
            "Guanaco",
            r"### Human:(.*?)(?=### (?:Assistant|Human):|\Z)",
            r"### Assistant:(.*?)(?=### (?:Assistant|Human):|\Z)",
        ),
        (
            "Human and Assistant",
            r"(?:\A|\n\n)Human:(.*?)(?=\n\n(?:Assistant|Human):|\Z)",
            r"\n\nAssistant:(.*?)(?=\n\n(?:Assistant|Human):|\Z)",
        ),
        (
            "Vicuna",
            r"(?:\A|(?<=\s)|(?<=</s>))USER:(.*?)(?=ASSISTANT:|USER:|\Z)",
            r"ASSISTANT:(.*?)(?=</s>|USER:|\Z)",
        ),
    )
)


def marked_turns(text: str) -> tuple[str, list[str]] | None:
    """Return the name of the marks and the user's turns, oldest first; None for a text without known marks."""
    for name, user, _ in _MARKS:
        if found := user.findall(text):
            return name, [_plain(turn) for turn in found]
    return None


def marked_exchanges(text: str) -> list[tuple[str, str]]:
    """Return what the user says and what the assistant answers, oldest first; an answer that is not there is ""."""
    for _, user, assistant in _MARKS:
        if asked := user.findall(text):
            answers = [answer.strip() for answer in assistant.findall(text)][: len(asked)]
            return list(zip_longest(map(_plain, asked), answers, fillvalue=""))
    return []


def _plain(turn: str) -> str:
    return turn.replace("### Input:", "").strip()
