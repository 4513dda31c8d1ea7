"""Drawing the same number of rows for every adapter, with no text under two adapters or twice under one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet

from attrs import Factory, define, field, frozen

from application.ports.datasets import DrawnLine, Origin, Source, SourceDraws
from domain.conversations import Rejection, RejectReason
from domain.datasets import RejectedLine, SourceAccount
from domain.errors import DataRejectedError
from domain.printable import printable
from domain.references import ReferenceAnswer, reference_answer
from domain.samples import RoutingSample, normalise_text

MAX_REJECTS = 20
"""Rejected lines that are shown per source; all are counted."""


@frozen
class Balanced:
    """What was drawn.

    Attributes:
        rows: per adapter in label order, equally many rows each, in uniformly random order.
        accounts: per adapter in label order, what became of its lines.
        rejects: the first rejected lines that were met, per adapter.
        drawn: the line and the source of each row, by its text.
    """

    rows: tuple[tuple[RoutingSample, ...], ...]
    accounts: tuple[SourceAccount, ...]
    rejects: tuple[RejectedLine, ...]
    drawn: Mapping[str, tuple[DrawnLine, Source]] = field(factory=dict, repr=False)

    def reference_answers(self, rows: Iterable[RoutingSample]) -> Iterator[ReferenceAnswer]:
        """Yield the reference answers of those of `rows` that were drawn here, from sources that keep rows."""
        for row in rows:
            line, source = self.drawn.get(row.text, (None, None))
            if line is not None and source is not None and line.row is not None:
                found = reference_answer(line.row, source.format, source.turn)
                if found is not None:
                    yield ReferenceAnswer(row.adapter, row.source_id, row.text, *found)


@define
class RejectLog:
    """Counts rejected lines by reason and remembers the first few.

    Attributes:
        source: where the lines are from.
        counts: rejected lines by reason.
    """

    source: Source
    counts: Counter[RejectReason] = Factory(Counter)
    _kept: list[tuple[str, int, Origin, Rejection]] = Factory(list)

    def add(self, number: int, rejection: Rejection, origin: Origin) -> None:
        """Take note of one rejected line."""
        self.counts[rejection.reason] += 1
        self._kept.append((str(origin.path), number, origin, rejection))
        if len(self._kept) >= 4 * MAX_REJECTS:
            self._kept = self._in_file_order()

    @property
    def first(self) -> list[RejectedLine]:
        """The first of the rejected lines in file order, at most :data:`MAX_REJECTS`, in whatever order they came."""
        adapter = self.source.adapter
        return [
            RejectedLine(adapter, printable(origin.path), number, rejection.reason, rejection.detail)
            for _, number, origin, rejection in self._in_file_order()
        ]

    @property
    def example(self) -> str:
        """The very first rejected line in words; "" without any, and where the source's advice says more."""
        for _, number, origin, rejection in self._in_file_order():
            advised = self.source.advice and rejection.reason is RejectReason.NO_CONVERSATION is self.source.advised
            return "" if advised else f"first at {origin.place(number)}: {rejection.detail}"
        return ""

    def _in_file_order(self) -> list[tuple[str, int, Origin, Rejection]]:
        return sorted(self._kept, key=lambda one: one[:2])[:MAX_REJECTS]


@define
class _Intake:
    """One adapter while its rows are drawn; `kept` maps normalised text to row, in the order of drawing."""

    source: Source
    draws: SourceDraws
    upcoming: Iterator[DrawnLine]
    log: RejectLog
    kept: dict[str, DrawnLine] = Factory(dict)
    exhausted: bool = False
    drawn: int = 0
    blank: int = 0
    duplicates: int = 0
    conflicts: int = 0

    def account(self, n_rows: int) -> SourceAccount:
        return SourceAccount(
            adapter=self.source.adapter,
            lines=self.draws.lines,
            drawn=self.drawn,
            kept=n_rows,
            blank=self.blank,
            rejected=dict(sorted(self.log.counts.items())),
            duplicates=self.duplicates,
            conflicts=self.conflicts,
            surplus=len(self.kept) - n_rows,
        )


