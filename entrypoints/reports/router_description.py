"""How ``moe-router describe`` tells what a router is."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from adapters.router.router_card_json import card_to_json
from adapters.router.router_folder import WEIGHTS
from application.ports import TrainedRouter
from entrypoints.reports.trade_off import trade_off_table


def as_text(router: TrainedRouter, path: Path) -> str:
    """Return the description of the router that was loaded from `path`, for people."""
    lines = [f"{name:<20} {value}" for name, value in _lines(router, path)]
    table = trade_off_table(router.card)
    return "\n".join([*lines, "", table] if table else lines)


def as_values(router: TrainedRouter, path: Path) -> dict[str, Any]:
    """Return the same as plain values, the router's card among them."""
    return {
        "path": str(path),
        "sha256": router.sha256,
        "file_sha256": _file_sha256(path),
        "bytes": _size(path),
        **card_to_json(router.card),
        "hidden_states": [_state(router, layer) for layer in router.card.features.layers],
        "n_features": router.card.features.n_features,
        "bank_prompts": len(router.bank_texts),
        "out_of_scope_examples": router.card.n_out_of_scope,
        "tensors": {name: list(tensor.shape) for name, tensor in sorted(router.tensors.items())},
    }


def _lines(router: TrainedRouter, path: Path) -> list[tuple[str, str]]:
    card = router.card
    base, limits = card.features.base, card.thresholds
    lines = [
        ("router", f"{path} ({_size(path):,} bytes)"),
        ("sha256", f"{router.sha256 or ''} (its version: says itself, over all but these digits)"),
        ("file's sha256", f"{_file_sha256(path)} (what sha256sum says)"),
        ("labels", str(card.labels)),
        ("base model", f"{base.name}, {base.n_layers} layers, hidden size {base.hidden_size}"),
        ("fingerprint", base.fingerprint),
    ]
    lines += [(f"layer {layer}", _state(router, layer)) for layer in card.features.layers]
    shapes = ", ".join(
        f"{name} {'×'.join(map(str, tensor.shape))}"
        for name, tensor in sorted(router.tensors.items())
        if name.startswith("head.")
    )
    return [
        *lines,
        ("pooling", f"{card.features.pooling} over at most {card.features.max_tokens} tokens"),
        ("features", str(card.features.n_features)),
        ("turn of a chat", str(card.turn)),
        ("head", f"{card.head} ({shapes})"),
        ("temperature", f"{card.temperature:.4f}"),
        ("min confidence", f"{limits.min_confidence:.4f}"),
        ("max out-of-scope", f"{limits.max_out_of_scope:.4f}"),
        ("target error", f"{card.target_error:g}"),
        ("bank", _bank(router)),
        ("data set", f"{card.dataset} ({card.n_train} training, {card.n_val} validation prompts)"),
        ("data set sha256", card.dataset_sha256),
        ("validation accuracy", f"{card.val_accuracy:.4f}"),
        ("seed", str(card.seed)),
        ("made", f"{card.created_at}, version {card.tool_version}"),
    ]


def _bank(router: TrainedRouter) -> str:
    known = f"{len(router.bank_texts)} training and validation prompts and pieces of them, as plain text"
    return (
        f"{known}; features of {router.card.n_out_of_scope} out-of-scope examples"
        if router.card.n_out_of_scope
        else known
    )


def _state(router: TrainedRouter, layer: int) -> str:
    if layer == 0:
        return "hidden_states[0], the embeddings"
    last = router.card.features.base.n_layers
    after = f"after block {layer} of {last}"
    return f"hidden_states[{layer}], {after}{' and the final norm' if layer == last else ''}"


def _file_sha256(path: Path) -> str:
    """Return the hash of the file itself; of a folder, that of the file in it that counts."""
    return hashlib.sha256((path / WEIGHTS if path.is_dir() else path).read_bytes()).hexdigest()


def _size(path: Path) -> int:
    return sum(each.stat().st_size for each in path.iterdir()) if path.is_dir() else path.stat().st_size
