"""infer and doctor as users run them, on a tiny base model."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, frozen
from click.testing import CliRunner

from adapters.base_model import transformers_base
from adapters.base_model.transformers_base import load_base
from adapters.base_model.transformers_features import TransformersFeatureExtractor
from adapters.lora.peft_engine import PeftEngine
from adapters.router.safetensors_router_store import SafetensorsRouterStore
from application.answering.answer_queue import AsyncAnswerEngine
from domain.answers import Answer
from domain.errors import (
    DataRejectedError,
    LoraAdapterError,
    MissingFileError,
    MoeRouterError,
    RemoteError,
    UsageError,
)
from entrypoints.bootstrap import Application
from entrypoints.cli import cli
from entrypoints.exit_codes import exit_code
from entrypoints.on_modal import places
from tests.answering_world import NOTHING, small_router
from tests.lora_world import NAMES, edit_weights, write_loras
from tests.modal_world import JobsHere, ModalHere


@frozen
class World:
    """A router file and LoRA adapters for the tiny base model."""

    router: Path
    abstaining: Path
    loras: Path
    base: Path


@pytest.fixture(autouse=True)
def _everything_is_on_volumes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "MOUNTS", ("/",))


@pytest.fixture(scope="module")
def world(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("answering")
    base = load_base(str(tiny_base), cache_dir=folder, device="cpu")
    features = TransformersFeatureExtractor(base)
    router = small_router(features)
    store = SafetensorsRouterStore()
    store.save(router, folder / "router.safetensors")
    store.save(evolve(router, card=evolve(router.card, thresholds=NOTHING)), folder / "abstaining.safetensors")
    write_loras(base, folder / "loras", systems={"calendar": "Book a table"})
    return World(folder / "router.safetensors", folder / "abstaining.safetensors", folder / "loras", tiny_base)


def run(*arguments: Any, **environment: str) -> Any:
    return CliRunner().invoke(
        cli, [str(each) for each in arguments], obj=Application(), env=environment, catch_exceptions=True
    )


def infer(world: World, *arguments: Any, router: Path | None = None) -> Any:
    common = ("--router", router or world.router, "--max-new-tokens", 5)
    return run("infer", *common, *arguments)


def done(result: Any) -> str:
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.stderr
    return str(result.stdout)


def refused(result: Any, kind: type[MoeRouterError], code: int) -> str:
    assert isinstance(result.exception, kind), result.exception
    assert exit_code(result.exception) == code
    assert result.stdout == ""
    return str(result.exception)


def rows_of(result: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done(result).splitlines()]


PROMPTS = ("--prompt", "book a table", "--prompt", "file the claim", "--prompt", "pick a doctor near me")


def test_infer_prints_the_guides_lines(world: World) -> None:
    lines = done(infer(world, "--prompt", "book a table", "--lora-dir", world.loras)).splitlines()
    assert lines[0].startswith("[router] selected adapter=calendar (confidence ")
    assert lines[1].startswith("[model] response: ")
    assert len(lines[1]) > len("[model] response: ")


def test_infer_json_and_text_agree(world: World) -> None:
    text = done(infer(world, *PROMPTS, "--lora-dir", world.loras)).splitlines()
    found = rows_of(infer(world, *PROMPTS, "--lora-dir", world.loras, "--json"))
    assert [each["adapter"] for each in found] == list(NAMES)
    assert [line for line in text if line.startswith("[prompt]")] == [f"[prompt] {each}" for each in PROMPTS[1::2]]
    assert [line for line in text if line.startswith("[model]")] == [
        f"[model] response: {each['answer']}" for each in found
    ]
    assert all(each["decision"]["adapter"] == each["adapter"] for each in found)


def test_an_abstention_is_said(world: World) -> None:
    out = done(infer(world, "--prompt", "anything", "--lora-dir", world.loras, router=world.abstaining))
    assert out.startswith("[router] selected adapter=none (base model answers: out of scope: score")
    out = done(
        infer(
            world,
            *("--prompt", "anything", "--lora-dir", world.loras, "--fallback", "claim-window"),
            router=world.abstaining,
        )
    )
    assert out.startswith("[router] selected adapter=none (fallback claim-window answers: out of scope")
    result = infer(
        world, "--prompt", "anything", "--lora-dir", world.loras, "--fallback", "error", router=world.abstaining
    )
    refused(result, DataRejectedError, 3)


def test_missing_and_disabled_adapters(world: World) -> None:
    one = ("--lora", f"claim-window={world.loras / 'claim-window'}")
    message = refused(infer(world, "--prompt", "book a table", *one), LoraAdapterError, 3)
    assert "no LoRA adapter for calendar, provider-select" in message
    out = done(infer(world, "--prompt", "book a table", *one, "--fallback", "base"))
    assert "adapter=calendar (confidence" in out
    assert "base model answers: LoRA adapter calendar was not given)" in out
    out = done(
        infer(world, "--prompt", "book a table", *one, "--disable", "calendar", "--disable", "provider-select")
    )
    assert out.startswith("[router] selected adapter=claim-window (confidence 1.00)")
    assert "base model answers" in done(infer(world, "--prompt", "book", "--fallback", "base"))


def test_a_bad_adapter_is_refused_at_the_start(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.loras, tmp_path / "loras")
    edit_weights(tmp_path / "loras" / "claim-window", lambda each: {name: 0 * each[name] for name in each})
    arguments = (*PROMPTS, "--lora-dir", tmp_path / "loras", "--json")
    for more in ((), ("--fallback", "error"), ("--fallback", "claim-window")):
        message = refused(infer(world, *arguments, *more), LoraAdapterError, 3)
        assert "LoRA adapter claim-window is refused: all its B or A" in message
    speakers = (("--fallback", "base"), [NAMES[0], None, NAMES[2]]), (("--disable", "claim-window"), None)
    for more, expected in speakers:
        answers = rows_of(infer(world, *arguments, *more))
        names = [each["adapter"] for each in answers]
        assert names == expected or (expected is None and "claim-window" not in names)
        if expected:
            assert answers[1]["fallback"].startswith("LoRA adapter claim-window is refused: all its B or A")


def test_route_only_needs_no_lora_adapter(world: World) -> None:
    out = done(infer(world, *PROMPTS, "--route-only")).splitlines()
    assert [line.split("=")[1].split(" ")[0] for line in out[1::2]] == list(NAMES)
    found = rows_of(infer(world, *PROMPTS, "--route-only", "--json"))
    assert [each["adapter"] for each in found] == list(NAMES)


@pytest.mark.parametrize("more", [(), ("--route-only",), ("--fallback", "base", "--disable", "calendar")])
def test_modal_answers_and_decides_as_this_machine_does(world: World, more: tuple[str, ...]) -> None:
    command = ["infer", "--router", str(world.router), *PROMPTS, "--lora-dir", str(world.loras), "--json", *more]
    here = rows_of(run(*command))
    there = rows_of(CliRunner().invoke(cli, [*command, "--backend", "modal"], obj=ModalHere()))
    assert there == here
    assert [row["prompt"] for row in there] == list(PROMPTS[1::2])
    assert {row["adapter"] for row in there} & set(NAMES)


def test_a_container_that_stays_loads_the_base_model_and_each_lora_adapter_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[str] = []

    def counted(holder: Any, name: str, told: Callable[..., str]) -> None:
        whole = getattr(holder, name)
        monkeypatch.setattr(holder, name, lambda *a, **b: loads.append(told(*a)) or whole(*a, **b))

    counted(transformers_base, "load_base", lambda *_: "base")
    counted(PeftEngine, "load", lambda _engine, name, _folder: name)
    container, command = ModalHere(), ["infer", "--backend", "modal", "--json", "--router", str(world.router)]
    for more in ([*PROMPTS, "--max-batch", "2"], [*PROMPTS, "--max-batch", "1"], ["--prompt", "file the claim"]):
        rows_of(CliRunner().invoke(cli, [*command, "--lora-dir", str(world.loras), *more], obj=container))
        assert loads == ["base", *NAMES]
        assert container.warm._host[1].max_batch == (int(more[-1]) if "--max-batch" in more else None)
    rows_of(CliRunner().invoke(cli, [*command, *PROMPTS, "--route-only"], obj=container))
    assert loads == ["base", *NAMES]


def test_a_batch_here_holds_no_more_prompts_than_was_asked_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[int | None] = []
    generate = PeftEngine.generate
    monkeypatch.setattr(PeftEngine, "generate", lambda self, *a: limits.append(self.max_batch) or generate(self, *a))
    words = ["--router", str(world.router), "--lora-dir", str(world.loras), "--prompt", "file the claim"]
    for more in ([], ["--max-batch", "2"]):
        done = CliRunner().invoke(cli, ["infer", *words, *more], obj=Application())
        assert done.exit_code == 0, done.output
    assert limits == [None, 2]


@pytest.mark.parametrize("command", [("infer", *PROMPTS[:2]), ("evaluate", "--data-path", "/x", "--no-cache")])
def test_the_callers_base_model_is_meant_on_modal_too(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: dict[str, Any] = {}

    def follow(_jobs: JobsHere, name: str, request: dict[str, Any]) -> None:
        asked.update(request["value"], name=name)
        raise RemoteError("enough")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(JobsHere, "follow", follow)
    given = {"BASE_MODEL_ID": "some/model"}
    refused(CliRunner().invoke(cli, [*command, "--backend", "modal"], obj=ModalHere(), env=given), RemoteError, 5)
    assert (asked["name"], asked["base_model"]) == (command[0], "some/model")
    assert asked.get("use_cache", False) is False


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        (["--lora-dir", "."], MissingFileError, "no such folder"),
        (["--lora", "calender=/checkpoints/calendar"], UsageError, "'calender'"),
        (["--image", "x.png"], UsageError, "images cannot be sent to Modal"),
    ],
)
def test_what_modal_cannot_answer_with_is_refused(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], kind: Any, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["infer", "--router", str(world.router), *PROMPTS[:2], "--backend", "modal", *arguments]
    assert words in refused(CliRunner().invoke(cli, command, obj=ModalHere()), kind, 2)


def test_files_are_answered_and_resumed(world: World, tmp_path: Path) -> None:
    source, output = tmp_path / "prompts.jsonl", tmp_path / "answers.jsonl"
    source.write_text("".join(json.dumps({"id": text, "prompt": text}) + "\n" for text in PROMPTS[1::2]))
    files = ("--input", source, "--output", output, "--lora-dir", world.loras)
    assert "Answered 3 of 3 prompts (calendar 1, claim-window 1, provider-select 1)" in done(infer(world, *files))
    answers = {row["id"]: row["answer"] for row in map(json.loads, output.read_text().splitlines())}
    alone = {
        text: rows_of(infer(world, "--prompt", text, "--lora-dir", world.loras, "--json"))[0]
        for text in PROMPTS[1::2]
    }
    assert answers == {text: each["answer"] for text, each in alone.items()}
    before = output.read_bytes()
    found = json.loads(done(infer(world, *files, "--json")))
    assert (found["skipped"], found["answered"], output.read_bytes()) == (3, {}, before)
    lines = done(infer(world, "--input", source, "--lora-dir", world.loras)).splitlines()
    assert len([line for line in lines if line.startswith("[model]")]) == 3
    source.write_text(source.read_text() + '{"id": "bad", "prompt": 3}\n')
    result = infer(world, *files)
    assert isinstance(result.exception, DataRejectedError)
    assert "1 of 4 prompts have no answer; all others have" in str(result.exception)
    assert f"{source}:4: id 'bad': " in infer(world, *files, "--allow-errors").stderr


def test_embedding_with_many_callers(world: World) -> None:
    async def ask() -> list[Answer]:
        app = Application()
        router = app.routers.load(world.router)
        folders = {name: world.loras / name for name in router.card.labels.names}
        async with AsyncAnswerEngine(app.answer_prompts(router, folders)) as engine:
            return await asyncio.gather(*(engine.answer(text) for text in PROMPTS[1::2]))

    assert [answer.adapter for answer in asyncio.run(ask())] == list(NAMES)


@pytest.mark.parametrize(
    ("arguments", "kind", "code"),
    [
        ((), UsageError, 2),
        (("--prompt", "a", "--input", "x.jsonl"), UsageError, 2),
        (("--prompt", "a", "--output", "x.jsonl"), UsageError, 2),
        (("--prompt", "a", "--prompt", "b", "--image", "x.png"), UsageError, 2),
        (("--prompt", "a", "--max-new-tokens", "0"), UsageError, 2),
        (("--prompt", "a", "--temperature", "-1"), UsageError, 2),
        (("--prompt", "a", "--lora", "calendar"), UsageError, 2),
        (("--prompt", "a", "--lora", "../x=y"), UsageError, 2),
        (("--prompt", "a", "--lora", "a=b", "--lora", "a=c"), UsageError, 2),
        (("--prompt", "a", "--lora-dir", "no-such-folder"), MissingFileError, 2),
        (("--prompt", "a", "--router", "no-such-router"), MissingFileError, 2),
        (("--prompt", "a", "--disable", "nobody"), UsageError, 2),
        (("--prompt", "a", "--fallback", "no/name"), UsageError, 2),
        (("--prompt", " "), DataRejectedError, 3),
        (("--input", "no-such-file"), MissingFileError, 2),
        (("--input", "no-such-file", "--route-only"), MissingFileError, 2),
        (("--prompt", "a", "--route-only", "--disable", "nobody"), UsageError, 2),
    ],
)
def test_requests_that_make_no_sense(world: World, arguments: Any, kind: type[MoeRouterError], code: int) -> None:
    refused(infer(world, *arguments), kind, code)


class _Unloaded(Application):
    """Fails where a base model would be loaded."""

    def load_base(self, *_arguments: Any, **_options: Any) -> Any:
        raise AssertionError("a base model was loaded")


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        (("--prompt", "a", "--gpu", "L4"), UsageError, "--gpu belongs to --backend modal"),
        (("--prompt", "a"), UsageError, "no LoRA adapter was given to answer with (give folders"),
        (
            ("--prompt", "a", "--lora-dir", "LORAS", "--fallback", "foo"),
            UsageError,
            "the fallback 'foo' is not one of the LoRA",
        ),
        (("--prompt", "a", "--fallback", "calendar"), UsageError, "given: none"),
        (("--input", "none.jsonl", "--output", "a.jsonl"), MissingFileError, "none.jsonl: no such file"),
        (("--input", ".", "--output", "a.jsonl"), MissingFileError, ".: is a folder, not a file"),
        (("--input", "good.jsonl", "--output", "."), UsageError, ".: is a folder, not a file"),
        (("--input", "good.jsonl", "--output", "good.jsonl/a.jsonl"), UsageError, "Not a directory"),
        (("--input", "good.jsonl", "--output", "/proc/a.jsonl"), UsageError, "/proc/a.jsonl: cannot write"),
        (("--input", "good.jsonl", "--output", "/proc/version"), UsageError, "/proc/version: cannot write"),
        (("--input", "good.jsonl", "--output", "x" * 300), UsageError, "cannot write: File name too long"),
        (("--input", "good.jsonl", "--output", "good.jsonl"), DataRejectedError, "is not an answer of this program"),
        (("--input", "bad.jsonl", "--output", "a.jsonl"), DataRejectedError, "bad.jsonl:1: is not a JSON value"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_loaded(
    world: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    kind: type[MoeRouterError],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.jsonl").write_text('{"prompt": "book a table"}\n')
    (tmp_path / "bad.jsonl").write_text("{\n")
    given = [str(world.loras) if each == "LORAS" else each for each in arguments]
    loras = [] if "--prompt" in given else ["--lora-dir", str(world.loras)]
    command = ["infer", "--router", str(world.router), *given, *loras]
    result = CliRunner().invoke(cli, command, obj=_Unloaded({}))
    assert words in refused(result, kind, 3 if kind is DataRejectedError else 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.jsonl", "good.jsonl"]


def test_a_file_that_is_answered_needs_no_model(world: World, tmp_path: Path) -> None:
    source, output = tmp_path / "prompts.jsonl", tmp_path / "new" / "answers.jsonl"
    source.write_text('{"id": "a", "prompt": "book a table"}\n')
    files = ("infer", "--router", world.router, "--input", source, "--output", output, "--lora-dir", world.loras)
    assert "Answered 1 of 1 prompts" in done(run(*files))
    again = CliRunner().invoke(cli, [str(each) for each in files], obj=_Unloaded({}))
    assert done(again).splitlines() == [
        f"Answered 0 of 1 prompts into {output}",
        "  1 were answered by an earlier run",
    ]
    shutil.copytree(world.loras, tmp_path / "moved")
    moved = [str(each) for each in files[:-1]] + [str(tmp_path / "moved")]
    assert "1 were answered" in done(CliRunner().invoke(cli, moved, obj=_Unloaded({})))
    before = output.read_bytes()
    (tmp_path / "moved" / "calendar" / "system_prompt.txt").write_text("Be brief.")
    others = [[*moved], [*map(str, files), "--max-new-tokens", "3"], [*map(str, files), "--disable", "calendar"]]
    for other in others:
        told = refused(CliRunner().invoke(cli, other, obj=_Unloaded({})), DataRejectedError, 3)
        assert "answers.jsonl:1: was answered with another router, other LoRA adapters or other options" in told
        assert output.read_bytes() == before


def test_doctor_reports_and_exits(world: World, tmp_path: Path) -> None:
    sound = run("doctor", "--lora-dir", world.loras, "--base-model", world.base)
    assert sound.exit_code == 0, sound.exception
    assert [line.split()[:2] for line in sound.stdout.splitlines()[2:5]] == [[name, "ok"] for name in NAMES]
    shutil.copytree(world.loras, tmp_path / "loras")
    (tmp_path / "loras" / "calendar" / "adapter_model.safetensors").unlink()
    edit_weights(tmp_path / "loras" / "claim-window", lambda each: {name: 0 * each[name] for name in each})
    bad = run("doctor", "--lora-dir", tmp_path / "loras", "--json", BASE_MODEL_ID=str(world.base))
    assert bad.exit_code == 3
    report = json.loads(bad.stdout)
    assert (report["ok"], [each["ok"] for each in report["adapters"]]) == (False, [False, False, True])
    assert report["adapters"][0]["problems"] == ["adapter_model.safetensors is missing"]
    table = run("doctor", "--lora-dir", tmp_path / "loras", "--base-model", world.base).stdout
    assert "✗ adapter_model.safetensors is missing" in table
    refused(run("doctor"), UsageError, 2)
    refused(run("doctor", "--lora-dir", tmp_path / "loras" / "calendar"), MissingFileError, 2)


@pytest.mark.parametrize("more", [(), ("--json",), ("--json", "--route-only")])
def test_what_comes_through_a_pipe_is_answered_while_it_is_open(
    world: World, tmp_path: Path, more: tuple[str, ...]
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    said: list[str] = []
    first, second = threading.Event(), '"file the claim"\n'

    def write() -> None:
        with pipe.open("w") as file:
            file.write('"book a table"\n')
            file.flush()
            first.wait(60)
            file.write(second)

    def echo(text: str, err: bool = False) -> None:
        if not err:
            said.append(text)
            first.set()

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("entrypoints.reports.printed_answers.click.echo", echo)
        result = infer(world, "--input", pipe, "--lora-dir", world.loras, *more)
    writer.join(60)
    assert result.exit_code == 0, result.output
    prompts = ["book a table", "file the claim"]
    if "--json" in more:
        assert [json.loads(text)["prompt"] for text in said] == prompts
    else:
        assert [text.splitlines()[0] for text in said] == [f"[prompt] {text}" for text in prompts]


@pytest.mark.parametrize("where", [(), ("--backend", "modal")])
def test_a_row_without_an_answer_is_shown_among_the_others_and_ends_the_run_with_3(
    world: World, tmp_path: Path, where: tuple[str, ...]
) -> None:
    source = tmp_path / "prompts.jsonl"
    long = {"id": "long", "prompt": "table " * 9000}
    source.write_text(f'"book a table"\n{{"id": 7}}\n{json.dumps(long)}\n"pick a doctor near me"\n')
    command = ["infer", "--router", str(world.router), "--lora-dir", str(world.loras), "--input", str(source)]
    command += ["--max-new-tokens", "5", *where]

    def ask(*more: str) -> Any:
        return CliRunner().invoke(cli, [*command, *more], obj=ModalHere() if where else Application())

    result = ask("--json")
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(row["id"], "error" in row) for row in rows] == [("1", False), ("7", True), ("long", True), ("4", False)]
    assert rows[1]["error"] == "the row has no 'prompt', 'text', 'messages' or 'conversations'"
    assert f"{source}:3: id 'long': " in result.stderr
    assert isinstance(result.exception, DataRejectedError)
    assert "2 of 4 prompts have no answer; all others have" in str(result.exception)
    lines = done(ask("--allow-errors")).splitlines()
    assert [line for line in lines if line.startswith("[prompt]")][1:3] == [
        "[prompt] line 2, id '7'",
        "[prompt] line 3, id 'long'",
    ]
    routed = ask("--json", "--route-only", "--allow-errors")
    assert [json.loads(line).get("adapter") for line in routed.stdout.splitlines()][::3] == [NAMES[0], NAMES[2]]
