"""What every store of routing data sets promises."""

import hashlib
import json
from pathlib import Path

import pytest
from attrs import evolve

from adapters.datasets.jsonl_dataset_store import JsonlDatasetStore
from adapters.in_memory.datasets import InMemoryDatasetStore
from domain.chats import Message, ToolCall, as_chat
from domain.datasets import RoutingDataset
from domain.errors import DataRejectedError, MissingFileError, TargetExistsError
from domain.labels import LabelMap
from domain.references import ReferenceAnswer
from domain.samples import RoutingSample
from domain.split import Split

ROWS = tuple(RoutingSample(f"prompt {n} \u2028 ü", n % 2, "ab"[n % 2], f"id{n}") for n in range(6))


class OnDisk:
    def __init__(self, root: Path) -> None:
        self.root, self.store = root, JsonlDatasetStore()

    def put(self, path: Path, content: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def files(self, folder: Path) -> dict[str, bytes] | None:
        return {file.name: file.read_bytes() for file in folder.iterdir()} if folder.exists() else None

    def everything(self) -> set[str]:
        return {file.name for file in self.root.iterdir()}


class InMemory(OnDisk):
    def __init__(self, root: Path) -> None:
        self.root, self.store = root, InMemoryDatasetStore()

    def put(self, path: Path, content: bytes) -> None:
        self.store.folders.setdefault(path.parent, {})[path.name] = content

    def files(self, folder: Path) -> dict[str, bytes] | None:
        return self.store.folders.get(folder)

    def everything(self) -> set[str]:
        return {folder.name for folder in self.store.folders}


@pytest.fixture(params=[OnDisk, InMemory])
def place(request, tmp_path):
    return request.param(tmp_path)


def dataset(rows=ROWS, held_out=()):
    return RoutingDataset(
        labels=LabelMap("ab"),
        splits={Split.TRAIN: rows[:4], Split.VAL: rows[4:], Split.EVAL: tuple(held_out)},
        metadata={"dataset_name": "x", "adapters": {}, "samples": {}},
        card="# x\n",
    )


def save(place, name="out", content=None, **options):
    with place.store.reserve(place.root / name, **options) as reserved:
        files = reserved.commit(content or dataset())
    return reserved.path, files


def test_what_was_committed_is_read_back(place):
    path, _ = save(place, content=dataset(held_out=ROWS[:1]))
    assert place.store.read_rows(path / "train.jsonl") == list(ROWS[:4])
    assert place.store.read_rows(path / "val.jsonl") == list(ROWS[4:])
    assert place.store.read_rows(path / "data.jsonl") == list(ROWS)
    assert place.store.read_rows(path / "eval.jsonl") == list(ROWS[:1])


def test_the_manifest_holds_the_hash_of_every_other_file(place):
    path, reported = save(place)
    files = place.files(path)
    manifest = json.loads(files.pop("metadata.json"))
    assert manifest["dataset_name"] == "x"
    assert {name: hashlib.sha256(content).hexdigest() for name, content in files.items()} == {
        name: entry["sha256"] for name, entry in manifest["files"].items()
    }
    assert manifest["files"]["train.jsonl"]["rows"] == 4
    assert reported[-1].name == "metadata.json"
    assert {one.name: one.sha256 for one in reported[:-1]} == {n: e["sha256"] for n, e in manifest["files"].items()}


def test_without_held_out_rows_there_is_no_eval_file(place):
    path, _ = save(place)
    assert "eval.jsonl" not in place.files(path)


def test_without_a_commit_nothing_is_left(place):
    with pytest.raises(KeyError), place.store.reserve(place.root / "out"):
        raise KeyError
    with place.store.reserve(place.root / "out"):
        pass
    assert place.everything() == set()


def test_a_taken_name_is_refused_and_kept(place):
    path, _ = save(place)
    before = place.files(path)
    with pytest.raises(TargetExistsError, match="out") as caught:
        save(place, content=dataset(ROWS[1:]))
    assert caught.value.replaceable
    assert place.files(path) == before
    assert place.everything() == {"out"}


def test_replacing_swaps_the_whole_data_set(place):
    save(place, content=dataset(held_out=ROWS[:1]))
    path, _ = save(place, content=dataset(ROWS[1:]), replace=True)
    assert place.store.read_rows(path / "train.jsonl") == list(ROWS[1:5])
    assert "eval.jsonl" not in place.files(path)
    assert place.everything() == {"out"}


def test_what_is_no_data_set_is_not_replaced(place):
    place.put(place.root / "out" / "letter.txt", b"dear")
    with pytest.raises(TargetExistsError, match=r"not part of a routing data set: letter\.txt"):
        save(place, replace=True)
    with pytest.raises(TargetExistsError, match="already exists") as caught:
        save(place)
    assert not caught.value.replaceable
    assert place.files(place.root / "out") == {"letter.txt": b"dear"}


def test_two_runs_at_once_get_two_names_or_one_is_refused(place):
    with place.store.reserve(place.root / "out", unique=True) as first:
        with pytest.raises(TargetExistsError), place.store.reserve(place.root / "out"):
            pass
        with place.store.reserve(place.root / "out", unique=True) as second:
            second.commit(dataset())
        first.commit(dataset())
    third, _ = save(place, unique=True)
    assert [first.path.name, second.path.name, third.name] == ["out", "out_2", "out_3"]
    assert place.everything() == {"out", "out_2", "out_3"}


GOOD = b'{"text": "a", "label": 0, "adapter": "x", "source_id": "1"}'


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b'{"text": "a"', "unexpected"),
        (b"[]", "list, not an object"),
        (b'{"text": "a", "label": 0, "adapter": "x"}', "no 'source_id'"),
        (b'{"text": "a", "label": true, "adapter": "x", "source_id": "1"}', "'label' is a bool"),
        (b'{"text": "a", "label": "0", "adapter": "x", "source_id": "1"}', "'label' is a str"),
        (b'{"text": " ", "label": 0, "adapter": "x", "source_id": "1"}', "empty"),
        (b'{"text": "a", "label": -1, "adapter": "y", "source_id": "1"}', "negative"),
        (b'{"text": "a", "label": 1, "adapter": "x", "source_id": "1"}', "has label 1 here and 0 before"),
        (b'{"text": "a", "label": 0, "adapter": "y", "source_id": "1"}', "label 0 is 'y' here and 'x' before"),
        (b'{"text": "a", "label": 1, "adapter": "a/b", "source_id": "1"}', "'a/b' is not allowed"),
        (b'{"text": "\xff", "label": 0, "adapter": "x", "source_id": "1"}', "utf-8|UTF-8"),
    ],
)
def test_a_bad_row_is_named_with_file_and_line(place, line, complaint):
    place.put(place.root / "d" / "train.jsonl", GOOD + b"\n\n" + line + b"\n")
    with pytest.raises(DataRejectedError, match=rf"train\.jsonl: line 3: .*({complaint})"):
        place.store.read_rows(place.root / "d" / "train.jsonl")


