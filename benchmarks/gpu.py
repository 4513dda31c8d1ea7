"""What only a GPU can show: batch budgets, memory, bfloat16, and how fast a loaded base model answers.

    python benchmarks/gpu.py --random-base FOLDER [--tokenizer DIR]    # write a base model of the default's shape
    python benchmarks/gpu.py --base-model DIR [--card GIB]             # features, answers
    python benchmarks/gpu.py --base-model DIR --router FILE --prompts FILE   # decisions here and on the CPU, too

Machines without a hub get a base model with random weights and Qwen3-8B's sizes: what it says means nothing, what it
costs is true. ``--card`` fills the GPU up so that only as much is left as a smaller card has (22.0 GiB are free on an
L4 of 24 GB).

- features: prompts a second and highest memory for several token budgets; how far features of one prompt lie apart
  between batches and from float32, relative to their length.
- steps: milliseconds a token takes, for batches of several sizes.
- answers: prompts over three random LoRA adapters and the bare base model; budget, highest memory and batches that
  did not fit; the same with a budget that is far too large (every prompt is answered all the same); prompts near the
  budget's length; one prompt again and again.
- decisions: how many prompts are decided otherwise in bfloat16 here than in float32 on the CPU.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from features import read_prompts
from inference import random_loras

from adapters.base_model.transformers_base import LoadedBase
from adapters.base_model.transformers_features import TransformersFeatureExtractor
from adapters.lora.peft_engine import PeftEngine
from application.ports.answering import GenerationRequest
from application.routing.route_prompts import RouteRequest
from domain.answers import GenerationOptions
from domain.chats import as_chat
from domain.errors import MoeRouterError
from domain.features import FeatureTap, Pooling
from domain.routing import RoutingDecision
from entrypoints.bootstrap import Application

GIB = 2**30
TOO_LARGE = 10**7
"""Tokens: what no card holds."""
QWEN3_8B = {
    "vocab_size": 151936,
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 40960,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--random-base", type=Path, metavar="FOLDER")
    parser.add_argument("--tokenizer", type=Path, help="folder of a tokenizer for --random-base")
    parser.add_argument("--base-model", help="hub id or folder; default: the embedded model")
    parser.add_argument("--card", type=float, help="GiB that are left free before the base model is loaded")
    parser.add_argument("--parts", default="features,answers,steps")
    parser.add_argument("--count", type=int, default=400, help="prompts that are answered")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--router", type=Path)
    parser.add_argument("--prompts", type=Path, help="a file of prompts for the decisions")
    options = parser.parse_args()
    if options.random_base:
        random_base(options.random_base, options.tokenizer)
        return
    filling = filled(options.card) if options.card else None
    ballast = 0 if filling is None else filling.nbytes
    app = Application(dict(os.environ))
    base = app.load_base(options.base_model)
    print(f"{torch.cuda.get_device_name() if on_gpu() else 'CPU'}; {base.info.name}, {base.model.dtype}")
    print(f"{gib(held()):.1f} GiB held after loading, {gib(ballast):.1f} of them to fill up")
    texts = read_prompts(None, 900)
    if options.router:
        decisions(app, base, options.router, options.prompts)
        return
    if "features" in options.parts:
        features(base, texts)
    with tempfile.TemporaryDirectory() as folder:
        engine = PeftEngine(base, random_loras(base, Path(folder)))
        if "steps" in options.parts:
            steps(engine, texts)
        if "answers" in options.parts:
            answers(engine, texts[: options.count], options.tokens)


def random_base(folder: Path, tokenizer: Path | None) -> None:
    import transformers

    from tests.tiny_models import tiny_tokenizer

    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda" if on_gpu() else "cpu"):
        model = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**QWEN3_8B))
    model.save_pretrained(folder)
    read = transformers.AutoTokenizer.from_pretrained(tokenizer) if tokenizer else tiny_tokenizer()
    read.save_pretrained(folder)


def features(base: LoadedBase, texts: list[str]) -> None:
    half = base.info.n_layers // 2
    taps = [FeatureTap(layer, Pooling.MEAN) for layer in (half // 2, half)]
    long = [" ".join(texts[start : start + 60]) for start in range(0, 800, 4)]  # cut after 512 tokens
    for name, rows in (("short", texts), ("of 512 tokens", long)):
        for budget in (1024, 4096, 16384, 65536):
            extractor = TransformersFeatureExtractor(base, token_budget=budget)
            seconds = timed(lambda extractor=extractor, rows=rows: extractor.extract(rows, taps))
            print(
                f"features, {len(rows)} prompts {name}, budget {budget:6}: {len(rows) / seconds:8.1f} prompts/s, "
                f"at most {gib(highest()):5.1f} GiB"
            )
    together = TransformersFeatureExtractor(base).extract(texts, taps)
    alone = TransformersFeatureExtractor(base, max_batch=1).extract(texts[:100], taps)
    print(f"features of one prompt between batches: {apart(together[:100], alone)}")


def answers(engine: PeftEngine, texts: list[str], tokens: int) -> None:
    names = [*engine.adapters, None]
    requests = [GenerationRequest(as_chat(text), names[row % 4]) for row, text in enumerate(texts)]
    document = "\n".join(texts[:150])
    long = [GenerationRequest(as_chat(document), names[row % 4]) for row in range(24)]
    length = GenerationOptions(tokens)
    list(engine.generate(requests[:4], GenerationOptions(4)))  # warms up
    for name, rows in (("short prompts", requests), ("long prompts", long)):
        for budget in (None, TOO_LARGE):
            engine.token_budget = budget
            answered(engine, rows, length, name)
    engine.token_budget = None
    times = [timed(lambda: list(engine.generate(requests[:1], GenerationOptions(24)))) for _ in range(3)]
    print(f"one prompt of 24 new tokens, warm: {', '.join(f'{each:.2f}' for each in times)} s")


def steps(engine: PeftEngine, texts: list[str]) -> None:
    names = [*engine.adapters, None]
    engine.token_budget = TOO_LARGE
    options = GenerationOptions(16)
    for rows in (1, 16, 128):
        for name, speakers in (("base", [None]), ("one adapter", names[:1]), ("all of them mixed", names)):
            chosen = [speakers[row % len(speakers)] for row in range(rows)]
            requests = [GenerationRequest(as_chat(text), who) for text, who in zip(texts, chosen, strict=False)]
            spent = timed(lambda requests=requests: list(engine.generate(requests, options)))
            print(
                f"{rows:4} prompts, {name:18}: {1000 * spent / 16:7.1f} ms a token, {rows * 16 / spent:8.1f} tokens/s"
            )


def answered(
    engine: PeftEngine, requests: Sequence[GenerationRequest], options: GenerationOptions, name: str
) -> None:
    budget, failed, made = engine.batch_tokens, 0, 0
    before = counted()
    started = time.perf_counter()
    reset()
    for _, outcome in engine.generate(requests, options):
        failed += isinstance(outcome, MoeRouterError)
        made += 0 if isinstance(outcome, MoeRouterError) else outcome.tokens
    seconds = time.perf_counter() - started
    full, freed = (after - ago for after, ago in zip(counted(), before, strict=True))
    print(
        f"{name}: {len(requests)} prompts, {budget} tokens a batch, {made / seconds:7.1f} tokens/s "
        f"({seconds:.1f} s), at most {gib(highest()):.1f} GiB, {full} batches did not fit ({freed} times memory was "
        f"cleared up), {failed} without an answer"
    )


def decisions(app: Application, base: LoadedBase, router: Path, prompts: Path) -> None:
    trained = app.routers.load(router)
    texts = tuple(read_lines(prompts))

    def decided(on: LoadedBase) -> tuple[list[RoutingDecision], float]:
        route = app.route_on(trained, on)
        route(RouteRequest(texts[:8]))
        started = time.perf_counter()
        return route(RouteRequest(texts)), time.perf_counter() - started

    here, seconds = decided(base)
    there, slow = decided(app.load_base(None, device="cpu"))
    pairs = list(zip(here, there, strict=True))
    print(f"decisions on {len(texts)} prompts: {seconds:.1f} s here, {slow:.1f} s on the CPU")
    changed = [(a, b) for a, b in pairs if a.adapter != b.adapter]
    swapped = sum(a.adapter is not None and b.adapter is not None for a, b in changed)
    print(f"another adapter is likeliest for {sum(a.best != b.best for a, b in pairs)}")
    print(f"another decision for {len(changed)}, from one adapter to another for {swapped} of them")
    gaps = [abs(a.confidence - b.confidence) for a, b in pairs]
    print(f"confidence differs by {np.median(gaps):.4f} (median), {np.quantile(gaps, 0.99):.4f} (of 99 in 100 less)")


def read_lines(path: Path) -> list[str]:
    return [line for line in path.read_text("utf-8").splitlines() if line.strip()]


def filled(left: float) -> torch.Tensor:
    free, _ = torch.cuda.mem_get_info()
    return torch.empty(int(free - left * GIB), dtype=torch.uint8, device="cuda")


def counted() -> tuple[int, int]:
    """Return how often memory ran out, and how often PyTorch gave unused memory back to get more."""
    stats = torch.cuda.memory_stats() if on_gpu() else {}
    return stats.get("num_ooms", 0), stats.get("num_alloc_retries", 0)


def timed(work: Callable[[], Any]) -> float:
    work()  # warms up
    reset()
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def apart(one: np.ndarray, other: np.ndarray) -> str:
    gaps = np.linalg.norm(one - other, axis=1) / np.linalg.norm(other, axis=1)
    return f"{np.median(gaps):.1e} of their length (median), {gaps.max():.1e} at most"


def on_gpu() -> bool:
    return torch.cuda.is_available()


def held() -> int:
    return torch.cuda.memory_allocated() if on_gpu() else 0


def highest() -> int:
    return torch.cuda.max_memory_allocated() if on_gpu() else 0


def reset() -> None:
    if on_gpu():
        torch.cuda.reset_peak_memory_stats()


def gib(size: float) -> float:
    return size / GIB


if __name__ == "__main__":
    main()
