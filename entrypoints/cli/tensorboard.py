"""``moe-router tensorboard``: serve the training curves."""

from __future__ import annotations

from pathlib import Path

import click

from entrypoints.backend import Where
from entrypoints.bootstrap import Application
from entrypoints.cli.options import PATH, backend_name_option, grouped
from entrypoints.settings import HERE, Variable


@click.command("tensorboard")
@click.option(
    "--log-dir",
    type=PATH,
    metavar="DIR",
    envvar=Variable.LOG_DIR,
    show_envvar=True,
    show_default=str(HERE.log_dir),
    help="Folder of the runs, as given to train.",
)
@click.option("--host", default="localhost", help="Address to listen on.")
@click.option("--port", default=6006, help="Port to listen on; 0 for any free one.")
@grouped("where", Where, backend_name_option)
@click.pass_obj
def command(app: Application, *, log_dir: Path | None, host: str, port: int, where: Where) -> None:
    """Serve the training curves in TensorBoard until Ctrl-C.

    With --backend modal the logs on the output volume are copied here, again and again while runs go on.
    """
    backend = app.backend(where)
    with backend.logs(log_dir) as folder:
        url, wait = app.serve_tensorboard(folder, host, port)
        click.echo(f"TensorBoard serves {log_dir or backend.places.log_dir} at {url} (Ctrl-C ends it)")
        wait()
