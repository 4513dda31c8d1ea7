"""A score as a TensorBoard run: its name, figures and tables."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from adapters.metrics.tensorboard_evaluation import log_evaluation
from application.routing.evaluate_router import EvaluateReport, OutOfScopeFigures
from domain.errors import StorageError
from domain.evaluation import GradedRow, evaluate
from domain.fragility import changed_figures
from tests.scored_world import LABELS, TRADE_OFF, scored_router

NOW = datetime(2026, 11, 26, 5, 6, 7, tzinfo=UTC)


@pytest.fixture
def report() -> EvaluateReport:
    before = [GradedRow(row % 3, row % 3, 0.9, True) for row in range(10)]
    after = [GradedRow(row % 3, row % 3, 0.9, row > 4) for row in range(10)]
    return EvaluateReport(
        data_path=Path("/some/where/my data/eval.jsonl"),
        figures=evaluate(before, LABELS),
        card=scored_router(trade_off=TRADE_OFF).card,
        router_sha256="abcdef0123" * 6,
        wrong=(),
        out_of_scope=OutOfScopeFigures(98, 0.97, 0.9, 0.91),
        robustness={"typos": changed_figures(before, after)},
        warnings=("refuses <b>much</b>",),
    )


def test_a_run_says_what_it_is_and_holds_figures_and_tables(tmp_path, report):
    folder = log_evaluation(report, tmp_path, NOW)
    assert folder == tmp_path / "evaluation_20261126_050607_my-data-eval_abcdef01"
    events = EventAccumulator(str(folder)).Reload()
    assert events.Scalars("evaluation/accuracy")[0].value == 1.0
    assert events.Scalars("evaluation/out_of_scope_refused")[0].value == pytest.approx(0.91)

    def text(tag: str) -> str:
        (event,) = events.Tensors(f"{tag}/text_summary")
        return event.tensor_proto.string_val[0].decode()

    typos, mean = text("robustness").splitlines()[2:]
    assert (
        typos
        == "| typos | 100.0% | 50.0% | 0.0% | 0.0% | 50.0% | letters swapped, doubled or left out, one in twenty |"
    )
    assert mean == "| mean | 100.0% | 50.0% | 0.0% | 0.0% | 50.0% |  |"
    assert "2.0% | 0.800 | 0.500 | 80.0% | 1.0% | 70.0% | 2.0% | 97.0% |" in text("limits")
    assert "red, green, blue" in text("router")
    assert text("warnings") == "- refuses &lt;b&gt;much&lt;/b&gt;"


def test_a_folder_that_cannot_be_written_is_one_error(tmp_path, report):
    (tmp_path / "logs").write_text("a file")
    with pytest.raises(StorageError, match="cannot write"):
        log_evaluation(report, tmp_path / "logs", NOW)
