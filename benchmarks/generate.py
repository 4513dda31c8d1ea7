"""How fast rows are drawn out of a large source file, against counting its lines and against the usual ways.

Makes its own file of source data (1 GB unless told otherwise) in a temporary folder and removes it at the end. All
figures are of one run on one machine; compare them with each other, not with another machine's. Every way runs in
a process of its own, which times only its work (start and imports aside) and reports its peak memory.

    python benchmarks/generate.py                      # 1 GB, and 4 GB for the memory
    python benchmarks/generate.py --megabytes 100 --large 0 --repeat 1

The same rows as one JSON array and as Parquet are drawn from as well, against polars and `datasets`.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
N_SAMPLES = 400
WORDS = (
    *("click", "the", "date", "in", "calendar", "claim", "window", "select", "provider"),
    *("scroll", "to", "field", "edit", "save", "next", "week"),
)


def write_source(path: Path, size: int) -> int:
    """Write ShareGPT-style rows of about 1.2 kB, all different; return their number."""
    rng = random.Random(0)
    filler = " ".join(rng.choice(WORDS) for _ in range(400))
    head = '{"id":"r%d","conversations":[{"from":"system","value":"%s"},{"from":"human","value":"<image>%s %d"},'
    tail = '{"from":"gpt","value":"<tool_call>{\\"name\\":\\"calendar_click\\"}</tool_call>"}]}\n'
    number = written = 0
    with path.open("w") as file:
        while written < size:
            system = filler[number % 500 : number % 500 + 600 + number * 7919 % 900]
            written += file.write(head % (number, system, "Click day", number) + tail)
            number += 1
    return number


def write_others(path: Path) -> int:
    """Write the rows of a JSON Lines file as one JSON array and as Parquet, beside it; return how many files."""
    import pyarrow as pa
    import pyarrow.json
    import pyarrow.parquet as pq

    start()
    array, parquet = path.with_suffix(".json"), path.with_suffix(".parquet")
    with path.open("rb") as lines, array.open("wb") as file:
        for number, line in enumerate(lines):
            file.write((b",\n" if number else b"[\n") + line.rstrip(b"\n"))
        file.write(b"\n]\n")
    writer = None
    with path.open("rb") as lines:
        while block := lines.readlines(64 << 20):
            table = pyarrow.json.read_json(pa.py_buffer(b"".join(block)))
            writer = writer or pq.ParquetWriter(parquet, table.schema)
            writer.write_table(table)
    assert writer is not None
    writer.close()
    return 2


def draw(path: Path) -> int:
    """Draw samples with this project."""
    if path.suffix == ".parquet":
        import adapters.datasets.arrow_rows  # noqa: F401 - as for the others, imports are not measured
    from adapters.datasets.source_reader import FileSourceReader
    from application.datasets.draw_balanced import draw_balanced
    from application.ports.datasets import Source

    source = Source("calendar", path)
    start()
    with FileSourceReader().open(source, seed=42, expected=N_SAMPLES) as draws:
        return len(draw_balanced([(source, draws)], N_SAMPLES, allow_fewer=False).rows[0])


def validate(path: Path) -> int:
    """Parse every line with this project, as --validate does."""
    from adapters.datasets.source_reader import FileSourceReader
    from application.datasets.validate_sources import validate_source
    from application.ports.datasets import Source

    source = Source("calendar", path)
    start()
    with FileSourceReader().read_all(source) as lines:
        return validate_source(source, lines, strict=True)[0].usable


def parse_and_shuffle(path: Path) -> int:
    """Draw samples in the usual way: parse every line, shuffle, take."""
    start()
    with path.open() as file:
        rows = [json.loads(line) for line in file]
    random.Random(42).shuffle(rows)
    return len(rows[:N_SAMPLES])


def polars(path: Path) -> int:
    """Draw samples with polars."""
    import polars

    start()
    return polars.scan_ndjson(path).select(polars.all().sample(N_SAMPLES, seed=42)).collect().height


def polars_other(path: Path) -> int:
    """Draw samples out of a JSON array or Parquet with polars."""
    import polars

    start()
    if path.suffix == ".parquet":
        return polars.scan_parquet(path).select(polars.all().sample(N_SAMPLES, seed=42)).collect().height
    return polars.read_json(path).sample(N_SAMPLES, seed=42).height


def hub_datasets(path: Path) -> int:
    """Draw samples with `datasets`: load the file (its cache is empty), shuffle, take."""
    import datasets

    datasets.disable_progress_bars()
    kind = "parquet" if path.suffix == ".parquet" else "json"
    with tempfile.TemporaryDirectory(dir=path.parent) as cache:
        start()
        rows = datasets.load_dataset(kind, data_files=str(path), split="train", cache_dir=cache)
        return len(rows.shuffle(seed=42).select(range(N_SAMPLES)).to_list())


def count_lines(path: Path) -> int:
    """Count lines with wc, its start subtracted."""
    subprocess.run(["wc", "-l", "/dev/null"], stdout=subprocess.DEVNULL, check=True)
    begin, begin_cpu = time.perf_counter(), cpu_seconds()
    subprocess.run(["wc", "-l", "/dev/null"], stdout=subprocess.DEVNULL, check=True)
    lost, lost_cpu = time.perf_counter() - begin, cpu_seconds() - begin_cpu
    start()
    done = subprocess.run(["wc", "-l", path], capture_output=True, check=True)
    STARTED[0] += lost
    STARTED[1] += lost_cpu
    return int(done.stdout.split()[0])


STARTED = [0.0, 0.0]


def cpu_seconds() -> float:
    """Return the CPU time of this process and its children."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def start() -> None:
    """Begin to measure: called by every way once it has imported what it needs."""
    STARTED[:] = [time.perf_counter(), cpu_seconds()]


