"""Ctrl-C while the program is still importing itself."""

import os
import signal
import subprocess
import sys

import pytest

CODE = """
import os, signal, sys

class Interrupter:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupter())
wanted = sys.argv[1]
from entrypoints.start import main
sys.argv = ["moe-router", "describe", "nothing.safetensors"]
sys.meta_path[0].find_spec = lambda name, path=None, target=None: (
    os.kill(os.getpid(), signal.SIGINT) if name == wanted else None
)
main()
"""


@pytest.mark.parametrize(
    "module", ["entrypoints.cli", "click", "entrypoints.bootstrap", "entrypoints.cli.describe", "numpy"]
)
def test_an_interruption_during_the_imports_shows_no_traceback(module):
    env = {**os.environ, "COLUMNS": "200"}
    ended = subprocess.run([sys.executable, "-c", CODE, module], capture_output=True, text=True, timeout=100, env=env)
    assert ended.returncode in (-signal.SIGINT, 130)
    assert ended.stderr in ("", "moe-router: interrupted\n")
    assert ended.stdout == ""
