"""What every HeadTrainer and FeatureProbe promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from adapters.in_memory.training import CentroidProbe, SoftmaxHeadTrainer
from adapters.router.numpy_probe import KernelRidgeProbe
from adapters.router.router_heads import check_head_tensors, prepared_head
from adapters.router.torch_heads import TorchHeadTrainer
from application.ports import HeadProblem, LabelledTexts
from domain.errors import UsageError

TRAINERS = [(SoftmaxHeadTrainer(), "linear"), *((TorchHeadTrainer(), kind) for kind in TorchHeadTrainer().kinds)]


@pytest.fixture(params=TRAINERS, ids=lambda pair: f"{type(pair[0]).__name__}-{pair[1]}")
def trainer(request: Any) -> Any:
    return request.param


def blobs(n: int, seed: int, noise: float = 0.7) -> tuple[np.ndarray, tuple[int, ...]]:
    """Three topics in 12 features of very different sizes."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(3, 12))
    labels = [i % 3 for i in range(n)]
    rows = (centres[labels] + noise * rng.normal(size=(n, 12))) * np.geomspace(0.01, 100, 12) + 5
    return rows.astype(np.float32), tuple(labels)


def labelled(features: np.ndarray, labels: tuple[int, ...]) -> LabelledTexts:
    return LabelledTexts(features, tuple(f"text {i % 5}" for i in range(len(labels))), labels)


def problem(n: int = 30, seed: int = 3) -> HeadProblem:
    """Three topics, and every tenth row belongs to none of them."""
    rows, labels = blobs(n, 1, noise=1.5)
    labels = tuple(3 if index % 10 == 9 else label for index, label in enumerate(labels))
    return HeadProblem(labelled(rows, labels), labelled(*blobs(15, 2, noise=1.5)), 3, seed)


STEPS = [[0, 1, 2, 3], [4, 5, 6], [7], [8, 9, 10, 11], [2, 5, 8, 11]]


def test_training_lowers_the_loss_and_steps_report_loss_and_hits(trainer: Any) -> None:
    heads, kind = trainer
    session = heads.start(kind, problem(), 0.01)
    first = session.train_step(range(30))
    for _ in range(30):
        last = session.train_step(range(30))
    assert last.loss < first.loss or last.loss == first.loss == 0  # a kernel may know its rows by heart
    assert 0 <= first.correct <= 30
    assert last.correct >= 20


def test_router_tensors_serve_exactly_what_evaluate_saw(trainer: Any) -> None:
    heads, kind = trainer
    task = problem()
    session = heads.start(kind, task, 0.01)
    for rows in STEPS:
        session.train_step(rows)
    seen = session.evaluate()
    tensors = session.router_tensors(session.weights())
    check_head_tensors(kind, tensors, n_features=12, n_labels=3)
    with_none = heads.logits(kind, tensors, task.val.features, task.val.texts)
    assert with_none.shape == (15, 4)
    served = prepared_head(kind, tensors)(task.val.features, task.val.texts)
    np.testing.assert_allclose(with_none, served, rtol=1e-4, atol=1e-5)
    logits = served[:, :3].astype(np.float64)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = powers / powers.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(seen.probabilities, probabilities, atol=1e-5)
    picked = probabilities[np.arange(15), task.val.labels]
    assert seen.loss == pytest.approx(-np.log(picked).mean(), rel=1e-4, abs=1e-5)
    assert seen.accuracy == (probabilities.argmax(axis=1) == task.val.labels).mean()


def test_a_text_that_belongs_to_none_is_told_so_without_touching_the_labels(trainer: Any) -> None:
    heads, kind = trainer
    task = problem()
    session = heads.start(kind, task, 0.05)
    for _ in range(60):
        session.train_step(range(30))
    logits = heads.logits(kind, session.router_tensors(session.weights()), task.train.features, task.train.texts)
    none = [index for index, label in enumerate(task.train.labels) if label == 3]
    others = [index for index, label in enumerate(task.train.labels) if label != 3]
    assert logits[none, 3].mean() > logits[others, 3].mean()
    assert session.evaluate().probabilities.shape == (15, 3)
    np.testing.assert_allclose(session.evaluate().probabilities.sum(axis=1), 1.0, rtol=1e-5)


def test_a_problem_without_any_text_of_none_is_trained_all_the_same(trainer: Any) -> None:
    heads, kind = trainer
    session = heads.start(kind, HeadProblem(labelled(*blobs(12, 1)), labelled(*blobs(6, 2)), 3, 1), 0.01)
    session.train_step(range(12))
    check_head_tensors(kind, session.router_tensors(session.weights()), n_features=12, n_labels=3)


def test_a_session_like_another_can_be_compared_and_repeats_itself(trainer: Any) -> None:
    heads, kind = trainer
    like = heads.start(kind, problem(), 0.01)
    part = problem(24)
    one, two = (heads.start(kind, part, 0.01, like) for _ in range(2))
    if isinstance(heads, TorchHeadTrainer) and kind != "mlp":
        assert one.settings == like.settings
    assert all(one.weights()[name].tobytes() == value.tobytes() for name, value in two.weights().items())


def test_weights_have_the_layout_in_which_a_checkpoint_gives_them_back(trainer: Any) -> None:
    heads, kind = trainer
    session = heads.start(kind, problem(), 0.01)
    session.train_step([0, 1, 2])
    handed_out = [*session.weights().values(), *session.snapshot().values()]
    assert all(value.flags.c_contiguous for value in handed_out)  # else a resumed run calibrates with other last bits


