"""Verification must find every kind of damage, and find nothing in what generate made."""

import json
from pathlib import Path

import pytest

from application.datasets.verify_dataset import VerifyDataset
from domain.errors import MissingFileError
from tests.dataset_world import NAMES, generate, rows_of

OUT = Path("out")


@pytest.fixture
def store():
    return generate({name: rows_of(name, 30) for name in NAMES})[1]


def failed(store):
    report = VerifyDataset(store)(OUT)
    found = {check.name: check.detail for check in report.checks if check.outcome == "failed"}
    assert report.passed is (not found)
    return found


def edit_rows(store, name, change):
    rows = [json.loads(line) for line in store.folders[OUT][name].splitlines()]
    change(rows)
    store.folders[OUT][name] = b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def edit_metadata(store, change):
    metadata = json.loads(store.folders[OUT]["metadata.json"])
    change(metadata)
    store.folders[OUT]["metadata.json"] = json.dumps(metadata).encode()


@pytest.mark.parametrize("options", [{}, {"train_samples": 1, "eval_samples": 1}, {"eval_samples": 0}])
def test_what_generate_makes_passes(options):
    _, store = generate({name: rows_of(name, 30) for name in NAMES}, **options)
    assert failed(store) == {}


def test_a_missing_folder_is_the_users_error(store):
    with pytest.raises(MissingFileError, match="nowhere"):
        VerifyDataset(store)(Path("nowhere"))


@pytest.mark.parametrize("name", ["train.jsonl", "val.jsonl", "data.jsonl", "eval.jsonl"])
def test_a_missing_file(store, name):
    del store.folders[OUT][name]
    assert f"no {name}" in failed(store)["files are there"]


def test_a_published_copy_lacks_what_publishing_leaves_out_and_passes(store):
    for name in ("data.jsonl", "README.md"):
        del store.folders[OUT][name]
    assert failed(store) == {}
    checks = {check.name: check for check in VerifyDataset(store)(OUT).checks}
    assert "as published: without data.jsonl" in checks["files are there"].detail
    assert checks["data.jsonl is train and val"].outcome == "skipped"
    del store.folders[OUT]["val.jsonl"]
    assert failed(store)["files are there"] == "no val.jsonl"


def test_a_missing_manifest(store):
    del store.folders[OUT]["metadata.json"]
    assert "no metadata.json" in failed(store)["files are there"]


@pytest.mark.parametrize("content", [b"{", b"[]"])
def test_a_broken_manifest(store, content):
    store.folders[OUT]["metadata.json"] = content
    assert "metadata is complete" in failed(store)


def test_a_flipped_byte_anywhere(store):
    for name, content in list(store.folders[OUT].items()):
        if name == "metadata.json":
            continue
        store.folders[OUT][name] = bytes([content[0] ^ 1]) + content[1:]
        assert name in failed(store)["contents match the manifest"]
        store.folders[OUT][name] = content


def test_a_file_that_nobody_listed(store):
    store.folders[OUT]["more.jsonl"] = b"{}\n"
    assert "more.jsonl is not in the manifest" in failed(store)["contents match the manifest"]


def test_a_manifest_without_hashes_fails_but_an_old_data_set_is_only_not_checked(store):
    edit_metadata(store, lambda metadata: metadata.pop("files"))
    assert "contents match the manifest" in failed(store)
    edit_metadata(store, lambda metadata: metadata.pop("schema_version"))
    assert failed(store) == {}


@pytest.mark.parametrize("key", ["dataset_name", "seed", "adapters", "samples", "label_distribution_train"])
def test_a_missing_key(store, key):
    edit_metadata(store, lambda metadata: metadata.pop(key))
    assert f"no '{key}'" in failed(store)["metadata is complete"]


def test_a_newer_layout(store):
    edit_metadata(store, lambda metadata: metadata.update(schema_version=99))
    assert "99 is newer" in failed(store)["metadata is complete"]


def test_a_broken_row(store):
    edit_rows(store, "train.jsonl", lambda rows: rows[3].pop("text"))
    assert failed(store)["every row is whole"] == "train.jsonl: line 4: no 'text'"


