"""``moe-router tensorboard``: serve the training curves."""

from __future__ import annotations

from pathlib import Path

import click

from domain.errors import MissingFileError
from entrypoints.bootstrap import Application
from entrypoints.settings import HERE, Variable


@click.command("tensorboard")
@click.option(
    "--log-dir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    envvar=Variable.LOG_DIR,
    show_envvar=True,
    default=HERE.log_dir,
    help="Folder of the runs, as given to train.",
)
@click.option("--host", default="localhost", help="Address to listen on.")
@click.option("--port", default=6006, help="Port to listen on; 0 for any free one.")
@click.pass_obj
def command(app: Application, *, log_dir: Path, host: str, port: int) -> None:
    """Serve the training curves in TensorBoard until Ctrl-C."""
    if not log_dir.is_dir():
        raise MissingFileError(
            "no such folder of TensorBoard logs", where=log_dir, hint="train a router first, or give --log-dir"
        )
    url, wait = app.serve_tensorboard(log_dir, host, port)
    click.echo(f"TensorBoard serves {log_dir} at {url} (Ctrl-C ends it)")
    wait()
