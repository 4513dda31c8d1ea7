"""What heads are trained on: rows chosen out of a run's features, for the run, for each fold, and for the end.

Of a prompt of several pieces only some carry its label. Which ones is found out by asking heads that do not know the
prompt (multiple instances: Andrews, Tsochantaridis and Hofmann 2002, "Support Vector Machines for Multiple-Instance
Learning"): a piece that such a head takes for the prompt's own label tells; the surest one always does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, TypeVar

from attrs import evolve, field, frozen

from application.ports import HeadProblem, HeadSession, HeadTrainer, KnownTexts, LabelledTexts, LeftOutFold
from application.training.choose_features import ChosenFeatures
from application.training.training_data import TrainingData
from application.training.training_prompts import FOLDS, PromptRow, TrainingPrompts
from domain.training_events import Noted, TrainingEvent

_T = TypeVar("_T")

ROUNDS: Final = 3
"""So many times the telling pieces are looked for; the fourth time changed hardly any."""

OWNED: Final = 0.2
"""Packaged prompts that are surer than this share of the data's own left-out prompts are taken for owned."""


@frozen(eq=False)
class HeadProblems:
    """Makes problems out of a run's prompts and features.

    Attributes:
        prompts: the run's prompts.
        chosen: features of the run's texts.
        n_labels: number of labels.
        seed: of the run.
        telling: the pieces that carry the label, for each row.
        doubts: rows that most likely have a wrong label, with the chance that it is right after all, 0 to 1. No head
            and no bank learns them.
    """

    prompts: TrainingPrompts
    chosen: ChosenFeatures
    n_labels: int
    seed: int
    telling: tuple[tuple[int, ...], ...] = field()
    doubts: Mapping[int, float] = field(factory=dict)

    @telling.default
    def _all_pieces(self) -> tuple[tuple[int, ...], ...]:
        return tuple(row.pieces for row in self.prompts.rows)

    def for_training(self) -> HeadProblem:
        """Return the problem of the training rows, validated on the validation rows."""
        rows = range(self.prompts.n_train)
        return self._problem(rows, range(self.prompts.n_train, len(self.prompts.rows)), without=None)

    def without(self, fold: int) -> HeadProblem:
        """Return the problem of all rows but a fold's."""
        rows = [number for number, row in enumerate(self.prompts.rows) if row.fold != fold]
        return self._problem(rows, rows, without=fold)

    def for_serving(self) -> HeadProblem:
        """Return the problem of all rows."""
        rows = range(len(self.prompts.rows))
        return self._problem(rows, rows, without=None)

    def known(self) -> KnownTexts:
        """Return what a router is to remember of the rows."""
        kept = [
            (place, row)
            for number, (row, places) in enumerate(zip(self.prompts.rows, self.telling, strict=True))
            if number not in self.doubts
            for place in places
        ]
        return self._known(
            [place for place, _ in kept], [row.label for _, row in kept], [row.fold for _, row in kept]
        )

    def background(self) -> KnownTexts:
        """Return the background phrases."""
        places = self.prompts.background
        return self._known(places, (), [number % FOLDS for number in range(len(places))])

    def out_of_scope(self) -> KnownTexts:
        """Return the prompts that belong to no adapter, by their pieces."""
        found = [
            (place, number % FOLDS) for number, places in enumerate(self.prompts.out_of_scope) for place in places
        ]
        return self._known([place for place, _ in found], (), [fold for _, fold in found])

    def left_out(self, fold: int, logits: Callable[[Sequence[int]], object]) -> LeftOutFold:
        """Return a fold's prompts with their changed copies, and the out-of-scope prompts of the fold.

        Args:
            fold: number of the fold.
            logits: asks a head without the fold about texts, given by their positions.
        """
        asked: list[tuple[tuple[int, ...], int, bool, float]] = []
        for number, row in enumerate(self.prompts.rows):
            if row.fold == fold:
                weight = self.doubts.get(number, 1.0)
                asked.append((row.pieces, row.label, False, weight))
                asked += [(pieces, row.label, True, weight) for pieces in row.changed]
        asked += [(pieces, self.n_labels, False, 1.0) for pieces in self.prompts.out_of_scope[fold::FOLDS]]
        places = [place for pieces, _, _, _ in asked for place in pieces]
        return LeftOutFold(
            logits=logits(places),  # type: ignore[arg-type]
            features=self.chosen.matrix[places],
            sizes=tuple(len(pieces) for pieces, _, _, _ in asked),
            labels=tuple(label for _, label, _, _ in asked),
            changed=tuple(changed for _, _, changed, _ in asked),
            weights=tuple(weight for _, _, _, weight in asked),
        )

    def texts(self, places: Iterable[int]) -> tuple[str, ...]:
        """Return the texts at these positions."""
        return tuple(self.prompts.texts[place] for place in places)

    def _problem(self, rows: Sequence[int], val: Sequence[int], *, without: int | None) -> HeadProblem:
        rows = [number for number in rows if number not in self.doubts]
        found: list[tuple[int, int, int]] = []  # position, label, group
        company: set[int] = set()
        for number in rows:
            row = self.prompts.rows[number]
            found += [(place, row.label, number) for place in self.telling[number]]
            company |= set(row.pieces) - set(self.telling[number])
        for number in rows:
            row = self.prompts.rows[number]
            for place in self.telling[number]:
                found += [(copy, row.label, number) for copy in row.copies.get(place, ())]
        labelled = {place for place, _, _ in found}
        none = [*_left(self.prompts.background, without), *sorted(company - labelled)]
        none += [place for pieces in _left(self.prompts.out_of_scope, without) for place in pieces]
        apart = len(self.prompts.rows)
        found += [(place, self.n_labels, apart + step) for step, place in enumerate(dict.fromkeys(none))]
        checks = [
            (self.telling[number][0], self.prompts.rows[number].label, number)
            for number in val
            if number not in self.doubts
        ]
        return HeadProblem(self._labelled(found), self._labelled(checks), self.n_labels, self.seed)

    def _labelled(self, found: Sequence[tuple[int, int, int]]) -> LabelledTexts:
        places = [place for place, _, _ in found]
        return LabelledTexts(
            self.chosen.matrix[places],
            self.texts(places),
            tuple(label for _, label, _ in found),
            tuple(group for _, _, group in found),
        )

    def _known(self, places: Sequence[int], labels: Sequence[int], folds: Sequence[int]) -> KnownTexts:
        places = list(places)
        return KnownTexts(self.chosen.matrix[places], self.texts(places), tuple(labels), tuple(folds))


