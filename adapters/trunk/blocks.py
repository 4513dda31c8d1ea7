"""The kinds of base models whose first blocks can be written as an ONNX graph.

A kind is known by the names of its weights: those of Llama (also Mistral, SmolLM, Qwen 2, 3 and 3-VL) and those of
BERT (also MiniLM, RoBERTa). What has other names is refused here; what has the same names and computes something
else is refused by whoever compares the features afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Protocol

import numpy as np
import torch
from onnx import TensorProto

from adapters.trunk.onnx_graph import GraphWriter
from domain.errors import DataRejectedError

_ACTIVATIONS: Final = {
    "silu": ("Sigmoid", {}),
    "gelu": ("Gelu", {"approximate": "none"}),
    "gelu_new": ("Gelu", {"approximate": "tanh"}),
    "gelu_pytorch_tanh": ("Gelu", {"approximate": "tanh"}),
    "relu": ("Relu", {}),
}


class Blocks(Protocol):
    """Writes one kind of base model."""

    def states(self, graph: GraphWriter, depth: int, positions: int) -> Iterator[str]:
        """Write the embeddings and `depth` blocks; yield the hidden states 0 to `depth`, (batch, tokens, width).

        Inputs are "input_ids" and "attention_mask" (1 for a token, 0 for padding on the right). Texts have at most
        `positions` tokens.
        """
        ...


def blocks_of(tower: Any, n_layers: int) -> Blocks:
    """Return what writes a base model's text tower; raises DataRejectedError for a kind that is not known."""
    names = set(dict(tower.named_parameters()))
    for first, kind in (
        ("layers.0.self_attn.q_proj.weight", Llama),
        ("encoder.layer.0.attention.self.query.weight", Bert),
    ):
        if first in names and tower.config.hidden_act in _ACTIVATIONS:
            return kind(tower, n_layers)
    raise not_supported(tower)


def not_supported(tower: Any) -> DataRejectedError:
    """Return the error for a kind of base model that cannot be written."""
    return DataRejectedError(
        f"models of the kind {tower.config.model_type!r} cannot be written as a trunk",
        hint="blocks like those of Llama, Mistral, Qwen 2 and 3, BERT and RoBERTa can be; others route with torch",
    )


def _activated(graph: GraphWriter, states: str, name: str) -> str:
    kind, attributes = _ACTIVATIONS[name]
    made = graph.op(kind, states, **attributes)
    return graph.op("Mul", states, made) if kind == "Sigmoid" else made


