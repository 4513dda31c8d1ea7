"""What a function, a call of it and an input of that call are."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from attrs import define, field
from modal_proto import api_pb2 as pb


@define(eq=False)
class Function:
    """A function of an app, with the queue of inputs that its containers take from."""

    id: str
    app_id: str
    definition: Any = None
    declared: Any = None
    variant_of: str = ""
    queue: asyncio.Queue[Any] = field(factory=asyncio.Queue)
    web_url: str = ""

    @property
    def metadata(self) -> Any:
        described = self.definition or self.declared
        return pb.FunctionHandleMetadata(
            function_name=described.function_name,
            function_type=described.function_type,
            function_schema=described.function_schema,
            web_url=self.web_url,
            definition_id="de-" + self.id[3:],
            app_id=self.app_id,
            supported_input_formats=described.supported_input_formats,
            supported_output_formats=described.supported_output_formats,
        )


@define(eq=False)
class Input:
    """One input of a call; `retry` counts its failed attempts."""

    id: str
    index: int
    message: Any
    retry: int = 0


@define(eq=False)
class Call:
    """One call of a function: its inputs, and outputs by input index."""

    id: str
    function: Function
    kind: int = 0
    inputs: dict[int, Input] = field(factory=dict)
    outputs: dict[int, Any] = field(factory=dict)
    delivered: set[int] = field(factory=set)
    data_in: list[Any] = field(factory=list)
    data_out: list[Any] = field(factory=list)
    cancelled: bool = False
    changed: asyncio.Condition = field(factory=asyncio.Condition)

    async def notify(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    async def wait(self, seconds: float) -> None:
        with suppress(asyncio.TimeoutError):
            async with self.changed:
                await asyncio.wait_for(self.changed.wait(), seconds)
