"""What every implementation of the local folders promises."""

import hashlib
from pathlib import Path

import pytest

from adapters.datasets.local_dataset_folders import LocalDatasetFolders
from adapters.in_memory.publishing import InMemoryDatasetFolders
from domain.errors import MissingFileError, TargetExistsError
from tests.publishing_world import dataset_files, write_dataset


class World:
    def __init__(self, kind: str, root: Path) -> None:
        self.kind, self.root = kind, root
        self.folders = InMemoryDatasetFolders() if kind == "in-memory" else LocalDatasetFolders()

    def dataset(self, files: dict[str, bytes]) -> Path:
        folder = self.root / "dataset"
        if isinstance(self.folders, InMemoryDatasetFolders):
            self.folders.datasets[folder] = files
            return folder
        return write_dataset(folder, files)

    def arrived(self, target: Path) -> dict[str, bytes] | None:
        if isinstance(self.folders, InMemoryDatasetFolders):
            return self.folders.received.get(target)
        if not target.exists():
            return None
        files = target.rglob("*") if target.is_dir() else [target]
        return {"" if f == target else str(f.relative_to(target)): f.read_bytes() for f in files if f.is_file()}


@pytest.fixture(params=["in-memory", "local"])
def world(request, tmp_path):
    return World(request.param, tmp_path)


@pytest.mark.parametrize("with_eval", [True, False])
def test_publishes_everything_but_the_combined_rows(world, with_eval):
    files = dataset_files(with_eval=with_eval)
    found = world.folders.publishable(world.dataset(files))
    names = ["train.jsonl", "val.jsonl", *(["eval.jsonl"] if with_eval else []), "metadata.json"]
    assert [file.name for file in found] == names
    for file in found:
        assert file.size == len(files[file.name])
        assert file.sha256 == hashlib.sha256(files[file.name]).hexdigest()
        assert (file.source if isinstance(file.source, bytes) else file.source.read_bytes()) == files[file.name]


def test_a_folder_without_a_required_file_is_refused_by_name(world):
    files = dataset_files()
    del files["val.jsonl"]
    with pytest.raises(MissingFileError, match=r"val\.jsonl"):
        world.folders.publishable(world.dataset(files))


def test_an_absent_folder_is_refused(world):
    with pytest.raises(MissingFileError):
        world.folders.publishable(world.root / "none")


def put(world, target, files, *, replace=False):
    with world.folders.staged_folder(target, replace=replace) as staged:
        for name, content in files.items():
            (staged / name).write_bytes(content)
        assert staged != target


def test_a_folder_appears_at_the_end(world):
    target = world.root / "deep" / "target"
    with world.folders.staged_folder(target, replace=False) as staged:
        (staged / "one").write_bytes(b"1")
        assert world.arrived(target) is None
    assert world.arrived(target) == {"one": b"1"}


def test_a_single_file_appears_at_the_end(world):
    target = world.root / "file"
    for content in (b"1", b"2"):
        with world.folders.staged_file(target, replace=content == b"2") as staged:
            staged.write_bytes(content)
            assert (world.arrived(target) is None) == (content == b"1")
    assert world.arrived(target) == {"": b"2"}


def break_off(staged, name):
    with staged as path:
        (path / name if name else path).write_bytes(b"new")
        raise KeyError


def test_an_error_leaves_the_target_as_it_was(world):
    files = dataset_files()
    put(world, world.root / "target", files)
    with pytest.raises(KeyError):
        break_off(world.folders.staged_folder(world.root / "target", replace=True), "one")
    with pytest.raises(KeyError):
        break_off(world.folders.staged_file(world.root / "file", replace=True), "")
    assert world.arrived(world.root / "target") == files
    assert world.arrived(world.root / "file") is None
    assert [each.name for each in world.root.iterdir()] in ([], ["target"])


def test_a_data_set_that_is_there_is_replaced_only_when_asked(world):
    target, newer = world.root / "target", {**dataset_files(), "val.jsonl": b"newer"}
    put(world, target, dataset_files())
    with pytest.raises(TargetExistsError):
        put(world, target, newer)
    put(world, target, newer, replace=True)
    assert world.arrived(target) == newer


def test_what_is_not_a_data_set_is_not_replaced(world):
    put(world, world.root / "folder", {"letter.txt": b"dear"})
    with world.folders.staged_file(world.root / "file", replace=False) as staged:
        staged.write_bytes(b"1")
    for target in (world.root / "folder", world.root / "file"):
        with pytest.raises(TargetExistsError):
            put(world, target, dataset_files(), replace=True)
    with pytest.raises(TargetExistsError), world.folders.staged_file(world.root / "folder", replace=True):
        pytest.fail("opened")
    assert world.arrived(world.root / "folder") == {"letter.txt": b"dear"}
    assert world.arrived(world.root / "file") == {"": b"1"}
