"""All containers: when one starts and ends, and the calls that containers make."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from google.protobuf.empty_pb2 import Empty
from modal_proto import api_pb2 as pb

from tests.modal_fake.calls import Call, Function
from tests.modal_fake.container import Container
from tests.modal_fake.volumes import Volume


class Containers:
    """Starts containers when inputs wait, and answers what containers ask.

    Attributes:
        limit: containers per function at a time.
        on_commit: called after every commit with the container and the volume; a test preempts there.
        on_input: called with the container, which has its volumes already, before it is given an input.
        on_output: called with the container when it gives an output.
    """

    def __init__(self, fake: Any) -> None:
        self._fake = fake
        self._live: list[Container] = []
        self.limit = 1
        self.on_commit: Callable[[Container, Volume], None] = lambda container, volume: None
        self.on_input: Callable[[Container], None] = lambda container: None
        self.on_output: Callable[[Container], None] = lambda container: None
        self.started = 0

    def scale(self, function: Function) -> None:
        """Start a container when the function has an input waiting and may have one more."""
        mine = [each for each in self._live if each.function is function]
        limit = min(self.limit, function.definition.autoscaler_settings.max_containers or self.limit)
        if len(mine) < limit and function.queue.qsize() > sum(not each.running for each in mine):
            self._live.append(Container(self._fake, function))
            self.started += 1

    def of(self, name: str) -> list[Container]:
        """Return the live containers of the functions of this name."""
        return [each for each in self._live if each.function.metadata.function_name == name]

    async def let_idle_time_pass(self) -> None:
        """End the containers that have nothing to do, as after their ``scaledown_window``."""
        idle = [each for each in self._live if not each.running and each.function.queue.empty()]
        for container in idle:
            await container.function.queue.put(None)
        for container in idle:
            await container.finished

    async def cancel(self, call: Call, *, kill: bool) -> None:
        """End a call's inputs: the runtime raises in the function (by SIGUSR1), or the container is killed."""
        for container in list(self._live):
            mine = [entry.id for running, entry in container.running.values() if running is call]
            if mine and kill:
                container.kill()
            elif mine:
                await container.cancelled.put(mine)

    def forget(self, container: Container) -> None:
        self._live.remove(container)

    async def stop_app(self, app_id: str) -> None:
        """Ask the containers of an app to end, so that their exit hooks and last commits run."""
        mine = [each for each in self._live if each.function.app_id == app_id]
        for container in mine:
            await container.function.queue.put(None)
        for container in mine:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.shield(container.finished), 10)
            container.kill()

    async def stop_all(self) -> None:
        for container in list(self._live):
            container.kill()
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.shield(container.finished), 5)

    async def ContainerHello(self, request: Any, container: Container) -> Any:
        return Empty()

    async def ContainerHeartbeat(self, request: Any, container: Container) -> Any:
        try:
            mine = await asyncio.wait_for(container.cancelled.get(), 10)
        except TimeoutError:
            return pb.ContainerHeartbeatResponse()
        return pb.ContainerHeartbeatResponse(cancel_input_event=pb.CancelInputEvent(input_ids=mine))

    async def FunctionGetDynamicConcurrency(self, request: Any, container: Container) -> Any:
        return pb.FunctionGetDynamicConcurrencyResponse(concurrency=request.target_concurrency)

    async def FunctionGetInputs(self, request: Any, container: Container) -> Any:
        try:
            item = await asyncio.wait_for(container.function.queue.get(), container.idle_seconds)
        except TimeoutError:
            item = None
        if item is None:
            return pb.FunctionGetInputsResponse(inputs=[pb.FunctionGetInputsItem(kill_switch=True)])
        self.on_input(container)
        call, entry = item
        container.running[entry.id] = item
        timeout = container.function.definition.timeout_secs
        asyncio.get_running_loop().call_later(timeout, container.time_out, entry.id)
        taken = pb.FunctionGetInputsItem(
            input_id=entry.id,
            input=entry.message,
            function_call_id=call.id,
            retry_count=entry.retry,
            function_call_invocation_type=call.kind,
            function_map_idx=entry.index,
        )
        return pb.FunctionGetInputsResponse(inputs=[taken])

    async def FunctionPutOutputs(self, request: Any, container: Container) -> Any:
        self.on_output(container)
        for output in request.outputs:
            call, entry = container.running.pop(output.input_id)
            item = pb.FunctionGetOutputsItem(
                result=output.result,
                idx=entry.index,
                input_id=entry.id,
                data_format=output.data_format,
                task_id=container.id,
                retry_count=entry.retry,
            )
            await self._fake.functions.deliver(call, entry, item)
        return Empty()

    async def TaskResult(self, request: Any, container: Container) -> Any:
        """An import error or a failed start: every waiting input fails with it."""
        container.result = request.result
        await self.fail_waiting(container, request.result)
        return Empty()

    async def fail_waiting(self, container: Container, result: Any) -> None:
        """Let every input that waits for a container of this function fail."""
        while not container.function.queue.empty():
            if item := container.function.queue.get_nowait():
                failed = pb.FunctionGetOutputsItem(
                    result=result, idx=item[1].index, input_id=item[1].id, data_format=pb.DATA_FORMAT_PICKLE
                )
                await self._fake.functions.deliver(item[0], item[1], failed)
