"""``python -m entrypoints`` is ``moe-router``."""

from entrypoints.cli import main

main()
