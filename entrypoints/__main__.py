"""``python -m entrypoints`` is ``moe-router``."""

from entrypoints.start import main

main()