@define
class _Drawing:
    """All adapters at once, since a text that two of them claim belongs to neither."""

    intakes: list[_Intake]
    owners: dict[str, _Intake] = field(factory=dict)
    contested: set[str] = field(factory=set)

    def fill(self, wanted: int) -> None:
        """Draw until every adapter has `wanted` rows or no more lines; a conflict can empty a place again."""
        while short := [one for one in self.intakes if len(one.kept) < wanted and not one.exhausted]:
            for intake in short:
                self._fill_one(intake, wanted)

    def _fill_one(self, intake: _Intake, wanted: int) -> None:
        while len(intake.kept) < wanted:
            line = next(intake.upcoming, None)
            if line is None:
                intake.exhausted = True
                return
            intake.drawn += line.times
            if line.outcome is None:
                intake.blank += line.times
            elif isinstance(line.outcome, Rejection):
                intake.log.add(line.number, line.outcome, line.origin)
            else:
                self._claim(intake, normalise_text(line.outcome), line)

    def _claim(self, intake: _Intake, key: str, line: DrawnLine) -> None:
        owner = self.owners.get(key)
        if key in self.contested:
            intake.conflicts += 1
        elif owner is None:
            self.owners[key] = intake
            intake.kept[key] = line
        elif owner is intake:
            intake.duplicates += 1
        else:
            self.contested.add(key)
            del owner.kept[key]
            owner.conflicts += 1
            intake.conflicts += 1


def draw_balanced(
    sources: Sequence[tuple[Source, SourceDraws]],
    wanted: int,
    *,
    allow_fewer: bool,
    taken: AbstractSet[str] = frozenset(),
    remedy: str = "",
) -> Balanced:
    """Draw `wanted` rows for each adapter.

    A draw that is rejected, blank or a duplicate is replaced by a further one. A text that two adapters claim is
    dropped from both, and both draw further.

    Args:
        sources: each adapter's source with its draws, in label order.
        wanted: rows per adapter.
        allow_fewer: whether all adapters may be cut to the smallest one's count when rows run out.
        taken: normalised texts that adapters outside this drawing own; drawing one is a conflict.
        remedy: what the user can do when rows run out; by default to ask for fewer, or to allow fewer.

    Raises:
        DataRejectedError: an adapter has fewer usable rows and that is not allowed, or has none at all.
    """
    intakes = [_Intake(source, draws, iter(draws), RejectLog(source)) for source, draws in sources]
    _Drawing(intakes, contested=set(taken)).fill(wanted)
    n_rows = min(len(one.kept) for one in intakes)
    if n_rows < wanted and (n_rows == 0 or not allow_fewer):
        raise _shortage([one for one in intakes if len(one.kept) < wanted], wanted, allow_fewer, remedy)
    return Balanced(
        rows=tuple(tuple(_rows(label, one, n_rows)) for label, one in enumerate(intakes)),
        accounts=tuple(one.account(n_rows) for one in intakes),
        rejects=tuple(line for one in intakes for line in one.log.first),
        drawn={
            str(line.outcome): (line, one.source)
            for one in intakes
            if one.source.keep_rows
            for line in list(one.kept.values())[:n_rows]
        },
    )


def _rows(label: int, intake: _Intake, n_rows: int) -> Iterable[RoutingSample]:
    for line in list(intake.kept.values())[:n_rows]:
        assert isinstance(line.outcome, str)  # only texts are kept
        yield RoutingSample(line.outcome, label, intake.source.adapter, line.source_id)


def _shortage(short: Sequence[_Intake], wanted: int, allow_fewer: bool, remedy: str) -> DataRejectedError:
    parts = []
    for one in short:
        account = one.account(len(one.kept))
        found = f"adapter {account.adapter!r}: {wanted} rows asked, {account.kept} usable in {account.lines} lines"
        why = describe_losses(account)
        example = f", {one.log.example}" if one.log.example else ""
        parts.append(f"{found}{f' ({why}{example})' if why else ''}")
    hint = remedy or "give more data, or ask for fewer rows (`train-samples N`, `eval-samples N`)"
    unread = (one for one in short if not one.kept or RejectReason.UNKNOWN_ROLE in one.log.counts)
    if advice := [one.source.advice for one in unread if one.source.advice]:
        hint = "; ".join(advice)
    elif not remedy and not allow_fewer and all(one.kept for one in short):
        hint += ", or allow fewer (`allow-fewer`): the balance is then kept at the smallest adapter's count"
    return DataRejectedError("; ".join(parts), where=short[0].source.path, hint=hint)


def describe_losses(account: SourceAccount) -> str:
    """Return ``3 invalid-json, 2 duplicates`` for everything that was drawn and not kept, or ``""``."""
    losses: Mapping[str, int] = {
        **{str(reason): count for reason, count in account.rejected.items()},
        "duplicates": account.duplicates,
        "claimed by two adapters": account.conflicts,
        "blank": account.blank,
        "surplus": account.surplus,
    }
    return ", ".join(f"{count} {what}" for what, count in losses.items() if count)
