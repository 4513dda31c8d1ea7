"""What containers do when they are replaced, share work, or keep what they have loaded."""

from __future__ import annotations

import json
import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from modal.exception import InputCancellation

from adapters.modal_cloud.answer_journal import AnswerJournal
from adapters.modal_cloud.modal_wire import outcome_from_wire, to_wire
from adapters.modal_cloud.started_calls import StartedCalls
from application.answering.check_lora_adapters import LoraCheck, LoraDiagnosis
from domain.answers import Answer, Finish, Prompt
from domain.chats import as_chat, routing_text
from domain.errors import RemoteError, TooLongError
from domain.routing import AbstentionThresholds, Reason, RoutingDecision
from entrypoints.backend import Questions
from entrypoints.on_modal import worker
from entrypoints.on_modal.warm import Warm

DECISION = RoutingDecision(
    None, Reason.LOW_CONFIDENCE, "calendar", 0.5, None, 0.5, 0.9, AbstentionThresholds(0.6, float("inf"))
)
ANSWERS = [Answer(DECISION, None, "why", f"answer {index}", 1, Finish.STOP) for index in range(5)]
TOO_LONG = TooLongError("too long", where="prompt 'x'")


@define
class Answering:
    """Answers prompts by their number, as far as it comes."""

    until: int = 99
    error_at: int = 99
    done: list[frozenset[int]] = field(factory=list)

    def stream(self, request):
        self.done.append(request.done)
        for index, prompt in enumerate(request.prompts):
            if index in request.done:
                continue
            number = int(routing_text(prompt.chat))
            if index >= self.until:
                raise SystemExit(130)  # as a signal unwinds
            yield index, TOO_LONG if number == self.error_at else ANSWERS[number]


@pytest.fixture
def answering(monkeypatch, tmp_path):
    monkeypatch.setenv("MOE_ROUTER_CACHE", str(tmp_path))
    monkeypatch.setattr(worker.ContainerBackend, "answering", lambda self, asked: stand_in)
    monkeypatch.setattr(worker.ContainerApplication, "trained_on", lambda self, router: None)
    stand_in = Answering()
    return stand_in


def request(count, **more):
    prompts = tuple(Prompt(as_chat(str(number))) for number in range(count))
    asked = {**to_wire(Questions(Path("/output/r"), prompts)), "token": "t", "commit_seconds": 0.0}
    return json.loads(json.dumps({**asked, **more}))


class Queue:
    def __init__(self):
        self.messages = []

    def put_many(self, messages, timeout):
        self.messages += messages


def infer(asked, queue=None):
    return worker.Worker(queue, worker.Volumes(())).infer(asked)


def outcomes(result):
    return [outcome_from_wire(each) for each in result["outcomes"]]


def test_a_container_in_anothers_place_answers_only_what_is_missing(answering, tmp_path):
    answering.until = 3
    with pytest.raises(SystemExit):
        infer(request(5))
    answering.until = 99
    assert outcomes(infer(request(5))) == ANSWERS
    assert answering.done == [frozenset(), frozenset({0, 1, 2})]
    assert not list(tmp_path.rglob("*.jsonl"))


def test_answers_that_come_soon_are_not_written(answering, tmp_path, monkeypatch):
    monkeypatch.setattr(AnswerJournal, "write", lambda self: pytest.fail("written"))
    assert outcomes(infer(request(5, commit_seconds=60.0))) == ANSWERS


def test_a_line_that_was_cut_off_is_answered_again(tmp_path):
    journal = AnswerJournal(tmp_path / "calls" / "0.jsonl", lambda: None, 0.0)
    for index in (0, 1):
        journal.keep(index, ANSWERS[index])
    whole = journal.path.read_bytes()
    journal.path.write_bytes(whole[:-5])
    assert journal.read() == {0: ANSWERS[0]}
    journal.keep(1, ANSWERS[1])
    assert journal.path.read_bytes() == whole