class Llama:
    """Root-mean-square norms, rotary positions, grouped heads, a gated feed-forward part."""

    def __init__(self, tower: Any, n_layers: int) -> None:
        self._tower, self._config, self._n_layers = tower, tower.config, n_layers

    def states(self, graph: GraphWriter, depth: int, positions: int) -> Iterator[str]:
        """Write it; see :class:`Blocks`. Padding is on the right, where no token of the text looks."""
        states = graph.op("Gather", graph.weight("embed_tokens.weight"), "input_ids")
        yield states
        shape = graph.op("Shape", "input_ids")
        rotation = [*self._rotation(graph, positions), graph.op("Expand", _counted(graph, shape), shape)]
        for layer in range(depth):
            states = self._block(graph, states, f"layers.{layer}", rotation)
            last = layer + 1 == self._n_layers
            yield self._norm(graph, states, "norm") if last else states

    def _rotation(self, graph: GraphWriter, positions: int) -> list[str]:
        with torch.no_grad():
            tables = self._tower.rotary_emb(torch.zeros(1, 1), torch.arange(positions)[None])
        return [graph.constant(table[0, :, : table.shape[-1] // 2].float().numpy()) for table in tables]

    def _norm(self, graph: GraphWriter, states: str, name: str) -> str:
        epsilon = float(self._config.rms_norm_eps)
        return graph.op("RMSNormalization", states, graph.weight(f"{name}.weight"), axis=-1, epsilon=epsilon)

    def _block(self, graph: GraphWriter, states: str, name: str, rotation: list[str]) -> str:
        normed = self._norm(graph, states, f"{name}.input_layernorm")
        states = graph.op("Add", states, self._attention(graph, normed, f"{name}.self_attn", rotation))
        normed = self._norm(graph, states, f"{name}.post_attention_layernorm")
        gate = _activated(graph, graph.linear(normed, f"{name}.mlp.gate_proj"), self._config.hidden_act)
        product = graph.op("Mul", gate, graph.linear(normed, f"{name}.mlp.up_proj"))
        return graph.op("Add", states, graph.linear(product, f"{name}.mlp.down_proj"))

    def _attention(self, graph: GraphWriter, states: str, name: str, rotation: list[str]) -> str:
        attention = self._tower.get_submodule(name)
        size, turned = int(attention.head_dim), []
        heads = {part: graph.shapes[f"{name}.{part}_proj.weight"][0] // size for part in "qk"}
        for part in "qk":
            value = graph.linear(states, f"{name}.{part}_proj")
            if f"{name}.{part}_norm.weight" in graph.shapes:
                apart = graph.op("Reshape", value, graph.constant([0, 0, heads[part], size]))
                apart = self._norm(graph, apart, f"{name}.{part}_norm")
                value = graph.op("Reshape", apart, graph.constant([0, 0, heads[part] * size]))
            turned.append(graph.op("RotaryEmbedding", value, *rotation, num_heads=heads[part]))
        mixed = graph.op(
            "Attention",
            *(*turned, graph.linear(states, f"{name}.v_proj")),
            q_num_heads=heads["q"],
            kv_num_heads=heads["k"],
            scale=float(attention.scaling),
            is_causal=1,
        )
        return graph.linear(mixed, f"{name}.o_proj")


class Bert:
    """Layer norms after each part, learnt positions, attention in both directions."""

    def __init__(self, tower: Any, _n_layers: int) -> None:
        self._tower, self._config = tower, tower.config

    def states(self, graph: GraphWriter, depth: int, positions: int) -> Iterator[str]:
        """Write it; see :class:`Blocks`."""
        places = self._places(graph)
        states = graph.op("Gather", graph.weight("embeddings.word_embeddings.weight"), "input_ids")
        kind = graph.op(
            "Gather", graph.weight("embeddings.token_type_embeddings.weight"), graph.constant(np.int64(0))
        )
        place = graph.op("Gather", graph.weight("embeddings.position_embeddings.weight"), places)
        states = self._norm(graph, graph.op("Add", graph.op("Add", states, kind), place), "embeddings.LayerNorm")
        yield states
        mask = graph.op("Cast", "attention_mask", to=TensorProto.BOOL)
        seen = graph.op("Unsqueeze", mask, graph.constant([1, 2]))
        padding = graph.op("Unsqueeze", graph.op("Not", mask), graph.constant([1, 3]))
        mask = graph.op("Or", seen, padding)  # (batch, 1, tokens, tokens); padding may look anywhere
        for layer in range(depth):
            states = self._block(graph, states, f"encoder.layer.{layer}", mask)
            yield states

    def _places(self, graph: GraphWriter) -> str:
        """Number the tokens; RoBERTa numbers those that are not its padding, from the padding's own number on."""
        padding = self._tower.embeddings.position_embeddings.padding_idx
        if padding is None:
            return _counted(graph, graph.op("Shape", "input_ids"))
        number = graph.constant(np.int64(padding))
        counts = graph.op("Cast", graph.op("Not", graph.op("Equal", "input_ids", number)), to=TensorProto.INT64)
        return graph.op(
            "Add", graph.op("Mul", graph.op("CumSum", counts, graph.constant(np.int64(1))), counts), number
        )

    def _norm(self, graph: GraphWriter, states: str, name: str) -> str:
        weights = graph.weight(f"{name}.weight"), graph.weight(f"{name}.bias")
        return graph.op("LayerNormalization", states, *weights, axis=-1, epsilon=float(self._config.layer_norm_eps))

    def _block(self, graph: GraphWriter, states: str, name: str, mask: str) -> str:
        heads = int(self._config.num_attention_heads)
        asked = [graph.linear(states, f"{name}.attention.self.{part}") for part in ("query", "key", "value")]
        mixed = graph.op("Attention", *asked, mask, q_num_heads=heads, kv_num_heads=heads)
        mixed = graph.op("Add", states, graph.linear(mixed, f"{name}.attention.output.dense"))
        states = self._norm(graph, mixed, f"{name}.attention.output.LayerNorm")
        wide = _activated(graph, graph.linear(states, f"{name}.intermediate.dense"), self._config.hidden_act)
        return self._norm(
            graph, graph.op("Add", states, graph.linear(wide, f"{name}.output.dense")), f"{name}.output.LayerNorm"
        )


def _counted(graph: GraphWriter, shape: str) -> str:
    """Number the tokens of a batch of this shape from 0 on."""
    none, one = graph.constant(np.int64(0)), graph.constant(np.int64(1))
    return graph.op("Range", none, graph.op("Gather", shape, one), one)


_KINDS: Final[dict[str, type[Llama] | type[Bert]]] = {
    "layers.0.self_attn.q_proj.weight": Llama,
    "encoder.layer.0.attention.self.query.weight": Bert,
}
"""The kinds, by the name of a weight that each has."""
