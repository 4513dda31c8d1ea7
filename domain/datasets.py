"""A routing data set as values: its rows by split, where they came from, and what became of every input line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from domain.conversations import RejectReason
from domain.labels import LabelMap
from domain.references import ReferenceAnswer
from domain.samples import RoutingSample
from domain.split import Split

SCHEMA_VERSION = 1
"""Version of the data set's layout, kept in ``metadata.json``; readers refuse newer ones."""


@frozen
class SourceAccount:
    """What became of every line of one adapter's source data.

    ``lines = drawn + not_drawn`` and ``drawn = kept + blank + sum(rejected) + duplicates + conflicts + surplus``.

    Attributes:
        adapter: the adapter's name.
        lines: lines in the source, blank ones and an unterminated last one included.
        drawn: lines that were drawn and parsed.
        kept: drawn lines that became rows of the data set.
        blank: drawn lines with nothing but white space.
        rejected: drawn lines that could not be used, by reason.
        duplicates: drawn lines whose normalised text this adapter had already given.
        conflicts: drawn lines whose normalised text another adapter's drawn lines claim, too.
        surplus: usable lines that were given up to keep the balance (only with fewer rows allowed).
    """

    adapter: str
    lines: int
    drawn: int
    kept: int
    blank: int = 0
    rejected: Mapping[RejectReason, int] = field(factory=dict)
    duplicates: int = 0
    conflicts: int = 0
    surplus: int = 0

    @property
    def not_drawn(self) -> int:
        """Lines that sampling passed over."""
        return self.lines - self.drawn

    @property
    def unaccounted(self) -> int:
        """Drawn lines that no other count explains; 0 when the account adds up."""
        told = self.kept + self.blank + self.n_rejected + self.duplicates + self.conflicts + self.surplus
        return self.drawn - told

    @property
    def n_rejected(self) -> int:
        """Rejected lines over all reasons."""
        return sum(self.rejected.values())


@frozen
class RejectedLine:
    """One rejected line, for people who mend source data.

    Attributes:
        adapter: whose source it is from.
        file: the source file as the user named it.
        line: line number from 1.
        reason: the kind of fault.
        detail: what exactly was met.
    """

    adapter: str
    file: str
    line: int
    reason: RejectReason
    detail: str


@frozen
class RoutingDataset:
    """Everything that a data set's folder holds, before it is written.

    Attributes:
        labels: the label map of all rows.
        splits: rows of training, validation and (when there are any) evaluation, in file order.
        metadata: content of ``metadata.json`` without the files' hashes, which the store adds; plain JSON values.
        card: content of ``README.md``.
        rejects: the first few rejected lines of each source.
        answers: reference answers of evaluation rows, in the order of those; not every row has one.
    """

    labels: LabelMap
    splits: Mapping[Split, tuple[RoutingSample, ...]]
    metadata: Mapping[str, Any]
    card: str
    rejects: tuple[RejectedLine, ...] = ()
    answers: tuple[ReferenceAnswer, ...] = ()

    @property
    def data(self) -> tuple[RoutingSample, ...]:
        """Rows of ``data.jsonl``: training, then validation."""
        return (*self.splits[Split.TRAIN], *self.splits[Split.VAL])


@frozen
class DatasetFile:
    """One file of a stored data set.

    Attributes:
        name: file name within the folder.
        size: bytes.
        sha256: hex digest of the content.
        rows: JSON lines in it, or None for files of another kind.
    """

    name: str
    size: int
    sha256: str
    rows: int | None = None
