"""Whatever operation fails, and however: what was asked for is complete or absent, and a second run makes it."""

from __future__ import annotations

import base64
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import orjson
import pytest
import torch
from attrs import evolve, frozen
from matplotlib.figure import Figure
from safetensors.torch import load_file

from adapters.answers.jsonl_answer_log import JsonlAnswerLog
from adapters.base_model.feature_cache import CachedFeatureExtractor
from adapters.datasets.jsonl_dataset_store import JsonlDatasetStore
from adapters.datasets.local_dataset_folders import LocalDatasetFolders
from adapters.datasets.prompt_files import PromptFileReader
from adapters.files.atomic_files import write_bytes
from adapters.files.figures import save_figure
from adapters.files.safetensors_checkpoints import SafetensorsCheckpointStore
from adapters.in_memory.answers import InMemoryAnswerEngine
from adapters.in_memory.datasets import InMemorySourceReader
from adapters.in_memory.features import InMemoryFeatureExtractor
from adapters.in_memory.publishing import InMemoryRemoteDatasetStore
from adapters.in_memory.runtime import FixedClock, RecordingProgressReporter
from adapters.in_memory.training import RecordingObserver
from adapters.lora.lora_folder import save_lora_folder
from adapters.router.safetensors_router_store import SafetensorsRouterStore
from application.answering.answer_file import AnswerFile, AnswerFileRequest
from application.answering.answer_prompts import AnswerPrompts
from application.datasets.grow_dataset import AddToDataset
from application.datasets.verify_dataset import VerifyDataset
from application.ports.datasets import Source
from application.ports.publishing import RemoteFile
from application.publishing.download import DownloadDataset, DownloadRequest
from application.publishing.publish_dataset import PlanPublication, PublishDataset, PublishRequest
from domain.errors import RemoteError, StorageError
from domain.features import FeatureTap, Pooling
from domain.labels import DEFAULT_LABELS
from tests.answering_world import small_route
from tests.dataset_world import generate, path_of, rows_of
from tests.faults.sabotage import EVERYTHING, MOST, Ended, Mode, names_in, places, sabotaged
from tests.publishing_world import dataset_files, published, write_dataset
from tests.router_world import router_world
from tests.training_world import JOB, world

SOURCES = {"a": rows_of("a", 9), "b": [*rows_of("b", 9), []]}


@frozen
class Command:
    """Something that writes.

    Attributes:
        run: does it in a folder.
        whole: tells whether the result in a folder is complete.
        result: what it makes, relative to the folder.
        prepare: makes what must be there before.
        replaces: whether an earlier result may be there instead of nothing.
        forgiving: whether it goes on when it cannot write: a cache.
        sound: tells whether a result after a fault is one that may be seen; None for `whole`.
    """

    run: Callable[[Path], object]
    whole: Callable[[Path], bool]
    result: str = "out"
    prepare: Callable[[Path], object] = lambda _folder: None
    replaces: bool = False
    forgiving: bool = False
    sound: Callable[[Path], bool] | None = None


def make(folder: Path, **options: object) -> None:
    options = {"output_dir": folder / "out", "train_samples": 4, "eval_samples": 2, **options}
    generate(SOURCES, JsonlDatasetStore(), **options)


def verified(name: str) -> Callable[[Path], bool]:
    return lambda folder: VerifyDataset(JsonlDatasetStore())(folder / name).passed


def grow(folder: Path) -> None:
    sources = InMemorySourceReader({path_of("c"): rows_of("c", 20)})
    add = AddToDataset(sources, JsonlDatasetStore(), FixedClock())
    add(folder / "out", Source("c", path_of("c")), output_dir=folder / "grown", tool_version="1")


def train(folder: Path) -> None:
    places = world().having(routers=SafetensorsRouterStore(), checkpoints=SafetensorsCheckpointStore())
    options = evolve(JOB.options, epochs=2)
    job = evolve(JOB, router_out=folder / "out.safetensors", log_dir=None, options=options)
    places.trainer.train(job, RecordingObserver())


def loads(name: str) -> Callable[[Path], bool]:
    return lambda folder: SafetensorsRouterStore().load(folder / name).sha256 is not None


def export(folder: Path, name: str) -> None:
    SafetensorsRouterStore().export(router_world().assembled(), folder / name)


