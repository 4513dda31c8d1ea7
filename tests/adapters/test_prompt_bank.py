from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from attrs import evolve
from sklearn.decomposition import TruncatedSVD
from sklearn.neighbors import NearestNeighbors

from adapters.router.bank_fitting import (
    MOST_OFFSET,
    SAMPLE,
    bank_offset,
    choose_rows,
    fit_bank,
    main_directions,
    own_density,
    spread,
    stand_in_scores,
)
from adapters.router.numpy_calibrator import NumpyRouterCalibrator
from adapters.router.prompt_bank import PromptBank, check_bank_tensors
from application.ports import LabelledFeatures, UncalibratedRouter
from domain.abstention import ScoredRow, fit_thresholds
from domain.evaluation import auroc
from domain.features import BaseModel, FeatureSpec
from domain.labels import LabelMap


def clouds(per_label: int, n_labels: int, n_features: int, seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    centres = 3 * np.random.default_rng(99).normal(size=(n_labels, n_features))
    labels = np.repeat(np.arange(n_labels), per_label)
    return (centres[labels] + rng.normal(size=(len(labels), n_features))).astype(np.float32), labels


def bank_of(rows: Any, labels: Any, **options: Any) -> PromptBank:
    return fit_bank(rows, labels, offset=options.pop("offset", np.zeros(rows.shape[1], np.float32)), **options)[0]


def scored(bank: PromptBank, rows: Any, evidence: float = 0.0) -> Any:
    vectors = bank.embed(rows)
    return bank.scores(bank.similarities(vectors), np.full(len(rows), evidence), bank.stranger_similarity(vectors))


@pytest.mark.parametrize(("n", "f"), [(40, 8), (8, 40)])
def test_main_directions_are_scikit_learns_singular_vectors(n, f):
    rows = (np.random.default_rng(0).normal(size=(n, f)) * np.linspace(3, 0.5, f) + 1).astype(np.float32)
    directions = main_directions(rows, limit=5)
    reference = TruncatedSVD(5, algorithm="arpack").fit(rows)
    np.testing.assert_allclose(np.abs(np.sum(directions * reference.components_, axis=1)), 1, atol=1e-3)


def test_similarity_is_the_cosine_of_the_moved_features_outside_the_main_directions_too():
    rows, labels = clouds(3, 2, 20)  # six rows span six of twenty directions
    offset = np.linspace(-1, 1, 20).astype(np.float32)
    bank = bank_of(rows, labels, offset=offset)
    others = np.random.default_rng(1).normal(size=(5, 20)).astype(np.float32)
    moved, known = others + offset, rows + offset
    cosine = (moved @ known.T) / np.linalg.norm(moved, axis=1)[:, None] / np.linalg.norm(known, axis=1)
    np.testing.assert_allclose(bank.similarities(bank.embed(others)), cosine, atol=2e-3)


def test_no_feature_s_offset_drowns_the_others():
    mean, scale = np.array([4000.0, -1.0, 0.5], np.float32), np.array([2.0, 2.0, 1.0], np.float32)
    assert bank_offset(mean, scale).tolist() == [MOST_OFFSET, -0.5, 0.5]


def test_density_is_the_mean_similarity_to_the_nearest_others():
    rows, _ = clouds(10, 3, 6)
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    distances, _ = NearestNeighbors(n_neighbors=5, metric="cosine").fit(units).kneighbors(units)
    np.testing.assert_allclose(own_density(units @ units.T, 4), 1 - distances[:, 1:].mean(axis=1), atol=1e-5)


def test_rows_are_chosen_evenly_and_the_same_every_time():
    labels = np.repeat([0, 1, 2], [5, 50, 500])
    kept = choose_rows(labels, 20)
    assert np.bincount(labels[kept]).tolist() == [5, 20, 20]
    assert (np.diff(kept) > 0).all()
    np.testing.assert_array_equal(kept, choose_rows(labels, 20))
    assert spread(np.arange(10), 4).tolist() == [0, 3, 6, 9]


def test_a_stranger_scores_higher_and_sparse_regions_are_not_strange():
    rows, labels = clouds(40, 3, 10)
    rows[labels == 2] = rows[labels == 2].mean(0) + 3 * (rows[labels == 2] - rows[labels == 2].mean(0))  # sparse
    train, held_out = np.arange(len(rows)) % 2 == 0, np.arange(len(rows)) % 2 == 1
    bank = bank_of(rows[train], labels[train])
    known = scored(bank, rows[held_out])
    strangers = -5 * rows[held_out].mean(0) + np.random.default_rng(5).normal(size=(20, 10)).astype(np.float32)
    assert scored(bank, strangers.astype(np.float32)).min() > known.max()

    def gap(scores: Any) -> float:
        return float(scores[labels[held_out] == 2].mean() - scores[labels[held_out] != 2].mean())

    assert gap(known) < gap(scored(evolve(bank, density_weight=0.0), rows[held_out]))


def test_less_evidence_makes_a_prompt_stranger():
    rows, labels = clouds(10, 2, 4)
    bank = bank_of(rows, labels)
    assert scored(bank, rows[:1], evidence=2.0) > scored(bank, rows[:1], evidence=9.0)


def test_an_out_of_scope_example_makes_prompts_like_it_stranger_and_no_others():
    rows, labels = clouds(10, 2, 6)
    example = np.array([[9, -9, 9, -9, 9, -9]], np.float32)
    like, unlike = example + 0.1, -example
    without, knowing = bank_of(rows, labels), bank_of(rows, labels, strangers=example)
    assert scored(knowing, like) > scored(without, like) + 0.3
    assert scored(knowing, unlike) <= scored(without, unlike)
    assert len(knowing.tensors()["bank.strangers"]) == 1


def test_a_bank_survives_its_tensors():
    rows, labels = clouds(10, 3, 8)
    strangers = np.random.default_rng(3).normal(size=(4, 8)).astype(np.float32)
    bank, kept = fit_bank(rows, labels, offset=np.ones(8, np.float32), strangers=strangers, rows_per_adapter=4)
    tensors = bank.tensors()
    check_bank_tensors(tensors, n_features=8, n_labels=3, n_texts=len(kept))
    np.testing.assert_array_equal(scored(PromptBank.from_tensors(tensors), rows, 1.0), scored(bank, rows, 1.0))


@pytest.mark.parametrize(
    ("per_label", "n_labels", "n_features"),
    [(1, 1, 4), (1, 3, 4), (2, 2, 50), (5, 1, 3), (3, 40, 2), (SAMPLE, 2, 3)],
)
def test_any_shape_of_training_data_is_calibrated(per_label, n_labels, n_features):
    rows, labels = clouds(per_label, n_labels, n_features)
    spec = FeatureSpec(BaseModel("tiny", "f", 2, n_features), (1,))
    head = {
        "feature.mean": np.zeros(n_features, np.float32), "feature.scale": np.ones(n_features, np.float32),
        "head.weight": rows[:: per_label].copy(), "head.bias": np.zeros(n_labels, np.float32),
    }  # fmt: skip
    router = UncalibratedRouter(LabelMap([f"a{i}" for i in range(n_labels)]), spec, "linear", head)
    data = LabelledFeatures(rows, tuple(labels.tolist()), tuple(f"t{i}" for i in range(len(rows))))
    val = LabelledFeatures(rows[:1], (0,), ("t",))
    made = NumpyRouterCalibrator().calibrate(router, data, val, target_error=0.02)
    check_bank_tensors(made.tensors, n_features=n_features, n_labels=n_labels, n_texts=len(made.bank_texts))
    assert made.temperature > 0


def test_prompts_that_are_all_the_same_are_no_trouble():
    rows = np.zeros((6, 4), np.float32)
    assert np.isfinite(scored(bank_of(rows, np.array([0, 0, 0, 1, 1, 1])), rows)).all()


def test_validation_prompts_play_strangers_when_their_adapter_is_left_out():
    rows, labels = clouds(20, 3, 8)
    logits = -10 * (np.arange(3)[None] != labels[:, None]).astype(float)  # the head is sure of the right adapter
    bank = bank_of(rows[::2], labels[::2])
    val, val_labels = rows[1::2], labels[1::2]
    as_strangers = stand_in_scores(bank, val, val_labels, logits[1::2])
    assert len(as_strangers) == len(val)
    assert auroc(scored(bank, val).tolist(), as_strangers) > 0.95
    alone = val_labels == 0
    only = bank_of(rows[labels == 0], labels[labels == 0])
    assert stand_in_scores(only, val[alone], val_labels[alone], np.zeros((alone.sum(), 1))) == []


def calibration_inputs(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any, Any, dict[str, list[ScoredRow]]]:
    """A head with its rows, and a dictionary that will hold what the thresholds are fitted to."""
    rows, labels = clouds(12, 3, 8)
    head = {
        "feature.mean": np.zeros(8, np.float32), "feature.scale": np.ones(8, np.float32),
        "head.weight": rows[::12].copy(), "head.bias": np.zeros(3, np.float32),
    }  # fmt: skip
    router = UncalibratedRouter(
        LabelMap(["a", "b", "c"]), FeatureSpec(BaseModel("tiny", "f", 2, 8), (1,)), "linear", head
    )

    def part(some: Any, name: str) -> LabelledFeatures:
        texts = tuple(f"{name}{i}" for i in range(len(rows[some])))
        return LabelledFeatures(rows[some], tuple(labels[some].tolist()), texts)

    seen: dict[str, list[ScoredRow]] = {}

    def spy(scored_rows: Any, target: float, strangers: Any, stand_ins: Any) -> Any:
        seen.update(inside=list(scored_rows), outside=list(strangers))
        return fit_thresholds(scored_rows, target, strangers, stand_ins)

    monkeypatch.setattr("adapters.router.numpy_calibrator.fit_thresholds", spy)
    return router, part(slice(None, None, 2), "t"), part(slice(1, None, 2), "v"), seen


def test_the_bank_remembers_validation_prompts_but_scores_none_against_itself(monkeypatch):
    router, train, val, seen = calibration_inputs(monkeypatch)
    made = NumpyRouterCalibrator().calibrate(router, train, val, target_error=0.02)
    assert set(made.bank_texts) == {*train.texts, *val.texts}
    bank = PromptBank.from_tensors(made.tensors)
    vectors = bank.embed(np.asarray(val.features))
    similarity = bank.similarities(vectors)
    with_itself = bank.scores(similarity, np.zeros(len(vectors)), np.zeros(len(vectors), np.float32))
    for row, text in enumerate(val.texts):
        similarity[row, made.bank_texts.index(text)] = -1.0
    alone = bank.scores(similarity, np.zeros(len(vectors)), np.zeros(len(vectors), np.float32))
    logits = np.asarray(val.features) @ router.tensors["head.weight"].T / made.temperature
    evidence = np.log(np.exp(logits - 30).sum(axis=1)) + 30
    found = np.array([row.out_of_scope for row in seen["inside"]])
    np.testing.assert_allclose(found, alone - bank.evidence_weight * evidence, atol=1e-4)
    assert (alone > with_itself).all()


def test_an_out_of_scope_example_is_not_fitted_against_itself(monkeypatch):
    router, train, val, seen = calibration_inputs(monkeypatch)
    apart = np.array([[50, 0, 0, 0, 0, 0, 0, 0], [0, 0, 50, 0, 0, 0, 0, 0]], np.float32)
    made = NumpyRouterCalibrator().calibrate(router, train, val, target_error=0.02, out_of_scope=apart)
    bank = PromptBank.from_tensors(made.tensors)
    as_known = bank.stranger_similarity(bank.embed(apart))
    assert as_known.min() > 0.9
    found = np.array([row.out_of_scope for row in seen["outside"]])
    logits = apart @ router.tensors["head.weight"].T / made.temperature
    evidence = np.log(np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1)) + logits.max(axis=1)
    in_serving = bank.scores(bank.similarities(bank.embed(apart)), evidence, as_known)
    assert (found < in_serving - 0.3).all()


def test_with_a_single_out_of_scope_example_the_stand_ins_decide(monkeypatch):
    router, train, val, seen = calibration_inputs(monkeypatch)
    one = np.array([[50, 0, 0, 0, 0, 0, 0, 0]], np.float32)
    made = NumpyRouterCalibrator().calibrate(router, train, val, target_error=0.02, out_of_scope=one)
    assert seen["outside"] == []  # there is no other example that it could be known by
    assert len(made.tensors["bank.strangers"]) == 1


def test_left_out_training_rows_have_a_say_in_the_temperature(monkeypatch):
    router, train, val, _ = calibration_inputs(monkeypatch)
    plain = NumpyRouterCalibrator().calibrate(router, train, val, target_error=0.02)
    doubtful = np.asarray(train.features) @ router.tensors["head.weight"].T
    doubtful[:6] = doubtful[:6][:, ::-1]  # unseen, a third of the training rows would have gone wrong
    told = NumpyRouterCalibrator().calibrate(evolve(router, left_out=doubtful), train, val, target_error=0.02)
    assert told.temperature > 2 * plain.temperature
