"""Looking into a data set."""

from pathlib import Path

import pytest

from adapters.in_memory.similarity import TrigramSimilarity
from application.datasets.inspect_dataset import InspectDataset
from domain.errors import DataRejectedError, MissingFileError, UsageError
from domain.split import Split
from tests.dataset_world import generate, row, rows_of

OUT = Path("out")


@pytest.fixture
def store():
    rows = {
        "calendar": [*rows_of("calendar", 14), row("click the third of December")],
        "claim": [*rows_of("claim", 14), row("click the third of December!")],
        "other": rows_of("quite different", 15),
    }
    return generate(rows)[1]


def test_counts_lengths_and_words_of_every_adapter(store):
    report = InspectDataset(store, TrigramSimilarity())(OUT)
    assert [one.name for one in report.adapters] == ["calendar", "claim", "other"]
    calendar = report.adapters[0]
    assert calendar.counts == {Split.TRAIN: 8, Split.VAL: 2, Split.EVAL: 5}
    assert len(calendar.lengths) == 15
    assert calendar.characters[100] == len("click the third of December")
    assert (calendar.words[50], calendar.words[100]) == (3, 5)
    assert calendar.telling[0].word == "calendar"
    assert report.adapters[2].telling[0].word in ("quite", "different")


def test_near_duplicates_across_adapters_are_shown_and_counted(store):
    report = InspectDataset(store, TrigramSimilarity())(OUT, threshold=0.9)
    assert report.n_near_duplicates == {("calendar", "claim"): 1, ("calendar", "other"): 0, ("claim", "other"): 0}
    (pair,) = report.near_duplicates
    assert (pair.first.adapter, pair.second.adapter) == ("calendar", "claim")
    assert pair.first.text == "click the third of December"
    assert InspectDataset(store, TrigramSimilarity())(OUT, threshold=0.9, n_pairs=0).near_duplicates == ()


def test_the_most_similar_pair_comes_first_whichever_adapters_it_is_of():
    rows = {
        "calendar": [*rows_of("calendar", 14), row("click the third of December")],
        "claim": [
            *rows_of("claim", 13),
            row("click the third of December, please"),
            row("open the long form of the claim"),
        ],
        "other": [*rows_of("quite different", 14), row("open the long form of the claim.")],
    }
    inspect = InspectDataset(generate(rows)[1], TrigramSimilarity())
    found = inspect(OUT, threshold=0.8).near_duplicates
    assert [(pair.first.adapter, pair.second.adapter) for pair in found] == [
        ("claim", "other"),
        ("calendar", "claim"),
    ]
    assert found[0].similarity > found[1].similarity
    assert inspect(OUT, threshold=0.8, n_pairs=1).near_duplicates == found[:1]


@pytest.mark.parametrize("options", [{"threshold": 0.0}, {"threshold": 1.1}, {"n_words": -1}, {"n_pairs": -1}])
def test_numbers_out_of_range_are_refused(store, options):
    with pytest.raises(UsageError):
        InspectDataset(store, TrigramSimilarity())(OUT, **options)


def test_what_is_no_data_set_is_refused(store):
    with pytest.raises(MissingFileError, match="nowhere"):
        InspectDataset(store, TrigramSimilarity())(Path("nowhere"))
    store.folders[OUT]["metadata.json"] = b"{}"
    with pytest.raises(DataRejectedError, match="label map"):
        InspectDataset(store, TrigramSimilarity())(OUT)
