"""The architecture, checked where import-linter cannot: an allow-list for the two inner layers."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = ("domain", "application", "adapters", "entrypoints")
ALLOWED = {
    "domain": {"attrs", "domain"},
    "application": {"attrs", "domain", "application"},
}


def modules(layer: str) -> list[Path]:
    return sorted((ROOT / layer).rglob("*.py"))


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


def test_no_module_loads_pickles():
    for layer in LAYERS:
        for path in modules(layer):
            assert not imported(path) & {"pickle", "joblib", "dill", "cloudpickle", "shelve"}, path
