"""Runs functions of the Modal app from here: finds or starts the app, follows a call to its end."""

from __future__ import annotations

import queue
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, redirect_stdout, suppress
from typing import Any, Final, Protocol, TypeVar

import modal
import modal.exception
from attrs import define, field, frozen

from adapters.modal_cloud.call_options import NO_OPTIONS, CallOptions
from adapters.modal_cloud.modal_connection import CONNECTION_ERRORS, ModalConnection, is_lost, redacted, translated
from adapters.modal_cloud.modal_wire import BUG, ELSEWHERE, OF, raise_remote_error
from adapters.modal_cloud.remote_functions import APP_NAME, SERVE_APP, deployed, serving, with_options
from domain.errors import InterruptedRunError, RemoteError, UsageError

RESULT: Final = "result"
"""Kind of the last message of a call that went well."""

_ENDED: Final = "the call was cancelled, or its app was stopped"
"""What Modal gives no reason for."""

_DEPLOYED: Final = (APP_NAME, SERVE_APP)
"""Apps that stay when a call is done; those that a call brings along go by their id."""

_PENDING: Any = object()
T = TypeVar("T")


class RemoteApp(Protocol):
    """The app as a module defines it, for when none is deployed: ``entrypoints.modal_app``."""

    app: Any
    functions: Mapping[str, Any]
    tags: Mapping[str, str]


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

    def attach(self, name: str, call_id: str) -> dict[str, Any]:
        """Wait for a call that was started before, and return its result; raises UsageError for another command's."""
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
        options: how its containers differ from the app's own choice.
    """

    functions: Mapping[str, Any]
    environment: Mapping[str, str]
    options: CallOptions = NO_OPTIONS

    def run(self, name: str, request: dict[str, Any], on_message: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """Call the function and return its result."""
        (last,) = self.follow(name, request)
        return dict(last["result"])

    def follow(self, name: str, request: dict[str, Any]) -> Generator[dict[str, Any]]:
        """Call the function and yield its result as the only message."""
        # Training tells of itself in the log; other results are printed here, once.
        result: dict[str, Any] = self._spawn(name, {**request, "log": name == "train"}).get()
        _raise_error(name, result, self.environment, "the lines above have its traceback")
        yield {"kind": RESULT, "result": result}

    def start(self, name: str, request: dict[str, Any]) -> StartedCall:
        """Call the function and leave; with ``modal run --detach`` it goes on by itself."""
        call = self._spawn(name, request)
        return StartedCall(call.object_id, APP_NAME)

    def attach(self, name: str, call_id: str) -> dict[str, Any]:
        """Wait for a call that was started before, and return its result; raises UsageError for another command's."""
        result: dict[str, Any] = modal.FunctionCall.from_id(call_id).get()
        _require_of(name, result, call_id)
        _raise_error(name, result, self.environment, "the remote log has its traceback")
        return result

    def _spawn(self, name: str, request: dict[str, Any]) -> Any:
        try:
            function = with_options(name, self.functions[name], self.options)
            return function.spawn({**request, **self.options.as_request()})
        except Exception as error:  # a secret that is not there, a kind of GPU that Modal does not know
            raise translated(error, f"starting {name}", self.environment) from error


def _quiet(_line: str) -> None:
    """Tell nobody."""