def test_byte_order_mark_crlf_blank_lines_and_a_missing_last_line_end_are_read(place):
    place.put(place.root / "d" / "train.jsonl", b"\xef\xbb\xbf" + GOOD + b"\r\n\r\n" + GOOD)
    assert len(place.store.read_rows(place.root / "d" / "train.jsonl")) == 2


def test_missing_and_empty_files_are_refused(place):
    with pytest.raises(MissingFileError, match="none"):
        place.store.read_rows(place.root / "none.jsonl")
    place.put(place.root / "d" / "val.jsonl", b"\n")
    with pytest.raises(DataRejectedError, match="no rows"):
        place.store.read_rows(place.root / "d" / "val.jsonl")


def test_files_are_listed_by_name_with_size_and_hash(place):
    path, reported = save(place)
    listed = place.store.list_files(path)
    assert [file.name for file in listed] == sorted(file.name for file in reported)
    assert {file.name: (file.size, file.sha256) for file in listed} == {
        file.name: (file.size, file.sha256) for file in reported
    }
    place.put(path / "extra.txt", b"abc")
    extra = next(file for file in place.store.list_files(path) if file.name == "extra.txt")
    assert (extra.size, extra.sha256, extra.rows) == (3, hashlib.sha256(b"abc").hexdigest(), None)


def test_metadata_is_read_back(place):
    path, _ = save(place)
    assert place.store.read_metadata(path)["dataset_name"] == "x"


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'"x"', b"\xff"])
def test_metadata_that_is_no_object_is_refused(place, content):
    place.put(place.root / "d" / "metadata.json", content)
    with pytest.raises(DataRejectedError, match=r"metadata\.json"):
        place.store.read_metadata(place.root / "d")


def test_a_missing_folder_or_manifest_is_the_users_error(place):
    for ask in (place.store.list_files, place.store.read_metadata):
        with pytest.raises(MissingFileError, match="nowhere"):
            ask(place.root / "nowhere")
    place.put(place.root / "d" / "train.jsonl", GOOD)
    with pytest.raises(MissingFileError, match=r"metadata\.json"):
        place.store.read_metadata(place.root / "d")


def test_reference_answers_are_read_back(place):
    answers = (
        ReferenceAnswer("a", "id0", ROWS[0].text, as_chat("prompt\u2028"), Message("assistant", "Done. ü\n")),
        ReferenceAnswer(
            "a", "id2", ROWS[2].text, as_chat("x"), Message("assistant", "", (ToolCall("open", '{"day": 3}', "c1"),))
        ),
    )
    path, _ = save(place, content=evolve(dataset(held_out=ROWS), answers=answers))
    assert place.store.read_answers(path) == list(answers)
    none, _ = save(place, name="none")
    with pytest.raises(MissingFileError, match="no reference answers"):
        place.store.read_answers(none)
