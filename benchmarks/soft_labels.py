"""Would a router choose better if it were trained on measured losses instead of the data sets' labels?

Takes the prompts that ``compare --rows`` has scored, splits each data set's in two again and again, fits one linear
head on one half in several ways, and measures on the other half what its choices (none refused) cost:

- ``labels``: the adapter whose data a prompt is from;
- ``soft T``: every adapter in proportion to ``exp(-loss of the whole answer / T)``;
- ``weighted``: labels, each prompt counting by how far its own adapter is ahead of the others' mean.

    .venv/bin/python benchmarks/soft_labels.py ROWS.jsonl
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from domain.features import FeatureTap, Pooling
from entrypoints.bootstrap import Application

LAYERS, SPLITS = (1, 7), 40
TEMPERATURES = (1.0, 4.0, 16.0)


def read(path: Path) -> tuple[list[str], list[str], Any, Any, Any]:
    """Return adapters, texts, labels (n,), losses per token (n, adapters) and tokens (n,)."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    names = [name for name in rows[0]["losses"] if name != "base"]
    losses = np.array([[row["losses"][name] for name in names] for row in rows])
    labels = np.array([names.index(row["adapter"]) for row in rows])
    return names, [row["text"] for row in rows], labels, losses, np.array([row["tokens"] for row in rows])


def features(texts: list[str]) -> Any:
    """Return the embedded base model's features, (n, width)."""
    app = Application()
    extractor = app.feature_extractor(app.load_base(None, max_layer=max(LAYERS)))
    taps = tuple(FeatureTap(layer, Pooling.MEAN) for layer in LAYERS)
    return np.asarray(extractor.extract(texts, taps))


def fitted(inputs: Any, targets: Any, weights: Any) -> Any:
    """Return a linear head for soft targets (n, adapters): every row once per adapter, weighted by its target."""
    count, width = targets.shape
    repeated, classes = np.repeat(inputs, width, axis=0), np.tile(np.arange(width), count)
    return LogisticRegression(C=0.1, max_iter=2000).fit(
        repeated, classes, sample_weight=(targets * weights[:, None]).ravel() + 1e-9
    )


def ways(labels: Any, losses: Any, tokens: Any) -> dict[str, tuple[Any, Any]]:
    """Return targets (n, adapters) and weights (n,) of every way to train."""
    hard, even = np.eye(losses.shape[1])[labels], np.ones(len(labels))
    whole = (losses - losses.min(axis=1, keepdims=True)) * tokens[:, None]
    soft = {f"soft {t:g}": np.exp(-whole / t) for t in TEMPERATURES}
    own = losses[np.arange(len(labels)), labels]
    ahead = np.clip((losses.sum(axis=1) - own) / (losses.shape[1] - 1) - own, 0.01, None)
    return {
        "labels": (hard, even),
        **{name: (each / each.sum(axis=1, keepdims=True), even) for name, each in soft.items()},
        "weighted": (hard, ahead / ahead.mean()),
    }


def main(path: Path) -> None:
    """Print accuracy and regret of every way, with the paired difference to labels."""
    names, texts, labels, losses, tokens = read(path)
    inputs = features(texts)
    regrets: dict[str, list[float]] = {}
    right: dict[str, list[float]] = {}
    for split in range(SPLITS):
        rng = np.random.default_rng(split)
        order = np.concatenate([rng.permutation(np.flatnonzero(labels == each)) for each in range(len(names))])
        train, test = order[::2], order[1::2]
        scaler = StandardScaler().fit(inputs[train])
        for name, (targets, weights) in ways(labels[train], losses[train], tokens[train]).items():
            head = fitted(scaler.transform(inputs[train]), targets, weights)
            choice = head.predict(scaler.transform(inputs[test]))
            cost = losses[test, choice] - losses[test].min(axis=1)
            regrets.setdefault(name, []).append(float(cost.mean()))
            right.setdefault(name, []).append(float((choice == labels[test]).mean()))
    print(f"{len(texts)} prompts, {SPLITS} splits in halves; regret in nats per token")
    for name, each in regrets.items():
        apart = np.array(each) - np.array(regrets["labels"])
        print(
            f"{name:<10} accuracy {np.mean(right[name]):.3f}  regret {np.mean(each):.4f}  "
            f"to labels {apart.mean():+.4f} (± {apart.std():.4f} between splits)"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
