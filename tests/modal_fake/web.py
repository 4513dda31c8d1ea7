"""Web endpoints: plain http in, ASGI messages to a container and back."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import aiohttp.web
from modal_proto import api_pb2 as pb

from tests.modal_fake.blobs import new_id

PROXY_TOKEN = ("wk-fake", "ws-fake")


def _pairs(headers: Any) -> Iterator[tuple[bytes, bytes]]:
    flat = iter(headers)  # modal flattens [(key, value), …]
    return zip(flat, flat, strict=True)


class WebEndpoint:
    """Serves one web address of a function or of a class's method, one call per request."""

    def __init__(self, fake: Any, function: Any, method: str, webhook: Any) -> None:
        self._fake = fake
        self._function = function
        self._method = method
        self._webhook = webhook

    def routes(self) -> list[aiohttp.web.RouteDef]:
        return [aiohttp.web.route("*", "/{tail:.*}", self._handle)]

    async def _handle(self, request: aiohttp.web.Request) -> aiohttp.web.StreamResponse:
        from tests.modal_fake.calls import Call, Input

        if not self._fake.apps.lives(self._function.app_id):
            return aiohttp.web.Response(status=404, text="modal-http: app for invoked web endpoint is stopped")
        token = (request.headers.get("Modal-Key"), request.headers.get("Modal-Secret"))
        if self._webhook.requires_proxy_auth and token != PROXY_TOKEN:
            return aiohttp.web.Response(status=401, text="modal-http: missing credentials for proxy authorization")
        call = Call(new_id("fc"), self._function)
        self._fake.functions.calls[call.id] = call
        body = pb.Asgi(http_request=pb.Asgi.HttpRequest(body=await request.read(), more_body=False))
        call.data_in.append(pb.DataChunk(data_format=pb.DATA_FORMAT_ASGI, index=1, data=body.SerializeToString()))
        arguments = pickle.dumps(((self._scope(request),), {}))
        message = pb.FunctionInput(args=arguments, data_format=pb.DATA_FORMAT_PICKLE, method_name=self._method)
        await self._fake.functions.enqueue(call, Input(new_id("in"), 0, message))
        return await self._respond(call, request)

    def _scope(self, request: aiohttp.web.Request) -> dict[str, Any]:
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": request.method,
            "scheme": "http",
            "path": request.path,
            "raw_path": request.path.encode(),
            "query_string": request.query_string.encode(),
            "root_path": "",
            "headers": [(key.lower(), value) for key, value in request.raw_headers],
            "client": ("127.0.0.1", 1),
            "server": None,
        }

    async def _respond(self, call: Any, request: aiohttp.web.Request) -> aiohttp.web.StreamResponse:
        response, position = None, 0
        while True:
            for chunk in call.data_out[position:]:
                position += 1
                if chunk.data_format != pb.DATA_FORMAT_ASGI:
                    continue
                message = pb.Asgi.FromString(
                    self._fake.blobs.read(chunk.data_blob_id) if chunk.data_blob_id else chunk.data
                )
                if message.WhichOneof("type") == "http_response_start":
                    response = await self._start(message.http_response_start, request)
                elif message.WhichOneof("type") == "http_response_body" and response is not None:
                    await response.write(message.http_response_body.body or b"")
                    if not message.http_response_body.more_body:
                        await response.write_eof()
                        return response
            if call.outputs:
                return response or aiohttp.web.Response(status=500, text=call.outputs[0].result.exception)
            await call.wait(0.5)

    async def _start(self, start: Any, request: aiohttp.web.Request) -> aiohttp.web.StreamResponse:
        response = aiohttp.web.StreamResponse(status=start.status)
        for key, value in _pairs(start.headers):
            if key.lower() not in (b"content-length", b"transfer-encoding", b"connection"):
                response.headers.add(key.decode(), value.decode())
        await response.prepare(request)
        return response
