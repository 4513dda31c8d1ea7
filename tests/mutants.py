"""Change one thing at a time in a module and see whether its tests notice.

    .venv/bin/python tests/mutants.py domain/routing.py tests/domain/test_routing.py [--sample 60]

`--sample` tries that many, spread evenly over the module. The tests run in this process's children, one after the
other; nothing on disk is changed. Prints the mutants that survived: each is a change of the product that no given
test fails on. Some change nothing that matters.
"""

from __future__ import annotations

import argparse
import ast
import copy
import math
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

PATIENCE = 3
"""A mutant whose tests take so many times what they take without it counts as noticed: it does not end."""

PLUGINS = ("pytest_timeout", "_hypothesis_pytestplugin")
OPTIONS = ("-x", "-q", *(word for name in PLUGINS for word in ("-p", name)), "--hypothesis-profile", "mutants")

SWAPS: dict[type, type] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}


def changes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what may stand in a node's place."""
    for name, value in ast.iter_fields(node):
        if type(value) in SWAPS:
            yield _with(node, name, SWAPS[type(value)]())
        if name == "ops" and type(value[0]) in SWAPS:
            yield _with(node, name, [SWAPS[type(value[0])](), *value[1:]])
        if name == "test":
            yield from (_with(node, name, ast.Constant(each)) for each in (True, False))
    match node:
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield operand
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value) | float(value)):
            yield ast.Constant(value + 1)
        case ast.Expr(value=ast.Call() | ast.Yield() | ast.YieldFrom()) | ast.Raise() | ast.AugAssign():
            yield ast.Pass()
        case ast.Continue():
            yield ast.Break()
        case ast.Break():
            yield ast.Continue()


def _with(node: ast.AST, field: str, value: Any) -> ast.AST:
    changed = copy.copy(node)
    setattr(changed, field, value)
    return changed


def places(tree: ast.AST) -> Iterator[tuple[ast.AST, str, int | None, ast.AST]]:
    """Yield ``(parent, field, index, node)`` for every node but annotations."""
    for parent in ast.walk(tree):
        for field, value in ast.iter_fields(parent):
            if field in ("annotation", "returns", "decorator_list"):
                continue
            for index, node in enumerate(value) if isinstance(value, list) else [(None, value)]:
                if isinstance(node, ast.AST):
                    yield parent, field, index, node


def mutants(tree: ast.Module) -> Iterator[str]:
    """Change the tree in place, once per mutant, yielding what was changed; put it back afterwards."""
    for parent, field, index, node in list(places(tree)):
        for changed in changes(node):
            before, after = (ast.unparse(each).partition("\n")[0] for each in (node, changed))
            if before == after and ast.dump(node) == ast.dump(changed):
                continue
            ast.fix_missing_locations(ast.copy_location(changed, node))
            _put(parent, field, index, changed)
            yield f"{getattr(node, 'lineno', '?')}: {before}  ->  {after}"
            _put(parent, field, index, node)


def _put(parent: ast.AST, field: str, index: int | None, node: ast.AST) -> None:
    if index is None:
        setattr(parent, field, node)
    else:
        getattr(parent, field)[index] = node


class Mutated(MetaPathFinder, Loader):
    """Imports one module from a syntax tree instead of its file."""

    def __init__(self, name: str, path: Path, tree: ast.Module) -> None:
        self.name, self.path, self.tree = name, path, tree

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        return ModuleSpec(name, self, origin=str(self.path)) if name == self.name else None

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self.tree, str(self.path), "exec"), module.__dict__)


def survives(finder: Mutated, tests: list[str], seconds: int) -> bool:
    """Run the tests in a child with this module in place of the one on disk, for so much of the processor's time."""
    import pytest

    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        sys.meta_path.insert(0, finder)
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            os._exit(pytest.main([*OPTIONS, *tests]))
    return os.waitpid(child, 0)[1] == 0


def main() -> None:
    """Print the survivors and how many there are."""
    given = argparse.ArgumentParser()
    given.add_argument("module")
    given.add_argument("tests", nargs="+")
    given.add_argument("--sample", type=int)
    asked = given.parse_args()
    module, tests = asked.module, asked.tests
    import hypothesis  # here once, and not once a child
    import numpy  # noqa: F401

    found = (hypothesis.Phase.explicit, hypothesis.Phase.generate)  # without making the example smaller
    hypothesis.settings.register_profile("mutants", phases=found, database=None, deadline=None)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # plugins of other installed packages take seconds to load
    sys.path.insert(0, str(Path.cwd()))
    path = Path(module)
    name = ".".join(path.with_suffix("").parts)
    tree = ast.parse(path.read_text("utf8"))
    if not survives(Mutated(name, path, tree), tests, 600):
        sys.exit(f"{' '.join(tests)}: red before anything is changed")
    seconds = PATIENCE * math.ceil(resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime)
    total = sum(1 for _ in mutants(tree))
    step = max(1, total // (asked.sample or total))
    made = survivors = 0
    for what in islice(mutants(tree), step // 2, None, step):
        made += 1
        if survives(Mutated(name, path, tree), tests, seconds):
            survivors += 1
            print(f"{module}:{what}", flush=True)
    print(f"{module}: {survivors} of {made} mutants survived, of {total} that there are", flush=True)


if __name__ == "__main__":
    main()
