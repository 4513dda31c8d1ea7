"""Fixtures for the tests of every layer."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny random causal base model, tokenizer and chat template; `load_base(str(folder), …)`."""
    from tests.tiny_models import tiny_model

    return tiny_model(tmp_path_factory.mktemp("tiny-base") / "tiny-llama")
