"""The loopback server: finds the handler of each call, checks the token, records requests, injects faults."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import aiohttp.web
import grpclib.server
from attrs import define, field
from google.protobuf import message_factory
from grpclib import GRPCError, Status
from grpclib.const import Cardinality, Handler
from modal_proto import api_pb2 as pb

from tests.modal_fake.apps import Apps
from tests.modal_fake.blobs import Blobs
from tests.modal_fake.container import Container
from tests.modal_fake.containers import Containers
from tests.modal_fake.functions import Functions
from tests.modal_fake.queues import Queues
from tests.modal_fake.volumes import Volumes

T = TypeVar("T")
CREDENTIALS = ("ak-fake", "as-fake-secret")
CUT = "cut"
HANG = "hang"
LOSE = "lose"
LATE = "late"


@define
class Fault:
    """What happens to the client's calls while it is armed.

    Attributes:
        effect: an error to answer with, or ``CUT`` (connection dropped), or ``HANG`` (never answered); with ``LOSE``
            and ``LATE`` the call is carried out first, and its answer is lost with the connection or never comes.
        rpc: only calls of this name, or None for all.
        nth: the first call that is hit, from 1, counted over the calls that `rpc` selects.
        times: how many calls are hit from there; None for all.
        effects: how often it has had its effect.
    """

    effect: GRPCError | str
    rpc: str | None = None
    nth: int = 1
    times: int | None = 1
    seen: int = 0
    effects: int = 0

    def hits(self, rpc: str) -> bool:
        if self.rpc not in (None, rpc):
            return False
        self.seen += 1
        return self.seen >= self.nth and (self.times is None or self.seen < self.nth + self.times)


class _Service:
    def __init__(self, table: dict[str, Handler]) -> None:
        self._table = table

    def __mapping__(self) -> dict[str, Handler]:
        return self._table


@define(slots=False)
class FakeModal:
    """One fake Modal workspace.

    Attributes:
        root: folder for what containers see.
        calls: every request so far, as (RPC name, message), in order.
        faults: armed faults; clients' calls only, containers are never disturbed.
    """

    root: Path
    calls: list[tuple[str, Any]] = field(factory=list)
    faults: list[Fault] = field(factory=list)
    url: str = ""

    def __attrs_post_init__(self) -> None:
        self.blobs = Blobs()
        self.volumes = Volumes(self)
        self.apps = Apps(self)
        self.functions = Functions(self)
        self.containers = Containers(self)
        self.queues = Queues()
        self._carried_out: dict[tuple[str | None, str], Any] = {}
        self._web_runners: list[aiohttp.web.AppRunner] = []

    def requests(self, rpc: str) -> list[Any]:
        """Return the requests of one RPC, in order."""
        return [request for name, request in self.calls if name == rpc]

    @contextmanager
    def fault(self, effect: GRPCError | str, **where: Any) -> Iterator[Fault]:
        """Arm a fault for as long as the context is open."""
        fault = Fault(effect, **where)
        self.faults.append(fault)
        try:
            yield fault
        finally:
            self.faults.remove(fault)

    def service(self, container: Container | None) -> _Service:
        """Return the service as one container sees it (None: as clients see it)."""
        table = {}
        for method in pb.DESCRIPTOR.services_by_name["ModalClient"].methods:
            table[f"/modal.client.ModalClient/{method.name}"] = Handler(
                self._handler(method, container),
                Cardinality.UNARY_STREAM if method.server_streaming else Cardinality.UNARY_UNARY,
                message_factory.GetMessageClass(method.input_type),
                message_factory.GetMessageClass(method.output_type),
            )
        return _Service(table)

    def _handler(self, method: Any, container: Container | None) -> Callable[[Any], Any]:
        services = (self.blobs, self.volumes, self.apps, self.functions, self.containers, self.queues)
        answer = next((getattr(each, method.name) for each in services if hasattr(each, method.name)), None)
        empty = message_factory.GetMessageClass(method.output_type)

        async def handle(stream: Any) -> None:
            request = await stream.recv_message()
            self.calls.append((method.name, request))
            fault = await self._admit(method.name, stream) if container is None else None
            key = stream.metadata.get("x-idempotency-key"), method.name
            if key in self._carried_out:  # the client repeats what it has no answer to; it is not done twice
                await stream.send_message(self._carried_out[key])
                return
            if answer is None:
                raise GRPCError(Status.UNIMPLEMENTED, f"the fake has no {method.name}")
            if method.server_streaming:
                async for message in answer(request, container):
                    await stream.send_message(message)
            else:
                reply = await answer(request, container) or empty()
                if fault is not None:
                    self._carried_out[key] = reply
                    await self._fail(fault, stream)
                await stream.send_message(reply)

        return handle

    async def _admit(self, rpc: str, stream: Any) -> Fault | None:
        """Check the token; return a fault that is to come after the call."""
        token = (stream.metadata.get("x-modal-token-id"), stream.metadata.get("x-modal-token-secret"))
        if token != CREDENTIALS:
            raise GRPCError(
                Status.UNAUTHENTICATED, f"Token ID or secret is invalid, or the token has expired: {token}"
            )
        fault = next((fault for fault in list(self.faults) if fault.hits(rpc)), None)
        if fault is not None and fault.effect not in (LOSE, LATE):
            await self._fail(fault, stream)
        return fault

    async def _fail(self, fault: Fault, stream: Any) -> None:
        fault.effects += 1
        if isinstance(fault.effect, GRPCError):
            raise fault.effect
        if fault.effect in (CUT, LOSE):
            stream._stream._transport.close()
        await asyncio.Event().wait()

    async def serve_http(self, routes: list[aiohttp.web.RouteDef]) -> str:
        """Serve plain http on a free port and return its address."""
        app = aiohttp.web.Application(client_max_size=1 << 30)
        app.add_routes(routes)
        runner = aiohttp.web.AppRunner(app)
        await runner.setup()
        self._web_runners.append(runner)
        await aiohttp.web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the fake's own thread."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)

    async def start(self) -> FakeModal:
        """Listen on free loopback ports."""
        self._loop = asyncio.get_running_loop()
        self._server = grpclib.server.Server([self.service(None)])
        await self._server.start("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server._server.sockets[0].getsockname()[1]}"
        self.blobs.url = await self.serve_http(self.blobs.routes())
        return self

    async def stop(self) -> None:
        """End containers and servers."""
        await self.containers.stop_all()
        for runner in self._web_runners:
            await runner.cleanup()
        self._server.close()


@contextmanager
def running_fake(root: Path) -> Iterator[FakeModal]:
    """Run a fake on a thread of its own for as long as the context is open."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    fake = FakeModal(root)
    asyncio.run_coroutine_threadsafe(fake.start(), loop).result(60)
    try:
        yield fake
    finally:
        fake.run(fake.stop())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
