"""Names of LoRA adapters and the integer labels that stand for them in data sets and routers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from attrs import field, frozen

from domain.errors import MismatchError, UsageError

ADAPTER_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")

RESERVED_NAMES = frozenset({"auto", "base", "error", "none"})
"""Words that options, answers and clients use for no adapter, the base model, or whoever the router chooses."""


def check_adapter_name(name: str) -> str:
    """Return `name` if it may name an adapter: 1 to 64 of ``A-Z a-z 0-9 _ -``, and not a word with a meaning.

    The rule keeps names safe as folder names, options and file names.

    Raises:
        UsageError: it may not.
    """
    if not ADAPTER_NAME.fullmatch(name):
        shown = name if len(name) <= 70 else name[:70] + "…"
        raise UsageError(
            f"adapter name {shown!r} is not allowed", hint="use 1 to 64 of the characters A-Z a-z 0-9 _ -"
        )
    if name in RESERVED_NAMES:
        raise UsageError(f"adapter name {name!r} means something else here", hint="choose another name")
    return name


@frozen
class AdapterLabel:
    """One adapter's name with its label.

    Attributes:
        name: the adapter's name, see :func:`check_adapter_name`.
        label: its integer label, 0 or more.
    """

    name: str = field(converter=check_adapter_name)
    label: int = field()

    @label.validator
    def _not_negative(self, _attribute: object, value: int) -> None:
        if value < 0:
            raise UsageError(f"label {value} of adapter {self.name!r} is negative")


def _names(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(values)


@frozen
class LabelMap:
    """An ordered set of adapters; an adapter's label is its position.

    Labels are therefore contiguous from 0 and unique by construction, and two maps are equal exactly when
    every label means the same adapter in both.

    Attributes:
        names: the adapters' names in label order; at least one, no duplicates.
    """

    names: tuple[str, ...] = field(converter=_names)

    @names.validator
    def _valid(self, _attribute: object, value: tuple[str, ...]) -> None:
        if not value:
            raise UsageError("a label map needs at least one adapter")
        for name in value:
            check_adapter_name(name)
        twice = sorted({name for name in value if value.count(name) > 1})
        if twice:
            raise UsageError(f"adapter {twice[0]!r} is named twice", hint="adapter names must be unique")

    @classmethod
    def from_mapping(cls, labels: Mapping[str, int]) -> LabelMap:
        """Build the map from ``{name: label}``; raises UsageError unless labels are 0, 1, …, n-1."""
        ordered = sorted(labels, key=lambda name: labels[name])
        if [labels[name] for name in ordered] != list(range(len(ordered))):
            raise UsageError(f"labels {dict(labels)} are not contiguous from 0")
        return cls(ordered)

    def label_of(self, name: str) -> int:
        """Return the label of `name`; raises UsageError naming the known adapters."""
        try:
            return self.names.index(name)
        except ValueError:
            known = ", ".join(self.names)
            raise UsageError(f"unknown adapter {name!r}", hint=f"known adapters: {known}") from None

    def name_of(self, label: int) -> str:
        """Return the adapter with this label; raises UsageError for a label outside the map."""
        if not 0 <= label < len(self.names):
            raise UsageError(f"label {label} is not in 0..{len(self.names) - 1}")
        return self.names[label]

    def as_mapping(self) -> dict[str, int]:
        """Return ``{name: label}`` in label order."""
        return {name: label for label, name in enumerate(self.names)}

    def require_same(self, other: LabelMap, *, mine: str, theirs: str) -> None:
        """Raise MismatchError, showing both sides, unless `other` gives every label the same meaning.

        Args:
            other: the map to compare with.
            mine: what this map belongs to, for the message ("router file r.safetensors").
            theirs: what the other belongs to.
        """
        if self != other:
            raise MismatchError(
                f"label maps differ: {mine} has {self}, {theirs} has {other}",
                hint="train the router on this data set, or use the data set that it was trained on",
            )

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __iter__(self) -> Iterator[AdapterLabel]:
        return (AdapterLabel(name, label) for label, name in enumerate(self.names))

    def __len__(self) -> int:
        return len(self.names)

    def __str__(self) -> str:
        """Return ``calendar=0, claim-window=1`` for messages."""
        return ", ".join(f"{name}={label}" for label, name in enumerate(self.names))


DEFAULT_LABELS = LabelMap(("calendar", "claim-window", "provider-select"))
"""The three adapters of the original scripts; their labels are fixed."""
