"""What making a data set takes and gives: the request and the report of ``GenerateDataset``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from attrs import field, frozen

from application.ports.datasets import Source
from domain.conversations import RejectReason
from domain.datasets import DatasetFile, SourceAccount
from domain.errors import UsageError
from domain.labels import ADAPTER_NAME, LabelMap
from domain.split import Split
from domain.turns import TurnChoice


def _sources(values: Iterable[Source]) -> tuple[Source, ...]:
    return tuple(values)


@frozen
class GenerateRequest:
    """What to make; the defaults are the command line's.

    Attributes:
        sources: one per adapter, in label order.
        prefix: name of the data set, and beginning of its folder's name; as an adapter's name.
        train_samples: rows per adapter that are split into training and validation, 1 or more.
        eval_samples: held-out rows per adapter, 0 or more.
        train_val_split: share of training among the training samples, 0 to 1.
        output_dir: the data set's folder, or None for ``datasets/<prefix>_<YYYYMMDD_HHMMSS>``.
        seed: decides what is drawn and its order.
        allow_fewer: keep the balance at the smallest adapter's count instead of failing.
        validate: parse every line of every source and count what is wrong with it.
        strict: stop at the first bad line of any source; implies that every line is parsed.
        replace: replace a data set that is already there, as a whole.
        answers: keep the reference answers of held-out rows, where their source gives them.
        tool_version: version that goes into the metadata.
    """

    sources: tuple[Source, ...] = field(converter=_sources)
    prefix: str = "routing"
    train_samples: int = 100
    eval_samples: int = 100
    train_val_split: float = 0.8
    output_dir: Path | None = None
    seed: int = 42
    allow_fewer: bool = False
    validate: bool = False
    strict: bool = False
    replace: bool = False
    answers: bool = True
    tool_version: str = ""

    def __attrs_post_init__(self) -> None:
        """Raise UsageError with the rule and the offending value."""
        if not ADAPTER_NAME.fullmatch(self.prefix):
            raise UsageError(f"prefix {self.prefix[:70]!r} is not 1 to 64 of the characters A-Z a-z 0-9 _ -")
        if self.train_samples < 1:
            raise UsageError(f"train-samples {self.train_samples} is below 1")
        if self.eval_samples < 0:
            raise UsageError(f"eval-samples {self.eval_samples} is negative")
        if not 0.0 <= self.train_val_split <= 1.0:
            raise UsageError(f"train-val-split {self.train_val_split} is not between 0 and 1")
        if sum(str(path) == "-" for source in self.sources for path in source.paths) > 1:
            raise UsageError("only one source can be standard input")
        if any(source.line_limit < 1 for source in self.sources):
            raise UsageError("line-limit is below 1 byte")
        if len({source.turn for source in self.sources}) > 1:
            raise UsageError("the sources are read by different turns", hint="a router reads the same turn of all")
        LabelMap(source.adapter for source in self.sources)  # refuses bad, missing and double names

    @property
    def labels(self) -> LabelMap:
        """The data set's label map."""
        return LabelMap(source.adapter for source in self.sources)

    @property
    def turn(self) -> TurnChoice:
        """Which human turns make the routing texts, the same for all sources."""
        return self.sources[0].turn

    @property
    def rows_per_adapter(self) -> int:
        """Rows that each adapter is asked for, over all splits."""
        return self.train_samples + self.eval_samples


@frozen
class ValidatedSource:
    """What parsing every line of one source found.

    Attributes:
        adapter: the adapter's name.
        lines: lines in the source.
        usable: lines that give a routing text.
        blank: lines with nothing but white space.
        rejected: lines that give none, by reason.
    """

    adapter: str
    lines: int
    usable: int
    blank: int
    rejected: Mapping[RejectReason, int]


@frozen
class GenerateReport:
    """What was made.

    Attributes:
        request: what was asked for.
        path: the data set's folder.
        labels: its label map.
        counts: rows by split.
        per_adapter: rows by split for one adapter and all others alike: (train + val, eval).
        accounts: per adapter, what became of its lines.
        validated: per adapter, what parsing every line found; empty unless asked for.
        files: the data set's files, ``metadata.json`` last.
        n_rejects: lines in ``rejects.jsonl``; 0 when there is no such file.
        n_answers: reference answers that were kept, per adapter; empty when none were to be.
    """

    request: GenerateRequest
    path: Path
    labels: LabelMap
    counts: Mapping[Split, int]
    per_adapter: tuple[int, int]
    accounts: tuple[SourceAccount, ...]
    validated: tuple[ValidatedSource, ...]
    files: tuple[DatasetFile, ...]
    n_rejects: int
    n_answers: Mapping[str, int] = field(factory=dict)
