"""What the router is about, with no technology in it: frozen values and pure functions.

Imports the standard library and attrs only (import-linter holds this). Everything here can be
used and tested without a file, a model or a network.
"""
