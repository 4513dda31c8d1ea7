"""What travels to a container and back arrives as it was sent, as plain values."""

import json
from pathlib import Path

import pytest

from adapters.modal_cloud.modal_answering import RemoteDecisions
from adapters.modal_cloud.modal_wire import (
    WIRE_VERSION,
    error_to_wire,
    event_from_wire,
    event_to_wire,
    from_wire,
    raise_remote_error,
    to_wire,
)
from application.ports import TrainJob, TrainReport
from domain.answers import Answer, Prompt
from domain.chats import as_chat
from domain.early_stopping import Verdict
from domain.errors import DataRejectedError, InterruptedRunError, MismatchError
from domain.features import Pooling
from domain.labels import DEFAULT_LABELS
from domain.routing import AbstentionThresholds, NearestPrompt, Reason, RoutingDecision
from domain.training import StopReason, TrainOptions
from domain.training_events import CandidateScored, Evaluated, LearningRateReduced, Noted, RunStarted, RunStopped
from entrypoints.backend import Evaluation, Questions
from tests.router_world import router_card

DECISION = RoutingDecision(
    None,
    Reason.OUT_OF_SCOPE,
    "calendar",
    0.5,
    None,
    0.5,
    0.9,
    AbstentionThresholds(),
    (NearestPrompt("a", "b", 0.5),),
)
VALUES = [
    TrainJob(Path("a"), Path("b"), None, Path("c"), None, TrainOptions(layers=(1, 2), pooling=Pooling.LAST)),
    TrainReport(Path("/output/r"), router_card(), 3, StopReason.EPOCHS, float("inf"), 0.5, 2, None, {"head": 1.5}),
    Questions(Path("r"), (Prompt(as_chat("hello")),), loras={"x": Path("/checkpoints/x")}),
    Evaluation(Path("r"), out_of_scope=Path("/data/o.jsonl")),
    RemoteDecisions((("text", DECISION),)),
    Answer(DECISION, None, "why", "text", 3, "stop"),
]
EVENTS = [
    RunStarted(TrainOptions(), 1, 2, "base", None, DEFAULT_LABELS),
    Evaluated(1, 1, 0.5, 0.5, 0.5, 0.5, 1e-4, Verdict.IMPROVED),
    CandidateScored("features", "layers 1", 0.1, 0.9, True),
    LearningRateReduced(3, 1e-3, 5e-4, 1, 5),
    RunStopped(4, StopReason.EPOCHS, 0.1, 0.9, 3),
    Noted("resumed"),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_come_back_equal_from_plain_ones(value):
    wire = to_wire(value)
    assert from_wire(type(value), json.loads(json.dumps(wire))) == value


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_events_come_back_equal(event):
    assert event_from_wire(json.loads(json.dumps(event_to_wire(event)))) == event


@pytest.mark.parametrize(
    "error", [DataRejectedError("x", where="y", hint="z"), InterruptedRunError("x", signal_number=15)]
)
def test_errors_come_back_as_themselves(error):
    with pytest.raises(type(error)) as caught:
        raise_remote_error(error_to_wire(error))
    assert str(caught.value) == str(error)


def test_another_version_is_refused_with_both_sides():
    with pytest.raises(MismatchError, match=rf"version {WIRE_VERSION}, the app on Modal version 0 .*modal deploy"):
        from_wire(TrainJob, {"version": 0, "value": {}})
