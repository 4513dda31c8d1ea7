"""The model card of a router: what it is, for whoever finds its folder."""

from __future__ import annotations

import math

from adapters.base_model.embedded_base import EMBEDDED_INSTALL, EMBEDDED_NAME
from domain.printable import code, inline
from domain.router import RouterCard


def model_card(card: RouterCard, sha256: str) -> str:
    """Return the Markdown of the card, with the YAML header that model hubs read."""
    base, limits = card.features.base, card.thresholds
    rows = "\n".join(f"| {each.label} | `{each.name}` |" for each in card.labels)
    name, fingerprint = code(base.name), code(base.fingerprint)
    model = f"{name}, {base.n_layers} layers, hidden size {base.hidden_size}, fingerprint {fingerprint}"
    data = f"{code(card.dataset)} (sha256 {code(card.dataset_sha256[:16] + '…')})"
    layers = ", ".join(str(layer) for layer in card.features.layers)
    base_install = f"{EMBEDDED_INSTALL}   # its base model\n" if base.name == EMBEDDED_NAME else ""
    scope = "none" if math.isinf(limits.max_out_of_scope) else f"{limits.max_out_of_scope:.4f}"
    return f"""---
library_name: moe-lora-router
pipeline_tag: text-classification
tags: [lora, peft, routing, safetensors]
---

# Router over {len(card.labels)} LoRA adapters

Reads a prompt and decides which LoRA adapter over the frozen base model {name} should answer it, or that none
should. It is a {inline(card.head)} head on pooled hidden states of the base model; it works with no other base model.

| label | adapter |
| --- | --- |
{rows}

| | |
| --- | --- |
| base model | {model} |
| features | `hidden_states` {layers}, {card.features.pooling} over at most {card.features.max_tokens} tokens |
| head | {inline(card.head)}, temperature {card.temperature:.4f} |
| abstains | below confidence {limits.min_confidence:.4f}, above out-of-scope score {scope} |
| trained on | {card.n_train} prompts of {data}, {card.n_val} for validation |
| validation accuracy | {card.val_accuracy:.4f} |
| made | {inline(card.created_at)}, version {inline(card.tool_version)}, seed {card.seed} |
| sha256 | `{sha256}` |

The file keeps training and validation prompts, as plain text, to tell what is out of scope and to show the nearest
ones: do not publish it when they must stay private.

`moe-lora-router` is installed from its repository; it is not on a package index. In a checkout of it:

```bash
pip install -c constraints.txt .
{base_install}moe-router route --router FOLDER --prompt "…"
```

`FOLDER` is this folder, or `hf://OWNER/NAME` when it lies on the Hugging Face hub.
"""