def test_a_prompt_without_an_answer_touches_no_other(answering):
    answering.error_at, queue = 1, Queue()
    result = outcomes(infer(request(3), queue))
    assert [str(each) for each in result] == [str(ANSWERS[0]), str(TOO_LONG), str(ANSWERS[2])]
    sent = [message for message in queue.messages if message["kind"] == "answer"]
    assert [str(outcome_from_wire(each["outcome"])) for each in sent] == [str(each) for each in result]


@define(slots=False)
class CallsHere:
    """Calls that this process does when their result is waited for; ids are numbers as texts."""

    name: str = "infer"
    queue: Queue = field(factory=Queue)
    started: list[dict[str, Any]] = field(factory=list)
    cancelled: list[str] = field(factory=list)
    fails: str | None = None

    def start(self, asked):
        self.started.append(asked)
        return str(len(self.started) - 1)

    def wait(self, call_id):
        if call_id == self.fails:
            raise RemoteError("lost")
        return getattr(worker.Worker(self.queue, worker.Volumes(())), self.name)(self.started[int(call_id)])

    def cancel(self, call_id):
        self.cancelled.append(call_id)


def test_shares_answer_in_containers_of_their_own_and_tell_of_places_in_the_whole(answering):
    answering.error_at, calls = 4, CallsHere()
    result = worker.Worker(None, worker.Volumes(())).infer_in_shares(request(5, shares=2), calls)
    assert [str(each) for each in outcomes(result)] == [*map(str, ANSWERS[:4]), str(TOO_LONG)]
    assert [len(each["value"]["prompts"]) for each in calls.started] == [3, 2]
    kinds = {message["kind"] for message in calls.queue.messages}
    assert kinds == {"share", "answer"}  # not "finished": others are still at work
    told = {each["index"]: each["outcome"] for each in calls.queue.messages if each["kind"] == "answer"}
    assert [told[index] for index in range(5)] == result["outcomes"]


def test_more_shards_than_prompts_are_as_many_as_there_are_prompts(answering):
    calls = CallsHere()
    worker.Worker(None, worker.Volumes(())).infer_in_shares(request(2, shares=9), calls)
    assert len(calls.started) == 2


def test_a_container_in_the_place_of_the_one_that_shared_the_work_waits_for_the_same_calls(tmp_path):
    calls, results = CallsHere(), []
    calls.wait = lambda call_id: {"value": call_id}
    started = StartedCalls(calls, tmp_path / "calls.json", lambda: None)

    def interrupted(number, result):
        raise SystemExit(130)

    with pytest.raises(SystemExit):
        started([{}, {}], interrupted)
    started([{}, {}], lambda number, result: results.append(result))
    assert (len(calls.started), results, calls.cancelled) == (2, [{"value": "0"}, {"value": "1"}], [])


def test_when_one_share_fails_the_others_are_cancelled(tmp_path):
    calls = CallsHere(fails="1")
    calls.start, ids = lambda asked: ids.pop(), ["2", "1", "0"]
    calls.wait = lambda call_id: CallsHere.wait(calls, call_id) if call_id == "1" else {}
    with pytest.raises(RemoteError, match="lost"):
        StartedCalls(calls, None, lambda: None)([{}, {}, {}], lambda number, result: None)
    assert calls.cancelled == ["0", "1", "2"]


def test_a_call_that_cannot_be_cancelled_neither_saves_the_others_nor_hides_why_they_end():
    calls, cancelled = CallsHere(fails="0"), []
    calls.start, ids = lambda asked: ids.pop(), ["2", "1", "0"]

    def cancel(call_id):
        if call_id == "1":
            raise ConnectionError("away")
        cancelled.append(call_id)

    calls.cancel = cancel
    with pytest.raises(RemoteError, match="lost") as ended:
        StartedCalls(calls, None, lambda: None)([{}, {}, {}], lambda number, result: None)
    assert cancelled == ["0", "2"]
    assert ended.value.__notes__ == ["call 1 could not be cancelled: away"]


def test_calls_that_were_started_when_a_cancellation_came_are_cancelled(tmp_path):
    calls = CallsHere()

    def start(asked):
        if len(calls.started) == 2:
            raise InputCancellation
        return CallsHere.start(calls, asked)

    calls.start = start
    with pytest.raises(InputCancellation):
        StartedCalls(calls, tmp_path / "calls.json", lambda: None)([{}, {}, {}], lambda number, result: None)
    assert calls.cancelled == ["0", "1"]
    assert not list(tmp_path.iterdir())


