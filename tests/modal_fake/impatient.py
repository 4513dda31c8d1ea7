"""A connection for tests of faults: it waits as long as Modal takes, and hardly at all when a fault has hit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from attrs import field, frozen

from adapters.modal_cloud.modal_connection import ModalConnection
from tests.modal_fake.server import FakeModal

T = TypeVar("T")


@frozen
class ImpatientConnection(ModalConnection):
    """A connection whose calls end a moment after a fault has hit them: no test depends on how busy this machine is.

    A short deadline would do the same on an idle machine only: on a busy one it also ends calls that no fault hits.

    Attributes:
        fake: where faults are armed.
        moment: seconds from the fault's effect to the end of the call.
    """

    fake: FakeModal = field(kw_only=True)
    moment: float = field(default=0.02, kw_only=True)

    def _run(self, doing: str, start: Callable[[], Coroutine[Any, Any, T]], seconds: float) -> T:
        async def bounded() -> T:
            before, call = self._effects(), asyncio.ensure_future(start())
            while not call.done() and self._effects() == before:
                await asyncio.wait([call], timeout=0.01)
            return await asyncio.wait_for(call, self.moment)

        return super()._run(doing, bounded, seconds)

    def _effects(self) -> int:
        return sum(fault.effects for fault in self.fake.faults)
