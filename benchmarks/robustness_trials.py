"""What ``robustness.py`` asks of every system: rows to learn from, and groups of prompts to decide.

A trial is the same for all systems. Its groups ("cases") are counted, never averaged, so that any table can be made
of the counts afterwards.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import documents
import numpy as np
import routing_peers as peers
import templated
from attrs import evolve, frozen
from changed_prompts import CHANGES
from routing_data import BenchmarkData, draw, training_rows
from routing_ours import ThisRouter

from domain.samples import RoutingSample
from domain.trade_off import TradeOff

PLAIN, OUT_OF_SCOPE, CHANGED_OUT_OF_SCOPE = "unchanged", "out of scope", "out of scope, changed"
FEW = 8
"""Rows of a route that an unbalanced trial cuts short."""


@frozen
class Case:
    """One group of prompts.

    Attributes:
        kind: its name in the tables.
        texts: the prompts.
        labels: the right label of each, or None for prompts that belong to no route.
    """

    kind: str
    texts: tuple[str, ...]
    labels: tuple[int, ...] | None


@frozen
class Trial:
    """What one system learns from and is asked."""

    train: tuple[RoutingSample, ...]
    val: tuple[RoutingSample, ...]
    cases: tuple[Case, ...]


@frozen
class Count:
    """What became of one case.

    Attributes:
        part: which part of the benchmark.
        system: who decided.
        samples: rows per route, a fifth of them for validation.
        seed: of the draw, and of the system's own choices.
        target: the error that was asked for, among answered prompts.
        kind: the case.
        total: its prompts.
        right: those whose best route is the right one, abstention aside.
        answered: those that were answered.
        answered_rightly: those that were answered with the right route.
        train_seconds: wall-clock seconds of training; less when features were cached.
    """

    part: str
    system: str
    samples: int
    seed: int
    target: float
    kind: str
    total: int
    right: int
    answered: int
    answered_rightly: int
    train_seconds: float


def changed_trial(
    folder: Path, samples: int, seed: int, *, test_per_route: int, out_of_scope: int, noise: float, unbalanced: bool
) -> Trial:
    """Return the domains of `folder`, with each test prompt as it is and changed in every kind.

    Args:
        folder: see ``routing_data.py``.
        samples: rows per route: four fifths are trained on, the others are for validation.
        seed: of the draw.
        test_per_route: test prompts per route.
        out_of_scope: prompts that belong to no route.
        noise: share of the training and validation rows that get another route's label.
        unbalanced: whether every second route keeps only eight rows.
    """
    data = draw(
        folder,
        per_route=training_rows(samples),
        val_per_route=samples - training_rows(samples),
        test_per_route=test_per_route,
        out_of_scope=out_of_scope,
        seed=seed,
    )
    if unbalanced:
        data = _unbalanced(data)
    if noise:
        data = _noisy(data, noise, seed)
    texts, labels = _columns(data.test)
    changed = [Case(kind.name, tuple(kind(text, seed) for text in texts), labels) for kind in CHANGES]
    odd = tuple(CHANGES[i % len(CHANGES)](text, seed) for i, text in enumerate(data.out_of_scope))
    return Trial(
        data.train,
        data.val,
        (
            Case(PLAIN, texts, labels),
            *changed,
            Case(OUT_OF_SCOPE, data.out_of_scope, None),
            Case(CHANGED_OUT_OF_SCOPE, odd, None),
        ),
    )


def templated_trial(samples: int, seed: int) -> Trial:
    """Return script-made rows to learn from, and prompts by hand; see ``templated.py``."""
    data = templated.draw(samples, seed)
    cases = (Case("by hand", *_columns(data.test)), Case(OUT_OF_SCOPE, data.out_of_scope, None))
    return Trial(data.train, data.val, cases)


def documents_trial(samples: int, seed: int) -> Trial:
    """Return documents with an instruction, one route per task; see ``documents.py``."""
    data = documents.draw(samples, seed)
    cases = [Case(kind, *_columns(rows)) for kind, rows in data.test.items()]
    return Trial(data.train, data.val, (*cases, Case(OUT_OF_SCOPE, data.out_of_scope, None)))


def _columns(rows: Sequence[RoutingSample]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    return tuple(row.text for row in rows), tuple(row.label for row in rows)


def _unbalanced(data: BenchmarkData) -> BenchmarkData:
    def cut(rows: Sequence[RoutingSample], count: int) -> tuple[RoutingSample, ...]:
        small = {
            label: [row for row in rows if row.label == label][:count] for label in range(1, len(data.routes), 2)
        }
        return tuple(row for row in rows if row.label not in small or row in small[row.label])

    return evolve(data, train=cut(data.train, training_rows(FEW)), val=cut(data.val, FEW - training_rows(FEW)))


def _noisy(data: BenchmarkData, share: float, seed: int) -> BenchmarkData:
    rng = random.Random(f"{seed} noise")

    def mislabelled(row: RoutingSample) -> RoutingSample:
        if rng.random() >= share:
            return row
        label = rng.choice([other for other in range(len(data.routes)) if other != row.label])
        return evolve(row, label=label, adapter=data.routes[label])

    return evolve(data, train=tuple(map(mislabelled, data.train)), val=tuple(map(mislabelled, data.val)))


@frozen
class Answers:
    """What a system makes of n prompts: its best route, and by target error whether it answers; all ``(n,)``."""

    best: Any
    answered: Mapping[float, Any]


class OurAnswers:
    """This router, with the limits that its training fits to each of the target errors."""

    def __init__(self, router: ThisRouter, targets: Sequence[float]) -> None:
        self._router, self._targets = router, targets

    def train(self, train: peers.Rows, val: peers.Rows) -> None:
        """Train as the command does."""
        self._labels = {row.adapter: row.label for row in train}
        self._router.train(train, val)

    def __call__(self, texts: Sequence[str]) -> Answers:
        """Decide."""
        assert self._router.report is not None
        made = self._router.decide(texts)
        limits = {one.target_error: one for one in self._router.report.card.trade_off}

        def answered(limit: TradeOff) -> Any:
            return np.array(
                [
                    each.confidence >= limit.min_confidence and each.out_of_scope <= limit.max_out_of_scope
                    for each in made
                ]
            )

        best = np.array([self._labels[each.best or ""] for each in made])
        return Answers(best, {target: answered(limits[target]) for target in self._targets})


class PeerAnswers:
    """A peer, which answers when its confidence reaches a limit.

    None of them has a limit for an error rate. They get the lowest one at which the share of errors among the
    validation rows above it is at most the target, as they may in use: these rows are not trained on.
    """

    def __init__(self, system: peers.System, targets: Sequence[float]) -> None:
        self._system, self._targets = system, targets
        self._limits: dict[float, float] = {}

    def train(self, train: peers.Rows, val: peers.Rows) -> None:
        """Train, and fit the limits."""
        self._system.train(train, val)
        scored = self._system.score([row.text for row in val])
        order = np.argsort(-scored.confidence, kind="stable")
        wrong = np.cumsum((scored.best != [row.label for row in val])[order])
        for target in self._targets:
            kept = np.flatnonzero(wrong <= target * np.arange(1, len(order) + 1))
            self._limits[target] = scored.confidence[order[kept[-1]]] if len(kept) else np.inf

    def __call__(self, texts: Sequence[str]) -> Answers:
        """Decide."""
        scored = self._system.score(texts)
        return Answers(scored.best, {each: scored.confidence >= limit for each, limit in self._limits.items()})


def measure(asked: OurAnswers | PeerAnswers, trial: Trial, **run: Any) -> list[Count]:
    """Train what is asked and count what it makes of each case; `run` names the run (see :class:`Count`)."""
    started = time.perf_counter()
    asked.train(trial.train, trial.val)
    seconds = time.perf_counter() - started
    # All at once: texts that several cases share are encoded once, and batches are of like lengths.
    answers = asked([text for case in trial.cases for text in case.texts])
    counts, start = [], 0
    for case in trial.cases:
        part_of = slice(start, start + len(case.texts))
        start += len(case.texts)
        right = answers.best[part_of] == case.labels if case.labels else np.zeros(len(case.texts), bool)
        for target, all_answered in answers.answered.items():
            answered = all_answered[part_of]
            figures = (len(answered), right.sum(), answered.sum(), (right & answered).sum())
            counts.append(Count(kind=case.kind, target=target, train_seconds=seconds, **run, **_named(figures)))
    return counts


def _named(figures: Sequence[Any]) -> dict[str, int]:
    return dict(zip(("total", "right", "answered", "answered_rightly"), map(int, figures), strict=True))