def test_a_cancellation_that_modals_client_drops_ends_the_work_all_the_same(answering):
    class Dropping(Queue):
        """As modal's client in a blocking call that is done when the signal comes: it returns, and raises nothing."""

        def put_many(self, messages, timeout):
            super().put_many(messages, timeout)
            with suppress(InputCancellation):
                os.kill(os.getpid(), signal.SIGUSR1)

    def cancel(_number, _frame):  # as modal's runtime
        raise InputCancellation

    queue, before = Dropping(), signal.signal(signal.SIGUSR1, cancel)
    try:
        with pytest.raises(InputCancellation):
            infer(request(5), queue)
        assert signal.getsignal(signal.SIGUSR1) is cancel
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert [message["kind"] for message in queue.messages] == ["started"]


# What stays loaded


@define
class Base:
    blocks: tuple[int, ...]
    is_whole: bool


class Host:
    """Stands in for the check and for the engine at the same time."""

    def __init__(self):
        self.adapters, self.checks, self.is_usable = (), [], True

    def __call__(self, folders):
        self.checks.append(sorted(folders))
        self.adapters = tuple(folders)
        return LoraCheck("base", tuple(LoraDiagnosis(name, path, None, ()) for name, path in folders.items()))

    def unload(self, name):
        self.adapters = tuple(each for each in self.adapters if each != name)


@pytest.fixture
def folders(tmp_path):
    made = {name: tmp_path / name for name in ("base", "a", "b")}
    for folder in made.values():
        folder.mkdir()
        (folder / "weights").write_text("one")
    return made


def loaded(warm, name, max_layer, base):
    """Ask for a base model; return whether it had to be loaded."""
    loads = []
    warm.base(name, max_layer, lambda: loads.append(base) or base)
    return bool(loads)


def test_a_base_model_stays_while_its_files_are_the_same_and_it_is_deep_enough(folders):
    warm, name = Warm(), str(folders["base"])
    cut, whole = Base((1, 2, 3), False), Base((1,) * 9, True)
    assert [loaded(warm, name, depth, cut) for depth in (3, 3, 2, 0)] == [True, False, False, False]
    assert loaded(warm, name, 4, whole)
    assert not any(loaded(warm, name, depth, whole) for depth in (None, 9, 3, len))
    (folders["base"] / "weights").write_text("another")
    assert loaded(warm, name, None, whole)
    assert loaded(warm, "hub/other", None, whole)
    warm.clear()
    assert warm.is_empty
    assert loaded(warm, "hub/other", None, cut)
    assert loaded(warm, "hub/other", None, whole)  # what was cut cannot answer


def test_lora_adapters_stay_while_their_files_are_the_same(folders):
    warm, host = Warm(), Host()
    warm.base("x", None, lambda: Base((1,), True))
    both = {name: folders[name] for name in ("a", "b")}
    for asked in (both, {"a": folders["a"]}, both):
        check, engine = warm.loras(asked, lambda: (host, host))
        assert [each.name for each in check.diagnoses] == list(asked)
    assert (host.checks, engine.adapters) == ([["a", "b"]], ("a", "b"))
    (folders["a"] / "weights").write_text("another")
    warm.loras({"a": folders["a"]}, lambda: pytest.fail("a second engine on the same base model"))
    assert (host.checks[1:], host.adapters) == ([["a"]], ("a",))


def test_a_base_model_that_a_lora_adapter_has_changed_is_not_kept(folders):
    warm, host = Warm(), Host()
    warm.base("x", None, lambda: Base((1,), True))
    host.is_usable = False
    warm.loras({"a": folders["a"]}, lambda: (host, host))
    assert warm.is_empty


class Volumes:
    """A volume that cannot be reloaded while weights are read from its files."""

    def __init__(self, warm):
        self.warm, self.reloads = warm, 0

    def reload(self):
        if not self.warm.is_empty:
            raise RuntimeError("there are open files preventing the operation")
        self.reloads += 1

    def commit(self):
        pass


