"""Calling functions on Modal: deployed or not, followed to the end, with every failure as one clear error."""

import subprocess
import sys
import time

import pytest
from modal.runner import deploy_app
from modal_proto import api_pb2 as pb

from adapters.in_memory.runtime import RecordingProgressReporter
from adapters.modal_cloud.modal_connection import ModalConnection
from adapters.modal_cloud.modal_gpu_trainer import Relay
from adapters.modal_cloud.modal_jobs import ModalJobs, PreemptionStormError
from domain.errors import DataRejectedError, RemoteError
from tests import modal_probe_app as probe


@pytest.fixture(scope="module")
def deployment(modal_workspace):
    """The app, deployed: its container serves one test after the other."""
    app_id = deploy_app(probe.app, name="moe-router-train", client=ModalConnection().open()).app_id
    yield app_id
    modal_workspace.run(modal_workspace.apps.stop(app_id))


@pytest.fixture
def jobs(modal_fake):
    return ModalJobs(ModalConnection(pause=0.01), lambda: probe, max_restarts=3)


def run(jobs, do, **more):
    progress = RecordingProgressReporter()
    messages = []

    def on_message(message):
        messages.append(message["kind"])
        relay(message)

    with Relay(progress) as relay:
        result = jobs.run("train", {"do": do, "name": f"{do}-{time.monotonic_ns()}", **more}, on_message)
    return result, messages, progress


def test_an_app_that_is_not_deployed_runs_for_the_call_and_is_stopped(modal_fake, jobs, capfd):
    modal_fake.apps.add_secret("huggingface", {"HF_TOKEN": "hf-fake"})
    modal_fake.apps.by_id.clear()
    asking = ModalJobs(jobs.connection, lambda: probe, gpu="H100", secret="huggingface")
    result, messages, progress = run(asking, "work", value=[1, 2.5, None, float("inf"), "ü"])
    assert result["value"] == [1, 2.5, None, float("inf"), "ü"]
    assert messages == ["started", "progress", "advance", "finished"]
    assert [(task.description, task.total, task.done) for task in progress.tasks] == [("Working", 3, 2)]
    assert {app.state for app in modal_fake.apps.by_id.values()} == {pb.APP_STATE_STOPPED}
    assert capfd.readouterr().out == ""  # what modal prints belongs to stderr
    assert result["token"] == "hf-fake"
    (bound,) = modal_fake.requests("FunctionBindParams")
    assert bound.function_options.resources.gpu_config.gpu_type == "H100"


def test_an_interrupted_caller_cancels_the_call(modal_fake, jobs):
    def on_message(message):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        jobs.run("train", {"do": "hang"}, on_message)
    assert modal_fake.requests("FunctionCallCancel")


def test_who_stops_listening_cancels_the_call(modal_fake, jobs):
    messages = jobs.follow("train", {"do": "hang"})
    assert next(messages)["kind"] == "started"
    messages.close()
    assert modal_fake.requests("FunctionCallCancel")


def test_a_deployed_app_is_called_and_left_running(modal_fake, jobs, deployment):
    result, messages, _ = run(jobs, "work", value=7)
    assert (result["value"], messages[-1]) == (7, "finished")
    assert not modal_fake.requests("AppCreate")
    assert modal_fake.apps.deployed("moe-router-train").id == deployment


def test_the_log_of_the_deployed_app_is_found_by_its_name(jobs, deployment):
    run(jobs, "work", value=70)
    command = [sys.executable, "-m", "modal", "app", "logs", "moe-router-train"]
    logged = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (logged.returncode, logged.stdout.splitlines()[-1]) == (0, "asked to work with 70"), logged.stderr


def test_a_call_can_be_left_to_itself(modal_fake, jobs, deployment):
    started = jobs.start("train", {"do": "work", "value": 8})
    assert started.app_id == "moe-router-train"
    assert started.call_id in modal_fake.functions.calls


def test_a_users_error_arrives_as_itself_and_is_not_retried(modal_fake, jobs, deployment):
    with pytest.raises(DataRejectedError, match=r"/datasets/x: no rows \(add some\)"):
        run(jobs, "reject", name="rejections")
    assert modal_fake.volumes.named("probe-output").files["rejections"] == b"1"


def test_a_bug_in_the_container_is_one_line_that_points_to_the_log(modal_fake, jobs, deployment):
    with pytest.raises(RemoteError, match=r"train on Modal failed: ZeroDivisionError: \*\*\* .*modal app logs"):
        run(jobs, "bug")


def test_a_container_that_dies_is_an_error(modal_fake, jobs, deployment):
    with pytest.raises(RemoteError, match="train on Modal failed"):
        run(jobs, "die")


def test_a_preempted_container_is_replaced_on_the_same_input(modal_fake, jobs, deployment):
    result, messages, _ = run(jobs, "preempted", value="same")
    assert (result["value"], result["started"]) == ("same", 2)
    assert messages.count("started") == 2


def test_a_storm_of_preemptions_is_given_up(modal_fake, jobs, deployment):
    with pytest.raises(PreemptionStormError, match="3 times without getting further"):
        run(jobs, "storm")


def test_a_missing_secret_is_named(modal_fake, jobs, deployment):
    with pytest.raises(RemoteError, match="huggingface"):
        run(ModalJobs(jobs.connection, lambda: probe, secret="huggingface"), "work")
