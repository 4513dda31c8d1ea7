"""What features cost, in one run: against one full forward pass, the old trainer's way, and a prompt's own prefill.

    python benchmarks/features.py                       # prompts of the packaged samples
    python benchmarks/features.py --data DIR            # DIR/<route>/train.jsonl, ShareGPT rows
    python benchmarks/features.py --base-model DIR      # another base model

Rounds are interleaved and the best of each is taken, so that other load on the machine falls on all alike.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice, zip_longest
from pathlib import Path

import orjson
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from adapters.base_model.feature_cache import CachedFeatureExtractor
from adapters.base_model.transformers_base import LoadedBase
from adapters.base_model.transformers_features import TransformersFeatureExtractor
from adapters.sample_sources import sample_sources
from domain.features import FeatureTap, Pooling
from entrypoints.bootstrap import Application
from entrypoints.logs import set_up_logs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of <route>/train.jsonl; default: the packaged samples")
    parser.add_argument("--prompts", type=int, default=400)
    parser.add_argument("--base-model", help="hub id or folder; default: the embedded model")
    parser.add_argument("--layers", default="1,4,7,10", help="hidden_states indices, at most the model's depth")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()

    set_up_logs("warning")
    started = time.perf_counter()
    base = Application().load_base(options.base_model)
    loaded = time.perf_counter() - started
    texts = read_prompts(options.data, options.prompts)
    taps = [FeatureTap(int(layer), Pooling.MEAN) for layer in options.layers.split(",")]
    counts = [len(ids) for ids in base.tokenizer(texts)["input_ids"]]
    place = f"{base.model.dtype} on {base.device}"
    print(f"{base.info.name}, {base.info.n_layers} layers, {place}; loaded in {loaded:.1f} s, imports included")
    print(f"{len(texts)} prompts, {statistics.mean(counts):.1f} tokens each on average, {max(counts)} at most")
    print(f"{torch.get_num_threads()} threads; layers {options.layers}\n")
    encoding(base, texts, taps, options.rounds)
    routing(base, texts[:: max(1, len(texts) // 40)], taps)


def read_prompts(data: Path | None, count: int) -> list[str]:
    """Return the first human turns, one route after another so that every route is there, duplicates left out."""
    paths = sorted(data.glob("*/train.jsonl")) if data else list(sample_sources().values())
    if not paths:
        sys.exit(f"{data}: no <route>/train.jsonl in it")
    routes = [[human_turn(line) for line in path.read_bytes().splitlines()] for path in paths]
    mixed = (text for row in zip_longest(*routes) for text in row if text)
    return list(islice(dict.fromkeys(mixed), count))


def human_turn(line: bytes) -> str:
    turns = orjson.loads(line)["conversations"]
    text: str = next(turn["value"] for turn in turns if turn["from"] == "human")
    return text.replace("<image>", "").strip()


def encoding(base: LoadedBase, texts: list[str], taps: list[FeatureTap], rounds: int) -> None:
    extractor = TransformersFeatureExtractor(base)
    last = [FeatureTap(base.info.n_layers, Pooling.MEAN)]
    with tempfile.TemporaryDirectory() as folder:
        cached = CachedFeatureExtractor(extractor, Path(folder))
        cached.extract(texts, taps)
        rows: dict[str, Callable[[], object]] = {
            "one full pass, batched as ours": lambda: extractor.extract(texts, last),
            f"features up to layer {max(tap.layer for tap in taps)}": lambda: extractor.extract(texts, taps),
            "the old way: batch 8, file order, all layers": lambda: old_way(base, texts),
            "features again, from the cache": lambda: cached.extract(texts, taps),
        }
        best = dict.fromkeys(rows, float("inf"))
        for _ in range(rounds):
            for name, work in rows.items():
                best[name] = min(best[name], seconds(work))
    full = best["one full pass, batched as ours"]
    print(f"{'encoding all prompts':46} {'seconds':>8} {'× full pass':>12}")
    for name, value in best.items():
        print(f"{name:46} {value:8.2f} {value / full:12.2f}")


def old_way(base: LoadedBase, texts: list[str]) -> None:
    with torch.no_grad():
        for start in range(0, len(texts), 8):
            batch = base.tokenizer(texts[start : start + 8], padding=True, return_tensors="pt").to(base.device)
            base.text_tower(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])


def routing(base: LoadedBase, texts: list[str], taps: list[FeatureTap]) -> None:
    """Compare routing one prompt with what the base model needs to read that same prompt before it answers."""
    extractor = TransformersFeatureExtractor(base)
    if base.kind == "encoder":
        return  # it does not answer
    extractor.extract(texts[:3], taps)
    ours, theirs = [], []
    for text in texts:
        ours.append(min(seconds(lambda text=text: extractor.extract([text], taps)) for _ in range(3)))
        theirs.append(min(seconds(lambda text=text: prefill(base, text)) for _ in range(3)))
    pairs = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    print(f"\n{'one prompt, median of ' + str(len(texts)):46} {'ms':>8} {'× prefill':>12}")
    print(f"{'the base model´s own prefill':46} {statistics.median(theirs) * 1e3:8.1f} {1:12.2f}")
    print(f"{'features to route it':46} {statistics.median(ours) * 1e3:8.1f} {statistics.median(pairs):12.2f}")


def prefill(base: LoadedBase, text: str) -> None:
    with torch.no_grad():
        tokens = base.tokenizer(text, return_tensors="pt")["input_ids"].to(base.device)
        base.model(input_ids=tokens, use_cache=True, logits_to_keep=1)


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
