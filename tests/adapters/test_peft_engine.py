"""Mixed batches answer as one prompt at a time does, each prompt through its own LoRA adapter."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from adapters.base_model.transformers_base import LoadedBase, load_base
from adapters.base_model.transformers_features import TransformersFeatureExtractor
from adapters.lora.peft_engine import PeftEngine
from application.ports.answering import GenerationRequest
from domain.answers import GenerationOptions
from domain.chats import Message, as_chat
from domain.errors import DataRejectedError, LoraAdapterError, MoeRouterError
from domain.features import FeatureTap, Pooling
from tests.lora_world import NAMES, edit_weights, write_loras
from tests.tiny_models import tiny_model

SHORT = GenerationOptions(max_new_tokens=7)
PROMPTS = [
    "Book a table",
    "a",
    "File a claim for the broken window in the kitchen, please. " * 3,
    "What is the weather?",
]
REQUESTS = [GenerationRequest(as_chat(prompt), name) for prompt in PROMPTS for name in (None, *NAMES)]


@pytest.fixture(scope="module")
def folders(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = load_base(str(tiny_base), cache_dir=tiny_base.parent, device="cpu")
    return write_loras(base, tmp_path_factory.mktemp("loras"))


@pytest.fixture
def base(tiny_base: Path) -> LoadedBase:
    return load_base(str(tiny_base), cache_dir=tiny_base.parent, device="cpu")


@pytest.fixture
def engine(base: LoadedBase, folders: dict[str, Path]) -> PeftEngine:
    return PeftEngine(base, folders)


def texts(engine: PeftEngine, requests: list[GenerationRequest], options: GenerationOptions = SHORT) -> list[str]:
    found = dict(engine.generate(requests, options))
    assert sorted(found) == list(range(len(requests)))
    return [found[index].text for index in range(len(requests))]


def refusal(engine: PeftEngine, request: GenerationRequest) -> str:
    """What stands in place of the answer to one request; the one beside it is answered."""
    found = dict(engine.generate([request, REQUESTS[0]], SHORT))
    assert isinstance(found[0], MoeRouterError)
    assert not isinstance(found[1], MoeRouterError)
    return str(found[0])


def reference(folder: Path, tiny_base: Path, prompt: str) -> str:
    """What peft's own loading and an unbatched, unpadded greedy loop give."""
    from peft import PeftModel

    base = load_base(str(tiny_base), cache_dir=tiny_base.parent, device="cpu")
    model = PeftModel.from_pretrained(base.model, str(folder)).eval()
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
    return str(base.tokenizer.decode(ids[0, start:], skip_special_tokens=True)).strip()


@pytest.mark.parametrize("budget", [None, 1, 150])
def test_a_mixed_batch_answers_as_one_prompt_at_a_time(
    base: LoadedBase, folders: dict[str, Path], budget: int | None
) -> None:
    engine = PeftEngine(base, folders, token_budget=budget)
    mixed = texts(engine, REQUESTS)
    assert mixed == [texts(engine, [request])[0] for request in REQUESTS]
    assert len(set(mixed[:4])) == 4  # the same prompt, four speakers, four answers


def test_answers_are_those_of_the_adapters_files(
    engine: PeftEngine, folders: dict[str, Path], tiny_base: Path
) -> None:
    mixed = texts(engine, REQUESTS)
    for request, text in zip(REQUESTS, mixed, strict=True):
        if request.adapter is not None:
            assert text == reference(folders[request.adapter], tiny_base, request.chat[0].content)


def test_the_base_model_answers_as_if_no_adapter_were_loaded(
    engine: PeftEngine, tiny_base: Path, base: LoadedBase
) -> None:
    bare = PeftEngine(load_base(str(tiny_base), cache_dir=tiny_base.parent, device="cpu"), {})
    requests = [GenerationRequest(as_chat(prompt), None) for prompt in PROMPTS]
    assert texts(engine, requests) == texts(bare, requests)


def test_the_router_sees_the_base_models_states(engine: PeftEngine, base: LoadedBase, tiny_base: Path) -> None:
    taps = [FeatureTap(layer, Pooling.MEAN) for layer in (1, 4)]
    bare = load_base(str(tiny_base), cache_dir=tiny_base.parent, device="cpu")
    expected = TransformersFeatureExtractor(bare).extract(PROMPTS, taps)
    texts(engine, REQUESTS[1:2])  # leaves an adapter active
    np.testing.assert_array_equal(TransformersFeatureExtractor(base).extract(PROMPTS, taps), expected)


