"""Small source data sets of the three default LoRA adapters, shipped with the package.

Each is the training data of one adapter that drives a part of a user interface: ``calendar`` clicks dates,
``claim-window`` edits an insurance claim form, ``provider-select`` works a drop-down list of doctors. The rows are
ShareGPT-style (``id`` and ``conversations`` of ``system``, ``human``, ``gpt``); the human turn starts with
``<image>``, and the answer is a ``<tool_call>`` block with one JSON object. All prompts were written for this
project; every person, clinic and number in them is invented.

Beside them lie prompts that belong to none of the three: greetings, other people's errands, general questions, some
with the adapters' own words ("Which electricity provider is the cheapest?"); one file to fit abstention to, one
to see how well that went.

What is not covered: the images themselves, other languages than English, and more than one turn.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType

from domain.errors import UsageError

SAMPLE_TOOLS: Mapping[str, str] = MappingProxyType(
    {
        "calendar": "calendar_click",
        "claim-window": "claim_form",
        "provider-select": "provider_dropdown",
    }
)
"""Adapter name to the tool that its answers call, in label order: by the tool one sees which adapter has answered."""


def sample_source(name: str) -> Path:
    """Return the path of one adapter's packaged source data set, a JSONL file.

    The package must lie unpacked on disk, as pip installs it.

    Args:
        name: ``calendar``, ``claim-window`` or ``provider-select``.

    Raises:
        UsageError: there is no packaged data for this adapter.
    """
    if name not in SAMPLE_TOOLS:
        raise UsageError(f"no packaged samples for adapter {name!r}", hint=f"there are: {', '.join(SAMPLE_TOOLS)}")
    return Path(str(files(__name__))) / f"{name}.jsonl"


def sample_out_of_scope(*, held_out: bool = False) -> Path:
    """Return the path of the packaged prompts that belong to none of the adapters, a text file of one per line.

    Args:
        held_out: the prompts for evaluation instead of those for training. Both were written by the same hand on
            the same kinds of topics, so what is measured on them flatters.
    """
    return Path(str(files(__name__))) / ("out-of-scope-eval.txt" if held_out else "out-of-scope.txt")


def sample_sources() -> dict[str, Path]:
    """Return the paths of all packaged source data sets by adapter name, in label order."""
    return {name: sample_source(name) for name in SAMPLE_TOOLS}
