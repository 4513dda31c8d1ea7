"""A data set that gains or loses an adapter keeps its promises and every other row."""

from collections import Counter
from pathlib import Path

import pytest

from adapters.in_memory.datasets import InMemorySourceReader
from adapters.in_memory.runtime import FixedClock
from application.datasets.grow_dataset import AddToDataset, RemoveFromDataset
from application.datasets.verify_dataset import VerifyDataset
from application.ports.datasets import Source
from domain.errors import DataRejectedError, TargetExistsError, UsageError
from domain.split import Split
from tests.dataset_world import NAMES, generate, path_of, row, rows_of

OLD, NEW = Path("out"), Path("grown")


def made(extra_rows, **options):
    """Return the store with a data set in it, and the use case that adds "billing" out of `extra_rows`."""
    rows = {name: rows_of(name, 40) for name in NAMES}
    _, store = generate(rows, train_samples=20, eval_samples=5, **options)
    sources = InMemorySourceReader({path_of("billing"): extra_rows})
    return store, AddToDataset(sources, store, FixedClock())


def add(store, use_case, output=NEW):
    return use_case(OLD, Source("billing", path_of("billing")), output_dir=output, tool_version="1")


def rows_by_split(store, folder):
    return {split: store.read_rows(folder / f"{split}.jsonl") for split in Split}


def test_the_new_adapter_gets_the_next_label_and_as_many_rows_as_the_others():
    store, use_case = made(rows_of("billing", 60))
    report = add(store, use_case)
    assert report.labels.names == (*NAMES, "billing")
    assert report.changed == {Split.TRAIN: 16, Split.VAL: 4, Split.EVAL: 5}
    for split, rows in rows_by_split(store, NEW).items():
        assert Counter(one.adapter for one in rows) == dict.fromkeys((*NAMES, "billing"), report.changed[split])
        assert {one.label for one in rows if one.adapter == "billing"} == {len(NAMES)}


def test_the_old_rows_stay_in_their_splits_with_their_labels():
    store, use_case = made(rows_of("billing", 60))
    add(store, use_case)
    before, after = rows_by_split(store, OLD), rows_by_split(store, NEW)
    for split in Split:
        assert set(before[split]) == {one for one in after[split] if one.adapter != "billing"}


def test_the_grown_data_set_passes_verification_and_says_where_it_comes_from():
    store, use_case = made(rows_of("billing", 60))
    add(store, use_case)
    report = VerifyDataset(store)(NEW)
    assert report.passed, report.checks
    metadata = store.read_metadata(NEW)
    assert metadata["grown_from"] == str(OLD)
    assert metadata["adapters"]["billing"] == {"label": 3, "source_dataset": str(path_of("billing"))}
    assert metadata["accounting"]["billing"]["kept"] == 25


def test_texts_that_another_adapter_owns_are_not_taken():
    store, _ = made([])
    owned = [one.text for one in store.read_rows(OLD / "train.jsonl")][:10]
    sources = InMemorySourceReader({path_of("billing"): [row(text) for text in owned] + rows_of("billing", 25)})
    report = add(store, AddToDataset(sources, store, FixedClock()))
    assert report.account.conflicts == report.account.drawn - 25 > 0
    assert VerifyDataset(store)(NEW).passed


def test_too_few_rows_for_the_new_adapter_leave_nothing_behind():
    store, use_case = made(rows_of("billing", 24))
    with pytest.raises(DataRejectedError, match="'billing': 25 rows asked, 24 usable") as caught:
        add(store, use_case)
    assert NEW not in store.folders
    assert "as many as each of the others" in str(caught.value)
    assert "allow-fewer" not in str(caught.value)  # the command has no such option


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("data/claims_v2_20251124_120000", "data/claims_v2_20251124_123456"),
        ("data/claims_20251124_120000_2", "data/claims_20251124_123456"),
        ("claims", "claims_20251124_123456"),
        ("routing_20251124_123456", "routing_20251124_123456_2"),
        ("..", "routing_20251124_123456"),
    ],
)
def test_the_default_folder_is_called_as_the_old_one_with_a_new_time(old, new):
    store, use_case = made(rows_of("billing", 60))
    store.folders[Path(old)] = store.folders[OLD]
    grown = use_case(Path(old), Source("billing", path_of("billing")), output_dir=None, tool_version="1")
    assert grown.path == Path(new)
    smaller = RemoveFromDataset(store, FixedClock())(grown.path, "billing", output_dir=None, tool_version="1")
    assert smaller.path.name.startswith(f"{Path(new).name[:6]}")


