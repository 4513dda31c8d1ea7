"""The door for other programs, as README and docs/embedding.md show it: their examples run as written."""

import asyncio
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

from domain.turns import TurnChoice
from entrypoints import api
from entrypoints.wiring import training
from tests.lora_world import write_loras
from tests.training_world import COMPANIONS

ROOT = Path(__file__).parents[2]


def examples(path: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / path).read_text("utf8"), re.DOTALL)


@pytest.fixture(scope="module")
def place(tiny_base, tmp_path_factory):
    """A folder with what the examples read."""
    from adapters.base_model.transformers_base import load_base

    folder = tmp_path_factory.mktemp("embedding")
    (folder / "base").symlink_to(tiny_base)
    sources = {
        "calendar": [f"open {month} {day} in the calendar" for month in ("May", "June") for day in range(1, 26)],
        "billing": [f"refund invoice {n} to the {card} card" for card in ("old", "new") for n in range(1, 26)],
    }
    for name, texts in sources.items():
        rows = [{"id": text, "conversations": [{"from": "human", "value": text}]} for text in texts]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_loras(load_base(str(folder / "base"), cache_dir=folder), folder / "loras", ("calendar", "billing"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOE_ROUTER_CACHE", str(folder / "cache"))
        for name in ("BASE_MODEL_ID", "ROUTER_OUT", "TRAIN_DATA", "VAL_DATA"):
            patch.delenv(name, raising=False)
        patch.setattr(training, "packaged_companions", lambda: COMPANIONS)  # few, so that training is quick
        patch.chdir(folder)
        yield folder


@pytest.fixture(scope="module")
def printed(place):
    """What each example of docs/embedding.md prints; they run in one namespace, in order."""
    import io
    from contextlib import redirect_stdout

    shown, namespace = [], {}
    for example in examples("docs/embedding.md"):
        with redirect_stdout(io.StringIO()) as out:
            exec(compile(example, "docs/embedding.md", "exec"), namespace)
        shown.append(out.getvalue())
    return shown


def test_the_examples_of_the_documentation_run_and_print_what_they_promise(printed):
    trained, decided, answered, refused, _, in_memory = printed
    assert re.fullmatch(r"router-head\.safetensors [a-z-]+ \d\.\d\d\n\d\.\d\d of 20 prompts\n", trained)
    one, several = decided.splitlines()
    assert re.fullmatch(r"(calendar|billing|None) [a-z-]+ \d\.\d\d", one)
    assert "billing" not in several
    first, rest = answered.splitlines()
    assert re.match(r"(calendar|billing|base model) (stop|length) ", first)
    assert rest.count(",") == 2
    assert refused == "MissingFileError True no-such-router.safetensors\n"
    assert re.fullmatch(r"calendar confident [01]\.\d\d\nbilling confident [01]\.\d\d\n", in_memory)


def test_the_readmes_example_is_short_and_runs_with_the_real_adapters(place, printed, capsys):
    (example,) = examples("README.md")
    assert len([line for line in example.splitlines() if line.strip()]) <= 10
    exec(compile(example, "README.md", "exec"), {})
    assert capsys.readouterr().out in ("billing\n", "None\n")


def test_the_door_and_the_command_decide_alike(place, printed):
    from click.testing import CliRunner

    from entrypoints.cli import cli

    prompt = "open June 30 in the calendar"
    said = CliRunner().invoke(cli, ["route", "--prompt", prompt, "--nearest", "0", "--json"], obj=api.Application())
    decision = api.open_router("router-head.safetensors").route(prompt)
    shown = json.loads(said.stdout)
    assert (shown["adapter"], shown["confidence"]) == (decision.adapter, pytest.approx(decision.confidence))


def test_a_chat_is_read_by_the_turn_that_the_router_was_trained_on(place, printed):
    first, last = "open June 30 in the calendar", "refund invoice 77 to the old card"
    chat = [api.Message("user", first), api.Message("assistant", "done"), api.Message("user", last)]
    router = api.open_router("router-head.safetensors")
    for turn, text in ((TurnChoice.FIRST, first), (TurnChoice.LAST, last)):
        opened = api.OpenRouter(attrs.evolve(router.card, turn=turn), router.sha256, router._route)
        assert opened.route(chat) == router.route(text)


def test_lora_adapters_may_be_named_one_by_one_and_a_missing_one_is_an_error(place, printed):
    async def asked(loras):
        async with api.open_answering("router-head.safetensors", loras=loras) as answers:
            return await answers.answer("hello", options=api.GenerationOptions(2))

    named = {name: place / "loras" / name for name in ("calendar", "billing")}
    assert asyncio.run(asked(named)).tokens <= 2
    with pytest.raises(api.LoraAdapterError, match="billing"):
        asyncio.run(asked({"calendar": place / "loras" / "calendar"}))


def test_everything_that_is_promised_is_there_and_importing_it_loads_no_model_library():
    program = "import sys, entrypoints.api as a; [getattr(a, n) for n in a.__all__]; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"torch", "transformers", "peft", "modal", "sklearn", "tensorboard"}


def test_the_example_programs_run(place, printed, monkeypatch, capsys):
    def run(name, *words):
        monkeypatch.setattr(sys, "argv", [name, *words])
        runpy.run_path(str(ROOT / "docs" / "examples" / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    shown = run("route_in_python", "router-head.safetensors", "open June 30 in the calendar", "refund invoice 77")
    assert len(shown.splitlines()) == 4
    assert "if it had to choose: calendar" in shown
    shown = run("follow_training", "ds", "followed.safetensors", "base")
    assert shown.startswith("step 0: loss ")
    assert "stopped: " in shown
    assert Path("followed.safetensors").is_file()
