"""``moe-router tensorboard``: serve the training curves."""

from __future__ import annotations

from pathlib import Path

import click

from domain.errors import MissingFileError
from entrypoints.bootstrap import Application
from entrypoints.cli.train import DEFAULT_LOG_DIR


@click.command("tensorboard")
@click.option(
    "--log-dir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help=f"Folder of the runs, as given to train.  [env: LOG_DIR; default: {DEFAULT_LOG_DIR}]",
)
@click.option("--host", default="localhost", help="Address to listen on.")
@click.option("--port", default=6006, help="Port to listen on; 0 for any free one.")
@click.pass_obj
def command(app: Application, *, log_dir: Path | None, host: str, port: int) -> None:
    """Serve the training curves in TensorBoard until Ctrl-C."""
    folder = log_dir or Path(app.environment.get("LOG_DIR") or DEFAULT_LOG_DIR)
    if not folder.is_dir():
        raise MissingFileError(
            "no such folder of TensorBoard logs", where=folder, hint="train a router first, or give --log-dir"
        )
    url, wait = app.serve_tensorboard(folder, host, port)
    click.echo(f"TensorBoard serves {folder} at {url} (Ctrl-C ends it)")
    wait()
