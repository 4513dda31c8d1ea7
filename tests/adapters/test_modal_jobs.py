"""Calling functions on Modal: deployed or not, followed to the end, with every failure as one clear error."""

import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from types import SimpleNamespace

import modal
import modal.exception
import pytest
from attrs import evolve
from grpclib import GRPCError, Status
from modal.runner import deploy_app
from modal_proto import api_pb2 as pb

from adapters.in_memory.runtime import RecordingProgressReporter
from adapters.modal_cloud.call_options import CallOptions
from adapters.modal_cloud.modal_connection import ModalConnection
from adapters.modal_cloud.modal_jobs import ModalJobs, PreemptionStormError
from adapters.modal_cloud.modal_messages import Relay
from domain.errors import DataRejectedError, RemoteError, UsageError
from tests import modal_probe_app as probe
from tests.modal_fake.impatient import ImpatientConnection
from tests.modal_fake.server import LATE, LOSE, Fault
from tests.modal_fake.web import PROXY_TOKEN


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
    asking = ModalJobs(jobs.connection, lambda: probe, CallOptions("H100", "huggingface"))
    result, messages, progress = run(asking, "work", value=[1, 2.5, None, float("inf"), "ü"])
    assert result["value"] == [1, 2.5, None, float("inf"), "ü"]
    assert messages == ["started", "progress", "advance", "finished"]
    assert [(task.description, task.total, task.done) for task in progress.tasks] == [("Working", 3, 2)]
    assert {app.state for app in modal_fake.apps.by_id.values()} == {pb.APP_STATE_STOPPED}
    assert capfd.readouterr().out == ""  # what modal prints belongs to stderr
    assert result["token"] == "hf-fake"
    (bound,) = modal_fake.requests("FunctionBindParams")
    assert not bound.function_options.resources.gpu_config.gpu_type  # the function that leaves the GPU to others


def test_an_interrupted_caller_cancels_the_call_and_says_whether_that_went_well(modal_fake, jobs):
    def on_message(message):
        raise KeyboardInterrupt

    notes = []
    jobs = evolve(jobs, note=notes.append)
    with pytest.raises(KeyboardInterrupt):
        jobs.run("train", {"do": "hang"}, on_message)
    assert modal_fake.requests("FunctionCallCancel")
    assert re.fullmatch(r"call fc-\w+ is cancelled", notes[-1])
    refuses = modal_fake.fault(GRPCError(Status.PERMISSION_DENIED, "no"), rpc="FunctionCallCancel")
    with refuses, pytest.raises(KeyboardInterrupt):
        jobs.run("train", {"do": "wait", "value": 0}, on_message)
    assert re.search(r"cancelling train: .*; call fc-\w+ goes on: `modal app stop ap-\w+` ends it", notes[-1])


def test_who_stops_listening_cancels_the_call(modal_fake, jobs):
    messages = jobs.follow("train", {"do": "hang"})
    assert next(messages)["kind"] == "started"
    messages.close()
    assert modal_fake.requests("FunctionCallCancel")


def test_a_run_whose_app_is_stopped_ends_and_says_so_and_so_does_who_waits_for_it_later(modal_fake, jobs):
    notes = []
    ended = "train on Modal failed: the call was cancelled, or its app was stopped"
    messages = evolve(jobs, note=notes.append).follow("train", {"do": "hang"})
    assert next(messages)["kind"] == "started"
    call_id, app_id = re.search(r"call (fc-\w+) \(log: modal app logs (ap-\w+)\)", notes[0]).groups()
    stopped = subprocess.run([sys.executable, "-m", "modal", "app", "stop", "--yes", app_id], timeout=60)
    assert stopped.returncode == 0
    with pytest.raises(RemoteError, match=ended):
        list(messages)
    with pytest.raises(RemoteError, match=ended):
        jobs.attach("train", call_id)


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
        run(jobs, "bug", name="bugs")
    assert modal_fake.volumes.named("probe-output").files["bugs"] == b"1"  # a value, so not repeated


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
    with pytest.raises(
        RemoteError, match=r"Secret 'huggingface' not found.*`modal secret list`.*modal secret create"
    ):
        run(ModalJobs(jobs.connection, lambda: probe, CallOptions(secret="huggingface")), "work")


