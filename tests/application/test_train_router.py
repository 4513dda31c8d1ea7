from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attrs import evolve

from adapters.in_memory.routers import PlainRouterCalibrator
from adapters.in_memory.training import (
    InMemoryCheckpointStore,
    InMemoryMetricsLog,
    RecordingObserver,
    SoftmaxHeadTrainer,
    SoftmaxSession,
)
from adapters.router.router_heads import prepared_head
from application.ports import HeadEvaluation, HeadProblem, LabelledTexts, StepResult
from application.training.fit_head import choose_head
from application.training.training_data import Companions, read_training_data
from application.training.training_loop import StepPlan
from domain.early_stopping import EarlyStopPolicy, Verdict
from domain.errors import (
    DataRejectedError,
    InterruptedRunError,
    MismatchError,
    MissingFileError,
    TrainingDivergedError,
    UsageError,
)
from domain.features import Pooling
from domain.samples import RoutingSample
from domain.training import StopReason, epoch_order
from domain.training_events import (
    CandidateScored,
    Evaluated,
    FeaturesReady,
    LearningRateReduced,
    Noted,
    RunStarted,
    RunStopped,
    ValidationScored,
)
from tests.training_world import COMPANIONS, JOB, OPTIONS, TRAIN, VAL, rows, same_tensors, world


def of(observer: RecordingObserver, kind: type) -> list[Any]:
    return [event for event in observer.events if isinstance(event, kind)]


def test_a_run_saves_a_router_that_is_right_on_validation_rows_and_reports_it() -> None:
    here, heard = world(), RecordingObserver()
    report = here.trainer.train(JOB, heard)
    router = here.routers.load(JOB.router_out)
    assert report.card == router.card
    assert report.router_path == JOB.router_out
    assert (report.card.n_train, report.card.n_val, report.card.seed, report.card.dataset) == (18, 9, 7, "data")
    val = rows(3, 2)
    texts = [row.text for row in val]
    features = here.extractor.extract(texts, router.card.features.taps)
    logits = prepared_head("linear", router.tensors)(features, texts)[:, :-1]  # "none" is out of account
    right = logits.argmax(axis=1) == [row.label for row in val]
    assert right.mean() == report.best_accuracy == report.card.val_accuracy >= 0.9
    assert report.log_dir == Path(
        f"logs/router_20251124_123456_{report.card.dataset}_{report.card.features.base.name}"
    )
    assert set(report.seconds) == {"loading", "features", "head", "calibration"}
    assert not here.checkpoints.kept


def test_every_prompt_is_encoded_once_however_many_candidates_and_epochs_there_are() -> None:
    here = world()
    here.trainer.train(JOB, RecordingObserver())
    files = here.trainer.rows
    texts = read_training_data(files, files, JOB, COMPANIONS).prompts.texts
    assert len(set(texts)) == len(texts)
    assert {*COMPANIONS.background, *COMPANIONS.generic, *(row.text for row in rows(6, 1))} < set(texts)
    assert sorted(here.extractor.encoded) == sorted(texts)


def test_events_tell_the_run_in_order() -> None:
    here, heard = world(), RecordingObserver()
    report = here.trainer.train(JOB, heard)
    assert isinstance(heard.events[0], RunStarted)
    assert of(heard, FeaturesReady)[0].features.shape == (27, report.card.features.n_features)
    evaluations = of(heard, Evaluated)
    assert [e.step for e in evaluations] == [0, *range(5, 108, 5), 108]
    assert math.isnan(evaluations[0].train_loss)
    assert all(math.isfinite(e.train_loss) for e in evaluations[1:])
    assert [e.step for e in of(heard, ValidationScored)] == [e.step for e in evaluations]
    stopped = of(heard, RunStopped)
    assert stopped == [RunStopped(108, StopReason.EPOCHS, report.best_loss, report.best_accuracy, report.best_step)]
    best = min(evaluations, key=lambda e: e.eval_loss)
    assert report.best_step == best.step
    assert best.verdict is Verdict.IMPROVED
    assert report.best_loss == best.eval_loss
    assert here.metrics.runs[report.log_dir][0].events == heard.events  # type: ignore[index]


