"""The architecture, checked where import-linter cannot: an allow-list for the two inner layers, and no gaps."""

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import grimp
import pytest
from mypy.main import process_options

ROOT = Path(__file__).parent.parent
LAYERS = ("domain", "application", "adapters", "entrypoints")
ALLOWED = {
    "domain": {"attrs", "domain"},
    "application": {"attrs", "domain", "application"},
}


def modules(layer: str) -> list[Path]:
    return sorted((ROOT / layer).rglob("*.py"))


@cache
def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add((node.module or "").split(".")[0])
    return found


@pytest.mark.parametrize("layer", ALLOWED)
def test_inner_layers_import_the_standard_library_and_attrs_only(layer):
    for path in modules(layer):
        foreign = imported(path) - ALLOWED[layer] - set(sys.stdlib_module_names)
        assert not foreign, f"{path.relative_to(ROOT)} imports {foreign}"


def test_every_layer_is_typed_and_nothing_shadows_a_library():
    for layer in LAYERS:
        assert (ROOT / layer / "py.typed").exists()
    assert not (ROOT / "modal").exists(), "a folder named modal would shadow the library"


def test_no_module_loads_pickles_or_what_is_for_tests():
    for layer in LAYERS:
        for path in modules(layer):
            assert not imported(path) & {"pickle", "joblib", "dill", "cloudpickle", "shelve"}, path
            assert not imported(path) & {"unittest", "pytest", "hypothesis", "tests"}, path


def files_of_git(*options: str) -> set[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z", *options, "--", "*.py"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return {ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()}


def sources() -> set[Path]:
    found = files_of_git("--cached", "--others", "--exclude-standard")
    assert len(found) > 200
    return found


def product_sources() -> set[Path]:
    return {path for path in sources() if path.relative_to(ROOT).parts[0] in LAYERS}


def test_git_ignores_no_source_file():
    ignored = {
        path for path in files_of_git("--others", "--ignored", "--exclude-standard") if ".venv" not in path.parts
    }
    assert not {path for path in ignored if path.relative_to(ROOT).parts[0] in (*LAYERS, "tests", "benchmarks")}


def test_every_source_file_is_linted():
    shown = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--show-files", "."],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    assert not sources() - {Path(line) for line in shown.stdout.splitlines()}


def test_every_product_source_is_type_checked(monkeypatch):
    monkeypatch.chdir(ROOT)
    checked, _ = process_options([])
    assert not product_sources() - {ROOT / source.path for source in checked if source.path}


def test_every_product_source_is_in_the_import_graph():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))["tool"]["importlinter"]
    graph = grimp.build_graph(*settings["root_packages"], cache_dir=None)
    files = {path.relative_to(ROOT).with_suffix("") for path in product_sources()}
    modules = {".".join(path.parts).removesuffix(".__init__") for path in files}
    assert not modules - graph.modules


def test_the_inner_layers_speak_of_no_command_line():
    """Their messages also reach callers of the library, servers and containers, where a flag means nothing."""
    inner = [path for path in product_sources() if path.relative_to(ROOT).parts[0] in ("domain", "application")]
    said = {
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in inner
        for node in ast.walk(ast.parse(path.read_text("utf8")))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.search(r"(?<![\w-])--[a-z]", node.value)
    }
    assert len(inner) > 80
    assert not said
