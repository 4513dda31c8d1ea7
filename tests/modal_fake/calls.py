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
    web_urls: dict[str, str] = field(factory=dict)

    @property
    def web_url(self) -> str:
        return self.web_urls.get("", "")

    @property
    def webhooks(self) -> dict[str, Any]:
        """Return the web endpoints by method; "" is the function's own."""
        described = self.definition or self.declared
        found = {"": described.webhook_config}
        found |= {name: method.webhook_config for name, method in described.method_definitions.items()}
        return {name: webhook for name, webhook in found.items() if webhook.type}

    @property
    def metadata(self) -> Any:
        """Return what clients know of it: of a class's service function, also its methods."""
        whole = self._described("", self.definition or self.declared)
        for name, method in (self.definition or self.declared).method_definitions.items():
            whole.method_handle_metadata[name].CopyFrom(self._described(name, method))
        if self.definition is not None and self.definition.is_class:
            whole.class_parameter_info.CopyFrom(self.definition.class_parameter_info)
        return whole

    def _described(self, method: str, described: Any) -> Any:
        return pb.FunctionHandleMetadata(
            function_name=described.function_name,
            function_type=described.function_type,
            function_schema=described.function_schema,
            web_url=self.web_urls.get(method, ""),
            is_method=bool(method),
            use_method_name=method,
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
