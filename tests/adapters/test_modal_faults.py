"""Publishing to Modal while the network fails: complete old or new, clear errors in seconds, no secret in them."""

import pytest
from grpclib import GRPCError, Status

from adapters.datasets.local_dataset_folders import LocalDatasetFolders
from adapters.in_memory.runtime import RecordingProgressReporter
from adapters.modal_cloud.modal_connection import ModalConnection
from adapters.modal_cloud.modal_volume_dataset_store import ModalVolumeDatasetStore
from application.publishing.publish_dataset import PlanPublication, PublishDataset, PublishRequest
from domain.errors import RemoteError, TargetExistsError
from tests.modal_fake.impatient import ImpatientConnection
from tests.modal_fake.server import CREDENTIALS, CUT, HANG
from tests.publishing_world import dataset_files, published, write_dataset

UNAVAILABLE = GRPCError(Status.UNAVAILABLE, "overloaded")


@pytest.fixture
def volume(modal_fake):
    return modal_fake.volumes.create("moe-lora-data")


def publish(dataset_dir, *, volume="moe-lora-data", attempts=1, force=False, connection=None):
    connection = connection or ModalConnection(attempts=attempts, rate=1e9, pause=0.01)
    store = ModalVolumeDatasetStore(volume, connection)
    plan = PlanPublication(LocalDatasetFolders())(PublishRequest(dataset_dir, latest=True, force=force))
    return PublishDataset(store, RecordingProgressReporter())(plan)


class ShortUpload(ModalConnection):
    """Has half a second to upload, and as long as usual for all else, whatever else this machine does."""

    def _run(self, doing, start, seconds):
        return super()._run(doing, start, 0.5 if doing.startswith("uploading") else seconds)


def expected(files, *folders):
    return {f"datasets/{folder}/{name}": data for folder in folders for name, data in published(files).items()}


@pytest.fixture
def new(tmp_path):
    return write_dataset(tmp_path / "routing_1", dataset_files("new", with_eval=False))


OLD = dataset_files("old")
NEW = dataset_files("new", with_eval=False)


def whole(state, folder, allowed):
    """Whether readers of this state find one of the allowed data sets; an emptied file is none."""
    prefix = f"datasets/{folder}/"
    return {p.removeprefix(prefix): d for p, d in state.items() if p.startswith(prefix) and d} in allowed


def reset(fake, volume, files):
    """Start from these files, with nothing uploaded before."""
    volume.files, volume.history = files, []
    fake.blobs.by_sha256.clear()


def failure_of(dataset_dir, fake):
    try:
        publish(dataset_dir, connection=ImpatientConnection(attempts=1, fake=fake))
    except RemoteError as error:
        return error
    return None


def test_a_permanent_fault_at_any_call_leaves_old_or_new_and_a_rerun_completes(modal_fake, volume, new):
    failures = 0
    while True:
        reset(modal_fake, volume, expected(OLD, "routing_latest"))
        effect = CUT if failures % 2 else UNAVAILABLE
        with modal_fake.fault(effect, nth=failures + 1, times=None) as fault:
            problem = failure_of(new, modal_fake)
        failures += problem is not None
        assert problem is None or "run it again" in str(problem)
        assert problem is not None or volume.files == expected(NEW, "routing_1", "routing_latest")
        for state in volume.history:
            assert whole(state, "routing_latest", [published(OLD), published(NEW)])
            assert whole(state, "routing_1", [{}, published(NEW)])
        if fault.seen < fault.nth:  # the run needed fewer calls than that
            break
        publish(new)
        assert volume.files == expected(NEW, "routing_1", "routing_latest")
    assert failures > 20


def test_a_single_fault_at_any_call_is_ridden_out(modal_fake, volume, new):
    ridden_out = 0
    for nth in range(2, 100, 3):  # the first call finds out whether there is a Modal at all, and is not repeated
        reset(modal_fake, volume, {})
        with modal_fake.fault(CUT if nth % 2 else UNAVAILABLE, nth=nth, times=1) as fault:
            publish(new, attempts=3)
        assert volume.files == expected(NEW, "routing_1", "routing_latest")
        if fault.seen < fault.nth:
            break
        ridden_out += 1
    assert ridden_out > 5


@pytest.mark.parametrize("status", [503, 429])
def test_a_blob_store_that_fails_is_an_error_with_what_to_do(modal_fake, volume, new, status):
    modal_fake.blobs.status = status
    try:
        with pytest.raises(RemoteError, match="run it again"):
            publish(new, connection=ShortUpload(attempts=1))
    finally:
        modal_fake.blobs.status = 200
    publish(new)
    assert volume.files == expected(NEW, "routing_1", "routing_latest")


def test_damage_in_the_blob_store_is_noticed(modal_fake, volume, new):
    modal_fake.blobs.corrupt = True
    try:
        with pytest.raises(RemoteError, match="did not arrive as sent"):
            publish(new)
    finally:
        modal_fake.blobs.corrupt = False
    assert not any(path.startswith("datasets/routing_latest/") for path in volume.files)
    publish(new)
    assert volume.files == expected(NEW, "routing_1", "routing_latest")


def test_quota_is_not_retried_and_named(modal_fake, volume, new):
    quota = GRPCError(Status.RESOURCE_EXHAUSTED, f"Volume is full, {CREDENTIALS[1]}")
    with modal_fake.fault(quota, rpc="VolumePutFiles", times=None) as fault:
        with pytest.raises(RemoteError, match="limits are reached: Volume is full") as caught:
            publish(new, attempts=3)
        assert fault.seen == 1
    assert CREDENTIALS[1] not in str(caught.value)
    assert volume.files == {}


def test_a_silent_server_is_noticed_in_seconds_and_not_at_the_deadline(modal_fake, volume, new):
    with modal_fake.fault(HANG, times=None), pytest.raises(RemoteError, match=r"did not answer within 2\.5 s"):
        publish(new)


def test_a_server_that_falls_silent_midway_ends_at_the_deadline(modal_fake, volume, new):
    with modal_fake.fault(HANG, rpc="VolumePutFiles", times=None), pytest.raises(RemoteError, match="uploading"):
        publish(new, connection=ShortUpload(attempts=1))
    assert volume.files == {}


def test_a_missing_volume_is_not_made_by_mistake(modal_fake, new):
    with pytest.raises(RemoteError, match=r"moe-lora-dta: no such Modal volume .*modal volume list"):
        publish(new, volume="moe-lora-dta")
    assert all(each.object_creation_type == 0 for each in modal_fake.requests("VolumeGetOrCreate"))


def test_a_volume_is_made_when_asked(modal_fake, new):
    store = ModalVolumeDatasetStore("fresh", ModalConnection(), create=True)
    plan = PlanPublication(LocalDatasetFolders())(PublishRequest(new))
    PublishDataset(store, RecordingProgressReporter())(plan)
    assert modal_fake.volumes.named("fresh").files == expected(NEW, "routing_1")


def test_refuses_other_content_without_force(modal_fake, volume, new):
    volume.files = expected(OLD, "routing_1")
    with pytest.raises(TargetExistsError):
        publish(new)
    assert volume.history == []
    publish(new, force=True)
    assert volume.files == expected(NEW, "routing_1", "routing_latest")
