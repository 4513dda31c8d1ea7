"""How likely given answers are under peft's LoRA adapters: all adapters in one batch, shared work done once.

Two things make it cheap to ask every adapter about every answer. Blocks below the lowest one that any of the asked
LoRA adapters changes give the same states for all of them: they run once per answer, not once per adapter. And the
head, whose matrix is as large as several blocks, runs on the answers' own positions only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import torch
from attrs import frozen
from peft.tuners.lora import LoraLayer

from adapters.base_model.halving import run_in_halves
from adapters.base_model.transformers_quiet import quiet_transformers
from adapters.lora.frozen_blocks import FrozenBlocks
from adapters.lora.peft_engine import PeftEngine
from adapters.lora.peft_loading import inner_name
from application.ports.scoring import AnswerScore, ScoreRequest
from domain.errors import MoeRouterError

_LOGITS: Final = 2**27
"""Most logits of one batch: half a gigabyte in float32."""

_CHUNK: Final = 256
"""Positions whose probabilities are computed at a time."""


@frozen(eq=False)
class _Text:
    """A conversation with its answer, and who is asked about it.

    Attributes:
        prompt: token ids up to the answer; at least one.
        answer: token ids of the answer; at least one.
        asked: index of each request, and its LoRA adapter.
    """

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    asked: tuple[tuple[int, str | None], ...]

    @property
    def ids(self) -> list[int]:
        return [*self.prompt, *self.answer]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


@frozen(eq=False)
class PeftAnswerScorer:
    """A :class:`application.ports.scoring.AnswerScorer` on the models that an engine holds.

    Attributes:
        engine: holds base model and LoRA adapters.
    """

    engine: PeftEngine

    @property
    def adapters(self) -> tuple[str, ...]:
        """The LoRA adapters that can be asked."""
        return self.engine.adapters

    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[tuple[int, AnswerScore | MoeRouterError]]:
        """Yield scores as batches finish, longest texts first; see the port for the contract."""
        kinds: dict[str | None, dict[tuple[tuple[int, ...], tuple[int, ...]], list[tuple[int, str | None]]]] = {}
        for index, request in enumerate(requests):
            try:
                prompt, answer, mixes = self.engine.exchange(request.chat, request.answer, request.adapter)
            except MoeRouterError as error:
                yield index, error
            else:
                alone = None if mixes else request.adapter
                texts = kinds.setdefault(alone, {})
                texts.setdefault((tuple(prompt), tuple(answer)), []).append((index, request.adapter))
        for texts in kinds.values():
            for batch in self._batches([_Text(*ids, tuple(asked)) for ids, asked in texts.items()]):
                for _, scores in run_in_halves(batch, self._run):
                    yield from scores.items()

    def _batches(self, texts: Sequence[_Text]) -> Iterator[list[_Text]]:
        """Yield texts of similar length together, longest first, within the budgets of tokens and logits."""
        budget = self.engine.batch_tokens
        most = max(1, _LOGITS // self.engine.base.model.get_input_embeddings().weight.shape[0])
        batch: list[_Text] = []
        width = rows = positions = 0
        for text in sorted(texts, key=len, reverse=True):
            for part in _parts(text, max(1, min(budget // len(text), most // len(text.answer)))):
                more, longer = len(part.asked), len(part.asked) * len(part.answer)
                if batch and ((rows + more) * width > budget or positions + longer > most):
                    yield batch
                    batch, rows, positions = [], 0, 0
                width = width if batch else len(part)
                batch, rows, positions = [*batch, part], rows + more, positions + longer
        if batch:
            yield batch

    def _run(self, texts: Sequence[_Text]) -> dict[int, AnswerScore]:
        """Score one batch; return the scores by request."""
        rows = sorted(
            ((adapter or "", place, index) for place, text in enumerate(texts) for index, adapter in text.asked)
        )  # equal adapters are neighbours
        names = [adapter or None for adapter, _, _ in rows]
        places = torch.tensor([place for _, place, _ in rows], device=self.engine.base.device)
        inputs = self._padded([text.ids for text in texts])
        trunk = FrozenBlocks(self._trunk({name for name in names if name}))
        with torch.inference_mode(), quiet_transformers():
            with self.engine.speaking([None] * len(texts)) as model:
                states = trunk.states(model, inputs) if len(set(names)) > 1 else None
            each = {key: value[places] for key, value in inputs.items()}
            with trunk.replaced(None if states is None else states[places]):
                losses = self._losses(names, each, [texts[place] for _, place, _ in rows])
        return {
            index: AnswerScore(loss, len(texts[place].answer))
            for (_, place, index), loss in zip(rows, losses, strict=True)
        }

    def _losses(
        self, names: Sequence[str | None], inputs: Mapping[str, torch.Tensor], rows: list[_Text]
    ) -> list[float]:
        """Return each row's negative log-likelihood; `inputs` are (rows, T), padded on the right."""
        width, device = inputs["input_ids"].shape[1], inputs["input_ids"].device
        wanted = torch.tensor(
            [
                number * width + place
                for number, row in enumerate(rows)
                for place in range(len(row.prompt) - 1, len(row) - 1)  # where the answer's tokens are predicted
            ],
            device=device,
        )
        targets = torch.tensor([token for row in rows for token in row.answer], device=device)
        with self.engine.speaking(names) as model, self._head_on(wanted) as picks:
            logits = model(**inputs, use_cache=False).logits
            logits = logits[0] if picks else logits.flatten(0, 1)[wanted]  # (answers' tokens, vocabulary)
            losses = torch.cat(
                [
                    torch.nn.functional.cross_entropy(part.float(), aim, reduction="none")
                    for part, aim in zip(torch.split(logits, _CHUNK), torch.split(targets, _CHUNK), strict=True)
                ]
            )
        each = torch.split(losses.double().cpu(), [len(row.answer) for row in rows])
        return [float(part.sum()) for part in each]

    @contextmanager
    def _head_on(self, wanted: torch.Tensor) -> Iterator[bool]:
        """Let a plain head run on these positions of the flattened batch only; give whether it does."""
        head = self.engine.base.model.get_output_embeddings()
        if not isinstance(head, torch.nn.Linear):  # one with LoRA layers needs to know whose each position is
            yield False
            return

        def pick(_head: torch.nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            return (args[0].flatten(0, 1)[wanted][None], *args[1:])

        handle = head.register_forward_pre_hook(pick)
        try:
            yield True
        finally:
            handle.remove()

    def _trunk(self, adapters: set[str]) -> Sequence[torch.nn.Module]:
        """Return the lowest blocks, up to the first that one of these LoRA adapters changes."""
        blocks, inner = self.engine.base.blocks, {inner_name(name) for name in adapters}
        for number, block in enumerate(blocks):
            layers = (module for module in block.modules() if isinstance(module, LoraLayer))
            if any(inner & layer.lora_A.keys() for layer in layers):
                return blocks[:number]
        return ()  # what they change lies elsewhere

    def _padded(self, rows: Sequence[list[int]]) -> dict[str, torch.Tensor]:
        """Pad on the right: in a causal model nothing before the padding sees it. (B, T)."""
        width, pad = max(map(len, rows)), self.engine.pad_id
        ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        return {"input_ids": ids.to(self.engine.base.device), "attention_mask": mask.to(self.engine.base.device)}


def _parts(text: _Text, most: int) -> Iterator[_Text]:
    """Yield a text with at most `most` of those who are asked at a time."""
    for start in range(0, len(text.asked), most):
        yield _Text(text.prompt, text.answer, text.asked[start : start + most])
