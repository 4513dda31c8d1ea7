"""Fine-tuning: it learns the answers, and only them; it is exact, repeatable and leaves the base model alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from attrs import evolve

from adapters.base_model.transformers_base import LoadedBase, load_base
from adapters.in_memory.runtime import RecordingProgressReporter
from adapters.lora.frozen_blocks import FrozenBlocks
from adapters.lora.peft_finetuning import FinetuneOptions, PeftFinetuner
from domain.errors import DataRejectedError, MissingFileError, TargetExistsError, UsageError
from tests.tiny_models import tiny_model

OPTIONS = FinetuneOptions(steps=30, batch_size=4, rows=8, upper_blocks=2, rank=4, learning_rate=2e-2)
ANSWERS = {"calendar": "go to Friday", "claim-window": "window broken"}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sources")
    for name, answer in ANSWERS.items():
        rows = [
            {
                "id": f"{name}-{i}",
                "conversations": [
                    {"from": "system", "value": f"You are the {name}."},
                    {"from": "human", "value": f"<image>\nrequest {i * i}"},
                    {"from": "gpt", "value": answer},
                ],
            }
            for i in range(10)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {name: folder / f"{name}.jsonl" for name in ANSWERS}


@pytest.fixture
def base(tiny_base: Path) -> LoadedBase:
    return load_base(str(tiny_base), cache_dir=tiny_base.parent, device="cpu")


def finetune(base: LoadedBase, sources: dict[str, Path], out: Path, **changes: Any) -> Any:
    finetuner = PeftFinetuner(base, RecordingProgressReporter(), evolve(OPTIONS, **changes))
    return finetuner(sources, out)


def test_the_error_of_a_plain_path_names_its_adapter(base: LoadedBase, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("ask,reply\nopen,day 0\n")
    with pytest.raises(DataRejectedError) as caught:
        finetune(base, {"cal": tmp_path / "x.csv"}, tmp_path)
    assert "--columns cal:prompt=COLUMN" in str(caught.value.hint)


def answer(base: LoadedBase, folder: Path, prompt: str) -> str:
    from peft import PeftModel

    model = PeftModel.from_pretrained(base.model, str(folder)).eval()
    text = base.tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
    )
    inputs = base.tokenizer(text, return_tensors="pt", add_special_tokens=False)
    output = model.generate(**inputs, max_new_tokens=30, do_sample=False, pad_token_id=0)
    return str(base.tokenizer.decode(output[0, inputs.input_ids.shape[1] :], skip_special_tokens=True))


@pytest.mark.parametrize("name", ANSWERS)
def test_each_adapter_learns_its_own_answers(
    base: LoadedBase, sources: dict[str, Path], tmp_path: Path, name: str
) -> None:
    report = finetune(base, sources, tmp_path)[name]
    assert report.last_loss < report.first_loss / 4
    assert answer(base, report.path, "request 3") == ANSWERS[name]  # 3 is no square: not in the data


def test_the_base_model_is_left_as_it_was(base: LoadedBase, sources: dict[str, Path], tmp_path: Path) -> None:
    names = [name for name, _ in base.model.named_modules()]
    before = {name: value.clone() for name, value in base.model.state_dict().items()}
    finetune(base, sources, tmp_path, steps=2)
    assert [name for name, _ in base.model.named_modules()] == names
    assert all(torch.equal(value, before[name]) for name, value in base.model.state_dict().items())
    assert not any(parameter.requires_grad for parameter in base.model.parameters())
    assert not base.model.training


def test_same_seed_same_bytes_and_another_seed_others(
    base: LoadedBase, sources: dict[str, Path], tmp_path: Path
) -> None:
    torch.manual_seed(99)
    paths = []
    for run, seed in enumerate((1, 1, 2)):
        torch.rand(run + 1)  # whatever else drew numbers does not matter
        paths.append(finetune(base, sources, tmp_path / str(run), steps=3, seed=seed)["calendar"].path)
    bytes_of = [(path / "adapter_model.safetensors").read_bytes() for path in paths]
    assert bytes_of[0] == bytes_of[1] != bytes_of[2]


@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen3", "qwen3-vl"])
def test_passes_over_stored_states_are_exact(tmp_path: Path, kind: str) -> None:
    base = load_base(str(tiny_model(tmp_path / kind, kind)), cache_dir=tmp_path, device="cpu")
    ids = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 0]])
    inputs = {"input_ids": ids, "attention_mask": (ids > 0).long()}
    whole = base.model(**inputs).logits
    frozen = FrozenBlocks(base.blocks[:3])
    states = frozen.states(base.model, inputs)
    with frozen.replaced(states):
        above = base.model(**inputs, use_cache=False).logits
    kept = inputs["attention_mask"].bool()
    torch.testing.assert_close(above[kept], whole[kept])
    torch.testing.assert_close(base.model(**inputs).logits, whole)


def test_training_is_the_same_with_and_without_stored_states(
    base: LoadedBase, sources: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = finetune(base, sources, tmp_path / "stored", steps=4)["calendar"].last_loss
    monkeypatch.setattr(FrozenBlocks, "states", lambda self, model, inputs: None)
    assert finetune(base, sources, tmp_path / "whole", steps=4)["calendar"].last_loss == pytest.approx(
        stored, rel=1e-3
    )


def test_the_loss_is_on_the_assistants_tokens_only(
    base: LoadedBase, sources: dict[str, Path], tmp_path: Path
) -> None:
    finetuner = PeftFinetuner(base, RecordingProgressReporter(), OPTIONS)
    row = finetuner.examples(sources["calendar"]).rows[0]
    assert base.tokenizer.decode(row.answer) == "go to Friday<|im_end|>"
    prompt = base.tokenizer.decode(row.prompt)
    assert prompt.startswith("<|im_start|>user\nrequest ")
    assert prompt.endswith("<|im_start|>assistant\n")


def test_the_system_turn_is_kept_when_asked_for(base: LoadedBase, sources: dict[str, Path], tmp_path: Path) -> None:
    reports = finetune(base, sources, tmp_path, steps=1, with_system=True)
    for name, report in reports.items():
        assert (report.path / "system_prompt.txt").read_text() == f"You are the {name}."
    assert not (finetune(base, sources, tmp_path / "b", steps=1)["calendar"].path / "system_prompt.txt").exists()


def test_what_cannot_be_used_is_refused_and_leaves_nothing(
    base: LoadedBase, sources: dict[str, Path], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"conversations": [{"from": "human", "value": "hi"}]}\n')
    with pytest.raises(DataRejectedError, match="no row with an answer"):
        finetune(base, {"calendar": bad}, tmp_path / "out")
    bad.write_text('{"conversations": [{"from": "martian", "value": "hi"}]}\n')
    with pytest.raises(DataRejectedError, match=r"bad\.jsonl:1: turn 1 is from 'martian'"):
        finetune(base, {"calendar": bad}, tmp_path / "out")
    with pytest.raises(MissingFileError):
        finetune(base, {"calendar": tmp_path / "none.jsonl"}, tmp_path / "out")
    with pytest.raises(DataRejectedError, match="as short as 3 tokens"):
        finetune(base, sources, tmp_path / "out", max_tokens=3)
    with pytest.raises(UsageError, match="steps 0"):
        FinetuneOptions(steps=0)
    assert not (tmp_path / "out").exists()


def test_an_existing_folder_is_replaced_only_when_asked(
    base: LoadedBase, sources: dict[str, Path], tmp_path: Path
) -> None:
    finetune(base, sources, tmp_path, steps=1)
    with pytest.raises(TargetExistsError):
        finetune(base, sources, tmp_path, steps=1)
    unread = dict.fromkeys(["new", *sources], tmp_path / "none.jsonl")
    with pytest.raises(TargetExistsError):  # known before anything is read or trained
        finetune(base, unread, tmp_path, steps=1)
    finetuner = PeftFinetuner(base, RecordingProgressReporter(), evolve(OPTIONS, steps=1, seed=5))
    finetuner(sources, tmp_path, replace=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(ANSWERS)