def test_an_adapter_cannot_be_added_twice_nor_into_a_folder_that_is_taken():
    store, use_case = made(rows_of("billing", 60))
    with pytest.raises(TargetExistsError):
        add(store, use_case, output=OLD)
    add(store, use_case)
    with pytest.raises(UsageError, match="already in the data set"):
        use_case(NEW, Source("billing", path_of("billing")), output_dir=Path("again"), tool_version="1")


@pytest.mark.parametrize("output", [NEW, None])
def test_a_data_set_that_a_killed_run_made_is_used(output):
    store, use_case = made(rows_of("billing", 60))
    first = add(store, use_case, output)
    folders = set(store.folders)
    again = add(store, use_case, output)
    assert (first.reused, again.reused, again.path) == (False, True, first.path)
    assert set(store.folders) == folders
    store.folders[first.path]["val.jsonl"] = store.folders[first.path]["eval.jsonl"]
    if output:
        with pytest.raises(TargetExistsError):
            add(store, use_case, output)
    else:
        assert not add(store, use_case, output).reused


def test_removing_what_was_added_gives_the_old_rows_back():
    store, use_case = made(rows_of("billing", 60))
    add(store, use_case)
    report = RemoveFromDataset(store, FixedClock())(NEW, "billing", output_dir=Path("back"), tool_version="1")
    assert report.labels.names == NAMES
    for split in Split:
        assert set(rows_by_split(store, Path("back"))[split]) == set(rows_by_split(store, OLD)[split])
    assert VerifyDataset(store)(Path("back")).passed


def test_labels_above_a_removed_adapter_move_down():
    store, _ = made([])
    report = RemoveFromDataset(store, FixedClock())(OLD, NAMES[0], output_dir=NEW, tool_version="1")
    assert report.labels.names == NAMES[1:]
    assert {(one.adapter, one.label) for one in store.read_rows(NEW / "train.jsonl")} == {
        (NAMES[1], 0),
        (NAMES[2], 1),
    }
    assert VerifyDataset(store)(NEW).passed


def test_removing_an_unknown_adapter_or_down_to_one_is_refused():
    store, _ = made([])
    remove = RemoveFromDataset(store, FixedClock())
    with pytest.raises(UsageError, match="unknown adapter 'x'"):
        remove(OLD, "x", output_dir=NEW, tool_version="1")
    remove(OLD, NAMES[0], output_dir=NEW, tool_version="1")
    with pytest.raises(UsageError, match="fewer than two"):
        remove(NEW, NAMES[1], output_dir=Path("one"), tool_version="1")


def test_a_data_set_that_does_not_say_how_it_was_made_is_refused():
    store, use_case = made(rows_of("billing", 60))
    store.folders[OLD]["metadata.json"] = b'{"adapters": {"a": {"label": 0}}}'
    with pytest.raises(DataRejectedError, match="metadata lacks"):
        add(store, use_case)


def test_a_data_set_of_the_same_rows_is_not_taken_for_another_one():
    store, use_case = made(rows_of("billing", 60))
    first = add(store, use_case, None)
    elsewhere = Path("elsewhere/grown")  # named by the user: the one beside the old data set does not count
    assert not add(store, use_case, elsewhere).reused
    metadata = store.folders[first.path]["metadata.json"]
    store.folders[first.path]["metadata.json"] = metadata.replace(b"billing.jsonl", b"other.jsonl")
    assert store.folders[first.path]["metadata.json"] != metadata
    assert not add(store, use_case, None).reused  # the same rows of another source