def answer(folder: Path) -> None:
    answering = AnswerPrompts(small_route(), InMemoryAnswerEngine(DEFAULT_LABELS.names))
    log = JsonlAnswerLog(folder / "answers.jsonl")
    run = AnswerFile(PromptFileReader(), log, lambda: answering, RecordingProgressReporter())
    run(AnswerFileRequest(folder / "prompts.jsonl"))


def ask(folder: Path) -> None:
    (folder / "prompts.jsonl").write_text('"book a table"\n"claim the window"\n"pick a doctor"\n')


def answered(folder: Path) -> bool:
    lines = (folder / "answers.jsonl").read_bytes().split(b"\n")
    return len(lines) == 4 and lines[-1] == b"" and len(JsonlAnswerLog(folder / "answers.jsonl").finished()) == 3


FILES = dataset_files()


def download(folder: Path) -> None:
    remote = InMemoryRemoteDatasetStore(files={f"datasets/set/{name}": content for name, content in FILES.items()})
    request = DownloadRequest("set", folder / "out", force=True)
    DownloadDataset(LocalDatasetFolders(), remote, RecordingProgressReporter())(request)


def downloaded(folder: Path) -> bool:
    return all((folder / "out" / name).read_bytes() == content for name, content in FILES.items())


TEXTS, TAPS = ["one", "two"], [FeatureTap(1, Pooling.MEAN)]


def cache(folder: Path) -> None:
    inner = InMemoryFeatureExtractor()
    found = CachedFeatureExtractor(inner, folder / "cache").extract(TEXTS, TAPS)
    np.testing.assert_array_equal(found, InMemoryFeatureExtractor().extract(TEXTS, TAPS))


def plot(folder: Path) -> None:
    save_figure(Figure(figsize=(1, 1)), folder / "plots" / "p.png", dpi=50)


def plotted(folder: Path) -> bool:
    content = (folder / "plots" / "p.png").read_bytes()
    return content.startswith(b"\x89PNG") and b"IEND" in content[-12:]


def finetune(folder: Path) -> None:
    tensors = {f"base_model.model.x.lora_{side}.weight": torch.ones(4, 4) for side in "AB"}
    save_lora_folder(
        folder / "loras" / "calendar",
        config={"peft_type": "LORA", "r": 4},
        tensors=tensors,
        fingerprint="f",
        system_prompt="Be brief.",
        replace=True,
    )


def finetuned(folder: Path) -> bool:
    home = folder / "loras" / "calendar"
    return (
        len(load_file(home / "adapter_model.safetensors")) == 2
        and orjson.loads((home / "adapter_config.json").read_bytes())["r"] == 4
        and (home / "system_prompt.txt").read_text() == "Be brief."
    )


@frozen
class FileVolume:
    """A remote volume in one file of this machine: what one call brings appears in one step, or not at all."""

    path: Path
    volume: str = "file"

    def files(self) -> dict[str, bytes]:
        content = orjson.loads(self.path.read_bytes()) if self.path.exists() else {}
        return {path: base64.b64decode(each) for path, each in content.items()}

    def list_files(self, folder: str) -> list[RemoteFile]:
        return InMemoryRemoteDatasetStore(files=self.files()).list_files(folder)

    def read(self, path: str) -> Iterator[bytes]:
        return InMemoryRemoteDatasetStore(files=self.files()).read(path)

    def upload(self, files: Mapping[str, Path | bytes]) -> None:
        self._change(lambda remote: remote.upload(files))

    def remove(self, paths: Sequence[str]) -> None:
        self._change(lambda remote: remote.remove(paths))

    def _change(self, change: Callable[[InMemoryRemoteDatasetStore], None]) -> None:
        remote = InMemoryRemoteDatasetStore(files=self.files())
        change(remote)
        content = {path: base64.b64encode(each).decode() for path, each in remote.files.items()}
        try:
            write_bytes(self.path, orjson.dumps(content))
        except StorageError as error:
            raise RemoteError("the volume cannot be written") from error


OLDER = dataset_files("older")


def publish(folder: Path) -> None:
    plan = PlanPublication(LocalDatasetFolders())(PublishRequest(folder / "set", latest=True, force=True))
    PublishDataset(FileVolume(folder / "volume"), RecordingProgressReporter())(plan)


def published_before(folder: Path) -> None:
    write_dataset(folder / "set", OLDER)
    publish(folder)
    shutil.rmtree(folder / "set")
    write_dataset(folder / "set", FILES)


