"""One system in a process of its own, for ``robustness_cost.py``, which talks to it in lines of JSON.

Called with the system's name (a row of ``routing.py``), a seed, and the checkout to take all code from. The first
line that it gets is the data; it trains and answers with what that took. Each further line is a prompt, which it
routes and answers with the nanoseconds.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

if __name__ == "__main__":
    name, seed, checkout = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    sys.path[:0] = [str(checkout / "benchmarks"), str(checkout)]
    answers, sys.stdout = sys.stdout, sys.stderr  # what a library prints must not look like an answer

    import orjson
    from routing import SYSTEMS  # sets the environment before any library reads it

    from domain.samples import RoutingSample

    def answer(value: object) -> None:
        print(orjson.dumps(value).decode(), file=answers, flush=True)

    system = SYSTEMS[name][1](seed)
    rows = {split: [RoutingSample(**row) for row in part] for split, part in orjson.loads(input()).items()}
    wall, cpu = time.perf_counter(), time.process_time()
    system.train(rows["train"], rows["val"])
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    answer({"wall": wall, "cpu": cpu, "bytes": getattr(system, "file_bytes", 0)})
    for line in sys.stdin:
        text = orjson.loads(line)
        start = time.perf_counter_ns()
        system.route(text)
        answer(time.perf_counter_ns() - start)
