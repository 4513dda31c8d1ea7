"""What is wrong with a LoRA adapter, said from its facts alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from adapters.in_memory.answers import InMemoryAnswerEngine, InMemoryLoraInspector
from application.answering.check_lora_adapters import CheckLoraAdapters
from domain.features import BaseModel
from domain.lora import LoraFacts, LoraLayer, effect_problems, find_problems, find_warnings

BASE = BaseModel("org/base", "f" * 64, 2, 8)
MODULES = {"layers.0.q": (8, 16), "layers.1.q": (8, 16)}
LAYERS = tuple(LoraLayer(module, (4, 8), (16, 4), zero=False, finite=True) for module in MODULES)
FACTS = LoraFacts("loras/x", "LORA", "org/base", None, 4, False, ("q",), LAYERS, (), (), 1000, False)


def test_sound_facts() -> None:
    assert find_problems(FACTS, BASE, MODULES) == ()
    assert find_warnings(FACTS, BASE) == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "LOHA"}, "its kind is LOHA"),
        ({"kind": ""}, "its kind is not stated"),
        ({"layers": ()}, "no pair of LoRA matrices"),
        ({"base_fingerprint": "e" * 64}, "another base model: org/base eeeeeeeeeeeeeeee, loaded is org/base ffffff"),
        ({"layers": (evolve(LAYERS[0], module="x.q"), LAYERS[1])}, r"1 of its 2 layers .* x\.q .*has layers\.0\.q\)"),
        ({"layers": (evolve(LAYERS[0], a_shape=(4, 9)),)}, r"9→16 in it and 8→16 in the base model"),
        ({"layers": (evolve(LAYERS[0], b_shape=(16, 3)),)}, "ranks of A and B differ"),
        ({"rank": 8}, r"configuration says rank 8, its weights have 4 in layers\.0\.q"),
        ({"layers": (evolve(LAYERS[0], finite=False),)}, "not finite"),
        ({"layers": tuple(evolve(layer, zero=True) for layer in LAYERS)}, "no effect"),
        ({"strays": ("x.bias",)}, r"1 tensors are not LoRA matrices .* x\.bias"),
        ({"unfilled": ("layers.0.k",)}, r"1 modules .* have no weights, such as layers\.0\.k"),
        ({"unnamed": ("layers.0.k",)}, r"1 modules have weights that its configuration does not name"),
    ],
)
def test_problems(changes: Any, message: str) -> None:
    (problem,) = find_problems(evolve(FACTS, **changes), BASE, MODULES)
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(problem)


@pytest.mark.parametrize("name", ["ORG/Base", "mirror/base", "/models/base", ""])
def test_the_same_base_model_by_another_name(name: str) -> None:
    facts = evolve(FACTS, base_name=name)
    assert (find_problems(facts, BASE, MODULES), find_warnings(facts, BASE)) == ((), ())


def test_warnings() -> None:
    for name in ("./ckpt", "org/other", "unsloth/base-bnb-4bit"):
        assert find_warnings(evolve(FACTS, base_name=name), BASE) == (f"made for {name}, loaded is org/base",)
    assert find_warnings(evolve(FACTS, notes=("odd",)), BASE) == ("odd",)
    half = evolve(FACTS, layers=(evolve(LAYERS[0], zero=True), LAYERS[1]))
    assert find_warnings(half, BASE) == ("1 of 2 layers are zero",)


@pytest.mark.parametrize("distance", [0.0, 1e-9, float("nan")])
def test_effects(distance: float) -> None:
    names = ("a", "b")
    assert effect_problems("a", names, 1.0, (0.0, 1.0)) == ()
    assert effect_problems("a", names, 1.0, (0.0, distance)) == ("it answers exactly as b does",)
    assert "does not change" in effect_problems("a", names, distance, (0.0, 1.0))[0]


def test_the_check_runs_only_what_fits_and_refuses_what_has_no_effect() -> None:
    folders = {name: Path(name) for name in ("good", "foreign", "dead", "gone")}
    facts = {Path(name): FACTS for name in ("good", "dead")}
    facts[Path("foreign")] = evolve(FACTS, kind="LOHA")
    facts[Path("unfit")] = FACTS
    folders["unfit"] = Path("unfit")
    host = InMemoryAnswerEngine(without_effect=("dead",), unloadable=("unfit",))

    check = CheckLoraAdapters(InMemoryLoraInspector(BASE, MODULES, facts), host)(folders)
    assert host.adapters == ("good",)
    assert [each.sound for each in check.diagnoses] == [True, False, False, False, False]
    assert check.diagnoses[4].problems == ("does not fit",)
    assert check.diagnoses[3].problems == ("no such folder",)
    assert (check.diagnoses[0].nearest, check.diagnoses[0].effect) == ("dead", 1.0)
