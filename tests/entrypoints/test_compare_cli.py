"""compare as users run it, on a tiny base model: report, JSON, picture, prompts, cache, and on Modal."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from click.testing import CliRunner
from rich.console import Console

from adapters.base_model.transformers_base import load_base
from adapters.base_model.transformers_features import TransformersFeatureExtractor
from adapters.lora.peft_scoring import PeftAnswerScorer
from adapters.router.safetensors_router_store import SafetensorsRouterStore
from application.comparing.compare_report import CompareReport, CompareRequest
from domain.comparison import ScoredRow
from domain.errors import MissingFileError, MoeRouterError, UsageError
from entrypoints.bootstrap import Application
from entrypoints.cli import cli
from entrypoints.exit_codes import exit_code
from entrypoints.on_modal import places
from entrypoints.reports.comparison import as_values, matrix_table
from entrypoints.reports.printing import json_bytes
from tests.answering_world import WORDS, small_router
from tests.lora_world import NAMES, write_loras
from tests.modal_world import ModalHere
from tests.serving_world import running
from tests.upstream_world import BASE, FakeVllm


@frozen
class World:
    """A data set with reference answers, a router and LoRA adapters for the tiny base model."""

    dataset: Path
    router: Path
    loras: Path
    base: Path
    cache: Path


@pytest.fixture(autouse=True)
def _everything_is_on_volumes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "MOUNTS", ("/",))


@pytest.fixture(scope="module")
def world(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("comparing")
    sources = []
    for name, words in zip(NAMES, WORDS, strict=True):
        asked = [f"{one} {other}" for one in words for other in words if one != other]
        lines = [{"prompt": text, "completion": f"{name}: {text}"} for text in asked]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        sources += ["--adapter", f"{name}={folder / name}.jsonl"]
    done(run("generate", *sources, "--train-samples", 8, "--eval-samples", 6, "--output-dir", folder / "data"))
    base = load_base(str(tiny_base), cache_dir=folder, device="cpu")
    router = small_router(TransformersFeatureExtractor(base))
    SafetensorsRouterStore().save(router, folder / "router.safetensors")
    write_loras(base, folder / "loras")
    return World(folder / "data", folder / "router.safetensors", folder / "loras", tiny_base, folder / "cache")


def run(*arguments: Any, obj: Application | None = None, **environment: str) -> Any:
    return CliRunner().invoke(cli, [str(each) for each in arguments], obj=obj or Application(), env=environment)


def compare(world: World, *arguments: Any, obj: Application | None = None) -> Any:
    given = ("--dataset-dir", world.dataset, "--lora-dir", world.loras, "--base-model", world.base, *arguments)
    app = obj or Application({"MOE_ROUTER_CACHE": str(world.cache)})
    return run("compare", *given, obj=app)


def done(result: Any) -> str:
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.stderr
    return str(result.stdout)


def test_report_json_prompts_and_picture_agree(world: World, tmp_path: Path) -> None:
    rows, plot = tmp_path / "rows.jsonl", tmp_path / "matrix.png"
    more = ("--router", world.router, "--rows", rows, "--plot", plot)
    text = done(compare(world, *more))
    found = json.loads(done(compare(world, *more, "--json")))
    assert found["prompts"] == dict.fromkeys(NAMES, 6)
    assert text.startswith(f"18 held-out prompts of {world.dataset} (6 to 6 per adapter)")
    for dataset, cells in found["matrix"].items():
        assert set(cells) == {"base", *NAMES}
        assert f"{cells[dataset]['value']:.3f} [{cells[dataset]['low']:.3f}" in text
    assert text.endswith(f"{found['verdict']}\n")
    assert f"regret {found['router']['regret']['value']:.3f}" in text
    assert plot.read_bytes().startswith(b"\x89PNG")
    lines = [json.loads(line) for line in rows.read_text().splitlines()]
    assert len(lines) == 18
    better = [line for line in lines if line["better"]]
    assert lines[: len(better)] == better
    assert len(better) == found["answered_better_elsewhere"]
    for line in lines:
        assert line["router"]["chosen"] in (None, *NAMES)
        assert set(line["losses"]) == {"base", *NAMES}


@pytest.mark.parametrize(
    ("width", "names", "shown"),
    [(112, NAMES, "0.500 [0.500, 0.500]"), (80, NAMES, "0.50 ±0.00"), (80, "abcdefgh", "best other")],
)
def test_the_table_is_as_wide_as_the_terminal_at_most(width: int, names: Sequence[str], shown: str) -> None:
    rows = [ScoredRow(name, "1", "x", (2.0, *(0.5 if name == each else 1.5 for each in names)), 9) for name in names]
    console = Console(width=width, file=StringIO())
    console.print(matrix_table(CompareReport(Path("data"), tuple(names), tuple(rows)), console))
    assert isinstance(console.file, StringIO)
    printed = console.file.getvalue()
    assert shown in printed
    assert len(printed.splitlines()) == 4 + len(names)  # nothing goes on in another line


def test_scores_are_computed_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    first = done(compare(world, "--json"))
    monkeypatch.setattr(PeftAnswerScorer, "score", lambda _self, requests: iter([1 / 0 for _ in requests]))
    assert done(compare(world, "--json")) == first
    assert isinstance(compare(world, "--no-cache").exception, ZeroDivisionError)


def test_what_is_loaded_for_answering_is_measured_as_it_is(world: World) -> None:
    app = Application()
    folders = {name: world.loras / name for name in NAMES}
    answering = app.answer_prompts(app.routers.load(world.router), folders, str(world.base))
    report = app.compare_loaded(answering)(CompareRequest(world.dataset))
    found = json.loads(done(compare(world, "--router", world.router, "--json")))
    assert json.loads(json_bytes(as_values(report))) == rounded(found)


def test_a_duplicated_adapter_is_called_interchangeable(world: World, tmp_path: Path) -> None:
    loras = tmp_path / "loras"
    shutil.copytree(world.loras, loras)
    shutil.rmtree(loras / NAMES[1])
    shutil.copytree(loras / NAMES[0], loras / NAMES[1])
    found = json.loads(done(compare(world, "--lora-dir", loras, "--json", "--no-cache")))
    pairs = [(pair["one"], pair["other"]) for pair in found["interchangeable"]]
    assert pairs == [(NAMES[0], NAMES[1])]


def test_generated_answers_are_counted(world: World) -> None:
    more = ("--samples", 1, "--generate", "--max-new-tokens", 3)
    assert "same answer" in done(compare(world, *more))
    rates = json.loads(done(compare(world, *more, "--json")))["matches"]["rates"]
    assert {name: set(each) for name, each in rates.items()} == {name: {"base", *NAMES} for name in NAMES}


def test_modal_says_the_same(world: World) -> None:
    more = ("--router", world.router, "--json")
    there = json.loads(done(compare(world, *more, "--backend", "modal", obj=ModalHere({}))))
    assert there == rounded(json.loads(done(compare(world, *more))))  # of other batches, last digits differ


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return pytest.approx(value, abs=1e-4) if isinstance(value, float) else value


def test_an_upstream_is_asked_in_place_of_weights(world: World) -> None:
    with running(FakeVllm(dict.fromkeys(NAMES, BASE)).app) as url:
        given = ("--dataset-dir", world.dataset, "--upstream", url, "--router", world.router, "--json")
        found = json.loads(done(run("compare", *given, "--base-model", world.base)))
    assert found["prompts"] == dict.fromkeys(NAMES, 6)
    assert found["router"]["abstention"]["count"] < 18
    result = compare(world, "--upstream", url)
    assert "goes without --lora" in str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        (["--samples", "0"], UsageError, "samples 0 is below 1"),
        (["--router", "nowhere"], MissingFileError, "nowhere"),
        (["--max-new-tokens", "5"], UsageError, "goes with --generate"),
        (["--upstream-base", "x"], UsageError, "goes with --upstream"),
        (["--rows", "/proc/x/rows.jsonl"], UsageError, "/proc/x"),
        (["--dataset-dir", "nowhere"], MissingFileError, "no such folder"),
    ],
)
def test_what_goes_wrong_is_one_line(
    world: World, arguments: list[str], kind: type[MoeRouterError], words: str
) -> None:
    result = compare(world, *arguments)
    assert isinstance(result.exception, kind), result.exception
    assert words in str(result.exception)
    assert exit_code(result.exception) == 2


def test_without_lora_adapters_or_answers(world: World, tmp_path: Path) -> None:
    none = run("compare", "--dataset-dir", world.dataset)
    assert "no LoRA adapters" in str(none.exception)
    shutil.copytree(world.dataset, tmp_path / "data")
    (tmp_path / "data" / "eval-answers.jsonl").unlink()
    result = run("compare", "--dataset-dir", tmp_path / "data", "--lora-dir", world.loras)
    assert "without --no-answers" in str(result.exception)
