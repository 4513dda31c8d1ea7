"""A router's card as JSON and back; reading is strict, so that a damaged or foreign card never half-loads."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import attrs

from domain.abstention import TradeOff
from domain.errors import RouterFileError, UsageError
from domain.features import BaseModel, FeatureSpec
from domain.labels import LabelMap
from domain.router import RouterCard
from domain.routing import AbstentionThresholds
from domain.turns import TurnChoice

_PLAIN: Mapping[str, type] = {
    "head": str,
    "temperature": float,
    "target_error": float,
    "seed": int,
    "n_train": int,
    "n_val": int,
    "n_out_of_scope": int,
    "val_accuracy": float,
    "dataset": str,
    "dataset_sha256": str,
    "created_at": str,
    "tool_version": str,
}


def card_to_json(card: RouterCard) -> dict[str, Any]:
    """Return the card as plain JSON values; an absent limit (infinity) becomes null."""
    limits = {name: _finite(value) for name, value in attrs.asdict(card.thresholds).items()}
    return {
        "labels": card.labels.as_mapping(),
        "base_model": attrs.asdict(card.features.base),
        "layers": list(card.features.layers),
        "pooling": str(card.features.pooling),
        "max_tokens": card.features.max_tokens,
        "thresholds": limits,
        "turn": str(card.turn),
        "trade_off": [
            attrs.asdict(one) | {"max_out_of_scope": _finite(one.max_out_of_scope)} for one in card.trade_off
        ],
        **{name: getattr(card, name) for name in _PLAIN},
    }


def card_from_json(values: object) -> RouterCard:
    """Return the card that `values` describe.

    Raises:
        RouterFileError: a key is missing, unknown, of the wrong type or out of range.
    """
    expected = {"labels", "base_model", "layers", "pooling", "max_tokens", "thresholds", "turn", "trade_off", *_PLAIN}
    card = _mapping(values, "card", expected)
    base = _mapping(card["base_model"], "base_model", {field.name for field in attrs.fields(BaseModel)})
    limits = _mapping(card["thresholds"], "thresholds", {"min_confidence", "max_out_of_scope"})
    labels = card["labels"]
    if not isinstance(labels, dict) or not all(type(label) is int for label in labels.values()):
        raise RouterFileError(f"labels of the router are {labels!r}, expected adapter names with integer labels")
    plain = {name: _value(card, name, kind) for name, kind in _PLAIN.items()}
    if not 0 < plain["temperature"] < math.inf:
        raise RouterFileError(f"temperature of the router is {plain['temperature']}, expected a positive number")
    layers = card["layers"]
    if not isinstance(layers, list) or not all(type(layer) is int for layer in layers):
        raise RouterFileError(f"layers of the router are {layers!r}, expected a list of integers")
    try:
        features = FeatureSpec(
            BaseModel(
                _value(base, "name", str),
                _value(base, "fingerprint", str),
                _value(base, "n_layers", int),
                _value(base, "hidden_size", int),
            ),
            layers,
            _value(card, "pooling", str),
            _value(card, "max_tokens", int),
        )
        turn = TurnChoice(_value(card, "turn", str))
        return RouterCard(
            LabelMap.from_mapping(labels),
            features,
            thresholds=_thresholds(limits),
            trade_off=_trade_off(card["trade_off"]),
            turn=turn,
            **plain,
        )
    except (UsageError, ValueError) as error:
        raise RouterFileError(f"the router's description is not usable: {error}") from error


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _trade_off(values: object) -> tuple[TradeOff, ...]:
    if not isinstance(values, list):
        raise RouterFileError(f"trade_off of the router is {type(values).__name__}, expected a list")
    names = [field.name for field in attrs.fields(TradeOff)]
    rows = [_mapping(value, "trade_off", set(names)) for value in values]
    infinite = [{**row, "max_out_of_scope": math.inf} if row["max_out_of_scope"] is None else row for row in rows]
    return tuple(TradeOff(*(_value(row, name, float) for name in names)) for row in infinite)


def _thresholds(limits: Mapping[str, Any]) -> AbstentionThresholds:
    confidence, scope = limits["min_confidence"], limits["max_out_of_scope"]
    return AbstentionThresholds(
        -math.inf if confidence is None else _value(limits, "min_confidence", float),
        math.inf if scope is None else _value(limits, "max_out_of_scope", float),
    )


def _mapping(
    values: object, what: str, keys: set[str], optional: frozenset[str] | set[str] = frozenset()
) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise RouterFileError(f"{what} of the router is {type(values).__name__}, expected an object")
    if missing := sorted(keys - set(values)):
        raise RouterFileError(f"{what} of the router lacks {missing[0]!r}")
    if unknown := sorted(set(values) - keys - optional):
        raise RouterFileError(
            f"{what} of the router has the unknown entry {unknown[0]!r}", hint="a newer version may have written it"
        )
    return values


def _value(values: Mapping[str, Any], name: str, kind: type) -> Any:
    value = values[name]
    allowed = (int, float) if kind is float else (kind,)
    if type(value) not in allowed:  # not isinstance: a bool is not a number here
        raise RouterFileError(f"{name} of the router is {value!r}, expected {kind.__name__}")
    return float(value) if kind is float else value
