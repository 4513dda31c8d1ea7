"""A router's card as JSON and back; reading is strict, so that a damaged or foreign card never half-loads."""

from __future__ import annotations

import math
from functools import cache, partial
from typing import Any

import attrs
from attrs import frozen

from domain.errors import RouterFileError, UsageError
from domain.features import BaseModel, FeatureSpec, Pooling
from domain.labels import LabelMap
from domain.router import RouterCard
from domain.routing import AbstentionThresholds
from domain.trade_off import TradeOff
from domain.turns import TurnChoice


@frozen
class _Limits:
    """The card's limits; None where there is none."""

    min_confidence: float | None
    max_out_of_scope: float | None


@frozen
class _Stored:
    """The card as the file holds it; no entry may be missing."""

    labels: dict[str, int]
    base_model: BaseModel
    layers: list[int]
    pooling: Pooling
    max_tokens: int
    thresholds: _Limits
    turn: TurnChoice
    trade_off: list[TradeOff]
    head: str
    temperature: float
    target_error: float
    seed: int
    n_train: int
    n_val: int
    n_out_of_scope: int
    val_accuracy: float
    dataset: str
    dataset_sha256: str
    created_at: str
    tool_version: str


_ALIKE = {field.name for field in attrs.fields(_Stored)} & {field.name for field in attrs.fields(RouterCard)}
_ALIKE -= {"labels", "thresholds", "trade_off"}


def card_to_json(card: RouterCard) -> dict[str, Any]:
    """Return the card as plain JSON values; an absent limit (infinity) becomes null."""
    stored = _Stored(
        labels=card.labels.as_mapping(),
        base_model=card.features.base,
        layers=list(card.features.layers),
        pooling=card.features.pooling,
        max_tokens=card.features.max_tokens,
        thresholds=_Limits(card.thresholds.min_confidence, card.thresholds.max_out_of_scope),
        trade_off=list(card.trade_off),
        **{name: getattr(card, name) for name in _ALIKE},
    )
    plain: dict[str, Any] = _converter().unstructure(stored)
    return plain


def card_from_json(values: object) -> RouterCard:
    """Return the card that `values` describe.

    Raises:
        RouterFileError: an entry is missing, unknown, of the wrong type or out of range.
    """
    from cattrs import BaseValidationError, transform_error

    if not isinstance(values, dict):
        raise RouterFileError(f"the router's description is {type(values).__name__}, expected an object")
    try:
        stored: _Stored = _converter().structure(values, _Stored)
        if not 0 < stored.temperature < math.inf:
            raise UsageError(f"temperature {stored.temperature} is not a positive number")
        confidence, scope = stored.thresholds.min_confidence, stored.thresholds.max_out_of_scope
        return RouterCard(
            labels=LabelMap.from_mapping(stored.labels),
            features=FeatureSpec(stored.base_model, stored.layers, stored.pooling, stored.max_tokens),
            thresholds=AbstentionThresholds(
                -math.inf if confidence is None else confidence, math.inf if scope is None else scope
            ),
            trade_off=tuple(stored.trade_off),
            **{name: getattr(stored, name) for name in _ALIKE},
        )
    except BaseValidationError as error:
        problem = transform_error(error, path="card", format_exception=_problem)[0]
    except UsageError as error:
        problem = str(error)
    raise RouterFileError(f"the router's description is not usable: {problem}")


@cache
def _converter() -> Any:
    """Return what reads and writes cards; built once, when the first card is met."""
    from cattrs import Converter
    from cattrs.cols import is_sequence, list_structure_factory
    from cattrs.gen import make_dict_structure_fn, override

    converter = Converter(forbid_extra_keys=True)

    def listed(kind: Any) -> Any:
        read = list_structure_factory(kind, converter)
        return lambda value, _kind: read(_strictly(value, list, allowed=(list,)), kind)

    converter.register_structure_hook_factory(is_sequence, listed)
    for kind, allowed in ((str, (str,)), (int, (int,)), (float, (int, float))):
        converter.register_structure_hook(kind, partial(_strictly, allowed=allowed))
    converter.register_unstructure_hook(float, lambda value: value if math.isfinite(value) else None)
    scope = override(struct_hook=lambda value, kind: math.inf if value is None else converter.structure(value, kind))
    read = make_dict_structure_fn(TradeOff, converter, _cattrs_forbid_extra_keys=True, max_out_of_scope=scope)
    converter.register_structure_hook(TradeOff, read)
    return converter


def _strictly(value: Any, kind: Any, allowed: tuple[type, ...]) -> Any:
    """Return a value of one of these types as `kind`: no number is read out of a text, no bool taken for one."""
    if type(value) not in allowed:
        raise ValueError(f"is {value!r}, expected {kind.__name__}")
    return kind(value)


def _problem(error: BaseException, _kind: type | None) -> str:
    from cattrs import ForbiddenExtraKeysError

    if isinstance(error, ForbiddenExtraKeysError):
        return f"unknown entry {min(error.extra_fields)!r} (a newer version may have written it)"
    return f"lacks {error}" if isinstance(error, KeyError) else str(error)
