"""Calls that the endpoint's container answers beside its requests: with what it has loaded, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from threading import Event
from typing import TYPE_CHECKING, Any

from attrs import evolve, frozen, mutable

from adapters.modal_cloud.modal_wire import ELSEWHERE
from entrypoints.on_modal.worker import ContainerApplication, Worker

if TYPE_CHECKING:
    from adapters.base_model.transformers_base import LoadedBase
    from adapters.lora.peft_streaming import PeftStreamingEngine
    from adapters.modal_cloud.modal_volumes import Volumes
    from application.answering.answer_prompts import AnswerPrompts
    from application.ports import FeatureExtractor
    from domain.features import BaseModel, FeatureTap, Matrix
    from entrypoints.on_modal.warm import Warm


@frozen(eq=False)
class SharedEngine:
    """What the endpoint has loaded, for calls of the app's functions that come to its container.

    Attributes:
        engine: the endpoint's engine, which runs on a thread of its own; None where nothing could be loaded.
        volumes: what is read and written.
        warm: what is loaded; it is kept as it is.
    """

    engine: PeftStreamingEngine | None
    volumes: Volumes
    warm: Warm

    async def call(self, name: str, request: dict[str, Any], updates: Any | None) -> dict[str, Any]:
        """Return what the method of this name of a :class:`Worker` returns; cancelling this ends its work soon."""
        if self.engine is None:
            return {ELSEWHERE: "the endpoint could not load what it serves"}
        left = Event()
        application = partial(SharingApplication, engine=self.engine, left=left)
        worker = Worker(updates, self.volumes, self.warm, application)
        try:
            return await asyncio.to_thread(getattr(worker, name), request)
        finally:
            left.set()


@mutable(slots=False, kw_only=True)
class SharingApplication(ContainerApplication):
    """A container's composition root where others use the base model, too: it runs on their engine's thread only.

    Attributes:
        engine: runs the model.
        left: set when nobody waits for the call any more.
    """

    engine: PeftStreamingEngine
    left: Event

    def feature_extractor(
        self, base: LoadedBase, *, max_tokens: int = 512, use_cache: bool = True
    ) -> FeatureExtractor:
        """Return features that are computed batch by batch between the tokens of others' answers."""
        from adapters.base_model.feature_cache import CachedFeatureExtractor

        extractor = super().feature_extractor(base, max_tokens=max_tokens, use_cache=use_cache)
        if isinstance(extractor, CachedFeatureExtractor):
            return evolve(extractor, inner=self._in_turn(extractor.inner))
        return self._in_turn(extractor)

    def answer_prompts(self, *args: Any, **options: Any) -> AnswerPrompts:
        """Return answering with the engine that answers the endpoint's requests."""
        from application.answering.streamed_engine import StreamedAnswerEngine

        answering = super().answer_prompts(*args, **options)
        return evolve(answering, engine=StreamedAnswerEngine(self.engine, wanted=self._wanted))

    def _in_turn(self, extractor: FeatureExtractor) -> FeatureExtractor:
        return _ExtractorInTurn(extractor, self.engine, self._wanted)

    def _wanted(self) -> bool:
        """Return True; raises SystemExit, as a signal does in other containers, when the call was cancelled."""
        if self.left.is_set():
            raise SystemExit(130)
        return True


@frozen(eq=False)
class _ExtractorInTurn:
    """A :class:`application.ports.FeatureExtractor` whose batches run on the thread of an engine, between its tokens.

    Attributes:
        inner: computes features.
        engine: runs the model.
        wanted: raises when nobody wants the features any more.
    """

    inner: FeatureExtractor
    engine: PeftStreamingEngine
    wanted: Callable[[], bool]

    @property
    def base(self) -> BaseModel:
        """The base model that features come from."""
        return self.inner.base

    @property
    def max_tokens(self) -> int:
        """Texts are cut after this many tokens."""
        return self.inner.max_tokens

    def batches(self, texts: Sequence[str]) -> list[list[str]]:
        """Return the distinct texts in the groups that are encoded together; see the port."""
        return self.inner.batches(texts)

    def extract(self, texts: Sequence[str], taps: Sequence[FeatureTap]) -> Matrix:
        """Return features; see the port."""
        import numpy as np

        rows: dict[str, Any] = {}
        for batch in self.inner.batches(texts) or [[]]:
            self.wanted()
            found: Any = self.engine.submit(partial(self.inner.extract, batch, taps)).result()
            rows.update(zip(batch, found, strict=True))
        return np.stack([rows[text] for text in texts]) if rows else found
