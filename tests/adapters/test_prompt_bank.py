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
)
from adapters.router.numpy_calibrator import NumpyRouterCalibrator
from adapters.router.prompt_bank import PromptBank, Without, check_bank_tensors
from application.ports import KnownTexts, LeftOutFold, UncalibratedRouter
from domain.abstention import ScoredRow, fit_thresholds
from domain.features import BaseModel, FeatureSpec
from domain.labels import LabelMap
from tests.router_world import router_world


def clouds(per_label: int, n_labels: int, n_features: int, seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    centres = 3 * np.random.default_rng(99).normal(size=(n_labels, n_features))
    labels = np.repeat(np.arange(n_labels), per_label)
    return (centres[labels] + rng.normal(size=(len(labels), n_features))).astype(np.float32), labels


def bank_of(rows: Any, labels: Any, **options: Any) -> PromptBank:
    width = rows.shape[1]
    none = {"offset": np.zeros(width, np.float32), "background": no_rows(width), "out_of_scope": no_rows(width)}
    return fit_bank(rows, labels, **(none | options))[0]


def no_rows(width: int) -> Any:
    return np.zeros((0, width), np.float32)


def scored(bank: PromptBank, rows: Any, evidence: float = 0.0, without: Without | None = None) -> Any:
    return bank.score(bank.read(bank.embed(rows), without), np.full(len(rows), evidence))


def own(bank: PromptBank, rows: Any, without: Without | None = None) -> Any:
    return bank.read(bank.embed(rows), without).own


def forgetting(bank: PromptBank, **some: list[int]) -> Without:
    """Forget rows, background or out_of_scope by number."""
    made = {}
    for name, kept in (("rows", bank.features), ("background", bank.background), ("out_of_scope", bank.out_of_scope)):
        made[name] = np.isin(np.arange(len(kept)), some.get(name, []))
    return Without(**made)


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


def test_an_out_of_scope_prompt_scores_higher_and_sparse_regions_are_not_strange():
    rows, labels = clouds(40, 3, 10)
    rows[labels == 2] = rows[labels == 2].mean(0) + 3 * (rows[labels == 2] - rows[labels == 2].mean(0))  # sparse
    train, held_out = np.arange(len(rows)) % 2 == 0, np.arange(len(rows)) % 2 == 1
    bank = bank_of(rows[train], labels[train])
    known = scored(bank, rows[held_out])
    out_of_scope = -5 * rows[held_out].mean(0) + np.random.default_rng(5).normal(size=(20, 10)).astype(np.float32)
    assert scored(bank, out_of_scope.astype(np.float32)).min() > known.max()

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
    without, knowing = bank_of(rows, labels), bank_of(rows, labels, out_of_scope=example)
    assert scored(knowing, like) > scored(without, like) + 0.3
    assert scored(knowing, unlike) <= scored(without, unlike)
    # The example has its say in the bank's directions, so that forgetting it is not quite as if it had never been.
    np.testing.assert_allclose(
        scored(knowing, like, without=forgetting(knowing, out_of_scope=[0])), scored(without, like), atol=2e-3
    )
    assert len(knowing.tensors()["bank.out_of_scope"]) == 1


def test_a_bank_survives_its_tensors():
    rows, labels = clouds(10, 3, 8)
    others = np.random.default_rng(3).normal(size=(4, 8)).astype(np.float32)
    bank, kept = fit_bank(
        rows, labels, offset=np.ones(8, np.float32), background=others[:3], out_of_scope=others, rows_per_adapter=4
    )
    tensors = bank.tensors()
    check_bank_tensors(tensors, n_features=8, n_labels=3, n_texts=len(kept))
    again = PromptBank.from_tensors(tensors)
    np.testing.assert_array_equal(scored(again, rows, 1.0), scored(bank, rows, 1.0))
    np.testing.assert_array_equal(own(again, rows), own(bank, rows))


@pytest.mark.parametrize(
    ("per_label", "n_labels", "n_features"),
    [(1, 1, 4), (1, 3, 4), (2, 2, 50), (5, 1, 3), (3, 40, 2), (SAMPLE, 2, 3)],
)
def test_any_shape_of_training_data_is_calibrated(per_label, n_labels, n_features):
    rows, labels = clouds(per_label, n_labels, n_features)
    spec = FeatureSpec(BaseModel("tiny", "f", 2, n_features), (1,))
    head = {
        "feature.mean": np.zeros(n_features, np.float32), "feature.scale": np.ones(n_features, np.float32),
        "head.weight": np.vstack([rows[::per_label], 0 * rows[:1]]), "head.bias": np.zeros(n_labels + 1, np.float32),
    }  # fmt: skip
    n = len(rows)
    known = KnownTexts(rows, tuple(f"t{i}" for i in range(n)), tuple(labels.tolist()), tuple(i % 5 for i in range(n)))
    none = KnownTexts(no_rows(n_features), (), (), ())
    names = LabelMap([f"a{i}" for i in range(n_labels)])
    router = UncalibratedRouter(names, spec, "linear", head, known, none, none)
    logits = np.hstack([rows[:1] @ rows[::per_label].T, [[0.0]]])
    one = LeftOutFold(logits, rows[:1], (1,), (0,), (False,))
    made = NumpyRouterCalibrator().calibrate(router, [one], target_error=0.02)
    check_bank_tensors(made.tensors, n_features=n_features, n_labels=n_labels, n_texts=len(made.bank_texts))
    assert made.temperature > 0


def test_prompts_that_are_all_the_same_are_no_trouble():
    rows = np.zeros((6, 4), np.float32)
    assert np.isfinite(scored(bank_of(rows, np.array([0, 0, 0, 1, 1, 1])), rows)).all()


def test_what_a_bank_forgets_for_once_is_as_if_it_had_never_been_there():
    rows, labels = clouds(10, 2, 6)
    others = np.random.default_rng(3).normal(size=(5, 6)).astype(np.float32)
    whole = bank_of(rows, labels, background=others[:3], out_of_scope=others[3:])
    without = forgetting(whole, rows=[0, 1], background=[0], out_of_scope=[1])
    less = evolve(
        whole, features=whole.features[2:], density=whole.density[2:], labels=whole.labels[2:],
        background=whole.background[1:], out_of_scope=whole.out_of_scope[:1],
    )  # fmt: skip
    asked = np.vstack([rows, others])
    np.testing.assert_allclose(scored(whole, asked, without=without), scored(less, asked), atol=1e-6)
    np.testing.assert_allclose(own(whole, asked, without), own(less, asked), atol=1e-6)
    assert scored(whole, rows[:1], without=forgetting(whole, rows=[0])) > scored(whole, rows[:1])


def phrases_beside(rows: Any) -> tuple[Any, Any]:
    """Return the rows, and six phrases in a direction of their own, both with two features more."""
    rng = np.random.default_rng(4)
    noise = 0.1 * rng.normal(size=(6, rows.shape[1] + 2))
    phrases = (noise + 9 * (np.arange(rows.shape[1] + 2) == rows.shape[1])).astype(np.float32)
    return np.hstack([rows, 0.3 * rng.normal(size=(len(rows), 2)).astype(np.float32)]), phrases


def test_background_says_nothing_of_its_own_and_known_prompts_do():
    clouded, labels = clouds(10, 3, 8)
    rows, phrases = phrases_beside(clouded)
    bank = bank_of(rows, labels, background=phrases)
    assert own(bank, rows).min() >= 0 > own(bank, phrases).max()
    assert own(bank, phrases, forgetting(bank, background=[0])).max() < 0  # known by the other phrases
    assert not bank.like_background.any()
    assert own(bank_of(rows, labels), phrases).min() >= 0  # where nothing is background, all counts


def test_background_that_an_adapter_owns_is_company_beside_its_requests():
    clouded, labels = clouds(10, 3, 8)
    rows, phrases = phrases_beside(clouded)
    owned = phrases[:1] + np.float32(0.01)  # "thanks", which is somebody's
    bank = bank_of(np.vstack([rows, owned]), np.append(labels, 0), background=phrases)
    assert np.flatnonzero(bank.like_background).tolist() == [len(rows)]
    assert own(bank, owned)[0] < 0
    assert own(bank, rows).min() >= 0


def spied(monkeypatch: pytest.MonkeyPatch) -> list[ScoredRow]:
    """Return a list that will hold what the thresholds are fitted to."""
    seen: list[ScoredRow] = []

    def spy(rows: Any, target: float, **options: bool) -> Any:
        seen.extend(rows)
        return fit_thresholds(rows, target, **options)

    monkeypatch.setattr("adapters.router.numpy_calibrator.fit_thresholds", spy)
    return seen


def test_the_bank_remembers_all_known_prompts_but_scores_none_against_its_own_fold(monkeypatch):
    world, seen = router_world(), spied(monkeypatch)
    made = NumpyRouterCalibrator().calibrate(world.router, world.left_out(), target_error=0.02)
    assert made.bank_texts == world.train.texts
    bank = PromptBank.from_tensors(made.tensors)
    tensors, place = world.router.tensors, 0
    for number, fold in enumerate(world.left_out()):
        rows = ((fold.features - tensors["feature.mean"]) / tensors["feature.scale"]).astype(np.float32)
        same = {
            name: [i for i, each in enumerate(known.folds) if each == number]
            for name, known in (
                ("rows", world.router.known),
                ("background", world.router.background),
                ("out_of_scope", world.router.out_of_scope),
            )
        }
        logits = np.asarray(fold.logits, np.float64)[:, :-1] / made.temperature
        evidence = np.log(np.exp(logits - 30).sum(axis=1)) + 30
        vectors = bank.embed(rows)
        alone = bank.score(bank.read(vectors, forgetting(bank, **same)), evidence)
        found = np.array([row.out_of_scope for row in seen[place : place + len(rows)]])
        np.testing.assert_allclose(found, alone, atol=1e-4)
        inside = np.array(fold.labels) < 3
        assert (found > bank.score(bank.read(vectors), evidence))[inside].all()
        place += len(rows)
    assert place == len(seen)


def test_an_out_of_scope_example_is_not_fitted_against_itself(monkeypatch):
    world, seen = router_world(), spied(monkeypatch)
    apart = np.array([[50, 0, 0, 0, 0, 0], [0, 0, 0, 0, 50, 0]], np.float32)
    router = evolve(world.router, out_of_scope=KnownTexts(apart, ("a", "b"), (), (0, 1)))
    folds = world.left_out()
    for number in (0, 1):
        row = apart[number : number + 1]
        asked = LeftOutFold(world.logits(row), row, (1,), (3,), (False,))
        folds[number] = joined(folds[number], asked)
    made = NumpyRouterCalibrator().calibrate(router, folds, target_error=0.02)
    bank = PromptBank.from_tensors(made.tensors)
    tensors = world.router.tensors
    vectors = bank.embed(((apart - tensors["feature.mean"]) / tensors["feature.scale"]).astype(np.float32))
    assert (vectors @ bank.out_of_scope.T).max(axis=1).min() > 0.9
    ends = np.cumsum([len(fold.labels) for fold in folds]) - 1
    found = np.array([seen[end].out_of_scope for end in ends[:2]])
    logits = np.asarray(world.logits(apart), np.float64)[:, :-1] / made.temperature
    evidence = np.log(np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1)) + logits.max(axis=1)
    assert (found < bank.score(bank.read(vectors), evidence) - 0.3).all()


def joined(one: LeftOutFold, other: LeftOutFold) -> LeftOutFold:
    return LeftOutFold(
        np.vstack([one.logits, other.logits]), np.vstack([one.features, other.features]),
        one.sizes + other.sizes, one.labels + other.labels, one.changed + other.changed,
    )  # fmt: skip


def test_left_out_prompts_that_go_wrong_raise_the_temperature_and_those_of_no_adapter_have_no_say():
    world = router_world()
    folds = world.left_out()
    plain = NumpyRouterCalibrator().calibrate(world.router, folds, target_error=0.02)
    wrong = []
    for fold in folds:  # unseen, a few prompts go to the next adapter
        logits = fold.logits.copy()
        logits[:2, :3] = np.roll(logits[:2, :3], 1, axis=1)
        wrong.append(evolve(fold, logits=logits))
    told = NumpyRouterCalibrator().calibrate(world.router, wrong, target_error=0.02)
    assert told.temperature > 2 * plain.temperature
    none = [evolve(fold, logits=np.where(np.array(fold.labels)[:, None] == 3, 99.0, fold.logits)) for fold in folds]
    assert NumpyRouterCalibrator().calibrate(world.router, none, target_error=0.02).temperature == plain.temperature