def test_draws_depend_on_seed_and_prompt_and_not_on_the_batch(engine: PeftEngine) -> None:
    warm = GenerationOptions(max_new_tokens=7, temperature=1.5, seed=1)
    together = texts(engine, REQUESTS, warm)
    assert together == [texts(engine, [request], warm)[0] for request in REQUESTS]
    assert together != texts(engine, REQUESTS, GenerationOptions(max_new_tokens=7, temperature=1.5, seed=2))
    assert together != texts(engine, REQUESTS)


def test_draws_follow_the_softmax() -> None:
    from adapters.lora.generation_control import AnswerRow, RowDraws

    logits = torch.tensor([2.0, 1.0, 0.0, -1.0])
    options = GenerationOptions(temperature=0.7)
    rows = [AnswerRow(None, [], options, None, seed) for seed in range(4000)]  # type: ignore[arg-type]
    draws = RowDraws(rows)(torch.empty(4000, 0), logits.expand(4000, 4)).argmax(dim=1)
    observed = torch.bincount(draws, minlength=4) / 4000
    assert (observed - (logits / 0.7).softmax(dim=0)).abs().max() < 0.03  # 4 standard deviations


def test_stop_strings_end_an_answer_early(engine: PeftEngine) -> None:
    (whole,) = [generation for _, generation in engine.generate(REQUESTS[1:2], SHORT)]
    stop = whole.text[3:5]
    options = GenerationOptions(max_new_tokens=7, stop=(stop, "never said"))
    found = dict(engine.generate(REQUESTS[:4], options))
    assert found[1].text == whole.text[: whole.text.find(stop)].strip()
    assert found[1].finish == "stop"
    unaffected = [index for index in found if stop not in texts(engine, [REQUESTS[index]])[0]]
    assert [found[index].text for index in unaffected] == texts(engine, [REQUESTS[index] for index in unaffected])


def test_length_and_end_are_told_apart(engine: PeftEngine) -> None:
    found = dict(engine.generate(REQUESTS, GenerationOptions(max_new_tokens=1)))
    assert all(generation.tokens == 1 for generation in found.values())
    assert {generation.finish for generation in found.values()} == {"length"}


def test_an_adapters_system_turn_leads_its_prompts_only(tiny_base: Path, tmp_path: Path, base: LoadedBase) -> None:
    folders = write_loras(base, tmp_path, systems={"calendar": "Book a table"})
    engine = PeftEngine(base, folders)
    own = (Message("system", "Book a table"), Message("user", "a"))
    other = (Message("system", "Pick a provider."), Message("user", "a"))
    given = [GenerationRequest(chat, "calendar") for chat in (as_chat("a"), own, other)]
    led, same, kept = texts(engine, given)
    assert led == same != kept
    plain = [GenerationRequest(as_chat("a"), name) for name in (None, "claim-window")]
    bare = PeftEngine(load_base(str(tiny_base), cache_dir=tmp_path, device="cpu"), {})
    assert texts(engine, plain)[0] == texts(bare, plain[:1])[0]


@pytest.mark.parametrize("kind", ["gpt2", "qwen3", "qwen3-vl"])
def test_other_architectures(tmp_path: Path, kind: str) -> None:
    base = load_base(str(tiny_model(tmp_path / kind, kind)), cache_dir=tmp_path, device="cpu")
    targets = ["c_attn"] if kind == "gpt2" else ["q_proj", "down_proj"]
    engine = PeftEngine(base, write_loras(base, tmp_path / "loras", targets=targets))
    mixed = texts(engine, REQUESTS)
    assert mixed == [texts(engine, [request])[0] for request in REQUESTS]
    assert len(set(mixed[:4])) == 4


def test_names_that_mean_something_in_peft_are_plain_names_here(base: LoadedBase, tmp_path: Path) -> None:
    names = ("__base__", "keys", "default")
    engine = PeftEngine(base, write_loras(base, tmp_path, names))
    answers = texts(engine, [GenerationRequest(as_chat(PROMPTS[0]), name) for name in (None, *names)])
    assert len(set(answers)) == 4


