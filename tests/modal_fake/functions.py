"""The calls around functions: definitions, inputs, outputs."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from typing import Any

from google.protobuf.empty_pb2 import Empty
from grpclib import GRPCError, Status
from modal_proto import api_pb2 as pb

from tests.modal_fake.blobs import new_id
from tests.modal_fake.calls import Call, Function, Input
from tests.modal_fake.web import WebEndpoint

GPUS = {"T4", "L4", "A10", "A10G", "L40S", "A100", "A100-40GB", "A100-80GB", "H100", "H100!", "H200", "B200"}
SUCCESS = pb.GenericResult.GENERIC_STATUS_SUCCESS
ASYNC_CALLS = (pb.FUNCTION_CALL_INVOCATION_TYPE_ASYNC, pb.FUNCTION_CALL_INVOCATION_TYPE_ASYNC_LEGACY)


def _check_gpu(kind: str) -> None:
    if kind and kind not in GPUS:
        raise GRPCError(Status.INVALID_ARGUMENT, f"unknown GPU type {kind}")


class Functions:
    """The calls around functions, from the client's side."""

    def __init__(self, fake: Any) -> None:
        self._fake = fake
        self._by_id: dict[str, Function] = {}
        self.calls: dict[str, Call] = {}

    def of_app(self, app_id: str) -> list[Function]:
        return [each for each in self._by_id.values() if each.app_id == app_id]

    def busy(self, app_id: str) -> bool:
        """Whether some call of an app is not done."""
        calls = [call for call in self.calls.values() if call.function.app_id == app_id]
        return any(len(call.outputs) < len(call.inputs) for call in calls)

    def named(self, name: str) -> list[Function]:
        """Return all functions of this name in apps that live, variants with other options included, oldest first."""
        mine = [each for each in self._by_id.values() if (each.definition or each.declared).function_name == name]
        return [each for each in mine if self._fake.apps.lives(each.app_id)]

    # Definitions

    async def FunctionPrecreate(self, request: Any, container: Any) -> Any:
        function = self._declare(request)
        function.declared = request
        await self._serve(function)
        return pb.FunctionPrecreateResponse(function_id=function.id, handle_metadata=function.metadata)

    async def FunctionCreate(self, request: Any, container: Any) -> Any:
        function = self._declare(request)
        whole = request.HasField("function")
        function.definition = request.function if whole else request.function_data.ranked_functions[0].function
        ranked = [request.function] if whole else [each.function for each in request.function_data.ranked_functions]
        for each in ranked:
            _check_gpu(each.resources.gpu_config.gpu_type)
        await self._serve(function)
        function.definition.web_url = function.web_url
        for name, method in function.definition.method_definitions.items():
            method.web_url = function.web_urls.get(name, "")
        return pb.FunctionCreateResponse(
            function_id=function.id,
            function=function.definition,
            handle_metadata=function.metadata,
            function_data=self._data(function),
        )

    def _declare(self, request: Any) -> Function:
        function_id = request.existing_function_id or new_id("fu")
        return self._by_id.setdefault(function_id, Function(function_id, request.app_id))

    async def _serve(self, function: Function) -> None:
        for method, webhook in function.webhooks.items():
            if method not in function.web_urls:
                endpoint = WebEndpoint(self._fake, function, method, webhook)
                function.web_urls[method] = await self._fake.serve_http(endpoint.routes())

    def _data(self, function: Function) -> Any:
        definition = function.definition
        return pb.FunctionData(
            function_name=definition.function_name,
            module_name=definition.module_name,
            web_url=function.web_url,
            timeout_secs=definition.timeout_secs,
            webhook_config=definition.webhook_config,
            is_class=definition.is_class,
            class_parameter_info=definition.class_parameter_info,
            method_definitions=definition.method_definitions,
            method_definitions_set=definition.method_definitions_set,
            ranked_functions=[pb.FunctionData.RankedFunction(rank=0, function=definition)],
        )

    async def FunctionGet(self, request: Any, container: Any) -> Any:
        app = self._fake.apps.deployed(request.app_name)
        if app is None or request.object_tag not in app.function_ids:
            raise GRPCError(Status.NOT_FOUND, f"App '{request.app_name}' has no function '{request.object_tag}'")
        function = self._by_id[app.function_ids[request.object_tag]]
        return pb.FunctionGetResponse(
            function_id=function.id, handle_metadata=function.metadata, function=self._data(function)
        )

    async def FunctionBindParams(self, request: Any, container: Any) -> Any:
        base, options = self._by_id[request.function_id], request.function_options
        _check_gpu(options.resources.gpu_config.gpu_type)
        definition = pb.Function()
        definition.CopyFrom(base.definition)
        if options.HasField("resources"):
            definition.resources.MergeFrom(options.resources)
        if options.HasField("timeout_secs"):
            definition.timeout_secs = options.timeout_secs
        if options.replace_secret_ids:
            definition.ClearField("secret_ids")
        definition.secret_ids.extend(options.secret_ids)
        variant = Function(new_id("fu"), base.app_id, definition, base.declared, variant_of=base.id)
        self._by_id[variant.id] = variant
        return pb.FunctionBindParamsResponse(bound_function_id=variant.id, handle_metadata=variant.metadata)

    # Classes: names for the service functions that run their methods

    async def ClassCreate(self, request: Any, container: Any) -> Any:
        class_id = request.existing_class_id or new_id("cs")
        return pb.ClassCreateResponse(class_id=class_id, handle_metadata=pb.ClassHandleMetadata())

    async def ClassGet(self, request: Any, container: Any) -> Any:
        app = self._fake.apps.deployed(request.app_name)
        if app is None or request.object_tag not in app.class_ids:
            raise GRPCError(Status.NOT_FOUND, f"App '{request.app_name}' has no class '{request.object_tag}'")
        return pb.ClassGetResponse(
            class_id=app.class_ids[request.object_tag], handle_metadata=pb.ClassHandleMetadata()
        )

    # Calls

    async def FunctionMap(self, request: Any, container: Any) -> Any:
        function = self._by_id[request.function_id]
        call = Call(new_id("fc"), function, request.function_call_invocation_type)
        self.calls[call.id] = call
        items = [await self._put(call, each) for each in request.pipelined_inputs]
        return pb.FunctionMapResponse(
            function_call_id=call.id,
            function_call_jwt=call.id,
            pipelined_inputs=items,
            retry_policy=function.definition.retry_policy,
            sync_client_retries_enabled=True,
            max_inputs_outstanding=1000,
        )

    async def FunctionPutInputs(self, request: Any, container: Any) -> Any:
        call = self.calls[request.function_call_id]
        return pb.FunctionPutInputsResponse(inputs=[await self._put(call, each) for each in request.inputs])

    async def FunctionRetryInputs(self, request: Any, container: Any) -> Any:
        call = self.calls[request.function_call_jwt]
        for each in request.inputs:
            entry = call.inputs[json.loads(each.input_jwt)[1]]
            entry.retry += 1
            call.outputs.pop(entry.index, None)
            call.delivered.discard(entry.index)
            await self.enqueue(call, entry)
        return pb.FunctionRetryInputsResponse(input_jwts=[each.input_jwt for each in request.inputs])

    async def _put(self, call: Call, item: Any) -> Any:
        entry = Input(new_id("in"), item.idx, item.input)
        call.inputs[item.idx] = entry
        await self.enqueue(call, entry)
        return pb.FunctionPutInputsResponseItem(
            idx=item.idx, input_id=entry.id, input_jwt=json.dumps([call.id, item.idx])
        )

    async def enqueue(self, call: Call, entry: Input) -> None:
        call.inputs[entry.index] = entry
        await call.function.queue.put((call, entry))
        self._fake.containers.scale(call.function)

    async def deliver(self, call: Call, entry: Input, item: Any) -> None:
        """Take an output; spawned calls are retried here, the others by the client."""
        retries = call.function.definition.retry_policy.retries
        if call.cancelled:
            return
        if item.result.status != SUCCESS and call.kind in ASYNC_CALLS and entry.retry < retries:
            entry.retry += 1
            await self.enqueue(call, entry)
            return
        call.outputs[entry.index] = item
        await call.notify()

    async def FunctionFinishInputs(self, request: Any, container: Any) -> Any:
        return Empty()

    async def FunctionCallCancel(self, request: Any, container: Any) -> Any:
        call = self.calls[request.function_call_id]
        await self._terminate(call)
        await self._fake.containers.cancel(call, kill=request.terminate_containers)
        return Empty()

    async def stop_app(self, app_id: str) -> None:
        """End the calls of an app that are not done: nothing will do them any more."""
        for call in [call for call in self.calls.values() if call.function.app_id == app_id]:
            if len(call.outputs) < len(call.inputs):
                await self._terminate(call)
                await self._fake.containers.cancel(call, kill=True)

    async def _terminate(self, call: Call) -> None:
        """Give a call's inputs the outcome of what was cancelled, which has no text."""
        terminated = pb.GenericResult(status=pb.GenericResult.GENERIC_STATUS_TERMINATED)
        for entry in call.inputs.values():
            call.outputs[entry.index] = pb.FunctionGetOutputsItem(
                idx=entry.index, input_id=entry.id, data_format=pb.DATA_FORMAT_PICKLE, result=terminated
            )
        call.cancelled = True
        await call.notify()

    async def FunctionCallFromId(self, request: Any, container: Any) -> Any:
        call = self.calls[request.function_call_id]
        return pb.FunctionCallFromIdResponse(function_call_id=call.id, num_inputs=len(call.inputs))

    async def FunctionGetOutputs(self, request: Any, container: Any) -> Any:
        if request.function_call_id not in self.calls:
            raise GRPCError(Status.NOT_FOUND, f"no function call {request.function_call_id}")
        call, end = self.calls[request.function_call_id], time.monotonic() + request.timeout
        while True:
            ready = [index for index in sorted(call.outputs) if index not in call.delivered]
            if request.HasField("start_idx"):
                ready = [index for index in ready if request.start_idx <= index <= request.end_idx]
            if ready or time.monotonic() >= end:
                if request.clear_on_success:
                    call.delivered.update(ready)
                return pb.FunctionGetOutputsResponse(
                    outputs=[call.outputs[index] for index in ready],
                    idxs=ready,
                    last_entry_id="1-0",
                    num_unfinished_inputs=len(call.inputs) - len(call.outputs),
                )
            await call.wait(min(1.0, max(0.01, end - time.monotonic())))

    # Data beside the return value: generators and web endpoints

    async def FunctionCallGetDataIn(self, request: Any, container: Any) -> AsyncIterator[Any]:
        for chunk in self.calls[request.function_call_id].data_in:
            yield chunk

    async def FunctionCallGetDataOut(self, request: Any, container: Any) -> AsyncIterator[Any]:
        call, position = self.calls[request.function_call_id], request.last_index
        while True:
            for chunk in call.data_out[position:]:
                position += 1
                yield chunk
            if call.outputs:
                return
            await call.wait(1)

    async def FunctionCallPutDataOut(self, request: Any, container: Any) -> Any:
        call = self.calls[request.function_call_id]
        call.data_out.extend(request.data_chunks)
        await call.notify()
        return Empty()
