"""Routers as torch files, for other tools only: this project never reads one back."""

from __future__ import annotations

import io

import numpy as np
import orjson
import torch

from adapters.router.router_bytes import FORMAT, to_bytes
from adapters.router.router_card_json import card_to_json
from application.ports import TrainedRouter


def torch_bytes(router: TrainedRouter) -> bytes:
    """Return what ``torch.load(..., weights_only=True)`` reads: plain tensors and strings, nothing that runs.

    ``state_dict`` holds the tensors by name, ``card`` the router's description as JSON, ``bank_texts`` the training
    prompts behind the bank's rows. Raises RouterFileError when the router is not sound.
    """
    to_bytes(router)  # for its checks
    content = {
        "format": FORMAT,
        "card": orjson.dumps(card_to_json(router.card)).decode(),
        "state_dict": {name: torch.from_numpy(np.array(tensor)) for name, tensor in router.tensors.items()},
        "bank_texts": list(router.bank_texts),
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()
