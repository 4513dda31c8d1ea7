from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from adapters.router.bank_fitting import (
    SAMPLE,
    choose_rows,
    fit_bank,
    main_directions,
    own_density,
    spread,
    stranger_auroc,
    stranger_scores,
)
from adapters.router.numpy_calibrator import NumpyRouterCalibrator
from adapters.router.prompt_bank import PromptBank, check_bank_tensors, embed
from application.ports import LabelledFeatures, UncalibratedRouter
from domain.evaluation import auroc
from domain.features import BaseModel, FeatureSpec
from domain.labels import LabelMap


def clouds(per_label: int, n_labels: int, n_features: int, seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    centres = 3 * np.random.default_rng(99).normal(size=(n_labels, n_features))
    labels = np.repeat(np.arange(n_labels), per_label)
    return (centres[labels] + rng.normal(size=(len(labels), n_features))).astype(np.float32), labels


@pytest.mark.parametrize(("n", "f"), [(40, 8), (8, 40)])
def test_main_directions_are_scikit_learns_principal_components(n, f):
    rows = np.random.default_rng(0).normal(size=(n, f)) * np.linspace(3, 0.5, f)
    rows = (rows - rows.mean(0)).astype(np.float32)
    directions, variances = main_directions(rows, limit=5)
    reference = PCA(5).fit(rows)
    np.testing.assert_allclose(variances, reference.explained_variance_ * (n - 1) / n, rtol=1e-3)
    np.testing.assert_allclose(np.abs(np.sum(directions * reference.components_, axis=1)), 1, atol=1e-3)


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
    bank, _ = fit_bank(rows[train], labels[train], rows[held_out], labels[held_out])
    certain = np.ones(held_out.sum())
    known = bank.scores(bank.similarities(rows[held_out]), certain)
    strangers = -5 * rows[held_out].mean(0) + np.random.default_rng(5).normal(size=(20, 10)).astype(np.float32)
    strange = bank.scores(bank.similarities(strangers.astype(np.float32)), np.ones(20))
    assert strange.min() > known.max()
    gap = known[labels[held_out] == 2].mean() - known[labels[held_out] != 2].mean()
    without = bank.similarities(rows[held_out])
    nearest = 1 - np.sort(without, axis=1)[:, -bank.neighbours :].mean(axis=1)
    assert gap < nearest[labels[held_out] == 2].mean() - nearest[labels[held_out] != 2].mean()


def test_doubt_makes_a_prompt_stranger():
    rows, labels = clouds(10, 2, 4)
    bank, _ = fit_bank(rows, labels, rows, labels)
    similarity = bank.similarities(rows[:1].repeat(2, axis=0))
    sure, unsure = bank.scores(similarity, np.array([0.99, 0.4]))
    assert unsure > sure


def test_whitening_is_taken_only_where_it_tells_adapters_apart():
    """Strong directions that say nothing: only whitening lets the weak, telling ones count."""
    rng = np.random.default_rng(0)

    def rows(noise: float) -> Any:
        labels = np.repeat([0, 1, 2, 3], 40)
        telling = np.eye(4)[labels] + 0.1 * rng.normal(size=(160, 4))
        loud = noise * rng.normal(size=(160, 2))
        return np.concatenate([telling, loud], axis=1).astype(np.float32), labels

    for noise, whitened in ((6.0, True), (0.1, False)):
        (train, labels), (val, val_labels) = rows(noise), rows(noise)
        bank, _ = fit_bank(train - train.mean(0), labels, val - train.mean(0), val_labels)
        lengths = np.linalg.norm(bank.projection, axis=1)
        assert (lengths.max() / lengths.min() > 1.5) == whitened
        assert 0 <= stranger_auroc(bank, val, val_labels) <= 1


def test_a_bank_survives_its_tensors():
    rows, labels = clouds(10, 3, 8)
    bank, kept = fit_bank(rows, labels, rows, labels, rows_per_adapter=4)
    tensors = bank.tensors()
    check_bank_tensors(tensors, n_features=8, n_labels=3, n_texts=len(kept))
    again = PromptBank.from_tensors(tensors)
    np.testing.assert_array_equal(again.similarities(rows), bank.similarities(rows))
    np.testing.assert_array_equal(again.scores(again.similarities(rows), np.ones(30)),
                                  bank.scores(bank.similarities(rows), np.ones(30)))  # fmt: skip
    np.testing.assert_allclose(np.linalg.norm(embed(bank.projection, rows), axis=1), 1, atol=1e-5)


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
    labels = np.array([0, 0, 0, 1, 1, 1])
    bank, _ = fit_bank(rows, labels, rows, labels)
    assert np.isfinite(bank.scores(bank.similarities(rows), np.ones(6))).all()


def test_validation_prompts_play_strangers_when_their_adapter_is_left_out():
    rows, labels = clouds(20, 3, 8)
    logits = -10 * (np.arange(3)[None] != labels[:, None]).astype(float)  # the head is sure of the right adapter
    bank, _ = fit_bank(rows[::2], labels[::2], rows[1::2], labels[1::2])
    val, val_labels = rows[1::2], labels[1::2]
    as_strangers = stranger_scores(bank, val, val_labels, logits[1::2])
    known = bank.scores(bank.similarities(val), np.full(len(val), 0.99))
    assert len(as_strangers) == len(val)
    assert auroc(known.tolist(), as_strangers) > 0.95
    alone = val_labels == 0
    only, _ = fit_bank(rows[labels == 0], labels[labels == 0], val[alone], val_labels[alone])
    assert stranger_scores(only, val[alone], val_labels[alone], np.zeros((alone.sum(), 1))) == []
