"""Fine-tune a LoRA adapter with plain peft, on any base model.

``python docs/examples/finetune_lora.py ROWS OUT [BASE]``: ROWS is a JSON Lines file of chats (``messages``) that end
with the answer to learn; OUT becomes a folder that ``moe-router doctor --lora`` accepts. Without BASE the embedded
base model is used. This is the least that works: one row at a time, no validation.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from adapters.base_model.embedded_base import ensure_embedded_base
from entrypoints.api import Application

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
for name, many in (("rows", None), ("out", None), ("base", "?")):
    parser.add_argument(name, nargs=many, metavar=name.upper())
words = parser.parse_args()
out, base = words.out, words.base or ensure_embedded_base(Application().cache_dir)
rows = [json.loads(line) for line in Path(words.rows).read_text("utf-8").splitlines()]

tokenizer = AutoTokenizer.from_pretrained(base)
model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
model = get_peft_model(
    model, LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"])
)
optimiser = torch.optim.AdamW((each for each in model.parameters() if each.requires_grad), lr=1e-3)

for number, row in enumerate(rows, start=1):
    *chat, answer = row["messages"]
    question = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    ids = tokenizer(question + answer["content"], return_tensors="pt", add_special_tokens=False).input_ids
    labels = ids.clone()
    labels[:, : len(tokenizer(question, add_special_tokens=False).input_ids)] = -100  # only the answer is learnt
    loss = model(input_ids=ids, labels=labels).loss
    loss.backward()
    optimiser.step()
    optimiser.zero_grad()
    if number % 20 == 0 or number == len(rows):
        print(f"row {number}: loss {loss.item():.3f}")

model.save_pretrained(out)
print(f"saved {out}")