def test_auto_scores_every_candidate_and_keeps_the_best_with_ties_to_the_cheaper() -> None:
    here, heard = world(), RecordingObserver()
    report = here.trainer.train(evolve(JOB, options=evolve(OPTIONS, head="auto")), heard)
    scored = [event for event in of(heard, CandidateScored) if event.choice == "features"]
    assert len(scored) >= 4
    chosen = [event for event in scored if event.chosen]
    assert len(chosen) == 1
    assert chosen[0] == next(event for event in scored if event.loss == min(e.loss for e in scored))
    assert str(report.card.features.pooling) in chosen[0].name
    assert [event.name for event in of(heard, CandidateScored) if event.choice == "head"] == ["linear"]


def test_given_layers_and_pooling_are_used_and_nothing_is_scored() -> None:
    here, heard = world(), RecordingObserver()
    options = evolve(OPTIONS, layers=(1, 3), pooling=Pooling.LAST)
    report = here.trainer.train(evolve(JOB, options=options), heard)
    assert (report.card.features.layers, report.card.features.pooling) == ((1, 3), Pooling.LAST)
    assert not of(heard, CandidateScored)
    with pytest.raises(UsageError, match="layers"):
        here.trainer.train(evolve(JOB, options=evolve(OPTIONS, layers=(9,))), heard)


@pytest.mark.parametrize(
    ("train", "val", "error", "words"),
    [
        (rows(4, 1, ("calendar",)), rows(2, 2, ("calendar",)), DataRejectedError, "one adapter"),
        ([r for r in rows(4, 1) if r.label != 1], rows(2, 2), DataRejectedError, "without gaps"),
        (rows(4, 1), [], DataRejectedError, "no rows"),
        (rows(4, 1), rows(2, 2, ("claim-window", "calendar")), MismatchError, "label maps differ"),
        (rows(4, 1, ("calendar", "claim-window")), rows(2, 2), MismatchError, "provider-select=2"),
        ([*rows(4, 1), RoutingSample("x", 0, "other", "1")], rows(2, 2), DataRejectedError, "label 0 means"),
        ([*rows(4, 1), RoutingSample("x", 3, "calendar", "1")], rows(2, 2), DataRejectedError, "several labels"),
    ],
)
def test_rows_that_no_router_can_come_out_of_are_refused_and_nothing_is_written(
    train: list[RoutingSample], val: list[RoutingSample], error: type[Exception], words: str
) -> None:
    here = world({TRAIN: train, VAL: val})
    with pytest.raises(error, match=words):
        here.trainer.train(JOB, RecordingObserver())
    assert not here.routers.routers
    assert not here.checkpoints.kept
    assert not here.extractor.encoded


def test_a_missing_file_is_named_and_odd_rows_are_told() -> None:
    with pytest.raises(MissingFileError, match="train"):
        world({VAL: rows(2, 2)}).trainer.train(JOB, RecordingObserver())
    heard, leaked = RecordingObserver(), rows(6, 1)
    world({TRAIN: leaked, VAL: [r for r in leaked if r.label != 2][:4]}).trainer.train(JOB, heard)
    notes = " ".join(event.message for event in of(heard, Noted))
    assert "no validation rows for provider-select" in notes
    assert "4 of 4 validation prompts also stand" in notes


def test_batch_one_short_last_batch_and_batches_larger_than_the_data_all_train() -> None:
    # 18 rows with two copies each, and 18 texts that belong to no adapter.
    for batch_size, steps in ((1, 144), (5, 30), (1000, 2)):
        here = world()
        report = here.trainer.train(
            evolve(JOB, options=evolve(OPTIONS, batch_size=batch_size, epochs=2)), RecordingObserver()
        )
        assert report.steps == steps


