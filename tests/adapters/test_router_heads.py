from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from adapters.router.lexical import Lexicon
from adapters.router.router_heads import HEADS, check_head_tensors, prepared_head
from domain.errors import RouterFileError, UsageError

SIZES = {"F": 4, "K": 4, "D": 3, "H": 5, "S": 6, "V": 7, "1": 1}
TEXTS = ("ab", "cd", "ab cd", "ef", "xx", "")


def tensors_of(kind: str) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    shapes = {"feature.mean": ("F",), "feature.scale": ("F",), **HEADS[kind].shapes}
    made = {name: rng.normal(size=[SIZES[s] for s in symbols]).astype(np.float32) for name, symbols in shapes.items()}
    made["feature.scale"] = np.abs(made["feature.scale"]) + 0.5
    if kind == "kernel":
        lexicon = Lexicon.of(["ab", "cd"])
        made |= {"head.lexicon": lexicon.grams, "head.idf": lexicon.idf}
        made["head.lexical"] = rng.normal(size=(SIZES["K"], len(lexicon.grams))).astype(np.float32)
    return made


def head_logits(kind: str, tensors: dict[str, Any], features: Any, texts: tuple[str, ...] = TEXTS) -> Any:
    return prepared_head(kind, tensors)(features, texts[: len(features)])


def test_linear_logits_are_the_affine_map_of_the_standardised_features() -> None:
    t = tensors_of("linear")
    x = np.random.default_rng(1).normal(size=(6, 4)).astype(np.float32)
    expected = [
        [
            sum(t["head.weight"][c, f] * (row[f] - t["feature.mean"][f]) / t["feature.scale"][f] for f in range(4))
            + t["head.bias"][c]
            for c in range(4)
        ]
        for row in x
    ]
    np.testing.assert_allclose(head_logits("linear", t, x), expected, rtol=1e-4, atol=1e-5)


def test_mlp_logits_equal_torchs_own_layers() -> None:
    torch = pytest.importorskip("torch")
    t = tensors_of("mlp")
    x = np.random.default_rng(1).normal(size=(6, 4)).astype(np.float32)
    z = torch.from_numpy((x - t["feature.mean"]) / t["feature.scale"])
    linear = torch.nn.functional.linear
    hidden = torch.relu(linear(z, torch.from_numpy(t["head.0.weight"]), torch.from_numpy(t["head.0.bias"])))
    expected = linear(hidden, torch.from_numpy(t["head.1.weight"]), torch.from_numpy(t["head.1.bias"]))
    np.testing.assert_allclose(head_logits("mlp", t, x), expected.numpy(), rtol=1e-4, atol=1e-5)


def test_kernel_logits_are_weighted_similarities_to_the_support_and_what_words_say() -> None:
    t = tensors_of("kernel")
    x = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
    words = Lexicon.from_tensors(t).matrix(TEXTS[:5]).toarray() @ t["head.lexical"].T
    for row, logits, said in zip(x, head_logits("kernel", t, x), words, strict=True):
        z = (row - t["feature.mean"]) / t["feature.scale"]
        z /= np.linalg.norm(z)
        near = [np.exp(t["head.gamma"][0] * ((t["head.projection"] @ z) @ s - 1)) for s in t["head.support"]]
        np.testing.assert_allclose(logits, t["head.weight"] @ near + t["head.bias"] + said, rtol=1e-4, atol=1e-4)
    assert np.abs(words).max() > 0
    zero = t["feature.mean"][None]  # has no direction; still a finite answer
    assert np.isfinite(head_logits("kernel", t, zero)).all()


@pytest.mark.parametrize("kind", list(HEADS))
def test_a_row_scores_the_same_alone_as_in_a_batch(kind: str) -> None:
    t = tensors_of(kind)
    x = np.random.default_rng(1).normal(size=(6, 4)).astype(np.float32)
    alone = np.concatenate([head_logits(kind, t, row[None], (text,)) for row, text in zip(x, TEXTS, strict=True)])
    np.testing.assert_allclose(head_logits(kind, t, x), alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", list(HEADS))
def test_whole_tensors_pass_and_each_missing_extra_misshapen_or_non_finite_one_is_named(kind: str) -> None:
    whole = tensors_of(kind)
    check_head_tensors(kind, {**whole, "bank.features": np.zeros((1, 9))}, n_features=4, n_labels=3)
    for name, tensor in whole.items():
        damaged = [
            {other: value for other, value in whole.items() if other != name},
            {**whole, name: tensor[..., :-1] if tensor.ndim == 2 else tensor[:-1]},
            {**whole, name: tensor[None]},
            {**whole, name: np.where(np.arange(tensor.size).reshape(tensor.shape) == 0, np.nan, tensor)},
        ]
        for tensors in damaged:
            with pytest.raises(RouterFileError, match=r"head|feature"):
                check_head_tensors(kind, tensors, n_features=4, n_labels=3)
    with pytest.raises(RouterFileError, match=r"head\.9"):
        check_head_tensors(kind, {**whole, "head.9": whole["feature.mean"]}, n_features=4, n_labels=3)
    with pytest.raises(RouterFileError, match="not positive"):
        check_head_tensors(kind, {**whole, "feature.scale": np.zeros(4)}, n_features=4, n_labels=3)


def test_an_unknown_kind_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="linear, mlp, kernel"):
        head_logits("forest", {}, np.zeros((1, 4)))
    with pytest.raises(RouterFileError, match="forest"):
        check_head_tensors("forest", {}, n_features=4, n_labels=3)
