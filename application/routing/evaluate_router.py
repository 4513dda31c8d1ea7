"""Use case: score a trained router on held-out prompts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from attrs import field, frozen

from application.ports import ProgressReporter, ProgressTask, PromptReader, RowReader
from application.routing.route_prompts import RoutePrompts, RouteRequest
from domain.errors import MismatchError
from domain.evaluation import Evaluation, GradedRow, auroc, evaluate
from domain.fragility import ChangedFigures, changed_figures, warnings
from domain.labels import LabelMap
from domain.robustness import CHANGES
from domain.router import RouterCard
from domain.routing import RoutingDecision
from domain.samples import RoutingSample, normalise_text

CHUNK = 256
"""Prompts between two steps of the progress bar."""


@frozen
class EvaluateRequest:
    """What to score.

    Attributes:
        data_path: rows with the right adapters.
        out_of_scope_path: prompts that belong to no adapter, or None.
        robustness: whether to route changed prompts as well, to see what becomes of the decisions.
    """

    data_path: Path
    out_of_scope_path: Path | None = None
    robustness: bool = True


@frozen
class WrongRow:
    """A prompt whose best adapter is not the right one.

    Attributes:
        text: the prompt.
        gold: the right adapter.
        predicted: the adapter with the highest probability.
        confidence: its calibrated probability.
        answered: whether the router would have answered with it, instead of abstaining.
        out_of_scope: out-of-scope score.
        nearest: the nearest prompt that the router remembers.
        nearest_adapter: its adapter.
        similarity: cosine similarity to it.
    """

    text: str
    gold: str
    predicted: str
    confidence: float
    answered: bool
    out_of_scope: float
    nearest: str | None
    nearest_adapter: str | None
    similarity: float | None


@frozen
class OutOfScopeFigures:
    """How well prompts that belong to no adapter are told apart.

    Attributes:
        total: out-of-scope prompts.
        auroc: probability that such a prompt has a higher out-of-scope score than an in-scope one.
        confidence_auroc: the same by low confidence instead.
        refused: share of them for which the router abstains.
    """

    total: int
    auroc: float
    confidence_auroc: float
    refused: float


@frozen
class EvaluateReport:
    """The outcome of one evaluation.

    Attributes:
        data_path: the file that was scored.
        figures: accuracy, calibration, risk and coverage.
        card: the router's description.
        router_sha256: the router's version.
        wrong: every row whose best adapter is not the right one, in file order.
        out_of_scope: figures on out-of-scope prompts, when there were any.
        robustness: by kind of change to the prompts, what becomes of the decisions.
        warnings: what a person must know of the router, with the remedy.
        remembered: how many of the rows' prompts the router remembers: it was trained or calibrated on them, so that
            figures on them flatter.
        examples: how many out-of-scope examples it remembers; figures on those flatter, too.
    """

    data_path: Path
    figures: Evaluation
    card: RouterCard
    router_sha256: str | None
    wrong: tuple[WrongRow, ...]
    out_of_scope: OutOfScopeFigures | None = None
    robustness: dict[str, ChangedFigures] = field(factory=dict)
    warnings: tuple[str, ...] = ()
    remembered: int = 0
    examples: int = 0


@frozen(eq=False)
class EvaluateRouter:
    """Scores the router behind `route`.

    Attributes:
        rows: reads labelled rows.
        prompts: reads out-of-scope prompts.
        route: the router, ready to decide.
        progress: shows how far the work has come.
    """

    rows: RowReader
    prompts: PromptReader
    route: RoutePrompts
    progress: ProgressReporter

    def __call__(self, request: EvaluateRequest) -> EvaluateReport:
        """Return the report.

        Raises:
            MissingFileError: a file is not there.
            DataRejectedError: a file's rows cannot be used.
            MismatchError: the rows have other labels than the router.
        """
        rows = self.rows.read_rows(request.data_path)
        card = self.route.router.card
        labels = card.labels
        require_same_labels(labels, rows, request.data_path)
        path = request.out_of_scope_path
        outside = self.prompts.read_prompts(path, card.turn) if path else []
        texts = [row.text for row in rows]
        decisions = self._decide(texts, "Scoring prompts")
        graded = grade(rows, decisions, labels)
        figures = evaluate(graded, labels)
        changed = self._changed(rows, graded) if request.robustness else {}
        return EvaluateReport(
            data_path=request.data_path,
            figures=figures,
            card=card,
            router_sha256=self.route.router.sha256,
            wrong=tuple(
                _wrong(row, made) for row, made, each in zip(rows, decisions, graded, strict=True) if not each.right
            ),
            out_of_scope=_out_of_scope(graded, self._decide(outside, "Out-of-scope prompts")) if outside else None,
            robustness=changed,
            warnings=warnings(figures.coverage, changed, card.target_error),
            remembered=self._remembered(texts),
            examples=self.route.router.card.n_out_of_scope,
        )

    def _remembered(self, texts: Sequence[str]) -> int:
        known = {normalise_text(text) for text in self.route.router.bank_texts}
        return sum(normalise_text(text) in known for text in texts)

    def _decide(self, texts: Sequence[str], description: str) -> list[RoutingDecision]:
        with self.progress.track(description, len(texts)) as task:
            return self._decided(texts, task)

    def _decided(self, texts: Sequence[str], task: ProgressTask) -> list[RoutingDecision]:
        decisions: list[RoutingDecision] = []
        for start in range(0, len(texts), CHUNK):
            chunk = tuple(texts[start : start + CHUNK])
            decisions += self.route(RouteRequest(chunk, nearest=1))
            task.advance(len(chunk))
        return decisions

    def _changed(self, rows: Sequence[RoutingSample], before: Sequence[GradedRow]) -> dict[str, ChangedFigures]:
        labels = self.route.router.card.labels
        found = {}
        with self.progress.track("Changed prompts", len(CHANGES) * len(rows)) as task:
            for change in CHANGES:
                decisions = self._decided([change(row.text) for row in rows], task)
                found[change.name] = changed_figures(before, grade(rows, decisions, labels))
        return found


def require_same_labels(labels: LabelMap, rows: Sequence[RoutingSample], where: Path) -> None:
    """Raise MismatchError, both sides shown, unless every row's label means the same adapter to the router."""
    found = {row.adapter: row.label for row in rows}
    known = labels.as_mapping()
    if any(known.get(name) != label for name, label in found.items()):
        shown = ", ".join(f"{name}={label}" for name, label in sorted(found.items(), key=lambda item: item[1]))
        raise MismatchError(
            f"label maps differ: the router has {labels}, the rows have {shown}",
            where=where,
            hint="evaluate on the data set that the router was trained on, or train a router on this one",
        )