def test_the_same_calls_give_the_same_bits_and_handed_out_arrays_are_copies(trainer: Any) -> None:
    heads, kind = trainer
    one, two = (heads.start(kind, problem(), 0.01) for _ in range(2))
    for rows in STEPS:
        one.snapshot()["weight" if "weight" in one.snapshot() else next(iter(one.snapshot()))][...] = 9
        one.weights()["head.bias" if "head.bias" in one.weights() else "head.0.bias"][...] = 9
        one.evaluate().probabilities[...] = 9
        assert one.train_step(rows) == two.train_step(rows)
    left, right = one.router_tensors(one.weights()), two.router_tensors(two.weights())
    assert all(left[name].tobytes() == right[name].tobytes() for name in right)


@pytest.mark.parametrize("at", range(len(STEPS)))
def test_a_restored_session_goes_on_bit_for_bit(trainer: Any, at: int) -> None:
    heads, kind = trainer
    whole = heads.start(kind, problem(), 0.01)
    snapshot = None
    for index, rows in enumerate(STEPS):
        if index == at:
            snapshot = whole.snapshot()
        if index == 2:
            whole.set_learning_rate(0.005)
        whole.train_step(rows)
    again = heads.start(kind, problem(), 0.005 if at > 2 else 0.01)
    again.restore(snapshot)
    for index, rows in enumerate(STEPS[at:], at):
        if index == 2:
            again.set_learning_rate(0.005)
        again.train_step(rows)
    assert all(again.weights()[name].tobytes() == value.tobytes() for name, value in whole.weights().items())
    final, expected = again.snapshot(), whole.snapshot()
    assert {k: v.tobytes() for k, v in final.items()} == {k: v.tobytes() for k, v in expected.items()}


def test_a_feature_that_never_varies_and_rows_fewer_than_features_do_no_harm(trainer: Any) -> None:
    heads, kind = trainer
    train, train_labels = blobs(6, 1)
    val, val_labels = blobs(3, 2)
    train[:, 4] = val[:, 4] = 7.0
    session = heads.start(kind, HeadProblem(labelled(train, train_labels), labelled(val, val_labels), 3, 1), 0.01)
    assert np.isfinite(session.train_step([0, 1, 2]).loss)
    tensors = session.router_tensors(session.weights())
    check_head_tensors(kind, tensors, n_features=12, n_labels=3)


def test_an_unknown_kind_is_refused(trainer: Any) -> None:
    with pytest.raises(UsageError, match="forest"):
        trainer[0].start("forest", problem(), 0.01)


@pytest.mark.parametrize("kind", TorchHeadTrainer().kinds)
def test_torch_heads_start_from_a_fit(kind: str) -> None:
    assert TorchHeadTrainer().start(kind, problem(), 1e-4).evaluate().accuracy >= 0.7


def test_torch_heads_depend_on_the_seed_only_where_chance_comes_in() -> None:
    def tensors(kind: str, seed: int) -> list[bytes]:
        session = TorchHeadTrainer().start(kind, problem(seed=seed), 1e-4)
        return [value.tobytes() for value in session.router_tensors(session.weights()).values()]

    assert tensors("mlp", 1) == tensors("mlp", 1) != tensors("mlp", 2)
    assert tensors("kernel", 1) == tensors("kernel", 2)


def test_a_kernel_head_with_more_rows_than_support_still_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.router.head_initialisation.MAX_SUPPORT", 12)
    session = TorchHeadTrainer().start("kernel", problem(60), 1e-4)
    assert session.router_tensors(session.weights())["head.support"].shape[0] == 12
    assert session.evaluate().accuracy >= 0.7


@pytest.fixture(params=[CentroidProbe(), KernelRidgeProbe(), KernelRidgeProbe(max_rows=12)], ids=repr)
def probe(request: Any) -> Any:
    return request.param


def test_a_probe_tells_telling_features_from_noise_and_repeats_itself(probe: Any) -> None:
    good, labels = blobs(30, 1, noise=0.3)
    noise = np.random.default_rng(5).normal(size=good.shape).astype(np.float32)
    told, untold = probe.score(good, labels, 3), probe.score(noise, labels, 3)
    assert told.loss < untold.loss
    assert told.accuracy > 0.9 > untold.accuracy
    assert probe.score(good, labels, 3) == told


def test_a_probe_judges_rows_that_it_has_not_seen(probe: Any) -> None:
    rows = np.random.default_rng(5).normal(size=(40, 200)).astype(np.float32)  # could be learnt by heart
    labels = tuple(i % 2 for i in range(40))
    assert probe.score(rows, labels, 2).accuracy < 0.85


def test_a_label_of_few_rows_holds_its_own_against_one_of_many() -> None:
    rng = np.random.default_rng(4)
    centres = rng.normal(size=(2, 12))

    def drawn(*counts: int) -> LabelledTexts:
        labels = tuple(label for label, count in enumerate(counts) for _ in range(count))
        return labelled((centres[list(labels)] + 0.7 * rng.normal(size=(len(labels), 12))).astype(np.float32), labels)

    session = TorchHeadTrainer().start("kernel", HeadProblem(drawn(180, 8), drawn(18, 2), 2, 1), 1e-4)
    asked = drawn(100, 100)
    logits = TorchHeadTrainer().logits(
        "kernel", session.router_tensors(session.weights()), asked.features, asked.texts
    )
    right = logits[:, :2].argmax(axis=1) == np.asarray(asked.labels)
    assert right[100:].mean() >= 0.7
    assert right[:100].mean() >= 0.7