WAYS: dict[str, Callable[[Path], int]] = {
    "wc": count_lines,
    "draw": draw,
    "validate": validate,
    "parse": parse_and_shuffle,
    "polars": polars,
    "polars-other": polars_other,
    "datasets": hub_datasets,
    "write": write_others,
}


def measure_here(way: str, path: Path) -> None:
    """Run one way in this process and print what it took."""
    result = WAYS[way](path)
    seconds, cpu = time.perf_counter() - STARTED[0], cpu_seconds() - STARTED[1]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"result": result, "seconds": seconds, "cpu": cpu, "peak": peak}))


def measure(way: str, path: Path, repeat: int = 1) -> dict[str, float]:
    """Run one way in processes of its own and return the least of everything."""
    command = [sys.executable, __file__, "--measure", way, str(path)]
    runs = [json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout) for _ in range(repeat)]
    return {key: min(run[key] for run in runs) for key in runs[0]}


def show(name: str, figures: dict[str, float], size: int, base: dict[str, float]) -> None:
    print(
        f"{name:<44}{figures['seconds']:>9.2f}{figures['cpu']:>9.2f}{size / figures['seconds'] / 1e6:>9.0f}"
        f"{figures['seconds'] / base['seconds']:>9.2f}{figures['peak']:>9.0f}",
        flush=True,
    )


def compare(path: Path, lines: int, repeat: int, *, peers: bool) -> None:
    """Print the table for one file."""
    size = path.stat().st_size
    load = os.getloadavg()[0]
    print(f"\n{lines} lines, {size / 1e9:.2f} GB, {N_SAMPLES} samples; least of {repeat} runs; load {load:.1f}")
    print(f"{'':<44}{'seconds':>9}{'CPU s':>9}{'MB/s':>9}{'x wc -l':>9}{'peak MB':>9}")
    wc = measure("wc", path, repeat)
    assert wc["result"] == lines
    ours = measure("draw", path, repeat)
    show("wc -l", wc, size, wc)
    show("this project: draw", ours, size, wc)
    show("this project: --validate", measure("validate", path, repeat), size, wc)
    if not peers:
        return
    for way, name, aim in (
        ("polars", "polars scan_ndjson + sample", 20),
        ("parse", "json.loads every line, shuffle, take", 50),
    ):
        theirs = measure(way, path)
        show(name, theirs, size, wc)
        wall, cpu = (theirs[key] / ours[key] for key in ("seconds", "cpu"))
        print(f"    drawing is {wall:.0f} times faster, {cpu:.0f} times by CPU time (aim: {aim})")


def compare_others(path: Path, repeat: int) -> None:
    """Print the table for the same rows as a JSON array and as Parquet."""
    measure("write", path)  # in a process of its own: the memory of this one would count as its children's
    for other in (path.with_suffix(".json"), path.with_suffix(".parquet")):
        size = other.stat().st_size
        print(f"\nthe same rows as {other.suffix[1:]}, {size / 1e9:.2f} GB; x is the time of this project")
        ours = measure("draw", other, repeat)
        show("this project: draw", ours, size, ours)
        show("polars", measure("polars-other", other), size, ours)
        show("datasets: load, shuffle, take", measure("datasets", other), size, ours)
        other.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1000, help="size of the file")
    parser.add_argument("--large", type=int, default=4000, help="size of a second file without peers; 0 for none")
    parser.add_argument("--repeat", type=int, default=3, help="runs of the fast ways; the slow ones run once")
    parser.add_argument("--no-peers", action="store_true", help="leave the slow ways out")
    parser.add_argument("--measure", nargs=2, metavar=("WAY", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure_here(options.measure[0], Path(options.measure[1]))
        return
    missing = [name for name in ("polars", "datasets") if not options.no_peers and not find_spec(name)]
    if missing:
        sys.exit(f"generate.py: {' and '.join(missing)} not installed: make bench does it, --no-peers does without")
    with tempfile.TemporaryDirectory(prefix="moe-router-bench-") as folder:
        path = Path(folder) / "source.jsonl"
        for size, peers in ((options.megabytes, not options.no_peers), (options.large, False)):
            if size:
                lines = write_source(path, size * 1_000_000)
                compare(path, lines, options.repeat, peers=peers)
                if peers:
                    compare_others(path, options.repeat)


if __name__ == "__main__":
    main()