def test_a_left_over_placeholder(store):
    edit_rows(store, "val.jsonl", lambda rows: rows[0].update(text="see <image> there"))
    assert "placeholder" in failed(store)["every row is whole"]


def test_counts_that_are_not_the_recorded_ones(store):
    edit_rows(store, "train.jsonl", lambda rows: rows.pop())
    found = failed(store)
    assert "23 rows in train, recorded are 24" in found["counts"]
    assert "of it are in neither" in found["data.jsonl is train and val"]
    assert "train has" in found["label distribution"]


def test_a_share_that_is_not_the_recorded_one(store):
    edit_metadata(store, lambda metadata: metadata.update(train_val_split=0.5))
    assert "24 of 30 rows are for training, the split is 0.5" in failed(store)["counts"]


def test_data_that_is_not_train_and_val(store):
    edit_rows(store, "data.jsonl", lambda rows: rows[0].update(text="something else"))
    assert "1 rows of train and val are missing" in failed(store)["data.jsonl is train and val"]


def test_swapped_labels(store):
    edit_metadata(store, lambda metadata: metadata["adapters"]["calendar"].update(label=1))
    assert "not contiguous" in failed(store)["labels against names"]
    edit_metadata(store, lambda metadata: metadata["adapters"]["claim-window"].update(label=0))
    assert "adapter 'calendar' with label 0" in failed(store)["labels against names"]


def test_an_adapter_without_rows(store):
    edit_metadata(store, lambda metadata: metadata["adapters"].update(extra={"label": 3}))
    assert "'extra' has no training" in failed(store)["labels against names"]


def test_an_unbalanced_split(store):
    def thin_out(rows):
        rows[:] = [row for row in rows if row["label"]] + [row for row in rows if not row["label"]][:4]

    edit_rows(store, "train.jsonl", thin_out)
    assert "4/8/8" in failed(store)["balance"]


def test_a_text_twice_in_one_split(store):
    def repeat(rows):
        same = [row for row in rows if row["label"] == 0]
        same[0]["text"] = " " + same[1]["text"].upper()

    edit_rows(store, "train.jsonl", repeat)
    assert "2 times" in failed(store)["no repeated text"]


def test_a_text_in_two_splits(store):
    text = json.loads(store.folders[OUT]["eval.jsonl"].splitlines()[0])["text"]
    edit_rows(store, "val.jsonl", lambda rows: rows[0].update(text=text.replace(" ", "\u3000")))
    assert "in val and eval" in failed(store)["no text in two splits"]


def test_a_text_under_two_adapters(store):
    def share(rows):
        next(row for row in rows if row["label"] == 0)["text"] = "Same"
        next(row for row in rows if row["label"] == 1)["text"] = "same "

    edit_rows(store, "train.jsonl", share)
    assert "'same' under calendar and claim-window" in failed(store)["no text under two adapters"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(accounting={}), "calendar: no 'calendar'; claim-window: no"),
        (lambda m: m.pop("accounting"), "calendar: no 'calendar'"),
        (lambda m: m.update(accounting=[1]), "calendar: no 'calendar'"),
        (
            lambda m: m["accounting"]["calendar"].update(kept=9, drawn=9, not_drawn=21),
            "15 rows, recorded as kept are 9",
        ),
        (lambda m: m["accounting"]["calendar"].update(duplicates=2), "-2 unaccounted for"),
        (lambda m: m["accounting"]["calendar"].update(lines=7, not_drawn=-8), "7 lines, 15 drawn"),
        (lambda m: m["accounting"]["calendar"].update(not_drawn=0), "0 lines not drawn, of 30 15 were"),
        (lambda m: m["accounting"]["calendar"].update(kept="20"), "'20' is not a number of lines"),
        (lambda m: m["accounting"]["calendar"].update(rejected={"mood": 1}), "mood"),
        (lambda m: m["accounting"].update(calendar=None), "calendar: 'NoneType'"),
    ],
)
def test_accounting_that_does_not_add_up(store, change, message):
    edit_metadata(store, change)
    assert message in failed(store)["accounting"]


def test_a_data_set_of_the_original_scripts_has_no_accounting(store):
    def strip(metadata):
        for key in ("accounting", "schema_version"):
            metadata.pop(key)

    edit_metadata(store, strip)
    assert "accounting" not in failed(store)
