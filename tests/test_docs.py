"""What stands in docs/ is true: the reference is the commands' own help, links lead somewhere, examples run."""

import importlib.util
import json
import re
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))


def script(name):
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_the_commands_help():
    assert script("commands").page() == (DOCS / "commands.md").read_text("utf8"), "python docs/scripts/commands.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere_on_a_hosting_site_too(page):
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text("utf8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing


def test_every_page_is_in_the_site_and_in_the_index():
    site = (ROOT / "mkdocs.yml").read_text("utf8")
    index = (DOCS / "index.md").read_text("utf8")
    for page in PAGES:
        assert page.name in site
        assert page.name in index or page.name == "index.md"


def test_the_picture_of_the_layers_names_the_folders_that_are_there():
    drawn = (DOCS / "pictures" / "layers.svg").read_text("utf8")
    pictures = script("pictures")
    for layer in pictures.LAYERS:
        for name in pictures.packages(layer):
            assert name in drawn, f"{layer}/{name}: python docs/scripts/pictures.py"


def run_example(monkeypatch, name, *words):
    monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
    runpy.run_path(str(DOCS / "examples" / f"{name}.py"), run_name="__main__")


TESTED = {"make_adapters", "small_adapters", "finetune_lora", "route_in_python", "follow_training"}


def test_no_example_is_left_out():
    assert {path.stem for path in (DOCS / "examples").glob("*.py")} == TESTED


def test_the_tutorials_data_can_be_made_into_a_data_set(tmp_path, monkeypatch):
    from entrypoints.api import generate

    run_example(monkeypatch, "make_adapters", tmp_path, "--data-only")
    sources = {path.stem: path for path in sorted((tmp_path / "data").glob("*.jsonl"))}
    assert list(sources) == ["billing", "recipes", "travel"]
    made = generate(sources, tmp_path / "ds", train_samples=110, eval_samples=40)
    assert sum(made.counts.values()) == 450


def test_small_adapters_are_made_of_files_of_several_shapes(tmp_path, tiny_base, monkeypatch, capsys):
    (tmp_path / "bills.csv").write_text("question,answer\n" + "".join(f"bill {n},due\n" for n in range(4)))
    alpaca = [{"instruction": f"open day {n}", "input": "", "output": "done"} for n in range(4)]
    (tmp_path / "days.json").write_text(json.dumps(alpaca))
    (tmp_path / "odd.csv").write_text("ask,reply\n" + "".join(f"pay {n},paid\n" for n in range(4)))
    monkeypatch.setenv("BASE_MODEL_ID", str(tiny_base))
    files = [
        f"{name}={tmp_path / name}.{kind}" for name, kind in (("bills", "csv"), ("days", "json"), ("odd", "csv"))
    ]
    with pytest.raises(SystemExit, match=r"odd\.csv:1: .*its columns: ask, reply.* --columns odd:prompt=COLUMN"):
        run_example(monkeypatch, "small_adapters", tmp_path / "loras", *files)
    assert not (tmp_path / "loras").exists()  # all are read before any is trained
    run_example(monkeypatch, "small_adapters", tmp_path / "loras", *files, "--columns", "odd:prompt=ask,answer=reply")
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == ["bills", "days", "odd"]
    assert sorted(path.name for path in (tmp_path / "loras").iterdir()) == ["bills", "days", "odd"]


def test_a_lora_adapter_of_plain_peft_passes_the_doctor(tmp_path, tiny_base, monkeypatch, capsys):
    from entrypoints.api import Application

    chats = [
        {"messages": [{"role": "user", "content": f"bill {n}"}, {"role": "assistant", "content": "due"}]}
        for n in range(4)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(chat) + "\n" for chat in chats))
    run_example(monkeypatch, "finetune_lora", tmp_path / "rows.jsonl", tmp_path / "lora", tiny_base)
    assert "row 4: loss" in capsys.readouterr().out
    app = Application({"MOE_ROUTER_CACHE": str(tmp_path / "cache")})
    check, _ = app.check_lora_adapters(app.load_base(str(tiny_base)), {"billing": tmp_path / "lora"})
    assert check.sound