@frozen
class ModalJobs:
    """Calls functions of the app by name, with a queue on which they tell how far they are.

    Attributes:
        connection: how to call Modal.
        load_app: imports the app's definition; called when none of its name is deployed.
        options: how the containers differ from the app's own choice.
        max_restarts: starts without progress in between, after which a run is given up.
        patience: seconds without any answer of Modal's, after which a run is left to itself.
        redeploy: deploy the app as it is defined here before it is called.
        note: takes a line that a person should read meanwhile.
    """

    connection: ModalConnection
    load_app: Callable[[], RemoteApp]
    options: CallOptions = NO_OPTIONS
    max_restarts: int = 10
    patience: float = 600.0
    redeploy: bool = False
    note: Callable[[str], None] = _quiet

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
        its connection the call goes on, and is followed again when the connection is back. Raises RemoteError, and
        the user's errors that the function met.

        A request may say in ``shared`` which tags an endpoint must have to answer it with what it has loaded.
        """
        client = self.connection.open()
        result: dict[str, Any] = {}
        interrupted: BaseException | None = None
        shared = request.get("shared")
        with self._function(client, name, shared) as (function, app_id), self._queue(client) as updates:
            # Modal's client repeats the log of an app of our own here, where the messages are told; a deployed app's
            # log is all that others see.
            call = self._spawn(name, function, app_id, {**request, "log": app_id in _DEPLOYED}, updates)
            self.note(f"{name} runs on Modal as call {call.object_id} (log: {_log_command(app_id)})")
            try:
                result = yield from self._messages_and_result(_Run(name, app_id, call, updates))
            except (KeyboardInterrupt, SystemExit, GeneratorExit, InterruptedRunError, PreemptionStormError) as error:
                self._cancel(name, app_id, call)
                interrupted = error  # raised below: a running app of modal's swallows a KeyboardInterrupt
        if interrupted is not None:
            raise interrupted
        if ELSEWHERE in result:
            self.note(f"note: {result[ELSEWHERE]}; another container does it")
            yield from self.follow(name, {**request, "shared": None})
            return
        _raise_error(name, result, self.connection.environment, f"`{_log_command(app_id)}` shows the remote log")
        yield {"kind": RESULT, "result": result}

    def start(self, name: str, request: dict[str, Any]) -> StartedCall:
        """Call the function and leave; it goes on by itself. Raises RemoteError."""
        client = self.connection.open()
        with self._function(client, name) as (function, app_id):
            return StartedCall(self._spawn(name, function, app_id, request, None).object_id, app_id)

    def attach(self, name: str, call_id: str) -> dict[str, Any]:
        """Wait for a call that was started before, and return its result; raises as :meth:`follow` does.

        Ctrl-C leaves the call alone.
        """
        client = self.connection.open()
        call: Any = modal.FunctionCall.from_id(call_id, client=client)
        outage, result = _Outage(self.patience, self.note, call_id), _PENDING
        run = _Run(name, APP_NAME, call, None)
        self.note(f"waiting for call {call_id}; Ctrl-C leaves it alone")
        while result is _PENDING:
            result = outage.ridden_out(lambda: self._result(run, wait=5.0), _PENDING)
        _require_of(name, result, call_id)
        _raise_error(name, result, self.connection.environment, "the remote log has its traceback")
        return dict(result)

    def _spawn(self, name: str, function: Any, app_id: str, request: dict[str, Any], updates: Any) -> Any:
        """Start the call, once: a reply that is late must not start another one."""
        sent = {**request, **self.options.as_request()}
        size = len(repr(sent))
        try:
            return self.connection.call(
                f"starting {name}", lambda: function.spawn.aio(sent, updates), size, once=True
            )
        except RemoteError as error:
            if not is_lost(error):
                raise
            look = "" if app_id in _DEPLOYED else f", `modal app stop {app_id}` ends it"
            hint = f"it may have started all the same: `{_log_command(app_id)}` shows whether it did{look}"
            raise RemoteError(error.what, where=error.where, hint=hint) from error

    @contextmanager
    def _function(
        self, client: modal.Client, name: str, shared: Mapping[str, str] | None = None
    ) -> Iterator[tuple[Any, str]]:
        """Give the endpoint's method, the deployed app's, or one of an app that lives as long as the context."""
        with ExitStack() as stack:
            if self.redeploy:
                self._deploy(client)
            if shared is not None and self._serves(client, shared):
                function, app_id = serving(client), SERVE_APP
            elif (function := self._fitting(client, name)) is None:
                remote = self.load_app()
                running = stack.enter_context(self._ephemeral(remote.app, client))
                function, app_id = remote.functions[name], running.app_id
            else:
                app_id = APP_NAME
            try:
                yield with_options(name, function, self.options, client), app_id
            except (modal.exception.Error, ValueError) as error:
                raise self.connection.translated(error, f"starting {name}") from error

    def _deploy(self, client: modal.Client) -> None:
        from modal.runner import deploy_app

        with redirect_stdout(sys.stderr), modal.enable_output():
            try:
                deploy_app(self.load_app().app, name=APP_NAME, client=client)
            except Exception as error:
                raise self.connection.translated(error, f"deploying app {APP_NAME}") from error

    def _fitting(self, client: modal.Client, name: str) -> Any | None:
        """Return the deployed app's function, or None where the call needs an app of its own.

        The deployed app wins over local code and settings, and is said to be another; but it cannot be given a choice
        of GPUs that is not in its definition.
        """
        function = self._deployed(client, name)
        if function is None:
            return None
        there, here = self._tags(client, APP_NAME), dict(self.load_app().tags)
        other = sorted(name for name in here if there.get(name) != here[name])
        if self.options.choice and "gpu" in other:
            self.note(
                f"note: the deployed app {APP_NAME} was not made for GPU {self.options.choice}; this call has an app "
                "of its own (--redeploy replaces the deployed one)"
            )
            return None
        if other:
            self.note(
                f"note: the deployed app {APP_NAME} has other {' and '.join(other)} than this software here, and is "
                "used as it is; --redeploy replaces it"
            )
        return function

    def _serves(self, client: modal.Client, shared: Mapping[str, str]) -> bool:
        """Whether an endpoint is deployed that has loaded what is asked for, and is of this software's code."""
        there = self._tags(client, SERVE_APP)
        return bool(there) and {**shared, "code": self.load_app().tags["code"]}.items() <= there.items()

    def _tags(self, client: modal.Client, name: str) -> dict[str, str]:
        """Return what a deployed app says of itself; nothing when there is none."""

        async def read() -> dict[str, str]:
            try:
                app: Any = await modal.App.lookup.aio(name, client=client)
            except modal.exception.NotFoundError:
                return {}
            return dict(await app.get_tags.aio(client=client))

        return self.connection.call(f"looking at app {name}", read)

    def _deployed(self, client: modal.Client, name: str) -> Any | None:
        function = deployed(name, client)

        async def look_up() -> Any | None:
            try:
                return await function.hydrate.aio()
            except modal.exception.NotFoundError:
                return None

        return self.connection.call(f"looking for app {APP_NAME}", look_up)

    @contextmanager
    def _ephemeral(self, app: Any, client: modal.Client) -> Iterator[Any]:
        """Run the app until its calls are done, whatever becomes of this process or its connection.

        What Modal prints (image build, remote log) goes to stderr, where progress belongs.
        """
        with ExitStack() as stack:
            stack.enter_context(redirect_stdout(sys.stderr))
            stack.enter_context(modal.enable_output())
            manager = app.run(client=client, detach=True)
            try:
                running = manager.__enter__()
            except Exception as error:
                raise self.connection.translated(error, f"starting app {APP_NAME}") from error
            try:
                yield running
            finally:
                with suppress(*CONNECTION_ERRORS):  # then Modal ends the app when its calls are done
                    manager.__exit__(None, None, None)

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
            with suppress(*CONNECTION_ERRORS):
                manager.__exit__(None, None, None)

    def _messages_and_result(self, run: _Run) -> Generator[dict[str, Any], None, dict[str, Any]]:
        restarts = _Restarts(self.max_restarts)
        outage = _Outage(self.patience, self.note, run.call.object_id)
        while True:
            messages = outage.heard(lambda: self._messages(run.updates, wait=2.0))
            for message in messages:
                restarts.take(message)
                yield message
            finished = any(message.get("kind") == "finished" for message in messages)
            if finished or not messages:
                wait = 30.0 if finished else 2.0 if outage.deaf else 0.0
                result = outage.ridden_out(lambda wait=wait: self._result(run, wait), _PENDING)  # type: ignore[misc]
                if result is not _PENDING:
                    yield from outage.heard(lambda: self._messages(run.updates, wait=0.0))
                    return dict(result)

    def _messages(self, updates: Any, wait: float) -> list[dict[str, Any]]:
        async def taken() -> list[dict[str, Any]]:
            try:
                return list(await updates.get_many.aio(100, block=wait > 0, timeout=wait or None) or [])
            except queue.Empty:
                return []

        return self.connection.call("following the run", taken)

    def _result(self, run: _Run, wait: float) -> Any:
        hint = f"`{_log_command(run.app_id)}` shows the remote log"

        async def outcome() -> Any:
            try:
                return await run.call.get.aio(timeout=wait)
            except TimeoutError:
                return _PENDING
            except (modal.exception.NotFoundError, modal.exception.OutputExpiredError) as error:
                raise RemoteError(
                    f"there is no call {run.call.object_id}, or its result is not kept any more",
                    hint="a run says its id when it starts; Modal keeps results for a week",
                ) from error
            except modal.exception.FunctionTimeoutError as error:
                raise RemoteError(f"{run.name} on Modal ran into its time limit", hint=hint) from error
            except CONNECTION_ERRORS:
                raise
            except Exception as error:  # whatever the function raised arrives here as it was raised there
                kind = "" if isinstance(error, modal.exception.Error) else f"{type(error).__name__}: "
                text = redacted(f"{kind}{error}", self.connection.environment) or _ENDED
                raise RemoteError(f"{run.name} on Modal failed: {text}", hint=hint) from None

        return self.connection.call(f"waiting for {run.name}", outcome, size=int(wait * self.connection.rate))

    def _cancel(self, name: str, app_id: str, call: Any) -> None:
        """End the call, and say whether it has ended: what made us cancel is the error that is raised."""
        try:
            self.connection.call(f"cancelling {name}", lambda: call.cancel.aio(terminate_containers=False))
        except RemoteError as error:
            self.note(f"{error}; call {call.object_id} goes on: {_how_to_end(call.object_id, app_id)}")
        else:
            self.note(f"call {call.object_id} is cancelled")


