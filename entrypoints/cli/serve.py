"""``moe-router serve``: an endpoint in OpenAI's form that picks the adapter for each request."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import click
from attrs import frozen

from domain.errors import UsageError
from domain.routing import OtherLimits
from entrypoints.bootstrap import Application
from entrypoints.cli.lora_options import folders_by_name
from entrypoints.cli.options import PATH, base_model_option, grouped, limit_options, router_option
from entrypoints.cli.upstream_options import UPSTREAM_OPTIONS, secret, upstream_option
from entrypoints.settings import HERE
from entrypoints.version import install_extra

if TYPE_CHECKING:
    from entrypoints.serving.serving import Serving
    from entrypoints.serving.settings import ServeSettings

_KINDS = ("vllm", "sglang", "llama-server", "openai")


@frozen
class ServeOptions:
    """The command's options; see their help texts."""

    router: Path | None
    lora_dir: Path | None
    loras: dict[str, Path]
    base_model: str | None
    host: str
    port: int
    key: str | None
    fallback: str
    limits: OtherLimits
    upstream: str | None
    upstream_kind: str
    upstream_model: str | None
    upstream_base: str | None
    upstream_key: str | None
    decision_log: Path | None
    log_prompts: bool
    traces: bool
    max_new_tokens: int
    max_batch: int
    max_waiting: int
    timeout: float


serve_options = grouped(
    "options",
    ServeOptions,
    router_option,
    click.option(
        "--lora-dir", type=PATH, help="A folder with one folder per LoRA adapter, named as the router does."
    ),
    click.option(
        "--lora-modules",
        "--lora",
        "loras",
        multiple=True,
        metavar="NAME=PATH",
        callback=folders_by_name,
        help="A LoRA adapter; repeatable.",
    ),
    base_model_option("the router's own"),
    click.option("--host", default="127.0.0.1", help="Address to listen on; one that others can reach needs a key."),
    click.option(
        "--port", default=8000, type=click.IntRange(0, 65535), help="Port to listen on; 0 takes a free one."
    ),
    click.option(
        "--api-key-env", "key", metavar="NAME", callback=secret, help="Variable with the key that clients must send."
    ),
    click.option(
        "--fallback", default="base", metavar="base|NAME|error", help="Who answers when the router abstains."
    ),
    limit_options,
    upstream_option("A server that answers; without it, answers are generated here."),
    click.option("--upstream-kind", type=click.Choice(_KINDS), default="vllm", help="What kind of server that is."),
    *UPSTREAM_OPTIONS,
    click.option("--decision-log", type=PATH, help="JSONL file for every decision and all feedback."),
    click.option("--log-prompts", is_flag=True, help="Keep the prompts' texts in the decision log, too."),
    click.option("--traces", is_flag=True, help="Send OpenTelemetry spans by OTLP; the OTEL_… variables say where."),
    click.option("--max-new-tokens", default=512, type=click.IntRange(1), help="Longest answer generated here."),
    click.option("--max-batch", default=16, type=click.IntRange(1), help="Most answers that grow at once here."),
    click.option("--max-waiting", default=256, type=click.IntRange(1), help="Most requests at a time; more get 429."),
    click.option("--timeout", default=300.0, type=click.FloatRange(1), help="Seconds that one request may take."),
)


@click.command("serve")
@serve_options
@click.pass_obj
def command(app: Application, options: ServeOptions) -> None:
    """Serve an endpoint in OpenAI's form: with the model "auto" the router picks the adapter for each request.

    Either the LoRA adapters are named, and answers are generated here, or --upstream names a server that holds them.
    SIGHUP, or a new router file in place of the old, loads the router anew. SIGTERM finishes what is going on.
    """
    _check(options)
    _serve(app, options)


def _check(options: ServeOptions) -> None:
    if bool(options.lora_dir or options.loras) == bool(options.upstream):
        raise UsageError(
            "give either LoRA adapters to answer with here, or --upstream",
            hint="--lora-dir DIR, or --lora-modules NAME=PATH for each",
        )
    if options.log_prompts and options.decision_log is None:
        raise UsageError("--log-prompts goes with --decision-log")


def check_server(host: str, port: int) -> None:
    """Raise what would keep a server from starting there: for asking before long work."""
    _packages_are_there()
    from entrypoints.serving.server import listen

    listen(host, port).close()


def _packages_are_there() -> None:
    """Raise UsageError when the packages of the extra `serve` are not installed."""
    try:
        import_module("entrypoints.serving.app")
        import_module("entrypoints.serving.server")
    except ModuleNotFoundError as error:
        raise UsageError(f"serving needs the package {error.name}", hint=install_extra("serve")) from error


def _serve(app: Application, options: ServeOptions) -> None:
    _packages_are_there()
    from domain.answer_policy import Fallback
    from entrypoints.serving.app import serving_app
    from entrypoints.serving.server import is_local, listen, server_for
    from entrypoints.serving.settings import ServeSettings
    from entrypoints.serving.tracing import otlp_tracing

    local = is_local(options.host)
    if options.key is None and not local:
        raise UsageError(
            f"without a key only this machine may reach the server, and {options.host} can be reached by others",
            hint="put a key into an environment variable and name it with --api-key-env",
        )
    settings = ServeSettings(
        api_key=options.key,
        fallback=Fallback.parse(options.fallback),
        limits=options.limits,
        max_waiting=options.max_waiting,
        timeout=options.timeout,
        log_prompts=options.log_prompts,
        local_only=local and options.key is None,
    )
    tracing = otlp_tracing() if options.traces else None
    serving = _serving(app, options, settings)
    serving.tracing = tracing
    if options.log_prompts:
        click.echo("moe-router: --log-prompts keeps the prompts' texts in the decision log", err=True)
    socket = listen(options.host, options.port)
    host, port = socket.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    click.echo(f"moe-router: serving on http://{shown}:{port}", err=True)
    server_for(serving_app(serving)).run(sockets=[socket])
    click.echo("moe-router: stopped", err=True)


def _serving(app: Application, options: ServeOptions, settings: ServeSettings) -> Serving:
    from adapters.lora.lora_files import lora_folders
    from entrypoints.backend import Upstream

    path = options.router or HERE.router
    log = None if options.decision_log is None else app.decision_log(options.decision_log)
    if options.upstream is not None:
        upstream = Upstream(
            options.upstream,
            options.upstream_kind,
            options.upstream_model,
            options.upstream_base,
            options.upstream_key,
            options.timeout,
        )
        return app.serve_upstream(path, upstream, settings, base_model=options.base_model, log=log)
    return app.serve_embedded(
        path,
        lora_folders(options.loras, options.lora_dir),
        settings,
        base_model=options.base_model,
        max_batch=options.max_batch,
        max_tokens=options.max_new_tokens,
        log=log,
    )
