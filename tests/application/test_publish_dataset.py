"""Publishing and downloading against the in-memory store, with a failure at every operation."""

from pathlib import Path

import pytest

from adapters.in_memory.publishing import InMemoryDatasetFolders, InMemoryRemoteDatasetStore
from adapters.in_memory.runtime import RecordingProgressReporter
from application.publishing.download import DownloadDataset, DownloadRequest
from application.publishing.list_datasets import ListDatasets
from application.publishing.publish_dataset import PlanPublication, PublishDataset, PublishRequest, Transfer
from domain.errors import DataRejectedError, RemoteError, TargetExistsError, UsageError
from tests.publishing_world import dataset_files, published

HOME = Path("/local/routing_1")
FOLDER = "datasets/routing_1"
LATEST = "datasets/routing_latest"


def publish(store, files, *, name=HOME, **options):
    folders = InMemoryDatasetFolders({name: files})
    plan = PlanPublication(folders)(PublishRequest(name, **options))
    return PublishDataset(store, RecordingProgressReporter())(plan)


def at(files, folder):
    return {f"{folder}/{name}": content for name, content in published(files).items()}


def test_uploads_all_but_the_combined_rows_and_says_so():
    store, files = InMemoryRemoteDatasetStore(), dataset_files()
    report = publish(store, files)
    assert store.files == at(files, FOLDER)
    assert set(report.files.values()) == {Transfer.UPLOADED}
    assert report.uploaded == 4
    assert report.latest is None


def test_a_rerun_uploads_nothing_and_a_partial_one_what_is_missing():
    files = dataset_files()
    store = InMemoryRemoteDatasetStore(files=at(files, FOLDER))
    assert publish(store, files).uploaded == 0
    assert store.history == []
    del store.files[f"{FOLDER}/val.jsonl"]
    report = publish(store, files)
    assert [name for name, kind in report.files.items() if kind is Transfer.UPLOADED] == ["val.jsonl"]
    assert store.files == at(files, FOLDER)


@pytest.mark.parametrize("old", [dataset_files("b"), {**dataset_files(), "train.jsonl": b"x" * 10}])
def test_other_content_under_the_name_is_refused_and_force_replaces_it(old):
    store, new = InMemoryRemoteDatasetStore(files=at(old, FOLDER)), dataset_files(with_eval=False)
    with pytest.raises(TargetExistsError, match="force its replacement"):
        publish(store, new)
    assert store.history == []
    report = publish(store, new, force=True)
    assert store.files == at(new, FOLDER)
    assert report.files["eval.jsonl"] is Transfer.REMOVED


def test_same_size_but_other_bytes_count_as_other_content():
    files = dataset_files()
    other = {**files, "val.jsonl": files["val.jsonl"].replace(b"claim", b"CLAIM")}
    with pytest.raises(TargetExistsError, match=r"val\.jsonl"):
        publish(InMemoryRemoteDatasetStore(files=at(other, FOLDER)), files)


def consistent(state, folder, allowed):
    """Whether a folder holds one whole data set; an emptied file counts as none."""
    here = {p.removeprefix(folder + "/"): c for p, c in state.items() if p.startswith(folder + "/") and c}
    return here in allowed


@pytest.mark.parametrize("with_eval", [True, False])
@pytest.mark.parametrize("fails_for", [1, None])
def test_failing_at_any_operation_shows_old_or_new_and_a_rerun_completes(with_eval, fails_for):
    old, new = dataset_files("old"), dataset_files("new", with_eval=with_eval)
    seen_failures = 0
    for fails_at in range(1, 100):
        store = InMemoryRemoteDatasetStore(files=at(old, LATEST))
        store.fails_at, store.fails_for = fails_at, fails_for
        try:
            publish(store, new, latest=True)
            break
        except RemoteError:
            seen_failures += 1
        for state in store.history:
            assert consistent(state, LATEST, [published(old), published(new)])
            assert consistent(state, FOLDER, [{}, published(new)])
        store.fails_at = None
        publish(store, new, latest=True)
        assert store.files == at(new, FOLDER) | at(new, LATEST)
    assert seen_failures > 10


def test_latest_is_replaced_in_one_step_and_only_after_the_data_set_is_verified():
    old, new = dataset_files("old"), dataset_files("new", with_eval=False)
    store = InMemoryRemoteDatasetStore(files=at(old, LATEST))
    report = publish(store, new, latest=True)
    assert report.latest is not None
    assert report.latest["eval.jsonl"] is Transfer.REMOVED
    assert store.history[0] == at(old, LATEST) | at(new, FOLDER)
    assert store.history[1][f"{LATEST}/eval.jsonl"] == b""  # never the old rows beside new ones
    assert store.files == at(new, FOLDER) | at(new, LATEST)


class Damaging(InMemoryRemoteDatasetStore):
    def upload(self, files):
        super().upload({path: b"?" if path.endswith("val.jsonl") else data for path, data in files.items()})


