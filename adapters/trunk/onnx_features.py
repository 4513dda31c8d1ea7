"""Features out of a trunk: ONNX Runtime, tokenizers and numpy; neither torch nor transformers is imported."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from attrs import define, field
from numpy.typing import NDArray

from adapters.base_model.length_batches import length_sorted_batches
from adapters.trunk.trunk_folder import GRAPH, TOKENIZER, Trunk, read_trunk
from domain.errors import DataRejectedError, UsageError
from domain.features import BaseModel, FeatureTap

TOKEN_BUDGET: Final = 512
"""Padded tokens per batch, as the torch path has it on a CPU."""


@define(eq=False)
class OnnxFeatureExtractor:
    """A :class:`application.ports.FeatureExtractor` that runs a trunk. Threads wait for each other.

    Attributes:
        folder: the trunk's folder; all of its files are verified.
        max_tokens: texts are cut after this many tokens, or after as many as the trunk has, if that is fewer.
        token_budget: padded tokens per batch.
        max_batch: most texts per batch; None for no such limit.
    """

    folder: Path
    _token_limit: int = field(default=512, alias="max_tokens")
    token_budget: int = TOKEN_BUDGET
    max_batch: int | None = None
    _trunk: Trunk = field(init=False)
    _session: Any = field(init=False, repr=False)
    _tokenizer: Any = field(init=False, repr=False)
    _lock: Any = field(factory=threading.Lock, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """Load the trunk.

        Raises:
            UsageError: a limit or budget below 1, or a package is missing.
            MissingFileError, DataRejectedError: see :func:`adapters.trunk.trunk_folder.read_trunk`.
        """
        if self._token_limit < 1 or self.token_budget < 1:
            raise UsageError(f"max-tokens {self._token_limit} or token budget {self.token_budget} is below 1")
        try:
            import onnxruntime
            from tokenizers import Tokenizer
        except ModuleNotFoundError as error:
            raise UsageError(
                f"a trunk needs the package {error.name}", hint="pip install onnxruntime tokenizers"
            ) from error
        self._trunk = read_trunk(self.folder)
        self._tokenizer = Tokenizer.from_file(str(self.folder / TOKENIZER))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self.max_tokens)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS") or 0)
        options.add_session_config_entry(
            "session.intra_op.allow_spinning", "0"
        )  # others need the cores between calls
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                self.folder / GRAPH, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its errors share no other class
            reason = str(error).splitlines()[0][:200]
            raise DataRejectedError(f"ONNX Runtime cannot load it: {reason}", where=self.folder) from error

    @property
    def base(self) -> BaseModel:
        """The base model that features come from."""
        return self._trunk.base

    @property
    def max_tokens(self) -> int:
        """Texts are cut after this many tokens."""
        return min(self._token_limit, self._trunk.max_tokens)

    def extract(self, texts: Sequence[str], taps: Sequence[FeatureTap]) -> NDArray[np.float32]:
        """Return float32 features of shape ``(len(texts), len(taps) * base.hidden_size)``; see the port.

        Raises:
            UsageError: a tap outside the model, or above the trunk.
            DataRejectedError: the model gave a value that is not finite.
        """
        self._check(taps)
        distinct = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        encoded = np.zeros((len(distinct), len(taps) * self.base.hidden_size), dtype=np.float32)
        if taps and distinct:
            ids = self._token_ids(list(distinct))
            names = [output_name(tap) for tap in taps]
            with self._lock:
                for batch in self._batches(ids):
                    encoded[batch] = self._run([ids[index] for index in batch], names)
        if not np.isfinite(encoded).all():
            raise DataRejectedError("gives features that are not finite", where=self.folder)
        return encoded[[distinct[text] for text in texts]]

    def batches(self, texts: Sequence[str]) -> list[list[str]]:
        """Return the distinct texts as the model is given them; see the port."""
        distinct = list(dict.fromkeys(texts))
        return [[distinct[index] for index in batch] for batch in self._batches(self._token_ids(distinct))]

    def _check(self, taps: Sequence[FeatureTap]) -> None:
        for tap in taps:
            if not 0 <= tap.layer <= self.base.n_layers:
                raise UsageError(f"layer {tap.layer} is not in 0..{self.base.n_layers}", where=self.folder)
            if tap.layer > self._trunk.depth:
                raise UsageError(
                    f"layer {tap.layer} is not in this trunk, only 0..{self._trunk.depth}",
                    where=self.folder,
                    hint="export it again, with the router that reads this layer",
                )

    def _token_ids(self, texts: list[str]) -> list[list[int]]:
        valid = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]  # no lone surrogates
        return [found.ids or [self._trunk.stand_in] for found in self._tokenizer.encode_batch(valid)]

    def _batches(self, ids: list[list[int]]) -> list[list[int]]:
        return length_sorted_batches([len(row) for row in ids], self.token_budget, self.max_batch)

    def _run(self, rows: list[list[int]], names: list[str]) -> NDArray[np.float32]:
        width = max(map(len, rows))
        tokens = np.full((len(rows), width), self._trunk.padding, dtype=np.int64)
        mask = np.zeros((len(rows), width), dtype=np.int64)
        for index, row in enumerate(rows):
            tokens[index, : len(row)] = row
            mask[index, : len(row)] = 1
        found = self._session.run(list(dict.fromkeys(names)), {"input_ids": tokens, "attention_mask": mask})
        by_name = dict(zip(dict.fromkeys(names), found, strict=True))
        return np.concatenate([by_name[name] for name in names], axis=1)


def output_name(tap: FeatureTap) -> str:
    """Return what the graph calls a pooled layer."""
    return f"{tap.pooling}_{tap.layer}"
