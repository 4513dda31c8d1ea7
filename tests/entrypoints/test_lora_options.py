"""Naming LoRA adapters on the command line."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from adapters.lora.lora_files import lora_folders
from domain.errors import MissingFileError
from entrypoints.cli.lora_options import lora_options


def test_a_folder_that_is_not_there_is_named_before_anything_slow(tmp_path):
    with pytest.raises(MissingFileError, match=r"no such folder.*LoRA adapter calendar"):
        lora_folders({"calendar": tmp_path / "missing"}, None)


def test_paths_of_another_machine_are_not_looked_at():
    named = {}

    @click.command()
    @lora_options
    def command(loras, lora_dir):
        named.update(loras)

    CliRunner().invoke(command, ["--lora", "calendar=/checkpoints/calendar-tasks"], catch_exceptions=False)
    assert named == {"calendar": Path("/checkpoints/calendar-tasks")}