def test_what_keeps_a_volume_from_being_reloaded_is_let_go(answering):
    warm = Warm()
    warm.base("x", None, lambda: Base((1,), True))
    volume = Volumes(warm)
    assert outcomes(worker.Worker(None, worker.Volumes((volume,)), warm).infer(request(1))) == ANSWERS[:1]
    assert (warm.is_empty, volume.reloads) == (True, 1)


def test_a_base_model_that_is_kept_holds_no_file_of_a_volume_open(tiny_base, tmp_path, monkeypatch):
    monkeypatch.setenv("MOE_ROUTER_CACHE", str(tmp_path / "cache"))
    folder = shutil.copytree(tiny_base, tmp_path / "base")
    app = worker.ContainerApplication(updates=worker.Updates(None), volumes=worker.Volumes(()))
    base = app.load_base(str(folder))
    assert str(folder) not in Path("/proc/self/maps").read_text()
    assert app.load_base(str(folder)) is base


def test_what_others_use_is_not_exchanged_for_something_else(folders, answering, monkeypatch):
    from entrypoints.on_modal.warm import NotHeldError

    warm, host, name = Warm(), Host(), str(folders["base"])
    base = Base((1,), True)
    warm.base(name, None, lambda: base)
    warm.loras({"a": folders["a"]}, lambda: (host, host))
    warm.pinned = True
    assert warm.base(name, 1, lambda: pytest.fail("loaded")) is base
    assert warm.loras({"a": folders["a"]}, lambda: pytest.fail("loaded"))[1] is host
    for other in (
        lambda: warm.base("another", None, lambda: pytest.fail("loaded")),
        lambda: warm.loras({"b": folders["b"]}, lambda: pytest.fail("loaded")),
    ):
        with pytest.raises(NotHeldError, match="the endpoint has loaded other"):
            other()
    volume = Volumes(warm)
    asked = worker.Worker(None, worker.Volumes((volume,)), warm)
    assert outcomes(asked.infer(request(1))) == ANSWERS[:1]
    assert (warm.is_empty, volume.reloads) == (False, 0)  # busy, and left as it is

    def refuse(*_asked):
        raise NotHeldError("other LoRA adapters")

    monkeypatch.setattr(worker.ContainerBackend, "answering", refuse)
    assert asked.infer(request(1)) == {"elsewhere": "other LoRA adapters", "of": "infer"}


# A data set is checked where it lies


def test_a_data_set_that_cannot_be_trusted_is_refused_before_a_gpu_is_asked_for(answering, tmp_path, monkeypatch):
    from adapters.modal_cloud.modal_gpu_trainer import train_request
    from application.ports import TrainJob
    from domain.training import TrainOptions
    from tests.publishing_world import dataset_files, write_dataset

    monkeypatch.setattr(worker.ContainerApplication, "fetch_base", lambda self, name: None)
    files = dataset_files("new")
    files["metadata.json"] = json.dumps({**json.loads(files["metadata.json"]), "schema_version": 1}).encode()
    folder, calls = write_dataset(tmp_path / "data", files), CallsHere()
    calls.wait = lambda call_id: {"done": True}
    paths = (folder / "train.jsonl", folder / "val.jsonl", None, Path("/output/r"), None)
    job = TrainJob(*paths, TrainOptions(), use_cache=False)
    strict = train_request(job, "1", verify={"folder": str(folder), "strict": True})

    def train(asked):
        return worker.Worker(None, worker.Volumes(())).train(asked, calls, calls)

    (folder / "train.jsonl").write_bytes(b"{}")
    refused = train(strict)
    assert (refused["error"], len(calls.started)) == ("DataRejectedError", 0)
    assert "cannot be trusted" in refused["what"]
    assert train({**strict, "verify": {"folder": str(folder), "strict": False}}) == {"done": True, "of": "train"}
    assert len(calls.started) == 1


# Training: a GPU encodes, and no GPU waits while the head is trained


