"""Implementations of every port that need no file, no model and no network.

They are shipped, not test helpers: other tools use them to embed the use cases and to test against them. They
keep the same contracts as the real adapters; ``tests/contracts/`` runs the same tests over both.
"""
