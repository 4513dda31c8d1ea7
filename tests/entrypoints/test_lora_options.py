"""Naming LoRA adapters on the command line."""

import pytest

from domain.errors import MissingFileError
from entrypoints.cli.lora_options import lora_folders


def test_a_folder_that_is_not_there_is_named_before_anything_slow(tmp_path):
    with pytest.raises(MissingFileError, match=r"no such folder.*--lora calendar="):
        lora_folders((f"calendar={tmp_path / 'missing'}",), None)


def test_paths_of_another_machine_are_not_looked_at():
    assert list(lora_folders(("calendar=/checkpoints/calendar-tasks",), None, here=False)) == ["calendar"]
