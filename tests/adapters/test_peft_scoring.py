"""A given answer's likelihood is that of a plain transformers loss, however the batch is put together."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from adapters.base_model.transformers_base import LoadedBase, load_base
from adapters.lora.peft_engine import PeftEngine
from adapters.lora.peft_scoring import PeftAnswerScorer
from adapters.lora.score_cache import CachedAnswerScorer
from application.ports.scoring import AnswerScore, ScoreRequest
from domain.chats import Message, as_chat
from tests.lora_world import NAMES, edit_weights, write_loras
from tests.tiny_models import tiny_model

PAIRS = (
    ("Book a table", "Done."),
    ("File a claim for the broken window in the kitchen, please.", "Which doctor near me takes my insurance?"),
    ("a", "Say <|im_end|> as text."),
)
UPPER = r".*\.[23]\..*(q_proj|down_proj)"


def load(folder: Path) -> LoadedBase:
    return load_base(str(folder), cache_dir=folder.parent, device="cpu")


def reference(folder: Path, lora: Path | None, asked: str, said: str) -> float:
    """What transformers itself says: labels that are -100 but for the answer, one text at a time."""
    from peft import PeftModel

    base = load(folder)
    model = base.model if lora is None else PeftModel.from_pretrained(base.model, str(lora)).eval()
    prompt = base.tokenizer.apply_chat_template(
        [{"role": "user", "content": asked}], tokenize=False, add_generation_prompt=True
    )
    before = base.tokenizer(prompt, add_special_tokens=False).input_ids
    after = base.tokenizer(f"{said}<|im_end|>", add_special_tokens=False).input_ids
    ids = torch.tensor([before + after])
    labels = torch.tensor([[-100] * len(before) + after])
    with torch.inference_mode():
        return float(model(input_ids=ids, labels=labels).loss)


def score(scorer: PeftAnswerScorer, requests: list[ScoreRequest]) -> list[AnswerScore]:
    found = dict(scorer.score(requests))
    assert all(isinstance(each, AnswerScore) for each in found.values()), found
    return [each for _, each in sorted(found.items()) if isinstance(each, AnswerScore)]


def asked_of(names: tuple[str | None, ...], pairs: tuple[tuple[str, str], ...] = PAIRS) -> list[ScoreRequest]:
    return [ScoreRequest(as_chat(asked), Message("assistant", said), name) for asked, said in pairs for name in names]


@pytest.mark.parametrize(
    ("kind", "targets"), [("llama", UPPER), ("qwen3", ["q_proj", "down_proj"]), ("gpt2", ["c_attn"])]
)
def test_scores_are_those_of_a_plain_loss(tmp_path: Path, kind: str, targets: list[str] | str) -> None:
    folder = tiny_model(tmp_path / "base", kind)
    base = load(folder)
    loras = write_loras(base, tmp_path / "loras", names=NAMES[:2], targets=targets)
    scorer = PeftAnswerScorer(PeftEngine(base, loras))
    found = score(scorer, asked_of((None, *NAMES[:2]), PAIRS[:2]))
    wanted = [reference(folder, lora, asked, said) for asked, said in PAIRS[:2] for lora in (None, *loras.values())]
    assert [each.per_token for each in found] == pytest.approx(wanted, rel=1e-5)


def test_heads_that_carry_lora_layers_and_adapters_that_answer_alone(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "base")
    base = load(folder)
    loras = write_loras(base, tmp_path / "loras", names=NAMES[:2], targets=["q_proj", "lm_head"])
    loras |= write_loras(base, tmp_path / "more", names=("embeds",), targets=["embed_tokens", "q_proj"])
    for lora in loras.values():  # without the copies of the base model's weights that peft adds
        edit_weights(lora, lambda kept: {key: value for key, value in kept.items() if ".lora_" in key})
    scorer = PeftAnswerScorer(PeftEngine(base, loras))
    found = score(scorer, asked_of((None, *loras), PAIRS[:2]))
    wanted = [reference(folder, lora, asked, said) for asked, said in PAIRS[:2] for lora in (None, *loras.values())]
    assert [each.per_token for each in found] == pytest.approx(wanted, rel=1e-5)


def test_small_batches_give_the_same_and_the_lower_blocks_run_once(tiny_base: Path, tmp_path: Path) -> None:
    base = load(tiny_base)
    loras = write_loras(base, tmp_path, targets=UPPER)
    requests = asked_of((None, *NAMES))
    whole = score(PeftAnswerScorer(PeftEngine(base, loras)), requests)
    tight = load(tiny_base)
    small = score(PeftAnswerScorer(PeftEngine(tight, loras, token_budget=30)), requests)
    assert [each.loss for each in small] == pytest.approx([each.loss for each in whole], rel=1e-5)


def test_blocks_below_every_lora_layer_run_once_per_text(tiny_base: Path, tmp_path: Path) -> None:
    base = load(tiny_base)
    scorer = PeftAnswerScorer(PeftEngine(base, write_loras(base, tmp_path, targets=UPPER)))
    rows = [0] * len(base.blocks)

    def counting(number: int) -> None:
        def count(_module: object, args: tuple[torch.Tensor, ...]) -> None:
            rows[number] += args[0].shape[0]

        norm = next(part for part in base.blocks[number].children() if "Norm" in type(part).__name__)
        norm.register_forward_pre_hook(count)

    for number in range(len(base.blocks)):
        counting(number)
    score(scorer, asked_of((None, *NAMES)))
    assert rows == [3, 3, 12, 12]


def test_marks_in_an_answer_are_read_as_text(tiny_base: Path, tmp_path: Path) -> None:
    base = load(tiny_base)
    scorer = PeftAnswerScorer(PeftEngine(base, write_loras(base, tmp_path)))
    (found,) = score(scorer, asked_of((None,), PAIRS[2:]))
    plain = base.tokenizer("Say <|im_end|> as text.<|im_end|>", add_special_tokens=False).input_ids
    assert found.tokens > len(plain)


def test_known_scores_are_not_computed_again(tiny_base: Path, tmp_path: Path) -> None:
    base = load(tiny_base)
    scorer = PeftAnswerScorer(PeftEngine(base, write_loras(base, tmp_path)))
    path = tmp_path / "cache" / "scores.sqlite"
    weights = {name: f"weights of {name}" for name in NAMES}
    first = score(CachedAnswerScorer(scorer, path, "a", weights), asked_of((None, *NAMES)))  # type: ignore[arg-type]

    class Refusing:
        adapters = NAMES

        def score(self, requests: list[ScoreRequest]) -> list[object]:
            assert not requests, "asked again"
            return []

    again = CachedAnswerScorer(Refusing(), path, "a", weights)  # type: ignore[arg-type]
    assert score(again, asked_of((None, *NAMES))) == first  # type: ignore[arg-type]
    for other in (CachedAnswerScorer(Refusing(), path, "b", weights), CachedAnswerScorer(Refusing(), path, "a", {})):  # type: ignore[arg-type]
        with pytest.raises(AssertionError, match="asked again"):
            list(other.score(asked_of((NAMES[0],))))


@pytest.mark.parametrize("damage", ["bytes", "folder", "read-only"])
def test_a_cache_that_cannot_be_used_is_passed_over(tmp_path: Path, damage: str) -> None:
    from adapters.in_memory.scoring import InMemoryAnswerScorer

    path = tmp_path / "scores.sqlite"
    if damage == "bytes":
        path.write_bytes(b"not a database" * 100)
    elif damage == "folder":
        path.mkdir()
    else:
        path = Path("/proc/none/scores.sqlite")
    cached = CachedAnswerScorer(InMemoryAnswerScorer(NAMES), path, "a", {})
    requests = asked_of((None, *NAMES))
    assert dict(cached.score(requests)) == dict(InMemoryAnswerScorer(NAMES).score(requests))
