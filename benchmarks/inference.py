"""Throughput of mixed-adapter batches, in one run: against one prompt at a time, and against a single adapter.

    python benchmarks/inference.py [--base-model ID] [--batch 16] [--tokens 32] [--repeats 3]

Makes three random LoRA adapters (rank 8 on every linear layer of every block) on the embedded base model, so that
no answer ends early and all rows of the table generate the same number of tokens. Each way is run `--repeats` times
in turn and the fastest counts. Ratios are told by the clock and by processor time: with one thread on a busy
machine the latter is the fairer.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from adapters.base_model.transformers_base import LoadedBase
from adapters.lora.lora_folder import save_lora_folder
from adapters.lora.peft_engine import PeftEngine
from adapters.lora.source_chats import read_chats
from adapters.sample_sources import sample_sources
from application.ports.answering import GenerationRequest
from domain.answers import GenerationOptions
from domain.chats import as_chat, routing_text
from entrypoints.bootstrap import Application

NAMES = tuple(sample_sources())
AIM_ALONE, AIM_SINGLE = 4.0, 1.2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--base-model")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    base = Application(dict(os.environ)).load_base(arguments.base_model)
    with tempfile.TemporaryDirectory() as folder:
        engine = PeftEngine(base, random_loras(base, Path(folder)), token_budget=10**9)
        measure(engine, arguments.batch, GenerationOptions(arguments.tokens), arguments.repeats)


def random_loras(base: LoadedBase, folder: Path) -> dict[str, Path]:
    """Write LoRA adapters that change every answer."""
    for seed, name in enumerate(NAMES):
        torch.manual_seed(seed)
        config = LoraConfig(r=8, lora_alpha=64, target_modules="all-linear", init_lora_weights=False)
        model = get_peft_model(base.model, config)
        tensors = get_peft_model_state_dict(model)
        plain = {key: sorted(value) if isinstance(value, set) else value for key, value in config.to_dict().items()}
        model.unload()
        base.model.__dict__.pop("peft_config", None)  # peft leaves it, and warns of it next time
        values = {**plain, "init_lora_weights": True, "base_model_name_or_path": base.info.name}
        save_lora_folder(folder / name, config=values, tensors=tensors, fingerprint=base.info.fingerprint)
    return {name: folder / name for name in NAMES}


def measure(engine: PeftEngine, batch: int, options: GenerationOptions, repeats: int) -> None:
    texts = [routing_text(chat) for path in sample_sources().values() for chat in read_chats(path)[: batch // 3 + 1]]
    speakers = [NAMES[row % 3] for row in range(batch)]
    mixed = [GenerationRequest(as_chat(text), name) for text, name in zip(texts, speakers, strict=False)]
    single = [GenerationRequest(request.chat, NAMES[0]) for request in mixed]
    with_base = [
        GenerationRequest(request.chat, None if row % 4 == 3 else request.adapter)
        for row, request in enumerate(mixed)
    ]
    ways: dict[str, Callable[[], list[Any]]] = {
        "one at a time (set_adapter)": lambda: [each for one in mixed for each in engine.generate([one], options)],
        "mixed batch": lambda: list(engine.generate(mixed, options)),
        "mixed batch with the base": lambda: list(engine.generate(with_base, options)),
        "same batch, one adapter": lambda: list(engine.generate(single, options)),
    }
    list(engine.generate(mixed[:2], GenerationOptions(2)))  # warm up
    best: dict[str, float] = {}
    cpu: dict[str, float] = {}
    tokens: dict[str, int] = {}
    for _ in range(repeats):
        for way, run in ways.items():
            start, used = time.perf_counter(), time.process_time()
            answers = run()
            best[way] = min(best.get(way, float("inf")), time.perf_counter() - start)
            cpu[way] = min(cpu.get(way, float("inf")), time.process_time() - used)
            tokens[way] = sum(generation.tokens for _, generation in answers)
    print(
        f"base model {engine.base.info.name}, batch {batch}, {options.max_new_tokens} new tokens, "
        f"{torch.get_num_threads()} threads"
    )
    for way, seconds in best.items():
        print(
            f"{way:30} {seconds:7.2f} s  {tokens[way] / seconds:7.1f} tokens/s  {cpu[way]:7.2f} s of processor time"
        )
    for unit, spent in (("clock", best), ("processor time", cpu)):
        alone = spent["one at a time (set_adapter)"] / spent["mixed batch"]
        against = spent["mixed batch"] / spent["same batch, one adapter"]
        print(f"by {unit}: mixed batch {alone:.2f} times as fast as one at a time (aim: at least {AIM_ALONE}),")
        print(f"  {against:.2f} times the time of the same batch under one adapter (aim: at most {AIM_SINGLE})")


if __name__ == "__main__":
    main()
