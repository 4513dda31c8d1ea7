"""What the endpoint's container does for calls beside its requests."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Future
from threading import Event
from typing import Any

import numpy as np
import pytest

from adapters.in_memory.features import InMemoryFeatureExtractor
from adapters.modal_cloud.modal_messages import Updates
from domain.features import FeatureTap, Pooling
from entrypoints.on_modal import sharing
from entrypoints.on_modal.sharing import SharedEngine
from entrypoints.on_modal.warm import Warm
from entrypoints.on_modal.worker import Volumes, Worker


class Engine:
    """Does other work at once, as the engine's thread would between two tokens."""

    def __init__(self) -> None:
        self.works = 0

    def submit(self, work: Any) -> Future[Any]:
        self.works += 1
        done: Future[Any] = Future()
        done.set_result(work())
        return done


def test_what_could_not_be_loaded_is_done_elsewhere() -> None:
    shared = SharedEngine(None, Volumes(()), Warm())
    assert asyncio.run(shared.call("infer", {}, None)) == {"elsewhere": "the endpoint could not load what it serves"}


def test_a_cancelled_call_ends_its_work(monkeypatch: pytest.MonkeyPatch) -> None:
    started, ended = Event(), Event()

    def infer(self: Worker, _request: dict[str, Any]) -> None:
        app: Any = self.application(updates=Updates(None), volumes=self.volumes, warm=self.warm)
        started.set()
        try:
            while app._wanted():
                time.sleep(0.01)
        except SystemExit:
            ended.set()

    monkeypatch.setattr(Worker, "infer", infer)

    async def cancelled() -> None:
        engine: Any = Engine()
        call = asyncio.create_task(SharedEngine(engine, Volumes(()), Warm()).call("infer", {}, None))
        await asyncio.to_thread(started.wait, 10)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await asyncio.to_thread(ended.wait, 10)

    asyncio.run(cancelled())


def test_features_are_the_same_batch_by_batch_on_the_engines_thread() -> None:
    engine: Any = Engine()
    inner, looks = InMemoryFeatureExtractor(), []
    in_turn = sharing._ExtractorInTurn(inner, engine, lambda: looks.append(1) or True)
    texts = ["book a day", "edit the claim", "book a day", ""]
    taps = [FeatureTap(1, Pooling.MEAN)]
    assert np.array_equal(in_turn.extract(texts, taps), inner.extract(texts, taps))
    assert engine.works == len(looks) == len(inner.batches(texts))
    assert (in_turn.base, in_turn.max_tokens) == (inner.base, inner.max_tokens)
    assert in_turn.extract([], taps).shape == inner.extract([], taps).shape
