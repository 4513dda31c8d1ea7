"""Fixtures for the tests of every layer."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
import structlog

if TYPE_CHECKING:
    from tests.modal_fake import FakeModal

# Every core has a worker of its own: threads of torch and numpy, here and in processes that tests start, only wait
# for each other. To be set before these libraries are imported.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

# As many examples as a minute allows; `--hypothesis-profile default` tries a hundred each.
hypothesis.settings.register_profile("quick", max_examples=30, deadline=None)
hypothesis.settings.load_profile("quick")


def pytest_collection_finish() -> None:
    """Let what is imported by now stay: no collection of garbage looks at it again, here or in a forked process."""
    gc.freeze()


@pytest.fixture(autouse=True)
def _logs_of_its_own() -> Iterator[None]:
    """Forget where a command sent its logs: a test's streams are closed when it is over."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny random causal base model, tokenizer and chat template; `load_base(str(folder), …)`."""
    from tests.tiny_models import tiny_model

    return tiny_model(tmp_path_factory.mktemp("tiny-base") / "tiny-llama")


@pytest.fixture(scope="session")
def modal_workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeModal]:
    """One fake Modal for all tests of the process: modal keeps one client per process."""
    from tests.modal_fake import CREDENTIALS, running_fake

    with pytest.MonkeyPatch.context() as patch, running_fake(tmp_path_factory.mktemp("modal")) as fake:
        patch.setenv("MODAL_SERVER_URL", fake.url)
        patch.setenv("MODAL_TOKEN_ID", CREDENTIALS[0])
        patch.setenv("MODAL_TOKEN_SECRET", CREDENTIALS[1])
        patch.setenv("MODAL_CONFIG_PATH", str(fake.root / "no-such-file.toml"))
        yield fake


@pytest.fixture
def modal_fake(modal_workspace: FakeModal) -> Iterator[FakeModal]:
    """A fake Modal with empty volumes and no recorded calls."""
    modal_workspace.volumes.empty()
    modal_workspace.apps.secret_names.clear()
    modal_workspace.calls.clear()
    yield modal_workspace
    assert not modal_workspace.faults
