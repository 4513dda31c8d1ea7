"""Tiny random base models in Hugging Face format, made offline in a second; shared by the tests of all layers.

`tiny_model(folder)` writes one; the session fixture `tiny_base` in conftest.py gives a folder with a causal one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_CORPUS = [
    "Book a table for two on Friday and move my meeting to Monday.",
    "File a claim for the broken window in the kitchen, please.",
    "Which doctor near me takes my insurance? Pick a provider.",
    "What is the weather like in the city today?",
]
_SIZES: dict[str, Any] = {
    "vocab_size": 400,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,  # far from zero, so that every layer and every token matter
}
_DECODER = {**_SIZES, "num_key_value_heads": 2, "head_dim": 8}

KINDS = ("llama", "qwen3", "bert", "qwen3-vl", "gpt2")


def tiny_model(folder: Path, kind: str = "llama", *, seed: int = 0, **sizes: Any) -> Path:
    """Write a tiny random model of one of `KINDS`, with a tokenizer and a chat template; return the folder.

    Args:
        folder: where to write; made when missing.
        kind: which architecture.
        seed: seed of the weights; the tokenizer is always the same.
        sizes: configuration values to override, for example ``num_hidden_layers=2``.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _model(kind, sizes)
    model.save_pretrained(folder)
    tiny_tokenizer(bert=kind == "bert").save_pretrained(folder)
    return folder


def tiny_tokenizer(*, bert: bool = False) -> Any:
    """Return a byte-level BPE tokenizer of 400 tokens; with `bert`, [CLS] and [SEP] surround every text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<pad>", "<|im_start|>", "<|im_end|>", "[CLS]", "[SEP]"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        _CORPUS, trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet)
    )
    if not bert:
        names = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
        return PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, pad_token="<pad>", chat_template=CHAT_TEMPLATE, **names
        )
    ids = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ids)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", cls_token="[CLS]", sep_token="[SEP]", model_max_length=256
    )


def _model(kind: str, sizes: dict[str, Any]) -> Any:
    import transformers as hf

    if kind == "llama":
        ends = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
        return hf.LlamaForCausalLM(hf.LlamaConfig(**{**_DECODER, **ends, **sizes}))
    if kind == "qwen3":
        ends = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
        return hf.Qwen3ForCausalLM(hf.Qwen3Config(**{**_DECODER, **ends, **sizes}))
    if kind == "gpt2":
        return hf.GPT2LMHeadModel(hf.GPT2Config(**{**_SIZES, "bos_token_id": 1, "eos_token_id": 2, **sizes}))
    if kind == "bert":
        return hf.BertModel(hf.BertConfig(**{**_SIZES, "pad_token_id": 0, **sizes}))
    if kind == "qwen3-vl":
        rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1], "mrope_interleaved": True}
        vision = {
            "depth": 2,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": 32,
            "patch_size": 4,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0],
        }
        text = {**_DECODER, "rope_parameters": rope, **sizes}
        return hf.Qwen3VLForConditionalGeneration(hf.Qwen3VLConfig(text_config=text, vision_config=vision))
    raise ValueError(f"unknown kind {kind!r}")