def on_volume(folder: Path) -> list[dict[str, bytes]]:
    there = FileVolume(folder / "volume").files()
    homes = ("datasets/set/", "datasets/routing_latest/")
    return [{path.removeprefix(home): there[path] for path in there if path.startswith(home)} for home in homes]


COMMANDS = {
    "generate": Command(make, verified("out")),
    "generate --force": Command(
        lambda folder: make(folder, replace=True, seed=2), verified("out"), prepare=make, replaces=True
    ),
    "add-adapter": Command(grow, verified("grown"), "grown", prepare=make),
    "train": Command(train, loads("out.safetensors"), "out.safetensors"),
    "export to a file": Command(
        lambda folder: export(folder, "r.safetensors"), loads("r.safetensors"), "r.safetensors"
    ),
    "export to a folder": Command(lambda folder: export(folder, "r"), loads("r"), "r"),
    "export over a folder": Command(
        lambda folder: export(folder, "r"), loads("r"), "r", lambda folder: export(folder, "r"), replaces=True
    ),
    "download": Command(download, downloaded),
    "download --force": Command(download, downloaded, prepare=download, replaces=True),
    "evaluate --output": Command(
        lambda folder: write_bytes(folder / "e.json", b"{}" * 999),
        lambda folder: (folder / "e.json").read_bytes() == b"{}" * 999,
        "e.json",
    ),
    "infer --output": Command(answer, answered, "answers.jsonl", ask),
    "feature cache": Command(cache, lambda _folder: True, "cache", forgiving=True),
    "evaluate --plots": Command(plot, plotted, "plots/p.png"),
    "fine-tuning": Command(finetune, finetuned, "loras/calendar"),
    "fine-tuning again": Command(finetune, finetuned, "loras/calendar", prepare=finetune, replaces=True),
    "publish": Command(
        publish,
        lambda folder: on_volume(folder) == [published(FILES)] * 2,
        "volume",
        prepare=published_before,
        replaces=True,
        sound=lambda folder: all(each in (published(FILES), published(OLDER)) for each in on_volume(folder)),
    ),
}
RESUMED = {"infer --output": answered, "feature cache": None}
"""What grows line by line, or shard by shard, and may be there in part."""


SOME = [
    (name, mode) for i, name in enumerate(COMMANDS) for j, mode in enumerate(Mode) if EVERYTHING or (i + j) % 3 == 0
]
"""Each command in two modes, each mode with a third of the commands; `make faults` takes all."""


@pytest.mark.parametrize(("name", "mode"), SOME)
def test_complete_or_absent_and_a_second_run_succeeds(tmp_path: Path, name: str, mode: Mode) -> None:
    command, seen = COMMANDS[name], Counter[Ended]()
    for at in places(sampled=61 if name == "train" else 13):
        folder = tmp_path / str(at)
        folder.mkdir()
        command.prepare(folder)
        before = names_in(folder)
        run = sabotaged(lambda folder=folder: command.run(folder), at, mode)  # type: ignore[misc]
        seen[run.ended] += 1
        assert run.ended is not Ended.BROKEN, f"{name}, {mode} at operation {at}: {run.told}"
        assert not (command.forgiving and run.ended is Ended.REFUSED), run.told
        if run.ended is Ended.REFUSED:
            assert "\n" not in run.told
        if (folder / command.result).exists() and name not in RESUMED:
            assert (command.sound or command.whole)(folder), f"{name}, {mode} at operation {at}"
        elif command.replaces:
            pytest.fail(f"{name}, {mode} at operation {at}: neither the old nor the new is there")
        if mode in (Mode.ERROR, Mode.FULL) and name == "generate" and not (folder / "out").exists():
            assert names_in(folder) == before  # nothing is left beside it
        if not (name in ("generate",) and (folder / "out").exists()):
            command.run(folder)
        assert command.whole(folder), f"{name}, {mode} at operation {at}: the second run"
        assert not [each for each in names_in(folder) if "moe-" in each], (
            f"{name}, {mode} at operation {at}: leftovers"
        )
        if not run.reached:
            break
    assert at < MOST - 1
    if EVERYTHING:
        counts = ", ".join(f"{count} {ended}" for ended, count in sorted(seen.items()))
        print(f"\n{name:<22} {mode:<20} {at:>4} operations: {counts}")
