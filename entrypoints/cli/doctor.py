"""``moe-router doctor``: prove that LoRA adapters fit the base model, have an effect, and differ."""

from __future__ import annotations

from pathlib import Path

import click

from entrypoints.bootstrap import Application
from entrypoints.cli.lora_options import lora_options
from entrypoints.cli.next_step import lora_words, next_step
from entrypoints.cli.options import base_model_option, json_option
from entrypoints.reports.printing import print_report


@click.command("doctor")
@lora_options
@base_model_option("the embedded one")
@json_option
@click.pass_obj
def command(
    app: Application, loras: dict[str, Path], lora_dir: Path | None, base_model: str | None, as_json: bool
) -> None:
    """Prove that each LoRA adapter fits the base model and has an effect.

    Checks the files (safetensors only), the base model, shapes, rank and target modules, then runs all of them on
    one prompt: each must change the base model's logits and differ from the others. Exit code 3 when one does not.
    """
    from adapters.lora.lora_files import lora_folders
    from domain.errors import UsageError
    from entrypoints.reports.lora_check import as_text, as_values

    folders = lora_folders(loras, lora_dir)
    if not folders:
        raise UsageError("no LoRA adapter to check", hint="use --lora NAME=PATH or --lora-dir DIR")
    check, _ = app.check_lora_adapters(app.load_base(base_model), folders)
    print_report(check, as_text, as_values, as_json=as_json)
    if check.sound:
        next_step("serve", *lora_words(lora_dir, loras))
    raise SystemExit(0 if check.sound else 3)
