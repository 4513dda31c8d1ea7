"""What travels between this machine and a Modal container: plain dictionaries, built and checked with cattrs.

Nothing of ours is pickled, so a deployed app and the command line that calls it need not be the same build; when
they differ in what they say, :data:`WIRE_VERSION` makes that an error with a clear message.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Any, Final, TypeVar, get_args

import cattrs

from domain import errors
from domain.answers import Answer
from domain.errors import InterruptedRunError, MismatchError, MoeRouterError, RemoteError
from domain.training_events import Calibrated, FeaturesReady, TrainingEvent, ValidationScored

T = TypeVar("T")

WIRE_VERSION: Final = 6
"""Grows when what travels changes its meaning."""

ELSEWHERE: Final = "elsewhere"
"""Key of a result that is none: why another container has to do it."""

OF: Final = "of"
"""Key of a result: the command that was asked for."""


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True)
    converter.register_unstructure_hook_func(lambda kind: isinstance(kind, type) and issubclass(kind, Path), str)
    converter.register_unstructure_hook(Enum, lambda member: member.value)
    converter.register_structure_hook(Path, lambda value, _: Path(value))
    return converter


_CONVERTER: Final = _converter()
_EVENTS: Final[dict[str, type[Any]]] = {kind.__name__: kind for kind in get_args(TrainingEvent)}


def to_wire(value: Any) -> dict[str, Any]:
    """Return an attrs value as plain dictionaries, lists, numbers and strings."""
    return {"version": WIRE_VERSION, "value": _CONVERTER.unstructure(value)}


def from_wire(kind: type[T], message: dict[str, Any]) -> T:
    """Return the attrs value; raises MismatchError when the other side is of another version."""
    if message.get("version") != WIRE_VERSION:
        raise MismatchError(
            f"this software speaks version {WIRE_VERSION}, the app on Modal version {message.get('version')}",
            hint="deploy it again: modal deploy -m entrypoints.modal_app",
        )
    return _CONVERTER.structure(message["value"], kind)


def event_to_wire(event: TrainingEvent) -> dict[str, Any]:
    """Return a training event with its type's name."""
    return {"kind": "event", "type": type(event).__name__, **to_wire(event)}


def travels(event: TrainingEvent) -> bool:
    """Whether an event is worth sending; matrices of features stay where they are."""
    return not isinstance(event, Calibrated | FeaturesReady | ValidationScored)


def event_from_wire(message: dict[str, Any]) -> TrainingEvent:
    """Return the training event of :func:`event_to_wire`."""
    event: TrainingEvent = from_wire(_EVENTS[message["type"]], message)
    return event


def error_to_wire(error: MoeRouterError) -> dict[str, Any]:
    """Return a user's error; it travels as a value, because Modal would repeat a call that raises."""
    return {
        "error": type(error).__name__,
        "what": error.what,
        "where": error.where,
        "hint": error.hint,
        "signal_number": getattr(error, "signal_number", None),
    }


BUG: Final = "bug"
"""Kind of an error that is none of ours."""


def bug_to_wire(error: Exception) -> dict[str, Any]:
    """Return an exception that is not a user's error; the remote log has its traceback."""
    return {"error": BUG, "what": f"{type(error).__name__}: {error}", "where": None, "hint": None}


def raise_remote_error(result: dict[str, Any]) -> None:
    """Raise the error that a result of :func:`error_to_wire` or :func:`bug_to_wire` holds; else do nothing."""
    if "error" in result:
        raise error_from_wire(result)


def error_from_wire(result: dict[str, Any]) -> MoeRouterError:
    """Return the error that a result of :func:`error_to_wire` or :func:`bug_to_wire` holds."""
    kind = RemoteError if result["error"] == BUG else getattr(errors, str(result["error"]), MoeRouterError)
    details: dict[str, Any] = {"where": result["where"], "hint": result["hint"]}
    if issubclass(kind, InterruptedRunError):
        details["signal_number"] = result["signal_number"]
    error: MoeRouterError = kind(result["what"], **details)
    return error


def outcome_to_wire(outcome: Answer | MoeRouterError) -> dict[str, Any]:
    """Return an answer, or the error that stands in place of one."""
    return error_to_wire(outcome) if isinstance(outcome, MoeRouterError) else to_wire(outcome)


def outcome_from_wire(message: dict[str, Any]) -> Answer | MoeRouterError:
    """Return the outcome of :func:`outcome_to_wire`."""
    return error_from_wire(message) if "error" in message else from_wire(Answer, message)
