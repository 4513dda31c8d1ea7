"""Fine-tune a small LoRA adapter on each of several source files, to try a router with.

``python docs/examples/small_adapters.py LORAS NAME=FILE NAME=FILE …`` writes ``LORAS/NAME`` for each. A file may have
any kind and shape that ``generate`` reads. The base model is that of the variable ``BASE_MODEL_ID``, else the
embedded one. These adapters learn the form of short answers, from 64 rows each: toys.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from entrypoints.api import Application

loras, *named = sys.argv[1:]
files = {name: Path(file) for name, file in (each.split("=", 1) for each in named)}
app = Application()
made = app.finetune(app.load_base(os.environ.get("BASE_MODEL_ID")))(files, Path(loras))
for name, report in made.items():
    print(f"{name}: loss {report.first_loss:.2f} → {report.last_loss:.2f}, {report.path}")
