"""Training texts that were rendered with a chat template: the user's turns, found by the template's marks."""

from __future__ import annotations

import re
from typing import Final

_END: Final = r"(?=<\|(?:user|assistant|system|end|endoftext)\|>|</s>|\Z)"

_MARKS: Final = tuple(
    (name, re.compile(pattern, re.DOTALL))
    for name, pattern in (
        ("ChatML", r"<\|im_start\|>user\n(.*?)(?=<\|im_end\|>|<\|im_start\|>|\Z)"),
        ("Llama 3", r"<\|start_header_id\|>user<\|end_header_id\|>(.*?)(?=<\|eot_id\|>|<\|start_header_id\|>|\Z)"),
        ("Gemma", r"<start_of_turn>user\n(.*?)(?=<end_of_turn>|<start_of_turn>|\Z)"),
        ("DeepSeek", r"<｜User｜>(.*?)(?=<｜Assistant｜>|<｜User｜>|\Z)"),
        ("Zephyr or Phi", r"<\|user\|>(.*?)" + _END),
        ("Llama 2 or Mistral", r"\[INST\](?:\s*<<SYS>>.*?<</SYS>>)?(.*?)\[/INST\]"),
        ("Alpaca prompt", r"### Instruction:(.*?)(?=\n### Response:|\Z)"),
        ("Guanaco", r"### Human:(.*?)(?=### (?:Assistant|Human):|\Z)"),
        ("Human and Assistant", r"(?:\A|\n\n)Human:(.*?)(?=\n\n(?:Assistant|Human):|\Z)"),
        ("Vicuna", r"(?:\A|(?<=\s)|(?<=</s>))USER:(.*?)(?=ASSISTANT:|USER:|\Z)"),
    )
)


def marked_turns(text: str) -> tuple[str, list[str]] | None:
    """Return the name of the marks and the user's turns, oldest first; None for a text without known marks."""
    for name, pattern in _MARKS:
        if found := pattern.findall(text):
            return name, [turn.replace("### Input:", "").strip() for turn in found]
    return None
