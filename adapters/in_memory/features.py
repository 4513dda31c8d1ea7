"""Features without a neural network, for tests and for trying the use cases out.

Not a language model: only the spelling of the words counts. Prompts that share words, or parts of words, get
features with a high cosine similarity; prompts that share nothing get nearly orthogonal ones. That is enough for
a linear head to separate topics, and for out-of-scope scores to mean something.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from attrs import field, mutable

from domain.errors import UsageError
from domain.features import BaseModel, FeatureTap, Pooling

_WORD = re.compile(r"\w+|[^\w\s]")
_NGRAM = 3  # letters per word piece
_DECAY = 0.8  # how much of the text before it a token's state keeps, per token
_START = "<s>"  # stands in for a text without tokens

IN_MEMORY_BASE = BaseModel(name="in-memory", fingerprint="in-memory-features-v1", n_layers=4, hidden_size=128)
"""The pretended base model: small, with a few layers to choose from."""


@mutable
class InMemoryFeatureExtractor:
    """A :class:`application.ports.FeatureExtractor` made of signed feature hashing (Weinberger et al. 2009).

    A token is a casefolded word or punctuation mark; its vector is the sum of hashed unit vectors of the word
    and of its letter trigrams. Layer k hashes with its own salt, so that layers differ as a model's do. Like a
    causal model's states, a token's state also holds what came before it, fading with distance; so "last"
    pooling sees the whole text, its end most of all. Same text, same bytes, on every machine.

    Attributes:
        base: the pretended base model; its `n_layers` and `hidden_size` are obeyed.
        max_tokens: texts are cut after this many tokens, 1 or more.
        encoded: every text that was encoded, in order; a test sees in it what a cache or a batch saved.
    """

    base: BaseModel = IN_MEMORY_BASE
    max_tokens: int = 512
    encoded: list[str] = field(factory=list, init=False)

    def extract(self, texts: Sequence[str], taps: Sequence[FeatureTap]) -> np.ndarray:
        """Return float32 features of shape ``(len(texts), len(taps) * base.hidden_size)``; see the port."""
        for tap in taps:
            if not 0 <= tap.layer <= self.base.n_layers:
                raise UsageError(f"layer {tap.layer} is not in 0..{self.base.n_layers}", where=self.base.name)
        distinct = list(dict.fromkeys(texts))
        self.encoded.extend(distinct)
        rows = {text: self._row(text, taps) for text in distinct}
        features = np.zeros((len(texts), len(taps) * self.base.hidden_size), dtype=np.float32)
        for index, text in enumerate(texts):
            features[index] = rows[text]
        return features

    def batches(self, texts: Sequence[str]) -> list[list[str]]:
        """Return every distinct text by itself; see the port."""
        return [[text] for text in dict.fromkeys(texts)]

    def _row(self, text: str, taps: Sequence[FeatureTap]) -> np.ndarray:
        tokens = _WORD.findall(text.casefold())[: self.max_tokens] or [_START]
        parts = [self._pooled(tokens, tap) for tap in taps]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)

    def _pooled(self, tokens: Sequence[str], tap: FeatureTap) -> np.ndarray:
        states = [_token_vector(token, tap.layer, self.base.hidden_size) for token in tokens]
        vectors: np.ndarray = np.stack(states)  # (T, H)
        if tap.pooling is Pooling.MEAN:
            return np.asarray(vectors.mean(axis=0))
        age = np.arange(len(tokens) - 1, -1, -1, dtype=np.float32)
        return np.asarray((np.float32(_DECAY) ** age) @ vectors)  # (H,)


@lru_cache(maxsize=65536)
def _token_vector(token: str, layer: int, size: int) -> np.ndarray:
    marked = f"<{token}>"
    pieces = [marked[i : i + _NGRAM] for i in range(len(marked) - _NGRAM + 1)]
    vector = np.zeros(size, dtype=np.float32)
    for piece in [marked, marked, *pieces]:  # the whole word counts twice
        digest = hashlib.blake2b(
            piece.encode("utf-8", "surrogatepass"), salt=layer.to_bytes(2), digest_size=8
        ).digest()
        value = int.from_bytes(digest)
        vector[(value >> 1) % size] += 1.0 if value & 1 else -1.0
    norm = float(np.linalg.norm(vector))
    # Signs can cancel out to nothing in a very narrow base; such a token still needs a state.
    vector = vector / norm if norm > 0 else np.full(size, size**-0.5, dtype=np.float32)
    vector.setflags(write=False)  # shared by the cache
    return vector
