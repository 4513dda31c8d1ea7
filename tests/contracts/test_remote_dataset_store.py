"""What every remote store promises, in memory and on Modal volumes of both versions."""

import os

import pytest

from adapters.in_memory.publishing import InMemoryRemoteDatasetStore
from application.ports.publishing import RemoteFile
from domain.errors import RemoteError


@pytest.fixture(params=["in-memory", "modal-v1", "modal-v2"])
def store(request):
    if request.param == "in-memory":
        return InMemoryRemoteDatasetStore()
    fake = request.getfixturevalue("modal_fake")
    fake.volumes.create("contract", version=int(request.param[-1]))
    from adapters.modal_cloud.modal_connection import ModalConnection
    from adapters.modal_cloud.modal_volume_dataset_store import ModalVolumeDatasetStore

    return ModalVolumeDatasetStore("contract", ModalConnection(attempts=1))


def content(store, path):
    return b"".join(store.read(path))


def test_an_empty_volume_has_no_files(store):
    assert store.list_files("") == []
    assert store.list_files("datasets/none") == []


def test_reads_back_what_was_uploaded_from_files_and_from_bytes(store, tmp_path):
    (tmp_path / "local").write_bytes(b"from a file\n")
    store.upload({"d/one": b"", "d/two": b"\x00\xff", "d/deep/three": tmp_path / "local"})
    assert store.list_files("d") == [RemoteFile("d/deep/three", 12), RemoteFile("d/one", 0), RemoteFile("d/two", 2)]
    assert [content(store, f"d/{name}") for name in ("one", "two", "deep/three")] == [
        b"",
        b"\x00\xff",
        b"from a file\n",
    ]


def test_large_content_comes_back_whole(store):
    data = os.urandom(9 << 20)
    store.upload({"big": data})
    assert content(store, "big") == data


def test_lists_a_single_file_and_not_its_namesakes(store):
    store.upload({"a/b": b"1", "a/bc": b"2", "ab/c": b"3"})
    assert store.list_files("a/b") == [RemoteFile("a/b", 1)]
    assert [file.path for file in store.list_files("a")] == ["a/b", "a/bc"]


def test_an_upload_replaces_what_is_there_and_keeps_the_rest(store):
    store.upload({"d/one": b"old", "d/two": b"kept"})
    store.upload({"d/one": b"new"})
    assert (content(store, "d/one"), content(store, "d/two")) == (b"new", b"kept")


def test_an_upload_that_cannot_read_a_file_changes_nothing(store, tmp_path):
    with pytest.raises((RemoteError, OSError)):
        store.upload({"d/one": b"1", "d/two": tmp_path / "missing"})
    assert store.list_files("") == []


def test_removes_files_and_forgives_absent_ones(store):
    store.upload({"d/one": b"1", "d/two": b"2"})
    store.remove(["d/one", "d/never"])
    assert [file.path for file in store.list_files("d")] == ["d/two"]


def test_reading_an_absent_file_says_which(store):
    with pytest.raises(RemoteError, match="d/none"):
        content(store, "d/none")
