"""Fine-tune a small LoRA adapter on each of several source files, to try a router with.

``python docs/examples/small_adapters.py LORAS NAME=FILE NAME=FILE …`` writes ``LORAS/NAME`` for each. A file may have
any kind and shape that ``generate`` reads. The base model is that of the variable ``BASE_MODEL_ID``, else the
embedded one. These adapters learn the form of short answers, from 64 rows each: toys. Each takes up to a minute.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from entrypoints.api import Application, MoeRouterError

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("loras", type=Path, metavar="LORAS")
parser.add_argument("sources", nargs="+", type=lambda text: text.split("=", 1), metavar="NAME=FILE")
words = parser.parse_args()
if wrong := next((each[0] for each in words.sources if len(each) < 2), None):
    parser.error(f"{wrong!r} is not NAME=FILE")

app = Application()
try:
    finetune = app.finetune(app.load_base(os.environ.get("BASE_MODEL_ID")))
    for name, file in words.sources:
        report = finetune({name: Path(file)}, words.loras)[name]
        print(f"{name}: loss {report.first_loss:.2f} → {report.last_loss:.2f}, {report.path}", flush=True)
except MoeRouterError as error:
    sys.exit(f"small_adapters: {error}")