def test_a_large_request_is_given_the_time_that_it_takes():
    class Connection:
        def call(self, doing, start, size=0, *, once=False):
            assert (size > 5_000_000, once) == (True, True)
            return "call"

    jobs, function = ModalJobs(Connection(), lambda: probe), SimpleNamespace()
    assert jobs._spawn("infer", function, "ap-1", {"prompts": "x" * 5_000_000}, None) == "call"


def test_a_late_reply_never_starts_a_second_run(modal_fake, deployment):
    before = len(modal_fake.functions.calls)
    hasty = ModalJobs(ImpatientConnection(pause=0.01, attempts=3, fake=modal_fake), lambda: probe)
    with modal_fake.fault(LATE, rpc="FunctionMap", times=None), pytest.raises(RemoteError, match="may have started"):
        run(hasty, "work")
    assert len(modal_fake.functions.calls) == before + 1


def test_a_reply_that_is_lost_with_its_connection_starts_one_run(modal_fake, jobs, deployment):
    before = len(modal_fake.functions.calls)
    with modal_fake.fault(LOSE, rpc="FunctionMap"):
        assert run(jobs, "work", value=5)[0]["value"] == 5
    assert len(modal_fake.functions.calls) == before + 1


def test_an_outage_is_ridden_out_and_the_run_followed_to_its_end(modal_fake, deployment):
    notes, away = [], Fault(GRPCError(Status.UNAVAILABLE, "away"), times=None)

    def note(line):
        notes.append(line)
        if "goes on there" in line:
            modal_fake.faults.remove(away)

    jobs = ModalJobs(ImpatientConnection(pause=0.01, attempts=1, fake=modal_fake), lambda: probe, note=note)
    messages = jobs.follow("train", {"do": "wait", "value": 1, "name": "outage"})
    assert next(messages)["kind"] == "started"
    modal_fake.faults.append(away)
    *_, last = messages
    assert last["result"]["value"] == 1
    assert re.match(r"train runs on Modal as call fc-\w+ \(log: modal app logs moe-router-train\)", notes[0])
    assert "goes on there" in notes[1]
    assert notes[2] == "the connection to Modal is back"


def test_a_queue_that_is_gone_costs_messages_only(modal_fake, jobs, deployment):
    messages = jobs.follow("train", {"do": "wait", "value": 1, "name": "deaf"})
    assert next(messages)["kind"] == "started"
    with modal_fake.fault(GRPCError(Status.NOT_FOUND, "no such queue"), rpc="QueueGet", times=None):
        *_, last = messages
    assert last["result"]["value"] == 1


def test_a_run_that_was_left_alone_can_be_waited_for_and_names_itself_when_out_of_reach(modal_fake, deployment):
    jobs = ModalJobs(ModalConnection(pause=0.01, attempts=1), lambda: probe, patience=0.0)
    call_id = jobs.start("train", {"do": "wait", "value": 2, "name": "alone"}).call_id
    with (
        modal_fake.fault(GRPCError(Status.UNAVAILABLE, "away"), rpc="FunctionGetOutputs", times=None),
        pytest.raises(RemoteError, match=f"by itself; the same command with --attach {call_id} waits for it"),
    ):
        jobs.attach("train", call_id)
    assert jobs.attach("train", call_id)["value"] == 2
    assert jobs.attach("train", call_id)["value"] == 2  # it is finished, and its result is still there
    running = jobs.start("train", {"do": "wait", "value": 1, "name": "running"}).call_id
    assert jobs.attach("train", running)["value"] == 1


def test_a_call_of_another_command_is_refused_with_the_command_that_can_wait_for_it(modal_fake, jobs, deployment):
    call_id = jobs.start("train", {"do": "reject", "name": "other", "of": "infer"}).call_id
    again = f"call {call_id} is one of infer, not of evaluate .*moe-router infer --backend modal --attach {call_id}"
    with pytest.raises(UsageError, match=again):
        jobs.attach("evaluate", call_id)
    with pytest.raises(DataRejectedError):
        jobs.attach("infer", call_id)


