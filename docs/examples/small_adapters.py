"""Fine-tune a small LoRA adapter on each of several source files, to try a router with.

``python docs/examples/small_adapters.py LORAS NAME=FILE NAME=FILE …`` writes ``LORAS/NAME`` for each. A file may have
any kind and shape that ``generate`` reads, with the same ``--columns`` where names are odd; all are read before
anything is trained. The base model is that of the variable ``BASE_MODEL_ID``, else the embedded one. These adapters
learn the form of short answers, from 64 rows each: toys. Each takes half a minute to two minutes.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from entrypoints.api import Application, MoeRouterError
from entrypoints.cli.source_options import make_sources

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("loras", type=Path, metavar="LORAS")
parser.add_argument("sources", nargs="+", type=lambda text: text.split("=", 1), metavar="NAME=FILE")
parser.add_argument("--columns", action="append", default=[], metavar="[NAME:]prompt=COLUMN[,…]")
words = parser.parse_intermixed_args()
if wrong := next((each[0] for each in words.sources if len(each) < 2), None):
    parser.error(f"{wrong!r} is not NAME=FILE")

app = Application()
try:
    sources = make_sources({name: [file] for name, file in words.sources}, columns=words.columns)
    finetune = app.finetune(app.load_base(os.environ.get("BASE_MODEL_ID")))
    for name, report in finetune({source.adapter: source for source in sources}, words.loras).items():
        print(f"{name}: loss {report.first_loss:.2f} → {report.last_loss:.2f}, {report.path}")
except MoeRouterError as error:
    sys.exit(f"small_adapters: {error}")