def _how_to_end(call_id: str, app_id: str) -> str:
    """Return what ends a call: Modal's command line ends whole apps only, and others use a deployed one."""
    if app_id not in _DEPLOYED:
        return f"`modal app stop {app_id}` ends it, and all calls of its app"
    line = f"import modal; modal.FunctionCall.from_id('{call_id}').cancel()"
    return f'`python -c "{line}"` ends it (`modal app stop` would take down all of the deployed app {app_id})'


def _log_command(app_id: str) -> str:
    return f"modal app logs {app_id}"


def _raise_error(name: str, result: dict[str, Any], environment: Mapping[str, str], hint: str) -> None:
    if result.get("error") == BUG:
        raise RemoteError(f"{name} on Modal failed: {redacted(result['what'], environment)}", hint=hint)
    raise_remote_error(result)


def _require_of(name: str, result: dict[str, Any], call_id: str) -> None:
    """Raise UsageError for the result of another command's call."""
    of = result.get(OF, name)
    if of != name:
        raise UsageError(
            f"call {call_id} is one of {of}, not of {name}",
            hint=f"moe-router {of} --backend modal --attach {call_id}",
        )


@frozen
class _Run:
    """A call under way."""

    name: str
    app_id: str
    call: Any
    updates: Any


@define
class _Outage:
    """Rides out times without a connection: what runs on Modal goes on meanwhile.

    Attributes:
        patience: seconds after which it is given up.
        note: takes a line for people.
        call_id: the call that is followed.
        pause: seconds between attempts.
        deaf: whether the queue of messages is gone; only the result still comes.
    """

    patience: float
    note: Callable[[str], None]
    call_id: str
    pause: float = 1.0
    deaf: bool = False
    _since: float | None = None

    def heard(self, ask: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
        """Return messages, or none while the connection is lost and once their queue is gone."""
        if self.deaf:
            return []
        try:
            return self.ridden_out(ask, [])
        except RemoteError as error:
            if not isinstance(error.__cause__, modal.exception.NotFoundError):
                raise
            self.deaf = True  # a queue ends when its owner was away for too long
            return []

    def ridden_out(self, ask: Callable[[], T], instead: T) -> T:
        """Return what `ask` returns, or `instead` when the connection is lost at the moment.

        Raises RemoteError when it has been lost for too long, and what else `ask` raises.
        """
        try:
            answer = ask()
        except RemoteError as error:
            self._take(error)
            return instead
        if self._since is not None:
            self.note("the connection to Modal is back")
        self._since = None
        return answer

    def _take(self, error: RemoteError) -> None:
        if not is_lost(error):
            raise error
        now = time.monotonic()
        if self._since is None:
            self._since = now
            self.note(f"the connection to Modal is lost; call {self.call_id} goes on there, trying to reach it again")
        if now - self._since > self.patience:
            hint = f"it goes on by itself; the same command with --attach {self.call_id} waits for it"
            raise RemoteError(error.what, where=error.where, hint=hint) from error
        time.sleep(self.pause)


@frozen
class _Restarts:
    """Counts starts of a run, or of one share of it, since it last got further: in steps or in answers."""

    limit: int
    _starts: Counter[int] = field(factory=Counter)
    _steps: list[int] = field(factory=lambda: [-1])

    def take(self, message: dict[str, Any]) -> None:
        """Take note of a message; raises RemoteError when the run never gets anywhere."""
        kind, share = message.get("kind"), message.get("share", 0)
        if kind == "event":
            step = message.get("value", {}).get("step", -1)
            if step > self._steps[-1]:
                self._steps[-1] = step
                self._starts.clear()
        elif kind == "answer":
            self._starts[share] = 0
        elif kind in ("started", "share"):
            self._starts[share] += 1
            if self._starts[share] > self.limit:
                raise PreemptionStormError(
                    f"the run was preempted or failed {self.limit} times without getting further",
                    hint="run it again later, or ask for another --gpu; it goes on from its last checkpoint",
                )