def test_a_call_that_never_was_is_said_to_be_none(modal_fake, jobs):
    with pytest.raises(RemoteError, match=r"there is no call fc-typo, or its result is not kept any more"):
        jobs.attach("train", "fc-typo")


def test_a_cancelled_call_runs_what_it_has_to_clear_away(modal_fake, jobs, deployment):
    messages = jobs.follow("train", {"do": "hang"})
    assert next(messages)["kind"] == "started"
    messages.close()
    end = time.monotonic() + 100
    while "ended" not in modal_fake.volumes.named("probe-output").files:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_call_of_a_deployed_app_that_cannot_be_cancelled_is_ended_without_the_deployment(
    modal_fake, jobs, deployment
):
    notes = []
    messages = evolve(jobs, note=notes.append).follow("train", {"do": "hang"})
    assert next(messages)["kind"] == "started"
    with modal_fake.fault(GRPCError(Status.PERMISSION_DENIED, "no"), rpc="FunctionCallCancel"):
        messages.close()
    assert "would take down all of the deployed app moe-router-train" in notes[-1]
    call_id, line = re.search(r'call (fc-\w+) goes on: `python -c "([^"]+)"` ends it', notes[-1]).groups()
    assert subprocess.run([sys.executable, "-c", line], timeout=60).returncode == 0
    with pytest.raises(RemoteError, match="the call was cancelled"):
        jobs.attach("train", call_id)
    run(jobs, "work")  # the deployment is still there
    assert not modal_fake.requests("AppStop")


def test_a_deployed_app_of_other_code_is_used_but_said_to_be_one_and_can_be_replaced(modal_fake, jobs, deployment):
    notes, newer = [], SimpleNamespace(app=probe.app, functions=probe.functions, tags={"code": "newer"})
    run(evolve(jobs, load_app=lambda: newer, note=notes.append), "work")
    assert "has other code than this software here" in notes[0]
    assert "--redeploy" in notes[0]
    published = len(modal_fake.requests("AppPublish"))
    notes.clear()
    run(evolve(jobs, redeploy=True, note=notes.append), "work")
    assert len(modal_fake.requests("AppPublish")) == published + 1
    assert not [line for line in notes if "other code" in line]


def test_a_choice_of_gpus_that_the_deployed_app_was_not_made_for_gets_an_app_of_its_own(modal_fake, jobs, deployment):
    notes, before = [], len(modal_fake.requests("AppCreate"))
    made_for_it = SimpleNamespace(app=probe.app, functions=probe.functions, tags={**probe.tags, "gpu": "T4,L4"})
    warmer = SimpleNamespace(app=probe.app, functions=probe.functions, tags={**probe.tags, "settings": "warm"})
    choosing = evolve(jobs, options=CallOptions(choice="T4,L4"), note=notes.append)
    run(choosing, "work")  # made for the same GPUs
    run(evolve(choosing, load_app=lambda: warmer), "work")
    assert any("has other settings than this software here" in line for line in notes)
    assert len(modal_fake.requests("AppCreate")) == before
    run(evolve(choosing, load_app=lambda: made_for_it), "work")
    assert len(modal_fake.requests("AppCreate")) == before + 1
    assert any("was not made for GPU T4,L4; this call has an app of its own" in line for line in notes)


def test_a_class_keeps_what_its_container_holds_from_call_to_call_until_it_has_waited_long_enough(
    modal_fake, jobs, deployment
):
    def infer(jobs, value):
        return jobs.run("infer", {"value": value}, lambda message: None)["calls"]

    assert [infer(jobs, 1), infer(jobs, 2)] == [1, 2]
    (container,) = modal_fake.containers.of("Engine.*")
    assert container.idle_seconds == 60
    modal_fake.run(modal_fake.containers.let_idle_time_pass())
    assert infer(jobs, 3) == 1
    assert infer(evolve(jobs, options=CallOptions("A10", hours=3.0)), 4) == 1  # in a container of another kind
    (bound,) = modal_fake.requests("FunctionBindParams")
    assert bound.function_options.resources.gpu_config.gpu_type == "A10"
    assert bound.function_options.timeout_secs == 3 * 3600