def test_the_plan_visits_every_row_once_per_epoch_in_an_order_of_seed_and_epoch() -> None:
    plan = StepPlan(n_rows=10, batch_size=4, epochs=3, seed=1)
    assert (plan.steps_per_epoch, plan.total_steps) == (3, 9)
    epochs = [[row for i in range(3) for row in plan.rows(3 * epoch + i)] for epoch in range(3)]
    assert all(sorted(order) == list(range(10)) for order in epochs)
    assert len({tuple(order) for order in epochs}) == 3
    assert tuple(epochs[1]) == epoch_order(10, 1, 1) != epoch_order(10, 2, 1)


def test_the_same_job_gives_the_same_bits_and_another_seed_others() -> None:
    first, second, other = world(), world(), world()
    first.trainer.train(JOB, RecordingObserver())
    second.trainer.train(JOB, RecordingObserver())
    other.trainer.train(evolve(JOB, options=evolve(OPTIONS, seed=8)), RecordingObserver())
    assert same_tensors(first.tensors(), second.tensors())
    assert not same_tensors(first.tensors(), other.tensors())


def test_the_best_loss_is_that_of_the_head_that_was_kept_under_min_delta() -> None:
    policy = EarlyStopPolicy(patience=100, min_delta=0.2)
    here, heard = world(), RecordingObserver()
    report = here.trainer.train(evolve(JOB, options=evolve(OPTIONS, early_stop=policy, eval_steps=1)), heard)
    evaluations = of(heard, Evaluated)
    kept = [e for e in evaluations if e.verdict is Verdict.IMPROVED][-1]
    assert (report.best_step, report.best_loss, report.best_accuracy) == (
        kept.step,
        kept.eval_loss,
        kept.eval_accuracy,
    )
    assert report.best_loss > min(e.eval_loss for e in evaluations)  # lower, but not by min-delta
    assert report.card.val_accuracy == kept.eval_accuracy


def test_a_plateau_reduces_the_learning_rate_then_stops_and_the_best_weights_are_kept() -> None:
    policy = EarlyStopPolicy(patience=1, min_delta=0.0, max_lr_reductions=1)
    options = evolve(OPTIONS, learning_rate=500.0, early_stop=policy, eval_steps=1, epochs=50)
    here, heard = world(), RecordingObserver()
    report = here.trainer.train(evolve(JOB, options=options), heard)
    assert report.stop_reason is StopReason.MAX_REDUCTIONS
    reduced = of(heard, LearningRateReduced)
    assert [(e.before, e.after, e.reduction, e.max_reductions) for e in reduced] == [(500.0, 250.0, 1, 1)]
    evaluations = of(heard, Evaluated)
    assert report.best_loss == min(e.eval_loss for e in evaluations)
    assert evaluations[-1].eval_loss > report.best_loss
    val = rows(3, 2)
    texts = [row.text for row in val]
    features = here.extractor.extract(texts, report.card.features.taps)
    logits = prepared_head("linear", here.tensors())(features, texts)[:, :-1]
    assert (logits.argmax(axis=1) == [row.label for row in val]).mean() == report.best_accuracy


