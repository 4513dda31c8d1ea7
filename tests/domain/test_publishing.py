"""Names and hashes of data sets on a volume."""

from __future__ import annotations

import pytest

from domain.errors import UsageError
from domain.publishing import dataset_name, manifest_hashes, remote_folder


def test_a_manifest_gives_hashes_in_both_forms_and_passes_over_anything_else():
    files = {
        "train.jsonl": {"sha256": "a", "rows": 3},
        "val.jsonl": "b",
        "x": {"rows": 1},
        "y": 7,
        "z": {"sha256": 7},
    }
    assert manifest_hashes({"files": files}) == {"train.jsonl": "a", "val.jsonl": "b"}


@pytest.mark.parametrize("metadata", [{}, {"files": None}, {"files": ["train.jsonl"]}])
def test_a_manifest_without_files_gives_no_hashes(metadata):
    assert manifest_hashes(metadata) == {}


@pytest.mark.parametrize("folder", ["datasets", "/datasets/", "./datasets", "datasets//."])
def test_a_remote_folder_is_relative_to_the_volume(folder):
    assert remote_folder(folder, "routing_1") == "datasets/routing_1"
    assert remote_folder("", "routing_1") == "routing_1"


@pytest.mark.parametrize("folder", ["..", "datasets/../..", "~", "a/-x", "a b", "datasets/.hidden"])
def test_a_remote_folder_that_could_leave_the_volume_is_refused(folder):
    with pytest.raises(UsageError, match="is not a plain relative path"):
        remote_folder(folder, "routing_1")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", ".hidden", "-x", "a b", "x" * 129, "a\n"])
def test_a_name_that_could_leave_the_folder_is_refused(name):
    with pytest.raises(UsageError, match="cannot be a data set's name"):
        dataset_name(name)


def test_names_may_have_letters_digits_and_some_marks():
    for name in ("routing_20251124_143022", "a", "A-b.c_d", "x" * 128):
        assert dataset_name(name) == name
