import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import MismatchError, UsageError
from domain.labels import DEFAULT_LABELS, AdapterLabel, LabelMap

NAMES = st.lists(st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True), min_size=1, max_size=6, unique=True)


def test_the_default_labels_are_the_fixed_ones():
    assert DEFAULT_LABELS.as_mapping() == {"calendar": 0, "claim-window": 1, "provider-select": 2}


@given(NAMES)
def test_labels_are_contiguous_and_go_both_ways(names):
    labels = LabelMap(names)
    assert [entry.label for entry in labels] == list(range(len(names)))
    assert [labels.name_of(labels.label_of(name)) for name in names] == names
    assert LabelMap.from_mapping(labels.as_mapping()) == labels


@pytest.mark.parametrize("name", ["", "a/b", "..", "a\nb", "x" * 300, "ä", "a b", "a\n", "."])
def test_refuses_names_that_could_harm_a_path(name):
    with pytest.raises(UsageError, match="not allowed"):
        AdapterLabel(name, 0)
    with pytest.raises(UsageError, match="not allowed"):
        LabelMap((name,))


def test_refuses_duplicates_gaps_and_nothing_at_all():
    with pytest.raises(UsageError, match="'a' is named twice"):
        LabelMap(("a", "b", "a"))
    with pytest.raises(UsageError, match="not contiguous"):
        LabelMap.from_mapping({"a": 0, "b": 2})
    with pytest.raises(UsageError, match="not contiguous"):
        LabelMap.from_mapping({"a": 0, "b": 0})
    with pytest.raises(UsageError, match="at least one"):
        LabelMap(())
    with pytest.raises(UsageError, match="negative"):
        AdapterLabel("a", -1)


def test_unknown_names_and_labels_are_named_with_what_is_known():
    with pytest.raises(UsageError, match=r"unknown adapter 'x'.*calendar, claim-window, provider-select"):
        DEFAULT_LABELS.label_of("x")
    with pytest.raises(UsageError, match=r"label 3 is not in 0\.\.2"):
        DEFAULT_LABELS.name_of(3)
    with pytest.raises(UsageError, match="label -1"):
        DEFAULT_LABELS.name_of(-1)


def test_different_maps_refuse_each_other_showing_both_sides():
    mine, theirs = LabelMap(("a", "b")), LabelMap(("b", "a"))
    mine.require_same(LabelMap(("a", "b")), mine="router", theirs="data")
    with pytest.raises(MismatchError, match="router has a=0, b=1, data has b=0, a=1"):
        mine.require_same(theirs, mine="router", theirs="data")


def test_a_refused_name_is_shown_whole_up_to_seventy_characters():
    for name, shown in (("x" * 70, "x" * 70), ("x" * 71, "x" * 70 + "…")):
        with pytest.raises(UsageError, match=f"adapter name '{shown}' is not allowed"):
            AdapterLabel(name, 0)
