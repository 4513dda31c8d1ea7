"""Decide which adapter should answer: ``python docs/examples/route_in_python.py ROUTER PROMPT…``."""

from __future__ import annotations

import argparse

from entrypoints.api import OtherLimits, open_router

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("router", metavar="ROUTER")
parser.add_argument("prompts", nargs="+", metavar="PROMPT")
words = parser.parse_args()

router = open_router(words.router)
for prompt in words.prompts:
    decision = router.route(prompt)
    print(f"{decision.adapter or 'none'} ({decision.reason}, {decision.confidence:.2f}): {prompt}")
    bold = router.route(prompt, limits=OtherLimits(no_abstain=True))
    print(f"  if it had to choose: {bold.adapter}")