def test_containers_see_what_their_image_holds_and_nothing_else_of_this_machine(jobs, deployment):
    asked = ("attrs", "cattrs", "modal", "domain", "tests", "torch", "starlette", "pytest", "benchmarks")
    result = jobs.run("infer", {"value": 1, "modules": asked}, lambda message: None)
    assert result["installed"] == ["attrs", "cattrs", "modal", "domain", "tests"]


def test_a_web_address_with_proxy_tokens_opens_with_both_and_shares_the_container_with_calls(
    modal_fake, jobs, deployment
):
    before = jobs.run("infer", {"value": 1}, lambda message: None)["calls"]
    url = next(each.web_urls["web"] for each in modal_fake.functions.of_app(deployment) if each.web_urls)
    for headers in ({}, {"Modal-Key": PROXY_TOKEN[0]}, {"Modal-Key": PROXY_TOKEN[0], "Modal-Secret": "guess"}):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60)
    token = dict(zip(("Modal-Key", "Modal-Secret"), PROXY_TOKEN, strict=True))
    with urllib.request.urlopen(urllib.request.Request(url, headers=token), timeout=60) as answer:
        assert int(answer.read()) == before + 1


def test_an_image_that_asks_for_what_no_index_has_cannot_be_built(modal_fake):
    app = modal.App("unbuildable", include_source=False)
    for wrong in ("torch==99.0", "numpy<1", "no-such-package"):
        app.function(image=modal.Image.debian_slim().uv_pip_install(wrong), name="f", serialized=True)(lambda: 1)
        with pytest.raises(modal.exception.Error, match=f"No solution found .*{wrong}"), app.run():
            pass


def test_the_fake_is_as_strict_as_modal_about_open_files_and_kinds_of_gpu(modal_fake, jobs, deployment):
    with pytest.raises(RemoteError, match="there are open files preventing the operation"):
        run(jobs, "open")
    with pytest.raises(RemoteError, match="unknown GPU type L5"):
        evolve(jobs, options=CallOptions(gpu="L5")).run("infer", {"value": 1}, lambda message: None)


SERVED = {"router": "a", "loras": "b"}


@pytest.fixture(scope="module")
def endpoint(modal_workspace, deployment):
    """The endpoint, deployed beside the app."""
    app_id = deploy_app(probe.serving, name="moe-router-serve", client=ModalConnection().open()).app_id
    yield app_id
    modal_workspace.run(modal_workspace.apps.stop(app_id))


def test_what_an_endpoint_has_loaded_is_asked_of_it_and_all_else_of_other_containers(modal_fake, jobs, endpoint):
    notes = []
    jobs = evolve(jobs, note=notes.append)

    def infer(value, shared, jobs=jobs):
        return jobs.run("infer", {"value": value, "shared": shared}, lambda message: None)

    assert [infer(value, SERVED)["calls"] for value in (1, 2)] == [1, 2]
    assert "log: modal app logs moe-router-serve" in notes[0]
    assert infer(3, {"router": "a"})["place"] == "endpoint"
    for shared in (None, {"router": "b"}):
        assert "place" not in infer(4, shared)
    other = SimpleNamespace(app=probe.app, functions=probe.functions, tags={"code": "newer"})
    assert "place" not in infer(5, SERVED, evolve(jobs, load_app=lambda: other))  # nothing of other code, unsaid
    notes.clear()
    assert "place" not in infer("other", SERVED)
    assert notes[1] == "note: the endpoint has loaded others; another container does it"


def test_a_cancelled_call_leaves_the_endpoint_to_the_others(modal_fake, jobs, endpoint):
    waiting = jobs.follow("infer", {"value": "wait", "shared": SERVED})
    assert next(waiting)["kind"] == "started"
    (container,) = modal_fake.containers.of("Endpoint.*")
    waiting.close()
    end = time.monotonic() + 60
    while not (found := jobs.run("infer", {"value": 1, "shared": SERVED}, lambda message: None))["ended"]:
        assert time.monotonic() < end
    assert modal_fake.containers.of("Endpoint.*") == [container]
    assert found["place"] == "endpoint"