@pytest.mark.parametrize(
    ("losses", "winner"),
    [
        ({"a": 0.50, "b": 0.49, "c": 0.60}, "b"),
        ({"a": 0.50, "b": 0.50, "c": 0.50}, "a"),  # the preferred one
        ({"a": math.nan, "b": 0.60, "c": 0.58}, "c"),
        ({"a": 0.50, "b": math.nan, "c": math.inf}, "a"),
    ],
)
def test_auto_takes_the_head_with_the_lowest_loss_in_cross_validation(losses: dict[str, float], winner: str) -> None:
    seen: list[HeadProblem] = []

    class Session(SoftmaxSession):
        loss = 0.0

        def evaluate(self) -> HeadEvaluation:
            return evolve(super().evaluate(), loss=self.loss)

    class Heads:
        kinds = tuple(losses)

        def start(self, kind: str, problem: HeadProblem, learning_rate: float, like: Any = None) -> Session:
            seen.append(problem)
            session = Session(problem, learning_rate)
            session.loss = losses[kind]
            return session

    def labelled(numbers: Any, labels: tuple[int, ...], groups: tuple[int, ...]) -> LabelledTexts:
        return LabelledTexts(numbers, tuple(map(str, numbers[:, 0])), labels, groups)

    # Eight rows, the first with a copy; the last two texts belong to none.
    numbers = np.arange(22, dtype=np.float32).reshape(11, 2)
    train = labelled(numbers, (0, 1, 0, 1, 2, 0, 1, 1, 0, 3, 3), (0, 1, 2, 3, 4, 5, 6, 7, 0, 8, 9))
    problem = HeadProblem(train, labelled(-numbers[:2], (0, 1), (10, 11)), 3, 0)
    heard = RecordingObserver()
    kind, session = choose_head(Heads(), problem, evolve(OPTIONS, head="auto"), heard.on_event)
    assert (kind, [event.name for event in of(heard, CandidateScored) if event.chosen]) == (winner, [winner])
    assert session.evaluate().loss == losses[winner]
    *folds, whole = seen
    assert whole is problem
    assert len(folds) == 9
    for fold in folds:
        assert set(fold.val.labels) == {0, 1}
        assert fold.train.labels.count(2) == 1  # the only row of its label
        assert fold.train.labels.count(3) == 2  # what belongs to none is always trained on
        assert not set(fold.train.groups) & set(fold.val.groups)  # no copy of a row that is validated on
        values = [*np.asarray(fold.train.features)[:, 0].tolist(), *np.asarray(fold.val.features)[:, 0].tolist()]
        unseen = {16.0} if 0 in fold.val.groups else set()  # nobody is asked about the copy of such a row
        assert sorted(values) == [number for number in numbers[:, 0].tolist() if number not in unseen]
    assert choose_head(Heads(), problem, evolve(OPTIONS, head="c"), heard.on_event)[0] == "c"


# Signals, kills, failing numbers.


@pytest.mark.parametrize("question", [1, 2, 5, 6, 7, 16, 107, 108])
def test_a_run_interrupted_at_any_step_and_started_again_is_the_uninterrupted_run(question: int) -> None:
    whole, heard_whole = world(), RecordingObserver()
    whole.trainer.train(JOB, heard_whole)
    store = InMemoryCheckpointStore()
    first, before = world(checkpoints=store, interrupt_at=question), RecordingObserver()
    with pytest.raises(InterruptedRunError, match="run the same command") as caught:
        first.trainer.train(JOB, before)
    assert caught.value.signal_number == 15
    assert of(before, RunStopped)[0].reason is StopReason.INTERRUPTED
    assert not first.routers.routers
    again, after = world(checkpoints=store), RecordingObserver()
    report = again.trainer.train(JOB, after)
    assert same_tensors(again.tensors(), whole.tensors())
    told = of(before, Evaluated) + of(after, Evaluated)
    assert [repr(event) for event in told] == [repr(event) for event in of(heard_whole, Evaluated)]
    assert not again.extractor.encoded  # nothing is encoded twice
    assert report.log_dir == Path(
        f"logs/router_20251124_123456_{report.card.dataset}_{report.card.features.base.name}"
    )
    assert not store.kept


class Killed(BaseException):
    pass


@pytest.mark.parametrize("save", [1, 2, 3, 4, 12, 22, 23])
def test_a_run_killed_after_any_checkpoint_goes_on_to_the_same_bits(save: int) -> None:
    class KillingStore(InMemoryCheckpointStore):
        def save(self, folder: Path, name: str, checkpoint: Any) -> None:
            super().save(folder, name, checkpoint)
            if self.saves == save:
                raise Killed

    whole = world()
    whole.trainer.train(JOB, RecordingObserver())
    store = KillingStore()
    with pytest.raises(Killed):
        world(checkpoints=store).trainer.train(JOB, RecordingObserver())
    again = world(checkpoints=store)
    again.trainer.train(JOB, RecordingObserver())
    assert same_tensors(again.tensors(), whole.tensors())


