"""Runs functions of the Modal app from here: finds or starts the app, follows a call to its end."""

from __future__ import annotations

import queue
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, redirect_stdout
from typing import Any, Final, Protocol

import modal
import modal.exception
from attrs import field, frozen

from adapters.modal_cloud.modal_connection import CONNECTION_ERRORS, ModalConnection, redacted
from adapters.modal_cloud.modal_wire import RemoteBugError, raise_remote_error
from domain.errors import InterruptedRunError, RemoteError

APP_NAME: Final = "moe-router-train"
RESULT: Final = "result"
"""Kind of the last message of a call that went well."""

_PENDING: Final = object()


class RemoteApp(Protocol):
    """The app as a module defines it, for when none is deployed: ``entrypoints.modal_app``."""

    app: Any
    functions: Mapping[str, Any]


class Jobs(Protocol):
    """Calls functions of the app by name; raises RemoteError, and the user's errors that a function met."""

    def run(self, name: str, request: dict[str, Any], on_message: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """Call a function, hand its messages on as they come, and return its result."""
        ...

    def follow(self, name: str, request: dict[str, Any]) -> Generator[dict[str, Any]]:
        """Call a function and yield its messages as they come; the last one, of kind `RESULT`, holds its result."""
        ...

    def start(self, name: str, request: dict[str, Any]) -> StartedCall:
        """Call a function and leave; it goes on by itself."""
        ...


class PreemptionStormError(RemoteError):
    """A run whose container is taken away again and again before it gets any further."""


@frozen
class StartedCall:
    """A call that runs on when this process ends.

    Attributes:
        call_id: id of the function call.
        app_id: id of the app that it runs in, for ``modal app logs``.
    """

    call_id: str
    app_id: str


@frozen
class RunningAppJobs:
    """A :class:`Jobs` for an app that Modal's own command line is running, which shows its log: no messages come.

    Calls are spawned, so that with ``modal run --detach`` they outlive this process.

    Attributes:
        functions: the app's functions by name.
        environment: environment variables with secrets that no message may show.
        gpu: GPU type to ask for, or None for the app's own choice.
        secret: name of a Modal secret that the containers get, or None.
    """

    functions: Mapping[str, Any]
    environment: Mapping[str, str]
    gpu: str | None = None
    secret: str | None = None

    def run(self, name: str, request: dict[str, Any], on_message: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """Call the function and return its result."""
        (last,) = self.follow(name, request)
        return dict(last["result"])

    def follow(self, name: str, request: dict[str, Any]) -> Generator[dict[str, Any]]:
        """Call the function and yield its result as the only message."""
        # Training tells of itself in the log; other results are printed here, once.
        call = self._spawn(name, {**request, "log": name == "train"})
        try:
            result: dict[str, Any] = call.get()
        except RemoteBugError as error:
            hint = "the lines above have its traceback"
            raise RemoteError(f"the run failed: {redacted(str(error), self.environment)}", hint=hint) from None
        raise_remote_error(result)
        yield {"kind": RESULT, "result": result}

    def start(self, name: str, request: dict[str, Any]) -> StartedCall:
        """Call the function and leave; with ``modal run --detach`` it goes on by itself."""
        call = self._spawn(name, request)
        return StartedCall(call.object_id, APP_NAME)

    def _spawn(self, name: str, request: dict[str, Any]) -> Any:
        options: dict[str, Any] = {"gpu": self.gpu} if self.gpu else {}
        if self.secret:
            options["secrets"] = [modal.Secret.from_name(self.secret)]
        function = self.functions[name]
        return (function.with_options(**options) if options else function).spawn(request)


@frozen
class ModalJobs:
    """Calls functions of the app by name, with a queue on which they tell how far they are.

    Attributes:
        connection: how to call Modal.
        load_app: imports the app's definition; called when none of its name is deployed.
        gpu: GPU type to ask for, or None for the app's own choice.
        secret: name of a Modal secret that the containers get (``HF_TOKEN`` for gated models), or None.
        max_restarts: starts without progress in between, after which a run is given up.
    """

    connection: ModalConnection
    load_app: Callable[[], RemoteApp]
    gpu: str | None = None
    secret: str | None = None
    max_restarts: int = 10

    def run(self, name: str, request: dict[str, Any], on_message: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """Call the function, hand its messages on as they come, and return its result; see :meth:`follow`."""
        result: dict[str, Any] = {}
        with closing(self.follow(name, request)) as messages:
            for message in messages:
                if message.get("kind") == RESULT:
                    result = message["result"]
                else:
                    on_message(message)
        return result

    def follow(self, name: str, request: dict[str, Any]) -> Generator[dict[str, Any]]:
        """Call the function and yield its messages as they come; the last one, of kind `RESULT`, holds its result.

        When this side is interrupted or stops listening (closes the generator) the call is cancelled; when it loses
        its connection the call goes on. Raises RemoteError, and the user's errors that the function met.
        """
        client = self.connection.open()
        result: dict[str, Any] = {}
        interrupted: BaseException | None = None
        with self._function(client, name, detach=False) as (function, app_id), self._queue(client) as updates:
            # Modal's client repeats the log of an app of our own here, where the messages are told; a deployed app's
            # log is all that others see.
            sent = {**request, "log": app_id == APP_NAME}
            call = self.connection.call(f"starting {name}", lambda: function.spawn.aio(sent, updates))
            try:
                result = yield from self._messages_and_result(_Run(name, app_id, call, updates))
            except (KeyboardInterrupt, SystemExit, GeneratorExit, InterruptedRunError, PreemptionStormError) as error:
                self._cancel(name, call)
                interrupted = error  # raised below: a running app of modal's swallows a KeyboardInterrupt
        if interrupted is not None:
            raise interrupted
        raise_remote_error(result)
        yield {"kind": RESULT, "result": result}

    def start(self, name: str, request: dict[str, Any]) -> StartedCall:
        """Call the function and leave; it goes on by itself. Raises RemoteError."""
        client = self.connection.open()
        with self._function(client, name, detach=True) as (function, app_id):
            call = self.connection.call(f"starting {name}", lambda: function.spawn.aio(request, None))
            return StartedCall(call.object_id, app_id)

    @contextmanager
    def _function(self, client: modal.Client, name: str, *, detach: bool) -> Iterator[tuple[Any, str]]:
        """Give the deployed app's function, or else one of an app that lives as long as the context."""
        options: dict[str, Any] = {"gpu": self.gpu} if self.gpu else {}
        if self.secret:
            options["secrets"] = [modal.Secret.from_name(self.secret, required_keys=[], client=client)]
        with ExitStack() as stack:
            deployed = self._deployed(client, name)
            if deployed is None:
                remote = self.load_app()
                running = stack.enter_context(self._ephemeral(remote.app, client, detach=detach))
                deployed, app_id = remote.functions[name], running.app_id
            else:
                app_id = APP_NAME
            yield (deployed.with_options(**options) if options else deployed), app_id

    def _deployed(self, client: modal.Client, name: str) -> Any | None:
        function = modal.Function.from_name(APP_NAME, name, client=client)

        async def look_up() -> Any | None:
            try:
                return await function.hydrate.aio()
            except modal.exception.NotFoundError:
                return None

        return self.connection.call(f"looking for app {APP_NAME}", look_up)

    @contextmanager
    def _ephemeral(self, app: Any, client: modal.Client, *, detach: bool) -> Iterator[Any]:
        """Run the app; what Modal prints (image build, remote log) goes to stderr, where progress belongs."""
        with ExitStack() as stack:
            stack.enter_context(redirect_stdout(sys.stderr))
            stack.enter_context(modal.enable_output())
            try:
                running = stack.enter_context(app.run(client=client, detach=detach))
            except Exception as error:
                raise self.connection.translated(error, f"starting app {APP_NAME}") from error
            yield running

    @contextmanager
    def _queue(self, client: modal.Client) -> Iterator[Any]:
        manager: Any = modal.Queue.ephemeral(client=client)
        try:
            queue = manager.__enter__()
        except Exception as error:
            raise self.connection.translated(error, "opening a queue") from error
        try:
            yield queue
        finally:
            manager.__exit__(None, None, None)

    def _messages_and_result(self, run: _Run) -> Generator[dict[str, Any], None, dict[str, Any]]:
        restarts = _Restarts(self.max_restarts)
        while True:
            messages = self._messages(run.updates, wait=2.0)
            for message in messages:
                restarts.take(message)
                yield message
            finished = any(message.get("kind") == "finished" for message in messages)
            if finished or not messages:
                result = self._result(run, wait=30.0 if finished else 0.0)
                if result is not _PENDING:
                    yield from self._messages(run.updates, wait=0.0)
                    return dict(result)

    def _messages(self, updates: Any, wait: float) -> list[dict[str, Any]]:
        async def taken() -> list[dict[str, Any]]:
            try:
                return list(await updates.get_many.aio(100, block=wait > 0, timeout=wait or None) or [])
            except queue.Empty:
                return []

        return self.connection.call("following the run", taken)

    def _result(self, run: _Run, wait: float) -> Any:
        hint = f"`modal app logs {run.app_id}` shows the remote log"

        async def outcome() -> Any:
            try:
                return await run.call.get.aio(timeout=wait)
            except TimeoutError:
                return _PENDING
            except modal.exception.FunctionTimeoutError as error:
                raise RemoteError(f"{run.name} on Modal ran into its time limit", hint=hint) from error
            except CONNECTION_ERRORS:
                raise
            except Exception as error:  # whatever the function raised arrives here as it was raised there
                kind = (
                    "" if isinstance(error, (RemoteBugError, modal.exception.Error)) else f"{type(error).__name__}: "
                )
                text = redacted(f"{kind}{error}", self.connection.environment)
                raise RemoteError(f"{run.name} on Modal failed: {text}", hint=hint) from None

        return self.connection.call(f"waiting for {run.name}", outcome, size=int(wait * self.connection.rate))

    def _cancel(self, name: str, call: Any) -> None:
        try:
            self.connection.call(f"cancelling {name}", lambda: call.cancel.aio(terminate_containers=False))
        except RemoteError:
            return  # what made us cancel is the error to tell


@frozen
class _Run:
    """A call under way."""

    name: str
    app_id: str
    call: Any
    updates: Any


@frozen
class _Restarts:
    """Counts starts of a run since it last got further."""

    limit: int
    _state: dict[str, int] = field(factory=lambda: {"starts": 0, "step": -1})

    def take(self, message: dict[str, Any]) -> None:
        """Take note of a message; raises RemoteError when the run never gets anywhere."""
        if message.get("kind") == "event":
            step = message.get("value", {}).get("step", -1)
            if step > self._state["step"]:
                self._state.update(starts=0, step=step)
        elif message.get("kind") == "started":
            self._state["starts"] += 1
            if self._state["starts"] > self.limit:
                raise PreemptionStormError(
                    f"the run was preempted or failed {self.limit} times without getting further",
                    hint="run it again later, or ask for another --gpu; it goes on from its last checkpoint",
                )