def test_damage_on_the_way_is_noticed_and_undone_so_that_a_rerun_goes_on():
    store, files = Damaging(), dataset_files()
    with pytest.raises(RemoteError, match=r"val\.jsonl did not arrive as sent.*run it again"):
        publish(store, files)
    healthy = InMemoryRemoteDatasetStore(files=store.files)
    assert publish(healthy, files).files["val.jsonl"] is Transfer.UPLOADED
    assert healthy.files == at(files, FOLDER)


@pytest.mark.parametrize("remote_dir", ["../x", "a/../b", "a b", "a\nb", ".hidden"])
def test_unsafe_remote_folders_are_refused(remote_dir):
    store = InMemoryRemoteDatasetStore()
    with pytest.raises(UsageError):
        publish(store, dataset_files(), remote_dir=remote_dir)
    assert store.operations == 0


@pytest.mark.parametrize("remote_dir", ["", "/", "./"])
def test_the_volume_root_is_a_remote_folder_too(remote_dir):
    store, files = InMemoryRemoteDatasetStore(), dataset_files()
    publish(store, files, remote_dir=remote_dir)
    assert store.files == at(files, "routing_1")


def test_lists_what_was_published_and_which_is_the_latest():
    store = InMemoryRemoteDatasetStore()
    publish(store, dataset_files("a"), name=Path("/x/first"))
    publish(store, dataset_files("b", with_eval=False), name=Path("/x/second"), latest=True)
    store.upload({"datasets/stray": b"", "datasets/broken/metadata.json": b"{", "other/x": b""})
    found = {each.name: each for each in ListDatasets(store)()}
    assert list(found) == ["broken", "first", "second"]
    assert [each.latest for each in found.values()] == [False, False, True]
    assert [each.complete for each in found.values()] == [False, True, True]
    assert found["first"].samples == {"train": 12, "val": 6, "eval": 6, "total": 24}
    assert found["first"].adapters == ("calendar", "claim-window", "provider-select")


def download(store, name="routing_1", **options):
    folders = InMemoryDatasetFolders()
    request = DownloadRequest(name, Path("/here"), **options)
    report = DownloadDataset(folders, store, RecordingProgressReporter())(request)
    return report, folders.received[Path("/here")]


def test_a_downloaded_data_set_is_whole_again():
    files = dataset_files()
    report, received = download(InMemoryRemoteDatasetStore(files=at(files, FOLDER)))
    assert received == files
    assert "hashes" in report.verified
    assert set(report.files) == set(files)


class CutShort(InMemoryRemoteDatasetStore):
    def read(self, path):
        yield from (block[:-1] if path.endswith("val.jsonl") else block for block in super().read(path))


def test_a_file_that_arrives_short_is_noticed_also_without_hashes():
    files = dataset_files(manifest=False)
    size = len(files["val.jsonl"])
    with pytest.raises(RemoteError, match=rf"val\.jsonl: {size - 1} of {size} bytes arrived"):
        download(CutShort(files=at(files, FOLDER)))


def test_a_data_set_without_hashes_is_downloaded_and_the_report_says_what_was_checked():
    files = dataset_files(manifest=False)
    report, received = download(InMemoryRemoteDatasetStore(files=at(files, FOLDER)))
    assert received == published(files)
    assert "no hashes" in report.verified


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"val.jsonl": b"other"}, DataRejectedError),
        ({"eval.jsonl": None}, DataRejectedError),
        ({"train.jsonl": None}, DataRejectedError),
        ({"metadata.json": b"{"}, DataRejectedError),
        (dict.fromkeys(published(dataset_files())), RemoteError),
    ],
)
def test_a_damaged_incomplete_or_absent_data_set_is_refused(change, error):
    files = {**published(dataset_files()), **change}
    store = InMemoryRemoteDatasetStore(files=at({k: v for k, v in files.items() if v is not None}, FOLDER))
    with pytest.raises(error):
        download(store)


@pytest.mark.parametrize("latest", [False, True])
def test_the_progress_adds_up_to_every_byte_of_every_folder(latest):
    files, progress = dataset_files(), RecordingProgressReporter()
    plan = PlanPublication(InMemoryDatasetFolders({HOME: files}))(PublishRequest(HOME, latest=latest))
    PublishDataset(InMemoryRemoteDatasetStore(), progress)(plan)
    size = sum(map(len, published(files).values())) * (2 if latest else 1)
    assert [(task.total, task.done) for task in progress.tasks] == [(size, size)]


@pytest.mark.parametrize("named", [".", ".."])
def test_a_data_set_that_is_named_by_dots_has_its_folders_name(tmp_path, monkeypatch, named):
    (tmp_path / "routing_7" / "inside").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "routing_7" / ("inside" if named == ".." else ""))
    plan = PlanPublication(InMemoryDatasetFolders({Path(named): dataset_files()}))(PublishRequest(Path(named)))
    assert (plan.dataset, plan.remote) == ("routing_7", "datasets/routing_7")
