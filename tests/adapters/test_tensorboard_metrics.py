from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from adapters.metrics.tensorboard_metrics import TensorboardMetricsLog, confusion, confusion_image, f1_scores
from domain.early_stopping import Verdict
from domain.errors import StorageError
from domain.features import Pooling
from domain.labels import LabelMap
from domain.training import StopReason, TrainOptions
from domain.training_events import (
    Calibrated,
    Evaluated,
    FeaturesReady,
    LearningRateReduced,
    Noted,
    RunStarted,
    RunStopped,
    ValidationScored,
)
from tests.router_world import router_card
from tests.scored_world import TRADE_OFF

LABELS = LabelMap(("calendar", "claim-window", "provider-select"))
GOLD = (0, 0, 1, 1, 2, 2)


def probabilities(predicted: tuple[int, ...]) -> np.ndarray:
    return np.where(np.eye(3)[list(predicted)] > 0, 0.8, 0.1).astype(np.float32)


def evaluated(step: int, loss: float) -> Evaluated:
    return Evaluated(step, 1, float("nan") if step == 0 else loss + 0.1, 0.5, loss, 0.75, 1e-3, Verdict.WAITING)


def started() -> RunStarted:
    return RunStarted(TrainOptions(seed=5), 4, 6, "tiny", None, LABELS)


def features() -> FeaturesReady:
    rows = np.random.default_rng(0).normal(size=(6, 20)).astype(np.float32)
    return FeaturesReady(rows, GOLD, ("a\tb\nc", "", "d", "e", "f", "g"), (1, 3), Pooling.MEAN)


def run(folder: Path, losses: dict[int, float], *, from_step: int = 0, stop: int | None = None) -> None:
    with TensorboardMetricsLog().open(folder, from_step=from_step) as observer:
        observer.on_event(started())
        observer.on_event(features())
        for step, loss in losses.items():
            observer.on_event(evaluated(step, loss))
            predicted = (0, 0, 1, 1, 2, 1) if loss == min(losses.values()) else (1, 1, 1, 1, 1, 1)
            observer.on_event(ValidationScored(step, probabilities(predicted), GOLD))
        observer.on_event(LearningRateReduced(20, 1e-3, 5e-4, 1, 5))
        observer.on_event(Noted("mind the gap"))
        if stop is not None:
            observer.on_event(RunStopped(stop, StopReason.EPOCHS, 0.25, 0.75))
            card = router_card(trade_off=TRADE_OFF, target_error=0.02)
            observer.on_event(Calibrated(card, features().features, GOLD, ("known",) * 6))


def read(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"tensors": 0, "images": 0, "scalars": 0}).Reload()


def text(events: EventAccumulator, tag: str) -> bytes:
    (event,) = events.Tensors(f"{tag}/text_summary")
    return bytes(event.tensor_proto.string_val[0])


def values(events: EventAccumulator, tag: str) -> list[tuple[int, float]]:
    return [(event.step, pytest.approx(event.value)) for event in events.Scalars(tag)]


def test_a_run_reads_back_whole(tmp_path: Path) -> None:
    folder = tmp_path / "router_x"
    run(folder, {0: 0.9, 20: 0.25, 40: 0.5}, stop=40)
    events = read(folder)
    assert values(events, "loss/eval") == [(0, 0.9), (20, 0.25), (40, 0.5)]
    assert values(events, "loss/train") == [(20, 0.35), (40, 0.6)]  # nothing was trained before step 0
    assert values(events, "accuracy/eval") == [(0, 0.75), (20, 0.75), (40, 0.75)]
    assert values(events, "learning_rate") == [(0, 1e-3), (20, 1e-3), (40, 1e-3)]
    assert values(events, "f1/provider-select")[1] == (20, 2 / 3)
    assert values(events, "result/best_loss") == [(40, 0.25)]
    tags = events.Tags()
    assert [event.step for event in events.Images("confusion")] == [20]  # of the best evaluation
    for name in LABELS.names:
        assert f"precision_recall/{name}" in tags["tensors"]
    assert "notes/text_summary" in tags["tensors"]
    plugins = {tag: events.SummaryMetadata(tag).plugin_data.plugin_name for tag in tags["tensors"]}
    assert plugins["precision_recall/calendar"] == "pr_curves"
    assert "limits/text_summary" in tags["tensors"]
    assert b"| applies: 2.0% | 0.800 | 0.500 | 80.0% | 1.0% | 70.0% | 2.0% | 97.0% |" in text(events, "limits")
    assert b"| adapters | red, green, blue |" in text(events, "router")
    assert values(events, "result/changed_wrong") == [(40, 0.02)]
    assert next(folder.rglob("bank/metadata.tsv")).read_text().splitlines()[1] == "calendar\tknown"
    hparams = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert b"patience" in hparams
    assert b"1+3" in hparams
    assert router_card().head.encode() in hparams  # what "auto" chose
    metadata = next(folder.rglob("features/metadata.tsv")).read_text().splitlines()
    assert metadata[0] == "adapter\tprompt"
    assert metadata[1:3] == ["calendar\ta b c", "calendar\t(empty)"]
    assert len(metadata) == 7
    vectors = next(folder.rglob("features/tensors.tsv")).read_text().splitlines()
    assert len(vectors) == 6


def test_a_resumed_run_drops_what_the_first_attempt_logged_after_its_checkpoint(tmp_path: Path) -> None:
    run(tmp_path, {0: 0.9, 20: 0.5, 40: 7.0})
    run(tmp_path, {40: 0.4, 60: 0.3}, from_step=21, stop=60)
    assert values(read(tmp_path), "loss/eval") == [(0, 0.9), (20, 0.5), (40, 0.4), (60, 0.3)]


def test_confusion_and_f1_by_hand() -> None:
    counts = confusion(ValidationScored(0, probabilities((0, 1, 1, 1, 2, 0)), GOLD), 3)
    assert counts.tolist() == [[1, 1, 0], [0, 2, 0], [1, 0, 1]]
    assert f1_scores(counts) == [pytest.approx(0.5), pytest.approx(0.8), pytest.approx(2 / 3)]
    assert f1_scores(np.zeros((2, 2), np.int64)) == [0.0, 0.0]
    picture = confusion_image(counts, LABELS.names)
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    assert picture.std() > 0


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with (
        pytest.raises(StorageError, match="file/run"),
        TensorboardMetricsLog().open(tmp_path / "file/run"),
    ):
        pass


def test_when_writing_fails_later_the_run_hears_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with capture_logs() as logs, TensorboardMetricsLog().open(tmp_path / "run") as observer:
        observer.on_event(started())

        def full(*_: Any, **__: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter.add_scalar", full)
        observer.on_event(evaluated(0, 0.5))
        observer.on_event(evaluated(20, 0.4))
    assert sum("No space left on device" in str(line) for line in logs) == 1


@pytest.mark.slow
def test_a_full_disk_stops_the_log_in_one_line_without_a_traceback(tmp_path):
    code = f"""
import resource, time
import subprocess
import sys
from pathlib import Path
from adapters.metrics.tensorboard_metrics import TensorboardMetricsLog
from domain.training_events import (Noted)
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
with TensorboardMetricsLog().open(Path({str(tmp_path / "run")!r})) as observer:
    for _ in range(20):
        observer.on_event(Noted("x" * 9000))
        time.sleep(0.05)
"""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "tensorboard_logging_stopped" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