def test_another_job_never_resumes_a_checkpoint() -> None:
    for change in (
        {"options": evolve(OPTIONS, seed=8)},
        {"options": evolve(OPTIONS, learning_rate=0.04)},
        {"options": evolve(OPTIONS, early_stop=EarlyStopPolicy(patience=4))},
        {"train_path": Path("other/train.jsonl")},
        {"out_of_scope_path": None},
        {"out_of_scope_path": Path("other/oos.txt")},
        {"base_model": "another"},
    ):
        oos, other = Path("oos.txt"), Path("other/oos.txt")
        files = {TRAIN: rows(6, 1), VAL: rows(3, 2), Path("other/train.jsonl"): rows(6, 5)}
        files |= {oos: ["sing", "dance"], other: ["sing", "whistle"]}
        first = evolve(JOB, out_of_scope_path=oos)
        store = InMemoryCheckpointStore()
        with pytest.raises(InterruptedRunError):
            world(files, checkpoints=store, interrupt_at=9).trainer.train(first, RecordingObserver())
        job = evolve(first, **change)
        mixed, clean = world(files, checkpoints=store), world(files)
        heard = RecordingObserver()
        mixed.trainer.train(job, heard)
        clean.trainer.train(job, RecordingObserver())
        assert same_tensors(mixed.tensors(), clean.tensors())
        assert of(heard, Evaluated)[0].step == 0


class BadNumbers(SoftmaxSession):
    bad_step = 8
    bad_evaluations: tuple[int, ...] = ()
    calls = 0
    evaluations = 0

    def train_step(self, rows: Any) -> StepResult:
        self.calls += 1
        result = super().train_step(rows)
        return StepResult(math.nan, 0) if self.calls == self.bad_step else result

    def evaluate(self) -> HeadEvaluation:
        result = super().evaluate()
        self.evaluations += 1
        return evolve(result, loss=math.nan) if self.evaluations in self.bad_evaluations else result


def test_a_loss_that_is_not_finite_stops_the_run_and_the_best_router_so_far_is_saved() -> None:
    here, heard = world().having(heads=SoftmaxHeadTrainer(BadNumbers)), RecordingObserver()
    with pytest.raises(TrainingDivergedError, match=r"step 8 .*router-head\.safetensors"):
        here.trainer.train(JOB, heard)
    best = min(of(heard, Evaluated), key=lambda e: e.eval_loss)
    assert here.routers.load(JOB.router_out).card.val_accuracy == best.eval_accuracy
    assert of(heard, RunStopped)[0].reason is StopReason.DIVERGED
    assert not here.checkpoints.kept


def test_without_any_finite_evaluation_no_router_is_saved() -> None:
    class NeverFinite(BadNumbers):
        bad_evaluations = tuple(range(1, 100))

    here = world().having(heads=SoftmaxHeadTrainer(NeverFinite))
    with pytest.raises(TrainingDivergedError, match="no router was saved"):
        here.trainer.train(JOB, RecordingObserver())
    assert not here.routers.routers


def test_an_evaluation_that_is_not_a_number_counts_as_worst_and_is_never_the_best() -> None:
    class OneBad(BadNumbers):
        bad_step = 0
        bad_evaluations = (3,)

    here, heard = world().having(heads=SoftmaxHeadTrainer(OneBad)), RecordingObserver()
    report = here.trainer.train(JOB, heard)
    assert of(heard, Evaluated)[2].verdict is Verdict.WAITING
    assert math.isfinite(report.best_loss)


def test_unwritable_logs_cost_one_warning_and_nothing_else() -> None:
    whole = world()
    whole.trainer.train(JOB, RecordingObserver())
    here, heard = world().having(metrics=InMemoryMetricsLog(writable=False)), RecordingObserver()
    report = here.trainer.train(JOB, heard)
    assert report.log_dir is None
    assert sum("TensorBoard" in event.message for event in of(heard, Noted)) == 1
    assert same_tensors(here.tensors(), whole.tensors())


def test_an_unknown_head_is_refused_before_anything_is_read() -> None:
    with pytest.raises(UsageError, match="auto, linear"):
        world({}).trainer.train(evolve(JOB, options=evolve(OPTIONS, head="forest")), RecordingObserver())


