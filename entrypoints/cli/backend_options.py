"""What the options of ``--backend`` mean together."""

from __future__ import annotations

from domain.errors import UsageError


def check_backend(backend: str, gpu: str | None, hf_secret: str | None) -> None:
    """Raise UsageError for an option that the local backend would ignore."""
    if backend == "local" and (gpu or hf_secret):
        raise UsageError("--gpu and --hf-secret belong to --backend modal")
