"""Decide which adapter should answer: ``python docs/examples/route_in_python.py ROUTER PROMPT…``."""

from __future__ import annotations

import sys

from entrypoints.api import OtherLimits, open_router

router = open_router(sys.argv[1])
for prompt in sys.argv[2:]:
    decision = router.route(prompt)
    print(f"{decision.adapter or 'none'} ({decision.reason}, {decision.confidence:.2f}): {prompt}")
    bold = router.route(prompt, limits=OtherLimits(no_abstain=True))
    print(f"  if it had to choose: {bold.adapter}")
