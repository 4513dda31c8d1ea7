"""Six adapters whose training data lie in six shapes: from the files to answers, without a conversion."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from adapters.base_model.transformers_base import load_base
from entrypoints.bootstrap import Application
from entrypoints.cli import cli
from entrypoints.wiring import training
from tests.lora_world import write_loras
from tests.training_world import COMPANIONS

WORDS = {
    "calendar": ("calendar", "friday", "month"),
    "billing": ("invoice", "refund", "receipt"),
    "travel": ("train", "ticket", "platform"),
    "kitchen": ("oven", "pasta", "recipe"),
    "garden": ("roses", "soil", "shovel"),
    "music": ("violin", "concert", "melody"),
}


def texts(name: str) -> list[str]:
    first, second, third = WORDS[name]
    return [f"{first} {second} {third} {second} {first} {n}" for n in range(14)]


def write_sources(folder: Path) -> dict[str, str]:
    """Write each adapter's data as its maker left them; return what is named to the command."""
    said = {name: texts(name) for name in WORDS}
    sharegpt = [
        {"conversations": [{"from": "human", "value": t}, {"from": "gpt", "value": "ok"}]} for t in said["calendar"]
    ]
    (folder / "calendar.jsonl").write_text("".join(json.dumps(row) + "\n" for row in sharegpt))
    openai = [
        {"messages": [{"role": "user", "content": t}, {"role": "assistant", "content": "ok"}]}
        for t in said["billing"]
    ]
    (folder / "billing.json.gz").write_bytes(gzip.compress(json.dumps(openai).encode()))
    alpaca = [{"instruction": t, "input": None, "output": "ok"} for t in said["travel"]]
    pq.write_table(pa.Table.from_pylist(alpaca), folder / "travel.parquet")
    with (folder / "kitchen.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("utterance", "reply"), *((t, "ok") for t in said["kitchen"])])
    preferences = [{"prompt": t, "chosen": "ok", "rejected": "no"} for t in said["garden"]]
    datasets.Dataset.from_list(preferences).save_to_disk(folder / "garden")
    (folder / "music").mkdir()
    marked = [
        {"text": f"<|im_start|>user\n{t}<|im_end|>\n<|im_start|>assistant\nok<|im_end|>\n"} for t in said["music"]
    ]
    for number in range(2):
        lines = "".join(json.dumps(row) + "\n" for row in marked[number::2])
        (folder / "music" / f"train-{number:05}-of-00002.jsonl").write_text(lines)
    names = ("calendar.jsonl", "billing.json.gz", "travel.parquet", "kitchen.csv", "garden", "music/*.jsonl")
    return dict(zip(WORDS, names, strict=True))


READ_AS = {
    "calendar": "JSON Lines; ShareGPT: conversations",
    "billing": "JSON array in gzip; OpenAI messages: messages",
    "travel": "Parquet; Alpaca: instruction + input",
    "garden": "Arrow stream; preference rows: prompt",
    "music": "2 × JSON Lines; text with chat template marks (ChatML): text",
}


def test_six_adapters_in_six_shapes_from_files_to_answers(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "packaged_companions", lambda: COMPANIONS)  # few, so that training is quick
    monkeypatch.setenv("BASE_MODEL_ID", str(tiny_base))
    monkeypatch.setenv("MOE_ROUTER_CACHE", str(tmp_path / "cache"))

    def run(*arguments: str) -> Any:
        result = CliRunner().invoke(cli, arguments, obj=Application())
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        assert result.exit_code == 0, result.output
        return result

    sources = [word for name, path in write_sources(tmp_path).items() for word in ("--adapter", f"{name}={path}")]
    columns = ("--columns", "kitchen:prompt=utterance")
    counts = ("--train-samples", "10", "--eval-samples", "4")
    report = run("generate", *sources, *columns, *counts, "--output-dir", "ds").stdout
    assert [name for name, words in READ_AS.items() if f"read as {words}\n" not in report] == []
    assert run("verify", "ds")
    run("train", "--dataset-dir", "ds", "--layers", "1", "--pooling", "mean", "--head", "linear", "--epochs", "3")
    write_loras(load_base(str(tiny_base), cache_dir=tmp_path, device="cpu"), tmp_path / "loras", tuple(WORDS))
    asked = [{"id": name, "prompt": texts(name)[0].replace("0", "99")} for name in WORDS]
    Path("prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    options = ("--lora-dir", "loras", "--no-abstain", "--max-new-tokens", "3", "--json")
    answers = [json.loads(line) for line in run("infer", "--input", "prompts.jsonl", *options).stdout.splitlines()]
    assert {row["id"]: row["adapter"] for row in answers} == {name: name for name in WORDS}
    assert len({row["answer"] for row in answers}) > 1
