"""Making a trunk out of a loaded base model, and proving it before anybody can use it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from attrs import frozen
from onnx import TensorProto
from safetensors import SafetensorError
from safetensors.torch import save_file

from adapters.base_model.base_fingerprint import PROBES, stored_tensors
from adapters.base_model.transformers_base import LoadedBase
from adapters.base_model.transformers_features import TransformersFeatureExtractor
from adapters.files.staged_folder import staged_folder
from adapters.router.numpy_scorer import NumpyRouterScorer
from adapters.router.router_folder import fill_folder
from adapters.trunk.blocks import blocks_of, not_supported
from adapters.trunk.onnx_features import OnnxFeatureExtractor, output_name
from adapters.trunk.onnx_graph import GraphWriter
from adapters.trunk.trunk_folder import GRAPH, NOTES, TOKENIZER, TRUNK_FOLDER, WEIGHTS, Trunk, sha256_of
from application.ports import TrainedRouter
from application.routing.route_prompts import RoutePrompts, RouteRequest
from domain.errors import DataRejectedError, MismatchError, StorageError
from domain.features import FeatureTap, Pooling

TOLERANCE: Final = 1e-5
"""Most that a number may differ by, as a share of its layer's vector's length."""

REMEMBERED: Final = 64
"""Prompts out of the router's memory that must be decided alike."""


@frozen
class TrunkProof:
    """How a trunk compares with the base model in torch.

    Attributes:
        prompts: how many prompts were compared.
        difference: the largest difference of a feature, as a share of its vector's length.
    """

    prompts: int
    difference: float


def export_trunk(router: TrainedRouter, base: LoadedBase, target: Path) -> TrunkProof:
    """Write a trunk with this router: proved, complete, or not at all; an earlier trunk is replaced.

    Args:
        router: the router; the trunk goes as deep as it reads.
        base: its base model on the CPU, loaded to that depth at least.
        target: the folder.

    Raises:
        DataRejectedError: this kind of base model cannot be written, or what was written computes something else.
        MismatchError: the router was trained on another base model.
        TargetExistsError: something else is there.
        StorageError: the file system refused.
    """
    spec = router.card.features
    reference = TransformersFeatureExtractor(base, max_tokens=spec.max_tokens)
    before = RoutePrompts(router, reference, NumpyRouterScorer())
    with staged_folder(target, TRUNK_FOLDER, replace=True) as folder:
        fill_folder(folder, router)
        write_trunk(folder.staging, base, reference, spec.layers[-1])
        found = OnnxFeatureExtractor(folder.staging, max_tokens=spec.max_tokens)
        proof = _proved(before, RoutePrompts(router, found, NumpyRouterScorer()))
        folder.publish()
    return proof


def write_trunk(folder: Path, base: LoadedBase, reference: TransformersFeatureExtractor, depth: int) -> None:
    """Write a trunk's files into a folder: the hidden states 0 to `depth` of a base model, pooled in every way."""
    tower, tensors = base.text_tower, dict(base.text_tower.named_parameters())
    graph = GraphWriter({name: tuple(tensor.shape) for name, tensor in tensors.items()})
    shares = _shares(graph)
    try:
        written = list(blocks_of(tower, base.info.n_layers).states(graph, depth, reference.max_tokens))
    except (AttributeError, LookupError) as error:
        raise not_supported(tower) from error
    for layer, states in enumerate(written):
        for pooling, share in shares.items():
            pooled = graph.op("Squeeze", graph.op("MatMul", share, states), graph.constant([1]))
            graph.output(pooled, output_name(FeatureTap(layer, pooling)), base.info.hidden_size)
    if set(graph.used) - set(tensors):
        raise not_supported(tower)
    try:
        save_file({name: tensors[name].detach().contiguous() for name in graph.used}, folder / WEIGHTS)
    except SafetensorError as error:  # a full disk is one of them
        raise StorageError(f"cannot write: {error}", where=folder / WEIGHTS) from error
    placed = {tensor.name: tensor for tensor in stored_tensors(folder / WEIGHTS)}
    (folder / GRAPH).write_bytes(graph.model(("input_ids", "attention_mask"), WEIGHTS, placed))
    (folder / TOKENIZER).write_bytes(_tokenizer(base))
    notes = Trunk(
        base.info,
        depth,
        reference.max_tokens,
        *reference.stand_ins,
        files={name: sha256_of(folder / name) for name in (WEIGHTS, GRAPH, TOKENIZER)},
    )
    (folder / NOTES).write_bytes(notes.to_json())
    (folder / WEIGHTS).chmod((folder / NOTES).stat().st_mode)  # safetensors writes for the owner only


def _shares(graph: GraphWriter) -> dict[Pooling, str]:
    """Write each token's share in its prompt's vector, (batch, 1, tokens)."""
    mask = graph.op("Cast", "attention_mask", to=TensorProto.FLOAT)
    counts = graph.op("ReduceSum", mask, graph.constant([1]), keepdims=1)
    places = graph.op("CumSum", mask, graph.constant(np.int64(1)))
    is_last = graph.op("Mul", mask, graph.op("Cast", graph.op("Equal", places, counts), to=TensorProto.FLOAT))
    shares = {Pooling.MEAN: graph.op("Div", mask, counts), Pooling.LAST: is_last}
    return {pooling: graph.op("Unsqueeze", share, graph.constant([1])) for pooling, share in shares.items()}


def _tokenizer(base: LoadedBase) -> bytes:
    backend: Any = getattr(base.tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise DataRejectedError(
            f"its tokenizer {type(base.tokenizer).__name__} has no tokenizer.json",
            where=f"base model {base.info.name}",
        )
    return bytes(backend.to_str().encode())


def _proved(before: RoutePrompts, after: RoutePrompts) -> TrunkProof:
    router, limit = before.router, before.features.max_tokens
    longest = " ".join(PROBES) * limit
    texts = [*PROBES, longest, *router.bank_texts[:REMEMBERED]]
    taps = router.card.features.taps
    mine, theirs = (np.asarray(each.features.extract(texts, taps)) for each in (before, after))
    mine, theirs = (rows.reshape(len(texts) * len(taps), -1) for rows in (mine, theirs))
    difference = float((np.abs(mine - theirs).max(axis=1) / np.linalg.norm(mine, axis=1)).max())
    where = f"base model {router.card.features.base.name}"
    if not difference <= TOLERANCE:
        raise DataRejectedError(
            f"what was written computes other features (they differ by {difference:.0e})",
            where=where,
            hint="models of this kind route with torch",
        )
    asked = RouteRequest(tuple(texts))
    pairs = zip(before(asked), after(asked), strict=True)
    if other := sum((one.adapter, one.reason) != (two.adapter, two.reason) for one, two in pairs):
        raise MismatchError(f"{other} of {len(texts)} decisions differ from those with torch", where=where)
    return TrunkProof(len(texts), difference)
