from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from attrs import asdict, field, frozen

from adapters.in_memory.datasets import InMemoryDatasetStore
from adapters.in_memory.prompts import InMemoryPromptReader
from adapters.in_memory.runtime import RecordingProgressReporter
from adapters.router.numpy_scorer import NumpyRouterScorer
from application.routing.evaluate_router import EvaluateReport, EvaluateRequest, EvaluateRouter
from application.routing.route_prompts import RoutePrompts
from domain.errors import MismatchError
from domain.features import BaseModel, FeatureTap, Matrix
from domain.robustness import CHANGES
from domain.routing import AbstentionThresholds
from domain.samples import RoutingSample
from tests.router_world import LABELS, SPEC, router_world


@frozen
class LookedUpFeatures:
    """Features by heart; whatever is not known looks like red."""

    base: BaseModel = SPEC.base
    max_tokens: int = 512
    seen: list[str] = field(factory=list)

    def extract(self, texts: Sequence[str], taps: Sequence[FeatureTap]) -> Matrix:
        world = router_world()
        known = dict(zip(world.val.texts, world.val.features, strict=True))
        self.seen.extend(texts)
        rows: Any = np.stack([self._row(text, known) for text in texts])
        return rows

    def _row(self, text: str, known: dict[str, Any]) -> Any:
        if text.startswith("strange"):
            return router_world().out_of_scope[int(text[7:])]
        return known.get(text, known["val red 0"])


def world_rows() -> list[RoutingSample]:
    world = router_world()
    return [
        RoutingSample(text, label, LABELS.name_of(label), f"id-{text}")
        for text, label in zip(world.val.texts, world.val.labels, strict=True)
    ]


def run(rows: list[RoutingSample], **request: Any) -> EvaluateReport:
    world = router_world()
    val = world.val
    known = NumpyRouterScorer().score(world.assembled(), val.features, val.texts, [1] * len(val.texts))
    limits = AbstentionThresholds(0.3, max(each.out_of_scope for each in known))
    route = RoutePrompts(world.assembled(thresholds=limits), LookedUpFeatures(), NumpyRouterScorer())
    path = Path("d/eval.jsonl")
    out_of_scope = [f"strange{i}" for i in range(10)]
    prompts = InMemoryPromptReader({Path("oos.jsonl"): out_of_scope})
    content = b"".join(orjson.dumps(asdict(row)) + b"\n" for row in rows)
    store = InMemoryDatasetStore({path.parent: {path.name: content}})
    return EvaluateRouter(store, prompts, route, RecordingProgressReporter())(EvaluateRequest(path, **request))


def test_a_perfect_router_is_reported_as_such():
    report = run(world_rows())
    assert (report.figures.total, report.figures.correct, report.figures.coverage) == (15, 15, 1.0)
    assert report.figures.confusion == {(0, 0): 5, (1, 1): 5, (2, 2): 5}
    assert report.wrong == ()
    assert report.data_path == Path("d/eval.jsonl")


def test_prompts_that_the_router_remembers_are_counted():
    assert run(world_rows()).remembered == 0
    row = world_rows()[0]
    known = [
        RoutingSample(f"  {text.upper()}", row.label, row.adapter, text) for text in router_world().train.texts[:2]
    ]
    assert run([*world_rows(), *known]).remembered == 2


def test_every_wrong_row_is_shown_with_its_nearest_training_prompt():
    rows = world_rows()
    rows[3] = RoutingSample(rows[3].text, 2, "blue", "mislabelled")
    report = run(rows)
    assert report.figures.accuracy == pytest.approx(14 / 15)
    (wrong,) = report.wrong
    assert (wrong.text, wrong.gold, wrong.predicted, wrong.nearest_adapter) == (rows[3].text, "blue", "red", "red")
    assert wrong.nearest in router_world().train.texts
    assert 0 < wrong.confidence <= 1


def test_out_of_scope_prompts_are_told_apart():
    figures = run(world_rows(), out_of_scope_path=Path("oos.jsonl")).out_of_scope
    assert figures is not None
    assert (figures.total, figures.auroc, figures.refused) == (10, 1.0, 1.0)
    assert 0 <= figures.confidence_auroc <= 1


def test_every_kind_of_change_has_its_figures():
    report = run(world_rows())
    assert list(report.robustness) == [change.name for change in CHANGES]
    mistyped = report.robustness["typos"]  # no prompt is known any more: all is red
    assert (mistyped.accuracy, mistyped.flips) == (pytest.approx(5 / 15), pytest.approx(10 / 15))
    assert any("the router is fragile" in warning for warning in report.warnings)
    assert run(world_rows(), robustness=False).robustness == {}


def test_rows_with_other_labels_are_refused_with_both_sides():
    rows = [RoutingSample("val red 0", 0, "green", "x"), RoutingSample("val red 1", 1, "red", "y")]
    with pytest.raises(MismatchError, match=r"eval\.jsonl.*red=0, green=1, blue=2.*green=0, red=1"):
        run(rows)