def grade(rows: Sequence[RoutingSample], decisions: Sequence[RoutingDecision], labels: LabelMap) -> list[GradedRow]:
    """Return each row with what the router made of it."""
    graded = []
    for row, made in zip(rows, decisions, strict=True):
        assert made.best is not None  # nothing is disabled here
        predicted = labels.label_of(made.best)
        graded.append(GradedRow(row.label, predicted, made.confidence, made.adapter is not None, made.out_of_scope))
    return graded


def _wrong(row: RoutingSample, made: RoutingDecision) -> WrongRow:
    near = made.nearest[0] if made.nearest else None
    return WrongRow(
        text=row.text,
        gold=row.adapter,
        predicted=made.best or "",
        confidence=made.confidence,
        answered=made.adapter is not None,
        out_of_scope=made.out_of_scope,
        nearest=near.text if near else None,
        nearest_adapter=near.adapter if near else None,
        similarity=near.similarity if near else None,
    )


def _out_of_scope(graded: Sequence[GradedRow], outside: Sequence[RoutingDecision]) -> OutOfScopeFigures:
    return OutOfScopeFigures(
        total=len(outside),
        auroc=auroc([row.out_of_scope for row in graded], [each.out_of_scope for each in outside]),
        confidence_auroc=auroc([-row.confidence for row in graded], [-each.confidence for each in outside]),
        refused=sum(each.adapter is None for each in outside) / len(outside),
    )