def test_out_of_scope_prompts_are_trained_on_remembered_and_counted() -> None:
    seen: list[HeadProblem] = []

    class Seeing(SoftmaxSession):
        def __init__(self, problem: HeadProblem, learning_rate: float) -> None:
            seen.append(problem)
            super().__init__(problem, learning_rate)

    examples = ["how tall is a giraffe", "sing"]
    files = {TRAIN: rows(6, 1), VAL: rows(3, 2), Path("oos.jsonl"): examples}
    here = world(files).having(heads=SoftmaxHeadTrainer(Seeing), companions=Companions())
    report = here.trainer.train(evolve(JOB, out_of_scope_path=Path("oos.jsonl")), RecordingObserver())
    none = len(report.card.labels)
    serving = seen[-1].train
    assert [text for text, label in zip(serving.texts, serving.labels, strict=True) if label == none] == examples
    assert all(none not in problem.val.labels for problem in seen)
    assert (len(here.tensors()["bank.out_of_scope"]), report.card.n_out_of_scope) == (2, 2)
    plain = world(files).having(companions=Companions())
    report = plain.trainer.train(JOB, RecordingObserver())
    assert (len(plain.tensors()["bank.out_of_scope"]), report.card.n_out_of_scope) == (0, 0)


def test_an_out_of_scope_prompt_that_a_row_claims_is_not_used_as_one() -> None:
    known = rows(6, 1)
    claimed = known[0].text
    files = {TRAIN: known, VAL: rows(3, 2), Path("oos.jsonl"): ["sing", claimed.upper(), "Sing", "how tall"]}
    here, heard = world(files).having(companions=Companions()), RecordingObserver()
    report = here.trainer.train(evolve(JOB, out_of_scope_path=Path("oos.jsonl")), heard)
    assert (len(here.tensors()["bank.out_of_scope"]), report.card.n_out_of_scope) == (2, 2)
    assert any("1 out-of-scope prompts also stand" in event.message for event in of(heard, Noted))
    only = world({**files, Path("oos.jsonl"): [claimed]})
    with pytest.raises(DataRejectedError, match="every out-of-scope prompt"):
        only.trainer.train(evolve(JOB, out_of_scope_path=Path("oos.jsonl")), RecordingObserver())


def test_rows_with_wrong_labels_are_named_and_left_out_of_the_router() -> None:
    names, known = sorted({row.adapter for row in rows(1, 1)}), rows(60, 1)
    wrong = [evolve(row, label=(row.label + 1) % 3, adapter=names[(row.label + 1) % 3]) for row in known[:20]]
    files = {TRAIN: [*wrong, *known[20:]], VAL: rows(10, 2)}
    all_kept = {"companions": Companions(), "calibrator": PlainRouterCalibrator(rows_per_adapter=100)}
    here, heard = world(files).having(**all_kept), RecordingObserver()
    here.trainer.train(JOB, heard)
    (note,) = [event.message for event in of(heard, Noted) if "wrong label" in event.message]
    found = int(note.split()[1])
    assert 15 <= found <= 28
    assert any(row.source_id in note for row in wrong)
    assert not any("tell apart" in event.message for event in of(heard, Noted))  # what is left out confuses nobody
    assert len(here.tensors()["bank.labels"]) == 210 - found
    clean, heard = world({TRAIN: known, VAL: rows(10, 2)}).having(**all_kept), RecordingObserver()
    clean.trainer.train(JOB, heard)
    assert not any("wrong label" in event.message for event in of(heard, Noted))
    assert not any("tell apart" in event.message for event in of(heard, Noted))
    assert len(clean.tensors()["bank.labels"]) == 210


def test_adapters_that_cannot_be_told_apart_are_named() -> None:
    names, known = sorted({row.adapter for row in rows(1, 1)}), rows(60, 1)
    dealt = [
        evolve(row, label=number % 2, adapter=names[number % 2]) if row.label < 2 else row
        for number, row in enumerate(known)
    ]
    heard = RecordingObserver()
    world({TRAIN: dealt, VAL: rows(10, 2)}).having(companions=Companions()).trainer.train(JOB, heard)
    (note,) = [event.message for event in of(heard, Noted) if "tell apart" in event.message]
    assert f"{names[0]} and {names[1]} are hard to tell apart" in note