def _left(items: Sequence[_T], without: int | None) -> list[_T]:
    return [item for number, item in enumerate(items) if without is None or number % FOLDS != without]


def head_problems(
    data: TrainingData, chosen: ChosenFeatures, heads: HeadTrainer, seed: int, emit: Callable[[TrainingEvent], None]
) -> HeadProblems:
    """Return a run's problems: the pieces that tell are found, and packaged prompts that a route owns are out."""
    problems = HeadProblems(data.prompts, chosen, len(data.labels), seed)
    problems = without_owned_prompts(problems, heads, emit)
    return with_telling_pieces(problems, heads)


def without_owned_prompts(
    problems: HeadProblems, heads: HeadTrainer, emit: Callable[[TrainingEvent], None]
) -> HeadProblems:
    """Return the problems without the packaged out-of-scope prompts that look like the data's own.

    A head that knows no out-of-scope prompt is asked about them, and about rows that it does not know either. What
    is surer than `OWNED` of those rows looks like one of them.
    """
    prompts = problems.prompts
    own = [row.pieces[0] for row in prompts.rows if row.fold == 0]
    packaged = prompts.out_of_scope[prompts.n_given :]
    if not own or not packaged:
        return problems
    bare = evolve(problems, prompts=evolve(prompts, out_of_scope=()))
    session = heads.start(heads.kinds[0], bare.without(0), 0.0)
    tensors = session.router_tensors(session.weights())

    def surest(places: Sequence[int]) -> list[float]:
        logits = heads.logits(heads.kinds[0], tensors, problems.chosen.matrix[list(places)], problems.texts(places))
        return [max(float(value) for value in logits[index][:-1]) for index in range(len(logits))]

    limit = sorted(surest(own))[math.floor(OWNED * (len(own) - 1))]
    kept = tuple(pieces for pieces in packaged if max(surest(pieces)) <= limit)
    if len(kept) < len(packaged):
        emit(
            Noted(
                f"{len(packaged) - len(kept)} of {len(packaged)} packaged out-of-scope prompts look like the "
                "adapters' own prompts and are left out"
            )
        )
    return evolve(problems, prompts=evolve(prompts, out_of_scope=(*prompts.out_of_scope[: prompts.n_given], *kept)))


def with_telling_pieces(problems: HeadProblems, heads: HeadTrainer) -> HeadProblems:
    """Return the problems with the pieces that tell, in every prompt of several pieces, found by cross-fitting."""
    several = [number for number, row in enumerate(problems.prompts.rows) if len(row.pieces) > 1]
    if not several:
        return problems
    shared = _shared_pieces(problems.prompts.rows)
    problems = evolve(problems, telling=tuple(_unshared(row, shared) for row in problems.prompts.rows))
    like: HeadSession | None = None
    for _ in range(ROUNDS):
        telling = list(problems.telling)
        for fold in range(FOLDS):
            asked = [number for number in several if problems.prompts.rows[number].fold == fold]
            if not asked:
                continue
            like = session = heads.start(heads.kinds[0], problems.without(fold), 0.0, like)
            tensors = session.router_tensors(session.weights())
            for number in asked:
                row = problems.prompts.rows[number]
                places = list(row.pieces)
                logits = heads.logits(heads.kinds[0], tensors, problems.chosen.matrix[places], problems.texts(places))
                values = [[float(value) for value in logits[index]] for index in range(len(logits))]
                telling[number] = _telling(row, _unshared(row, shared), values)
        found = evolve(problems, telling=tuple(telling))
        if found.telling == problems.telling:
            return found
        problems = found
    return problems


def _shared_pieces(rows: Sequence[PromptRow]) -> frozenset[int]:
    """Return the pieces that stand in rows of several labels, such as one system prompt before every row."""
    labels: dict[int, int] = {}
    return frozenset(
        place for row in rows for place in row.pieces if labels.setdefault(place, row.label) != row.label
    )


def _unshared(row: PromptRow, shared: frozenset[int]) -> tuple[int, ...]:
    return tuple(place for place in row.pieces if place not in shared) or row.pieces


def _telling(row: PromptRow, candidates: Sequence[int], logits: Sequence[Sequence[float]]) -> tuple[int, ...]:
    """Return the candidates that are taken for the row's label; the surest one first, which is always among them."""
    margins = [
        values[row.label] - max(v for label, v in enumerate(values) if label != row.label) for values in logits
    ]
    allowed = [index for index, place in enumerate(row.pieces) if place in candidates]
    ranked = sorted(allowed, key=lambda index: -margins[index])
    return tuple(dict.fromkeys(row.pieces[i] for i in ranked if i == ranked[0] or margins[i] > 0))
