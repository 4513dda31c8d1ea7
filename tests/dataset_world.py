"""A little world of source data in memory, for tests around data sets."""

from pathlib import Path

from adapters.in_memory.datasets import InMemoryDatasetStore, InMemorySourceReader
from adapters.in_memory.runtime import FixedClock, RecordingProgressReporter
from application.datasets.dataset_request import GenerateRequest
from application.datasets.generate_dataset import GenerateDataset
from application.ports.datasets import Source

NAMES = ("calendar", "claim-window", "provider-select")


def row(text, row_id=None):
    return {"id": row_id or text, "conversations": [{"from": "human", "value": text}]}


def rows_of(name, count):
    return [row(f"{name} prompt {number}") for number in range(count)]


def path_of(name):
    return Path(f"{name}.jsonl")


def generate(rows, store=None, **options):
    """Run the use case over rows by adapter name; returns the report and the store."""
    store = store or InMemoryDatasetStore()
    reader = InMemorySourceReader({path_of(name): part for name, part in rows.items()})
    use_case = GenerateDataset(reader, store, FixedClock(), RecordingProgressReporter())
    options = {"train_samples": 10, "eval_samples": 5, "output_dir": Path("out")} | options
    return use_case(GenerateRequest([Source(name, path_of(name)) for name in rows], **options)), store