@pytest.fixture
def training(tiny_base, tmp_path, monkeypatch):
    """Train in containers that are this process; return the router, the calls of encode and fit, and what is told."""
    from adapters.modal_cloud.modal_gpu_trainer import train_request
    from adapters.router.safetensors_router_store import SafetensorsRouterStore
    from application.ports import TrainJob
    from domain.features import Pooling
    from domain.training import TrainOptions
    from entrypoints.wiring import training as wiring
    from tests import modal_world, training_world

    monkeypatch.setenv("MOE_ROUTER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(wiring, "packaged_companions", lambda: training_world.COMPANIONS)
    for name, between in (("train", (0, 8)), ("val", (8, 12))):
        (tmp_path / f"{name}.jsonl").write_bytes(modal_world.rows(*between))
    loads, load = [], worker.LocalApplication.load_base
    monkeypatch.setattr(
        worker.LocalApplication, "load_base", lambda *a, **b: loads.append(base := load(*a, **b)) or base
    )
    options = TrainOptions(
        epochs=1, learning_rate=0.01, eval_steps=2, layers=(1, 2), pooling=Pooling.MEAN, head="linear"
    )
    paths = (tmp_path / "train.jsonl", tmp_path / "val.jsonl", str(tiny_base))

    def train(folder, encode=None, shards=1, encode_batch=None, **job):
        asked = TrainJob(*paths, tmp_path / folder / "r.safetensors", None, options, **job)
        queue, loads[:] = Queue(), []
        encode, fit = encode or CallsHere("encode", queue), CallsHere("fit", queue)
        fetched = []
        monkeypatch.setattr(
            worker.LocalApplication,
            "fetch_base",
            lambda _self, name: fetched.append((name, *encode.started, *fit.started)),
        )
        request = json.loads(json.dumps(train_request(asked, "7.7", shards, encode_batch=encode_batch)))
        result = worker.Worker(queue, worker.Volumes(())).train(request, fit, encode)
        assert "error" not in result, result
        assert fetched == [(str(tiny_base),)]  # before a GPU is asked for
        assert {len(base.blocks) for base in loads} == {2}  # no deeper than the layers that are read
        return SafetensorsRouterStore().load(asked.router_out), len(encode.started), len(fit.started), queue.messages

    train.loads = loads
    return train


def test_the_head_is_trained_without_a_gpu_on_features_that_others_have_cached(training, tmp_path):
    from tests.modal_world import same_router

    whole, encoded, fitted, _ = training("alone", use_cache=False)
    assert (encoded, fitted, len(training.loads)) == (0, 1, 1)
    router, encoded, fitted, messages = training("split")
    assert (encoded, fitted, len(training.loads)) == (1, 0, 1)  # the container with the GPU has loaded it
    same_router(router, whole)
    assert router.card.tool_version == "7.7"
    kinds = [message["kind"] for message in messages]
    assert (kinds.count("started"), kinds.count("finished"), kinds[-1]) == (1, 1, "finished")
    assert {"share", "event", "progress"} <= set(kinds)
    router, encoded, fitted, messages = training("shared", shards=3)
    assert (encoded, fitted) == (3, 0)
    assert [each["total"] for each in messages if each["kind"] == "progress"] == [None, 3]
    same_router(router, whole)


@pytest.mark.parametrize("cached", [True, False])
def test_no_more_prompts_are_encoded_at_a_time_than_was_asked_for(training, monkeypatch, cached):
    from adapters.base_model.transformers_features import TransformersFeatureExtractor

    sizes, padded = [], TransformersFeatureExtractor._padded
    monkeypatch.setattr(
        TransformersFeatureExtractor, "_padded", lambda self, rows: sizes.append(len(rows)) or padded(self, rows)
    )
    training("few", encode_batch=3, use_cache=cached)
    assert max(sizes) == 3


def test_what_the_cache_could_not_hold_is_encoded_where_the_head_is_trained(training, tmp_path):
    class Forgetful(CallsHere):
        def wait(self, call_id):
            result = super().wait(call_id)
            shutil.rmtree(tmp_path / "cache" / "features")
            return result

    assert training("forgotten", Forgetful("encode"))[1:3] == (1, 1)
