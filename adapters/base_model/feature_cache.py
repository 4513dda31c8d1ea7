"""Features that were computed once are read from the disk afterwards."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import orjson
import structlog
from attrs import frozen
from filelock import FileLock, Timeout
from safetensors import SafetensorError

from adapters.base_model.feature_shards import ROWS_PER_SHARD, FeatureColumn
from application.ports import FeatureExtractor
from domain.errors import MissingFileError
from domain.features import BaseModel, FeatureTap

DEFAULT_CACHE_BYTES = 4 * 2**30

_SCHEME = 1
_LOG = structlog.get_logger()


class MissingFeaturesError(MissingFileError):
    """Features that are not in the cache, where the base model that gives them is not loaded."""


@frozen
class CachedBase:
    """Stands for a base model of which only cached features are at hand, inside a :class:`CachedFeatureExtractor`.

    Attributes:
        base: the base model.
        max_tokens: texts were cut after this many tokens.
        variant: that of the cache.
    """

    base: BaseModel
    max_tokens: int
    variant: str

    def extract(self, texts: Sequence[str], taps: Sequence[FeatureTap]) -> np.ndarray:
        """Raise MissingFeaturesError unless nothing is asked for."""
        if texts and taps:
            raise MissingFeaturesError(f"{len(texts)} prompts have no cached features", where=self.base.name)
        return np.zeros((len(texts), len(taps) * self.base.hidden_size), dtype=np.float32)

    def batches(self, texts: Sequence[str]) -> list[list[str]]:
        """Return the distinct texts as one group."""
        return [list(dict.fromkeys(texts))] if texts else []


@frozen
class CachedFeatureExtractor:
    """A :class:`application.ports.FeatureExtractor` that asks another one only for what it has not seen.

    Content-addressed: a row is found by base fingerprint, layer, pooling, token limit, `variant` and the SHA-256
    of its text, so neither the order of the texts nor the name of the model matters. Any number of processes may
    share the folder: shards appear by rename, are verified whenever they are read, and may vanish at any time. A
    cache that is damaged, full or read-only costs time, never the work and never a wrong row.

    Attributes:
        inner: computes what is missing.
        folder: where the cache lies; shared by all base models.
        variant: what else decides the numbers, for example the compute dtype.
        max_bytes: the least recently used shards are removed when the folder grows above this.
        texts_per_call: missing texts are computed and written in groups of at most this many (or one batch),
            so that an interrupted run goes on where it was. Groups are whole batches of `inner`: a resumed run has
            the same batches as an uninterrupted one, and so, to the bit, the same features.
    """

    inner: FeatureExtractor
    folder: Path
    variant: str = ""
    max_bytes: int = DEFAULT_CACHE_BYTES
    texts_per_call: int = ROWS_PER_SHARD

    @property
    def base(self) -> BaseModel:
        """The base model that features come from."""
        return self.inner.base

    @property
    def max_tokens(self) -> int:
        """Texts are cut after this many tokens."""
        return self.inner.max_tokens

    def without_base(self) -> CachedBase:
        """Return what finds the same features again where the base model is not loaded."""
        return CachedBase(self.base, self.max_tokens, self.variant)

    def extract(self, texts: Sequence[str], taps: Sequence[FeatureTap]) -> np.ndarray:
        """Return float32 features of shape ``(len(texts), len(taps) * base.hidden_size)``; see the port."""
        keys = {text: _key(text) for text in texts}
        if not keys or not taps:
            return np.asarray(self.inner.extract(texts, taps))
        columns = {tap: self._column(tap) for tap in taps}
        rows = {tap: column.lookup(set(keys.values())) for tap, column in columns.items()}
        missing = [text for text, key in keys.items() if any(key not in found for found in rows.values())]
        wanted = [tap for tap in columns if len(rows[tap]) < len(keys)]
        for group in self._groups(missing):
            fresh = self._compute(group, wanted, rows, keys)
            self._keep({columns[tap]: found for tap, found in fresh.items()})
        return np.stack([np.concatenate([rows[tap][keys[text]] for tap in taps]) for text in texts])

    def batches(self, texts: Sequence[str]) -> list[list[str]]:
        """Return the batches of a run that finds nothing in the cache; see the port."""
        return self.inner.batches(texts)

    def _groups(self, missing: list[str]) -> list[list[str]]:
        if len(missing) <= self.texts_per_call:
            return [missing] if missing else []
        groups: list[list[str]] = [[]]
        for batch in self.inner.batches(missing):
            if groups[-1] and len(groups[-1]) + len(batch) > self.texts_per_call:
                groups.append([])
            groups[-1] += batch
        return groups

    def _compute(
        self,
        missing: list[str],
        taps: list[FeatureTap],
        rows: dict[FeatureTap, dict[bytes, np.ndarray]],
        keys: dict[str, bytes],
    ) -> dict[FeatureTap, dict[bytes, np.ndarray]]:
        """Add the missing rows to `rows`; return only those that were not there before."""
        size = self.base.hidden_size
        features = np.asarray(self.inner.extract(missing, taps))
        fresh: dict[FeatureTap, dict[bytes, np.ndarray]] = {tap: {} for tap in taps}
        for position, tap in enumerate(taps):
            block = features[:, position * size : (position + 1) * size]
            for text, row in zip(missing, block, strict=True):
                if keys[text] not in rows[tap]:
                    rows[tap][keys[text]] = fresh[tap][keys[text]] = row
        return fresh

    def _column(self, tap: FeatureTap) -> FeatureColumn:
        identity = [_SCHEME, self.base.fingerprint, self.variant, self.max_tokens, tap.layer, str(tap.pooling)]
        name = hashlib.sha256(orjson.dumps(identity)).hexdigest()[:32]
        return FeatureColumn(self.folder / name, self.base.hidden_size)

    def _keep(self, fresh: dict[FeatureColumn, dict[bytes, np.ndarray]]) -> None:
        try:
            for column, rows in fresh.items():
                column.add(rows)
            with FileLock(self.folder / ".lock", timeout=0):  # whoever holds it tidies up for all
                for column in fresh:
                    column.compact()
                self._evict()
        except Timeout:
            return
        except (OSError, SafetensorError) as error:
            _LOG.warning("feature_cache.not_written", folder=str(self.folder), reason=str(error))

    def _evict(self) -> None:
        shards = []
        for path in self.folder.glob("*/*.safetensors"):
            with suppress(OSError):  # a reader found it damaged
                found = path.lstat()
                if stat.S_ISREG(found.st_mode):
                    shards.append((found.st_mtime_ns, found.st_size, path))
        excess = sum(size for _, size, _ in shards) - self.max_bytes
        for _, size, path in sorted(shards):
            if excess <= 0:
                break
            path.unlink(missing_ok=True)
            excess -= size


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
