from __future__ import annotations

import numpy as np
import pytest

from adapters.router.lexical import Lexicon

TEXTS = ["which day is it", "book a room", "预订房间", "ما هو اليوم", "a a a", "", "?!"]


def test_applying_weights_equals_the_sparse_product():
    lexicon = Lexicon.of(TEXTS[:4])
    weights = np.random.default_rng(0).normal(size=(len(lexicon.grams), 3)).astype(np.float32)
    asked = [*TEXTS, "which rooom", "\ud800 odd"]
    np.testing.assert_allclose(lexicon.apply(asked, weights), lexicon.matrix(asked) @ weights, atol=1e-6)


def test_n_grams_that_no_training_text_has_do_not_count_at_all():
    lexicon = Lexicon.of(["which day", "book a room"])
    for one, other in zip(lexicon.row("which day"), lexicon.row("which day 字字字"), strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(lexicon.row("字字字")[0]) == 0


@pytest.mark.parametrize("text", TEXTS[:4])
def test_a_text_with_letters_and_words_has_length_one(text):
    values = Lexicon.of(TEXTS).row(text)[1]
    assert float(values @ values) == pytest.approx(1.0, abs=1e-5)


def test_rare_n_grams_weigh_more_and_identities_ascend():
    lexicon = Lexicon.of(["xy", "xy", "zw"])
    assert (np.diff(lexicon.grams.astype(np.int64)) > 0).all()
    common, rare = (Lexicon.of([text]).grams for text in ("xy", "zw"))
    assert lexicon.idf[np.isin(lexicon.grams, rare)].min() > lexicon.idf[np.isin(lexicon.grams, common)].max()


def test_a_typing_error_leaves_most_letters_alike():
    rows = Lexicon.of(["calendar", "calender", "dentist"]).matrix(["calendar", "calender", "dentist"])
    similarity = (rows @ rows.T).toarray()
    assert similarity[0, 1] > 3 * similarity[0, 2]


@pytest.mark.parametrize("texts", [[], ["", "?!"]])
def test_texts_without_letters_have_an_empty_lexicon_that_works(texts):
    lexicon = Lexicon.of(texts)
    assert len(lexicon.grams) == 0
    assert lexicon.apply(["anything"], np.zeros((0, 2), np.float32)).tolist() == [[0.0, 0.0]]
    assert lexicon.matrix(["a", "b"]).shape == (2, 0)
    assert Lexicon.of(["a"]).matrix([]).shape[0] == 0
