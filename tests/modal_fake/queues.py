"""Queues: values by partition, taken in the order they were put."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from contextlib import suppress
from typing import Any

from google.protobuf.empty_pb2 import Empty
from modal_proto import api_pb2 as pb

from tests.modal_fake.blobs import new_id


class Queues:
    """The queue calls of the control plane."""

    def __init__(self) -> None:
        self._values: defaultdict[tuple[str, bytes], deque[bytes]] = defaultdict(deque)
        self._changed = asyncio.Condition()

    async def QueueGetOrCreate(self, request: Any, container: Any) -> Any:
        return pb.QueueGetOrCreateResponse(queue_id=new_id("qu"), metadata=pb.QueueMetadata())

    async def QueueHeartbeat(self, request: Any, container: Any) -> Any:
        return Empty()

    async def QueuePut(self, request: Any, container: Any) -> Any:
        self._values[request.queue_id, request.partition_key].extend(request.values)
        async with self._changed:
            self._changed.notify_all()
        return Empty()

    async def QueueGet(self, request: Any, container: Any) -> Any:
        values = self._values[request.queue_id, request.partition_key]
        if not values and request.timeout > 0:
            with suppress(asyncio.TimeoutError):
                async with self._changed:
                    await asyncio.wait_for(self._changed.wait_for(lambda: values), request.timeout)
        taken = min(len(values), request.n_values or 1)
        return pb.QueueGetResponse(values=[values.popleft() for _ in range(taken)])
