"""LoRA adapters that cannot share a batch answer through peft's own path, and leave all others as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from adapters.base_model.transformers_base import load_base
from adapters.lora.lora_inspection import SafetensorsLoraInspector
from adapters.lora.peft_engine import PeftEngine
from application.answering.check_lora_adapters import CheckLoraAdapters
from application.ports.answering import Generation, GenerationRequest
from domain.answers import GenerationOptions
from domain.chats import as_chat
from tests.lora_world import write_loras

SHORT = GenerationOptions(max_new_tokens=8)
PROMPTS = ("Book a table", "File a claim for the broken window, please.")
KINDS: dict[str, tuple[dict[str, Any], str | None]] = {
    "DoRA": ({"use_dora": True}, "it uses DoRA: it answers in batches of its own"),
    "a layer replaced as a whole": ({"modules_to_save": ["lm_head"]}, "it replaces lm_head: it answers in batches"),
    "embeddings": (
        {"target_modules": ["embed_tokens", "q_proj"]},
        "it changes the embeddings: it answers in batches",
    ),
    "the output layer": ({"target_modules": ["lm_head", "q_proj"]}, None),
    "a pattern and ranks that vary": ({"target_modules": r".*\.(q|v)_proj", "rank_pattern": {"v_proj": 2}}, None),
    "rank-stabilised": ({"use_rslora": True}, None),
    "with a bias of its own": ({"lora_bias": True}, None),
}


def write(tiny_base: Path, folder: Path, options: dict[str, Any]) -> Any:
    """Save a strong random LoRA adapter as peft does; return peft's model with it."""
    from peft import LoraConfig, get_peft_model

    base = load_base(str(tiny_base), cache_dir=tiny_base.parent, device="cpu")
    with torch.random.fork_rng():
        torch.manual_seed(7)
        settings = {"r": 4, "target_modules": ["q_proj", "down_proj"], "task_type": "CAUSAL_LM", **options}
        model = get_peft_model(base.model, LoraConfig(**settings)).eval()
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "lora_" in name or "modules_to_save" in name:
                    weight += torch.randn_like(weight) * (0.02 if "magnitude" in name else 0.3)
    model.save_pretrained(str(folder))
    return base, model


def greedy(base: Any, model: Any, prompt: str) -> str:
    text = base.tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
    )
    ids = base.tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids
    start = ids.shape[1]
    for _ in range(SHORT.max_new_tokens):
        token = model(input_ids=ids).logits[0, -1].argmax()
        if token == base.tokenizer.eos_token_id:
            break
        ids = torch.cat([ids, token.view(1, 1)], dim=1)
    return str(base.tokenizer.decode(ids[0, start:], clean_up_tokenization_spaces=False)).strip()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_that_peft_can_run_answers_beside_plain_ones(tiny_base: Path, tmp_path: Path, kind: str) -> None:
    options, warning = KINDS[kind]
    trained, model = write(tiny_base, tmp_path / "odd", options)
    expected = [greedy(trained, model, prompt) for prompt in PROMPTS]
    bare = load_base(str(tiny_base), cache_dir=tmp_path, device="cpu")
    plain = write_loras(bare, tmp_path / "plain", ("one", "two"))
    without = said(PeftEngine(bare, plain), (None, "one", "two"))

    base = load_base(str(tiny_base), cache_dir=tmp_path, device="cpu")
    engine = PeftEngine(base)
    folders = {"one": plain["one"], "odd": tmp_path / "odd", "two": plain["two"]}
    report = CheckLoraAdapters(SafetensorsLoraInspector(base), engine)(folders)
    assert [each.problems for each in report.diagnoses] == [(), (), ()]
    warnings = [each for each in report.diagnoses[1].warnings if not each.startswith("made for")]
    assert [each[: len(warning or "")] for each in warnings] == ([warning] if warning else [])
    found = said(engine, (None, "one", "two", "odd"))
    assert found[3::4] == expected
    assert [text for index, text in enumerate(found) if index % 4 != 3] == without
    engine.unload("odd")
    assert said(engine, (None, "one", "two")) == without


def said(engine: PeftEngine, names: tuple[str | None, ...]) -> list[str]:
    requests = [GenerationRequest(as_chat(prompt), name) for prompt in PROMPTS for name in names]
    found = dict(engine.generate(requests, SHORT))
    texts = []
    for index in range(len(requests)):
        answer = found[index]
        assert isinstance(answer, Generation), answer
        texts.append(answer.text)
    return texts
