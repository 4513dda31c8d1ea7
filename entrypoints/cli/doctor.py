"""``moe-router doctor``: prove that LoRA adapters fit the base model, have an effect, and differ."""

from __future__ import annotations

from pathlib import Path

import click

from entrypoints.bootstrap import Application
from entrypoints.cli.lora_options import lora_folders, lora_options


@click.command("doctor")
@lora_options
@click.option("--base-model", help="Hub id or folder; else BASE_MODEL_ID, else the embedded model.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@click.pass_obj
def command(
    app: Application, loras: tuple[str, ...], lora_dir: Path | None, base_model: str | None, as_json: bool
) -> None:
    """Prove that each LoRA adapter fits the base model and has an effect.

    Checks the files (safetensors only), the base model, shapes, rank and target modules, then runs all of them on
    one prompt: each must change the base model's logits and differ from the others. Exit code 3 when one does not.
    """
    from domain.errors import UsageError
    from entrypoints.cli.lora_report import as_object, as_table

    folders = lora_folders(loras, lora_dir)
    if not folders:
        raise UsageError("no LoRA adapter to check", hint="use --lora NAME=PATH or --lora-dir DIR")
    check, _ = app.check_lora_adapters(app.load_base(base_model), folders)
    if as_json:
        import orjson

        click.echo(orjson.dumps(as_object(check)))
    else:
        click.echo(as_table(check))
    raise SystemExit(0 if check.sound else 3)
