"""Scores of answers that are kept on disk by what they are scores of."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import orjson
import structlog
from attrs import asdict, define, field

from adapters.files.writable import is_special
from application.ports.scoring import AnswerScore, AnswerScorer, ScoreRequest
from domain.errors import MoeRouterError

_VERSION: Final = 1
"""Grows when scores are computed differently."""

_TABLE: Final = (
    "CREATE TABLE IF NOT EXISTS scores (key BLOB PRIMARY KEY, loss REAL NOT NULL, tokens INTEGER NOT NULL)"
)
_WRITE_AT_ONCE: Final = 64


@define(eq=False)
class CachedAnswerScorer:
    """An :class:`application.ports.scoring.AnswerScorer` that asks another one only what it does not know.

    A file that cannot be used (damaged, not writable, held by others) is passed over with one warning: it only
    saves time.

    Attributes:
        scorer: computes scores.
        path: SQLite file of the scores; made when missing.
        base: identifies the base model with its tokenizer and precision.
        weights: identifies what each LoRA adapter's folder holds, by name.
    """

    scorer: AnswerScorer
    path: Path
    base: str
    weights: Mapping[str, str]
    _warned: bool = field(default=False, init=False)

    @property
    def adapters(self) -> tuple[str, ...]:
        """The LoRA adapters that can be asked."""
        return self.scorer.adapters

    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[tuple[int, AnswerScore | MoeRouterError]]:
        """Yield what is known, then what is computed; see the port for the contract."""
        keys = [self._key(request) for request in requests]
        known = self._read(keys)
        missing = []
        for index, key in enumerate(keys):
            if key in known:
                yield index, known[key]
            else:
                missing.append(index)
        fresh: dict[bytes, AnswerScore] = {}
        try:
            for place, score in self.scorer.score([requests[index] for index in missing]):
                if isinstance(score, AnswerScore):
                    fresh[keys[missing[place]]] = score
                if len(fresh) >= _WRITE_AT_ONCE:
                    self._write(fresh)
                    fresh = {}
                yield missing[place], score
        finally:  # what was computed before an interruption is kept, too
            self._write(fresh)

    def _key(self, request: ScoreRequest) -> bytes:
        who = "" if request.adapter is None else self.weights.get(request.adapter, request.adapter)
        said = [asdict(turn) for turn in (*request.chat, request.answer)]
        return hashlib.sha256(orjson.dumps([_VERSION, self.base, who, said])).digest()

    def _read(self, keys: Sequence[bytes]) -> dict[bytes, AnswerScore]:
        found = {}
        try:
            if self.path.is_file():
                with closing(self._open()) as database:
                    for key in keys:
                        row = database.execute("SELECT loss, tokens FROM scores WHERE key = ?", (key,)).fetchone()
                        if row is not None and row[1] > 0:
                            found[key] = AnswerScore(float(row[0]), int(row[1]))
        except (sqlite3.Error, OSError, TypeError, ValueError) as error:
            self._warn(error)
        return found

    def _write(self, scores: Mapping[bytes, AnswerScore]) -> None:
        if not scores:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(self._open()) as database, database:
                rows = [(key, score.loss, score.tokens) for key, score in scores.items()]
                database.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?, ?)", rows)
        except (sqlite3.Error, OSError) as error:
            self._warn(error)

    def _open(self) -> sqlite3.Connection:
        if is_special(self.path):
            raise OSError("is not a regular file")
        database = sqlite3.connect(self.path, timeout=5)
        database.execute(_TABLE)
        return database

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            structlog.get_logger().warning("score_cache.unused", path=str(self.path), problem=str(error))
        self._warned = True
