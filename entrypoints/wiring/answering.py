"""Answering through LoRA adapters, checking them, and fine-tuning small ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import mutable

from entrypoints.wiring.routing import RoutingParts

if TYPE_CHECKING:  # every command pays for what is imported here, --help included
    from adapters.base_model.transformers_base import LoadedBase
    from adapters.lora.peft_finetuning import FinetuneOptions, PeftFinetuner
    from application.answering.answer_file import AnswerFileReport, AnswerStream
    from application.answering.answer_prompts import AnswerPrompts
    from application.answering.check_lora_adapters import CheckLoraAdapters
    from application.ports import (
        TrainedRouter,
    )
    from domain.answers import Fallback, GenerationOptions


@mutable(slots=False)
class AnsweringParts(RoutingParts):
    """Answering through LoRA adapters, checking them, and fine-tuning small ones."""

    def check_lora_adapters(self, base: LoadedBase) -> CheckLoraAdapters:
        """The use case that proves LoRA adapters; it puts the sound ones into the base model."""
        from adapters.lora.lora_inspection import SafetensorsLoraInspector
        from adapters.lora.peft_engine import PeftEngine
        from application.answering.check_lora_adapters import CheckLoraAdapters

        return CheckLoraAdapters(SafetensorsLoraInspector(base), lambda folders: PeftEngine(base, folders))

    def answer_prompts(
        self,
        router: TrainedRouter,
        folders: Mapping[str, Path],
        base_model: str | None = None,
        *,
        fallback: Fallback | None = None,
        disabled: frozenset[str] = frozenset(),
    ) -> AnswerPrompts:
        """The use case that answers prompts: one base model loaded, every LoRA adapter checked.

        Of `folders` (by name) those are loaded that the router or the fallback may ask for.
        """
        from application.answering.answer_prompts import AnswerPrompts
        from domain.answers import STRICT, check_available

        fallback, labels = fallback or STRICT, router.card.labels
        wanted = {*labels.names, fallback.adapter} - disabled
        check_available(labels, folders, fallback, disabled)  # before anything slow
        base = self.router_base(router, base_model)
        check = self.check_lora_adapters(base)({name: path for name, path in folders.items() if name in wanted})
        check.require_sound()
        return AnswerPrompts(self.route_on(router, base), check.engine, fallback, disabled)

    def answer_file(
        self,
        answering: Callable[[], AnswerStream],
        source: Path,
        output: Path,
        options: GenerationOptions,
        setting: str = "",
    ) -> AnswerFileReport:
        """Answer a file of prompts into a file of answers.

        Args:
            answering: loads what answers, after all checks.
            source: file of prompts.
            output: file of answers; made, or gone on with.
            options: how answers are generated.
            setting: what answers, in a word; a file that was begun with another is refused.
        """
        from adapters.lora.jsonl_answers import JsonlAnswerLog, JsonlPromptRowReader
        from application.answering.answer_file import AnswerFile, AnswerFileRequest

        run = AnswerFile(JsonlPromptRowReader(), JsonlAnswerLog(output, setting), answering, self.progress)
        return run(AnswerFileRequest(source, options))

    def finetune(self, base: LoadedBase, options: FinetuneOptions | None = None) -> PeftFinetuner:
        """Fine-tuning of small LoRA adapters on a base model that is loaded."""
        from adapters.lora.peft_finetuning import FinetuneOptions, PeftFinetuner

        return PeftFinetuner(base, self.progress, options or FinetuneOptions())