def test_what_cannot_be_answered_is_an_error(engine: PeftEngine, tmp_path: Path) -> None:
    assert "'nobody' is not loaded" in refusal(engine, GenerationRequest(as_chat("a"), "nobody"))
    assert "more than the base model's 256" in refusal(engine, GenerationRequest(as_chat("a " * 300), None))
    assert "sees no images" in refusal(engine, GenerationRequest(as_chat("a"), None, (tmp_path / "x.png",)))
    assert list(engine.generate([], SHORT)) == []


def test_an_encoder_cannot_answer(tmp_path: Path) -> None:
    base = load_base(str(tiny_model(tmp_path / "bert", "bert")), cache_dir=tmp_path, device="cpu")
    with pytest.raises(DataRejectedError, match="cannot generate"):
        PeftEngine(base, {})


def test_layers_without_weights_are_refused(base: LoadedBase, tmp_path: Path) -> None:
    folders = write_loras(base, tmp_path, ("calendar",))
    edit_weights(
        folders["calendar"], lambda each: {key: each[key] for key in each if "1.self_attn.q_proj.lora_B" not in key}
    )
    with pytest.raises(LoraAdapterError, match=r"calendar has .* layers without a tensor"):
        PeftEngine(base, folders)


def test_a_lora_adapter_computes_in_what_the_base_computes_in(base: LoadedBase, tmp_path: Path) -> None:
    folders = write_loras(base, tmp_path, NAMES[:2])
    base.model.bfloat16()
    PeftEngine(base, folders)
    kinds = {weight.dtype for name, weight in base.model.named_parameters() if "lora_" in name}
    assert kinds == {torch.bfloat16}


class TestImages:
    @pytest.fixture
    def vision(self, tmp_path: Path) -> LoadedBase:
        return load_base(str(vision_base(tmp_path / "vl")), cache_dir=tmp_path, device="cpu")

    def test_an_image_changes_the_answer_of_base_and_adapter(self, vision: LoadedBase, tmp_path: Path) -> None:
        engine = PeftEngine(vision, write_loras(vision, tmp_path / "loras"))
        images = [picture(tmp_path / f"{shade}.png", shade) for shade in (10, 240)]
        requests = [
            GenerationRequest(as_chat("a"), name, paths)
            for name in (None, "calendar")
            for paths in ((), (images[0],), (images[1],), (images[0], images[1]))
        ]
        answers = texts(engine, requests)
        assert len(set(answers[:4])) > 1
        assert len(set(answers[4:])) > 1
        assert answers == [texts(engine, [request])[0] for request in requests]

    def test_files_that_are_no_images(self, vision: LoadedBase, tmp_path: Path) -> None:
        engine = PeftEngine(vision, {})
        image = picture(tmp_path / "image.png", 10)
        (tmp_path / "x.png").write_text("no image")
        for chat, path, message in (
            ("a", tmp_path / "x.png", "cannot be read as an image"),
            ("a " * 240, image, "more than the base model's 256"),
            ("a", tmp_path / "y.png", "no such image"),
        ):
            assert message in refusal(engine, GenerationRequest(as_chat(chat), None, (path,)))


def picture(path: Path, shade: int) -> Path:
    from PIL import Image

    rng = np.random.default_rng(shade)
    pixels = np.clip(rng.normal(shade, 60, size=(16, 16, 3)), 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return path


VISION_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def vision_base(folder: Path) -> Path:
    """A tiny Qwen3-VL with the image tokens, the image processor and the template that the real one has."""
    from transformers import AutoTokenizer
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    tiny_model(folder, "qwen3-vl", vocab_size=403)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    names = ["<|image_pad|>", "<|vision_start|>", "<|vision_end|>"]
    tokenizer.add_special_tokens({"additional_special_tokens": names})
    tokenizer.chat_template = VISION_TEMPLATE
    tokenizer.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    ids = tokenizer.convert_tokens_to_ids(names)
    keys = ("image_token_id", "vision_start_token_id", "vision_end_token_id")
    (folder / "config.json").write_text(json.dumps({**config, **dict(zip(keys, ids, strict=True))}))
    Qwen2VLImageProcessorPil(patch_size=4, min_pixels=64, max_pixels=1024).save_pretrained(folder)
    return folder
