"""Batches fit into the memory that is there, and are halved when they do not after all."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from adapters.base_model import transformers_base
from adapters.base_model.halving import run_in_halves
from adapters.base_model.length_batches import length_sorted_batches
from adapters.base_model.transformers_base import load_base
from adapters.base_model.transformers_features import TransformersFeatureExtractor
from adapters.lora import peft_engine, peft_loading
from adapters.lora.memory_budget import GPU_TOKEN_BUDGET, cache_bytes_per_token, token_budget
from adapters.lora.peft_engine import PeftEngine
from application.ports.answering import GenerationRequest
from domain.answers import GenerationOptions
from domain.chats import as_chat
from domain.errors import OutOfMemoryError
from domain.features import FeatureTap, Pooling
from tests.lora_world import write_loras

GIB = 1 << 30
EIGHT_B = SimpleNamespace(
    num_hidden_layers=36,
    num_key_value_heads=8,
    head_dim=128,
    num_attention_heads=32,
    hidden_size=4096,
    intermediate_size=12288,
)


def model(config, dtype=torch.bfloat16):
    return SimpleNamespace(config=SimpleNamespace(get_text_config=lambda: config), dtype=dtype)


def test_the_budget_of_the_default_base_on_an_l4_fits_into_what_its_weights_leave():
    assert cache_bytes_per_token(EIGHT_B, torch.bfloat16) == 144 * 1024
    budget = token_budget(model(EIGHT_B), torch.device("cuda"), free=int(5.2 * GIB))
    block = 120 * 1024  # bytes of a token in an MLP: 3 x 12,288 and 6 x 4,096 values
    assert 12_000 < budget < 5.2 * GIB / (144 * 1024 + block)


def test_the_budget_has_an_upper_and_a_lower_end():
    assert token_budget(model(EIGHT_B), torch.device("cuda"), free=200 * GIB) == GPU_TOKEN_BUDGET
    assert token_budget(model(EIGHT_B), torch.device("cuda"), free=0) == 1
    assert token_budget(None, torch.device("cpu")) == 4096


def test_the_engine_asks_how_much_fits(tiny_base, tmp_path, monkeypatch):
    base = load_base(str(tiny_base), cache_dir=tmp_path)
    monkeypatch.setattr(peft_engine, "token_budget", lambda model, device: (model is base.model) * 7)
    assert (PeftEngine(base).batch_tokens, PeftEngine(base, token_budget=3).batch_tokens) == (7, 3)


def fits(most):
    """Return work that runs out of memory above `most` rows, and the sizes that it was tried with."""
    tried = []

    def run(rows):
        tried.append(len(rows))
        if len(rows) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [row * 10 for row in rows]

    return run, tried


def test_a_batch_that_does_not_fit_is_halved_until_it_does_and_none_is_lost():
    run, tried = fits(2)
    done = list(run_in_halves([1, 2, 3, 4, 5, 6, 7], run))
    assert [row for rows, _ in done for row in rows] == [1, 2, 3, 4, 5, 6, 7]
    assert [result for _, results in done for result in results] == [10, 20, 30, 40, 50, 60, 70]
    assert tried == [7, 4, 2, 2, 3, 2, 1]


def test_a_single_row_that_does_not_fit_says_what_helps():
    with pytest.raises(OutOfMemoryError, match=r"too small for this prompt alone .*larger GPU"):
        list(run_in_halves([1], fits(0)[0]))


def test_batches_hold_no_more_than_was_asked_for():
    assert [len(batch) for batch in length_sorted_batches([5] * 7, 1000, 3)] == [3, 3, 1]
    assert [len(batch) for batch in length_sorted_batches([5] * 7, 10, 3)] == [2, 2, 2, 1]


def test_features_are_the_same_in_smaller_batches_and_after_memory_ran_out(tiny_base, tmp_path, monkeypatch):
    base = load_base(str(tiny_base), cache_dir=tmp_path, device="cpu")
    texts, taps = [f"prompt number {i}" for i in range(9)], (FeatureTap(1, Pooling.MEAN), FeatureTap(2, Pooling.LAST))
    expected = TransformersFeatureExtractor(base).extract(texts, taps)
    sizes, whole = [], type(base.text_tower).forward

    def small_memory(self, input_ids=None, **more):
        sizes.append(len(input_ids))
        if len(input_ids) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(self, input_ids=input_ids, **more)

    found = TransformersFeatureExtractor(base, max_batch=4).extract(texts, taps)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(type(base.text_tower), "forward", small_memory)
    found = TransformersFeatureExtractor(base, max_batch=4).extract(texts, taps)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert sizes == [4, 2, 2, 4, 2, 2, 1]


def test_answers_go_on_in_halves_where_memory_runs_out(tiny_base, tmp_path, monkeypatch):
    base = load_base(str(tiny_base), cache_dir=tmp_path, device="cpu")
    requests = [GenerationRequest(as_chat(f"prompt {i}"), None) for i in range(5)]
    options = GenerationOptions(max_new_tokens=3)
    expected = dict(PeftEngine(base).generate(requests, options))
    sizes, whole = [], PeftEngine.run

    def small_memory(self, rows, stopped=None):
        sizes.append(len(rows))
        if sizes[-1] > 2:
            rows[0].answer.push(5)  # memory ran out after the first token
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(self, rows, stopped)

    monkeypatch.setattr(PeftEngine, "run", small_memory)
    assert dict(PeftEngine(base).generate(requests, options)) == expected
    assert sizes == [5, 3, 2, 1, 2]
    sizes.clear()
    assert dict(PeftEngine(base, max_batch=2).generate(requests, options)) == expected
    assert sizes == [2, 2, 1]


def test_a_prompt_that_does_not_fit_by_itself_is_an_error_in_its_place_and_the_others_are_answered(
    tiny_base, tmp_path, monkeypatch
):
    base = load_base(str(tiny_base), cache_dir=tmp_path, device="cpu")
    requests = [GenerationRequest(as_chat(text), None) for text in ("one", "a long prompt " * 20, "two")]
    options, whole = GenerationOptions(max_new_tokens=3), PeftEngine.run
    expected = dict(PeftEngine(base).generate(requests, options))

    def small_memory(self, rows, stopped=None):
        if max(len(row.ids) for row in rows) > 50:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(self, rows, stopped)

    monkeypatch.setattr(PeftEngine, "run", small_memory)
    found = dict(PeftEngine(base).generate(requests, options))
    assert isinstance(found.pop(1), OutOfMemoryError)
    assert found == {index: expected[index] for index in (0, 2)}


def full(*_args, **_more):
    raise torch.OutOfMemoryError("CUDA out of memory")


def test_what_does_not_fit_onto_the_gpu_at_all_is_said_to_be_too_large_and_not_broken(
    tiny_base, tmp_path, monkeypatch
):
    base = load_base(str(tiny_base), cache_dir=tmp_path, device="cpu")
    (folder,) = write_loras(base, tmp_path, ("calendar",)).values()
    monkeypatch.setattr(peft_loading, "_put_in", full)
    with pytest.raises(OutOfMemoryError, match=r"too small for LoRA adapter calendar .*larger GPU"):
        PeftEngine(base).load("calendar", folder)
    monkeypatch.setattr(transformers_base, "_weights", full)
    with pytest.raises(OutOfMemoryError, match=r"too small for this base model .*larger GPU"):
        load_base(str(tiny_base), cache_dir=tmp_path, device="cpu")
