"""Docstrings are documentation: what they refer to must be there."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
ODD = re.compile(
    r"\bgone on with\b|\bstrangers\b|\bin clear\b(?! words)|\bfelt too much\b|\bin a word\b|\bwho hears\b"
    r"|(?<!there )\b(?:is|are) no (?!longer\b|more\b|less\b|other\b|better\b|worse\b|shorter\b|matter\b)[a-z]",
    re.IGNORECASE,
)
"""What readers stumbled over; CONTRIBUTING.md says what to write instead."""
LAYERS = ("domain", "application", "adapters", "entrypoints")
REFERENCE = re.compile(r":(?:attr|class|data|exc|func|meth|mod|obj):`~?([\w.]+)(?:\(\))?`")


@cache
def modules() -> Mapping[str, set[str]]:
    """Return, by module, every name that it defines or imports; those of classes as ``Class.name``."""
    found = {}
    for path in (path for layer in LAYERS for path in (ROOT / layer).rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        found[name] = set(names(ast.parse(path.read_text("utf8")).body))
    for name in list(found):  # a package has its modules
        package, _, last = name.rpartition(".")
        found.get(package, set()).add(last)
    return found


def names(body: list[ast.stmt]) -> Iterator[str]:
    for node in body:
        match node:
            case ast.ClassDef():
                yield node.name
                yield from (f"{node.name}.{each}" for each in names(node.body))
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield node.name
            case ast.Import() | ast.ImportFrom():
                yield from (alias.asname or alias.name for alias in node.names)
            case ast.Assign():
                yield from (
                    each.id for target in node.targets for each in ast.walk(target) if isinstance(each, ast.Name)
                )
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name
            case ast.If() | ast.Try() | ast.With():
                yield from names([*node.body, *getattr(node, "orelse", ())])


def resolves(target: str, module: str) -> bool:
    if target in modules() or hasattr(builtins, target):
        return True
    here = modules()[module]
    if target in here or any(name.endswith(f".{target}") for name in here):  # a member of a class of this module
        return True
    parts = target.split(".")
    for cut in range(len(parts) - 1, -1, -1):
        there = modules().get(".".join(parts[:cut])) if cut else here
        if there is not None:
            name = ".".join(parts[cut:])  # a class that was imported has its members in another module
            return parts[cut] in there and any(name in each for each in modules().values())
    return False


def test_every_cross_reference_in_a_docstring_resolves():
    broken, seen = [], 0
    for module in modules():
        path = ROOT / module.replace(".", "/")
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        for target in REFERENCE.findall(path.read_text("utf8")):
            seen += 1
            if not resolves(target, module):
                broken.append(f"{path.relative_to(ROOT)}: {target}")
    assert not broken, "\n".join(broken)
    assert seen > 100


def test_no_wording_comes_back_that_readers_stumbled_over():
    pages = [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")]
    sources = [path for layer in LAYERS for path in (ROOT / layer).rglob("*.py")]
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in (*pages, *sources)
        if path.name != "generic.py"  # prompts as people write them
        for match in ODD.finditer(" ".join(path.read_text("utf8").split()))
    ]
    assert not found, "\n".join(found)
