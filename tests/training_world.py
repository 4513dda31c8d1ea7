"""A small world to train routers in: three topics, in-memory adapters, jobs that differ in one thing."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from attrs import evolve, frozen

from adapters.in_memory.features import InMemoryFeatureExtractor
from adapters.in_memory.routers import InMemoryRouterStore, PlainRouterCalibrator
from adapters.in_memory.runtime import FixedClock
from adapters.in_memory.training import (
    CentroidProbe,
    InMemoryCheckpointStore,
    InMemoryMetricsLog,
    ScriptedInterruption,
    SoftmaxHeadTrainer,
)
from application.ports import TrainJob
from application.training.train_router import TrainRouter
from application.training.training_data import Companions
from domain.errors import MissingFileError
from domain.features import BaseModel
from domain.samples import RoutingSample
from domain.training import TrainOptions
from domain.turns import TurnChoice

WORDS = {
    "calendar": ["click", "day", "month", "date", "december", "january", "week", "schedule", "picker"],
    "claim-window": ["claim", "field", "edit", "scroll", "form", "amount", "diagnosis", "code", "save"],
    "provider-select": ["provider", "doctor", "dropdown", "choose", "select", "dentist", "name", "list"],
}
COMPANIONS = Companions(
    background=(
        "thank you so much", "good morning", "hope all is well", "it is raining again", "kind regards",
        "let me know", "sorry to bother", "have a nice weekend", "hello there", "my phone was stolen yesterday",
    ),
    generic=(
        "how tall is mount everest", "write a poem about rivers", "translate this to french", "what is a prime",
        "who painted the mona lisa", "explain photosynthesis", "boil an egg", "plan a trip to rome",
    ),
)  # fmt: skip
TRAIN, VAL = Path("data/train.jsonl"), Path("data/val.jsonl")
OPTIONS = TrainOptions(epochs=6, batch_size=4, learning_rate=0.05, eval_steps=5, seed=7, head="linear")
JOB = TrainJob(
    train_path=TRAIN,
    val_path=VAL,
    base_model=None,
    router_out=Path("out/router-head.safetensors"),
    log_dir=Path("logs"),
    options=OPTIONS,
)


def rows(per_adapter: int, seed: int, names: tuple[str, ...] = tuple(WORDS)) -> list[RoutingSample]:
    rng = random.Random(seed)
    made = []
    for label, name in enumerate(names):
        for number in range(per_adapter):
            text = " ".join([*rng.sample(WORDS[name], 4), rng.choice(["please", "now", "the", "a"]), str(number)])
            made.append(RoutingSample(text, label, name, f"{name}-{seed}-{number}"))
    rng.shuffle(made)
    return made


@frozen
class Files:
    """RowReader and PromptReader over a dictionary."""

    content: Mapping[Path, Any]

    def read_rows(self, path: Path) -> list[RoutingSample]:
        if path not in self.content:
            raise MissingFileError("no such file", where=path)
        return list(self.content[path])

    def read_prompts(self, path: Path, turn: TurnChoice = TurnChoice.LAST) -> list[Any]:
        return self.read_rows(path)

    def read_metadata(self, folder: Path) -> dict[str, Any]:
        if folder / "metadata.json" not in self.content:
            raise MissingFileError("no such file", where=folder)
        return dict(self.content[folder / "metadata.json"])


@frozen
class World:
    """Everything behind a trainer, to look at afterwards."""

    trainer: TrainRouter
    extractor: InMemoryFeatureExtractor
    routers: InMemoryRouterStore
    checkpoints: InMemoryCheckpointStore
    metrics: InMemoryMetricsLog
    interruption: ScriptedInterruption

    def tensors(self, path: Path = JOB.router_out) -> dict[str, np.ndarray]:
        return {name: np.asarray(value) for name, value in self.routers.load(path).tensors.items()}

    def having(self, **changes: Any) -> World:
        return evolve(self, trainer=evolve(self.trainer, **changes))


def world(files: Mapping[Path, Any] | None = None, checkpoints: Any = None, interrupt_at: int = 0) -> World:
    extractor = InMemoryFeatureExtractor(BaseModel("tiny", "tiny-v1", n_layers=4, hidden_size=32))
    routers, metrics = InMemoryRouterStore(), InMemoryMetricsLog()
    checkpoints = InMemoryCheckpointStore() if checkpoints is None else checkpoints
    interruption = ScriptedInterruption(at=interrupt_at)
    reader = Files({TRAIN: rows(6, 1), VAL: rows(3, 2)} if files is None else files)

    def extractors(base_model: str | None, *, max_tokens: int, **_: object) -> InMemoryFeatureExtractor:
        extractor.base = evolve(extractor.base, fingerprint=f"{base_model or 'tiny'}-v1")
        extractor.max_tokens = max_tokens
        return extractor

    trainer = TrainRouter(
        rows=reader,
        prompts=reader,
        extractors=extractors,
        probe=CentroidProbe(),
        heads=SoftmaxHeadTrainer(),
        calibrator=PlainRouterCalibrator(),
        routers=routers,
        checkpoints=checkpoints,
        metrics=metrics,
        interruption=interruption,
        clock=FixedClock(),
        tool_version="test",
        companions=COMPANIONS,
    )
    return World(trainer, extractor, routers, checkpoints, metrics, interruption)


def same_tensors(left: Mapping[str, np.ndarray], right: Mapping[str, np.ndarray]) -> bool:
    return left.keys() == right.keys() and all(
        left[name].dtype == right[name].dtype and left[name].tobytes() == right[name].tobytes() for name in left
    )
