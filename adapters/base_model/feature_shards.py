"""Files that keep pooled features: immutable, verified safetensors shards of many rows each."""

from __future__ import annotations

import hashlib
import os
import stat
import uuid
from collections.abc import Iterator, Mapping, Set
from contextlib import suppress
from pathlib import Path

import numpy as np
import structlog
from attrs import frozen
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from adapters.files.atomic_files import write_bytes

KEY_BYTES = 32  # SHA-256 of the text
ROWS_PER_SHARD = 4096
SMALL_ROWS = 1024  # shards below this are merged …
MANY_SMALL = 16  # … once a column has more of them than this

_LOG = structlog.get_logger()
_UNREADABLE = (SafetensorError, OSError, ValueError, KeyError, TypeError)


@frozen
class FeatureColumn:
    """All rows of one tap of one base model: a folder of shards that only ever appear whole or disappear.

    A shard holds ``keys`` (uint8, n × 32) and ``features`` (float32, n × width); its header holds the column's
    name and SHA-256 sums of both. Rows are found by key, never by position, so no order of texts can mix them
    up. Every row that is handed out was verified; a shard that fails is logged, removed and forgotten. Only regular
    files count, and only finite rows.

    Attributes:
        folder: where the shards lie; its name identifies the column.
        width: length of a row.
    """

    folder: Path
    width: int

    def lookup(self, wanted: Set[bytes]) -> dict[bytes, np.ndarray]:
        """Return the rows there are for these keys."""
        found: dict[bytes, np.ndarray] = {}
        for path in self.shards():
            if len(found) == len(wanted):
                break
            keys = self._read(path, "keys")
            rows = [] if keys is None else [(key, i) for i, key in _split(keys) if key in wanted and key not in found]
            features = self._read(path, "features") if rows else None
            if features is None or keys is None:
                continue
            if features.shape != (len(keys), self.width) or features.dtype != np.float32:
                self._reject(path, f"shape {features.shape} {features.dtype}")
                continue
            finite = np.isfinite(features).all(axis=1)
            found.update((key, features[i]) for key, i in rows if finite[i])
            _touch(path)
        return found

    def add(self, rows: Mapping[bytes, np.ndarray]) -> None:
        """Write the finite rows as new shards; raises OSError or SafetensorError when the disk refuses."""
        items = [(key, row) for key, row in rows.items() if np.isfinite(row).all()]
        for start in range(0, len(items), ROWS_PER_SHARD):
            self._write(items[start : start + ROWS_PER_SHARD])

    def compact(self) -> None:
        """Merge small shards when there are many. A row may be in two shards meanwhile, never in none."""
        limit = SMALL_ROWS * (self.width * 4 + KEY_BYTES)
        small = [path for path in self.shards() if _size(path) < limit]
        if len(small) <= MANY_SMALL:
            return
        rows: dict[bytes, np.ndarray] = {}
        for path in small:
            keys, features = self._read(path, "keys"), self._read(path, "features")
            if keys is not None and features is not None and features.shape == (len(keys), self.width):
                rows.update((key, features[i]) for i, key in _split(keys))
        self.add(rows)
        for path in small:
            path.unlink(missing_ok=True)

    def shards(self) -> list[Path]:
        """Return the shards, newest first."""
        dated = []
        for path in self.folder.glob("*.safetensors"):
            with suppress(OSError):  # another process removed it
                found = path.lstat()
                if stat.S_ISREG(found.st_mode):
                    dated.append((found.st_mtime_ns, path))
        return [path for _, path in sorted(dated, reverse=True)]

    def _write(self, items: list[tuple[bytes, np.ndarray]]) -> None:
        keys = np.frombuffer(b"".join(key for key, _ in items), dtype=np.uint8).reshape(-1, KEY_BYTES)
        features = np.stack([row for _, row in items]).astype(np.float32, copy=False)
        metadata = {"column": self.folder.name, "keys": _sha256(keys), "features": _sha256(features)}
        write_bytes(
            self.folder / f"{uuid.uuid4().hex}.safetensors", save({"keys": keys, "features": features}, metadata)
        )

    def _read(self, path: Path, name: str) -> np.ndarray | None:
        try:
            with safe_open(path, framework="numpy") as file:
                metadata, values = file.metadata() or {}, np.ascontiguousarray(file.get_tensor(name))
        except FileNotFoundError:  # evicted or merged by another process
            return None
        except _UNREADABLE as error:
            self._reject(path, str(error))
            return None
        if metadata.get("column") != self.folder.name or metadata.get(name) != _sha256(values):
            self._reject(path, f"{name} do not match their checksum")
            return None
        return values

    def _reject(self, path: Path, reason: str) -> None:
        _LOG.warning("feature_cache.shard_rejected", path=str(path), reason=reason, action="computing it again")
        with suppress(OSError):  # a read-only cache keeps it, and it is refused again
            path.unlink(missing_ok=True)


def _sha256(values: np.ndarray) -> str:
    digest = hashlib.sha256(repr((values.shape, values.dtype.str)).encode())
    digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def _split(keys: np.ndarray) -> Iterator[tuple[int, bytes]]:
    data = keys.tobytes()
    return ((i, data[i * KEY_BYTES : (i + 1) * KEY_BYTES]) for i in range(len(keys)))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _touch(path: Path) -> None:
    with suppress(OSError):  # gone, or a read-only cache: both are fine
        os.utime(path)  # the modification time says when it was last of use
