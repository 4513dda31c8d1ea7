from __future__ import annotations

from pathlib import Path

import pytest

from application.training.data_paths import DEFAULT_DATASET, evaluation_path, training_paths
from domain.errors import MissingFileError

ENV = {"TRAIN_DATA": "/env/t.jsonl", "VAL_DATA": "/env/v.jsonl"}


def everything(path: Path) -> bool:
    return True


@pytest.mark.parametrize(
    ("flags", "environment", "train", "val"),
    [
        ((Path("a"), Path("b"), Path("d")), ENV, "a", "b"),
        ((Path("a"), None, Path("d")), ENV, "a", "d/val.jsonl"),
        ((None, None, Path("d")), ENV, "d/train.jsonl", "d/val.jsonl"),
        ((None, None, None), ENV, "/env/t.jsonl", "/env/v.jsonl"),
        ((Path("a"), None, None), ENV, "a", "/env/v.jsonl"),
        ((None, None, None), {}, str(DEFAULT_DATASET / "train.jsonl"), str(DEFAULT_DATASET / "val.jsonl")),
    ],
)
def test_training_reads_flags_then_folder_then_environment_then_defaults(flags, environment, train, val):
    found = training_paths(*flags, environment, everything)
    assert (str(found.train), str(found.val)) == (train, val)


def test_evaluation_prefers_the_held_out_file_of_a_folder():
    assert evaluation_path(None, Path("d"), ENV, everything) == Path("d/eval.jsonl")
    assert evaluation_path(None, Path("d"), ENV, lambda path: path.name == "val.jsonl") == Path("d/val.jsonl")
    assert evaluation_path(Path("x"), Path("d"), ENV, everything) == Path("x")
    assert evaluation_path(None, None, ENV, everything) == Path("/env/v.jsonl")
    assert evaluation_path(None, None, {}, everything) == DEFAULT_DATASET / "eval.jsonl"


def test_what_is_missing_is_named_and_nothing_else_is_taken_instead():
    with pytest.raises(MissingFileError, match=r"d/eval\.jsonl or d/val\.jsonl.*--dataset-dir"):
        evaluation_path(None, Path("d"), ENV, lambda path: str(path).startswith("/env"))
    with pytest.raises(MissingFileError, match=r"^a: no such file"):
        training_paths(Path("a"), None, Path("d"), {}, lambda path: str(path).startswith("d/"))
