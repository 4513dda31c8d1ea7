"""Answering through LoRA adapters, checking them, and fine-tuning small ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import mutable

from entrypoints.wiring.routing import RoutingParts

if TYPE_CHECKING:  # every command pays for what is imported here, --help included
    from adapters.base_model.transformers_base import LoadedBase
    from adapters.lora.peft_engine import PeftEngine
    from adapters.lora.peft_finetuning import FinetuneOptions, PeftFinetuner
    from application.answering.answer_file import AnswerFile
    from application.answering.answer_prompts import AnswerPrompts
    from application.answering.check_lora_adapters import CheckLoraAdapters, LoraCheck
    from application.comparing.compare_adapters import CompareAdapters
    from application.ports import TrainedRouter
    from application.ports.answer_files import AnswerLog
    from application.ports.answering import AnswerStream
    from application.ports.scoring import AnswerScorer
    from domain.answer_policy import AnswerPolicy


@mutable(slots=False)
class AnsweringParts(RoutingParts):
    """Answering through LoRA adapters, checking them, and fine-tuning small ones."""

    def lora_host(self, base: LoadedBase, *, allow_twins: bool = False) -> tuple[CheckLoraAdapters, PeftEngine]:
        """Return an engine on a base model, and the check that puts sound LoRA adapters into it."""
        from adapters.lora.lora_inspection import SafetensorsLoraInspector
        from adapters.lora.peft_engine import PeftEngine
        from application.answering.check_lora_adapters import CheckLoraAdapters

        engine = PeftEngine(base, max_batch=self.max_batch)
        return CheckLoraAdapters(SafetensorsLoraInspector(base), engine, allow_twins), engine

    def check_lora_adapters(
        self, base: LoadedBase, folders: Mapping[str, Path], *, allow_twins: bool = False
    ) -> tuple[LoraCheck, PeftEngine]:
        """Prove LoRA adapters (folders by name); return the findings, and an engine that holds the sound ones."""
        check, engine = self.lora_host(base, allow_twins=allow_twins)
        return check(folders), engine

    def answer_prompts(
        self,
        router: TrainedRouter,
        folders: Mapping[str, Path],
        base_model: str | None = None,
        *,
        policy: AnswerPolicy | None = None,
    ) -> AnswerPrompts:
        """The use case that answers prompts: one base model loaded, every LoRA adapter checked.

        Of `folders` (by name) those are loaded that the router or the fallback may ask for under `policy`. One that
        is refused is an error unless a fallback stands in for it.
        """
        import structlog

        from application.answering.answer_prompts import AnswerPrompts
        from domain.answer_policy import CHOSEN_ONLY, check_available

        policy, labels = policy or CHOSEN_ONLY, router.card.labels
        wanted = {*labels.names, policy.fallback.adapter} - policy.disabled
        check_available(labels, folders, policy)  # before anything slow
        base = self.router_base(router, base_model)
        check, engine = self.check_lora_adapters(
            base, {name: path for name, path in folders.items() if name in wanted}
        )
        if not policy.fallback.stands_in or policy.fallback.adapter in check.refused:
            check.require_sound(
                "disable it (`disable NAME`) or allow a fallback (`fallback base`), and the others answer"
            )
        for name, problem in check.refused.items():
            structlog.get_logger().warning("lora_adapter.refused", adapter=name, problem=problem)
        return AnswerPrompts(self.route_on(router, base), engine, check.refused, check.weights)

    def answer_log(self, output: Path, setting: str) -> AnswerLog:
        """Where answers are kept in a file, which is created, or continued when `setting` began it."""
        from adapters.answers.jsonl_answer_log import JsonlAnswerLog

        return JsonlAnswerLog(output, setting)

    def answer_file(self, answering: Callable[[], AnswerStream], log: AnswerLog) -> AnswerFile:
        """The use case that answers a file of prompts with what `answering` loads after all checks."""
        from adapters.datasets.prompt_files import PromptFileReader
        from application.answering.answer_file import AnswerFile

        return AnswerFile(PromptFileReader(), log, answering, self.progress)

    def compare_adapters(
        self,
        router: TrainedRouter | None,
        folders: Mapping[str, Path],
        base_model: str | None = None,
        *,
        use_cache: bool = True,
    ) -> CompareAdapters:
        """The use case that measures LoRA adapters (folders by name): one base model loaded, all of them proved.

        The base model is the one that the router was trained on where there is a router and none is named.
        """
        from adapters.lora.lora_files import contents
        from adapters.lora.peft_scoring import PeftAnswerScorer
        from adapters.lora.score_cache import CachedAnswerScorer
        from application.comparing.compare_adapters import CompareAdapters
        from entrypoints.backend import setting

        base = self.load_base(base_model) if router is None else self.router_base(router, base_model)
        check, engine = self.check_lora_adapters(base, folders, allow_twins=True)
        check.require_sound()
        scorer: AnswerScorer = PeftAnswerScorer(engine)
        if use_cache:
            identity = setting(base.info.fingerprint, base.model.dtype, base.tokenizer.chat_template)
            scorer = CachedAnswerScorer(scorer, self.cache_dir / "answer-scores.sqlite", identity, contents(folders))
        route = None if router is None else self.route_on(router, base)
        return CompareAdapters(self.datasets, scorer, self.progress, route, engine)

    def compare_loaded(self, answering: AnswerPrompts) -> CompareAdapters:
        """The use case that measures the LoRA adapters that are loaded for answering; scores are not kept."""
        from adapters.lora.peft_engine import PeftEngine
        from adapters.lora.peft_scoring import PeftAnswerScorer
        from application.comparing.compare_adapters import CompareAdapters

        engine = answering.engine
        assert isinstance(engine, PeftEngine), "answer_prompts made it"
        return CompareAdapters(self.datasets, PeftAnswerScorer(engine), self.progress, answering.route, engine)

    def finetune(self, base: LoadedBase, options: FinetuneOptions | None = None) -> PeftFinetuner:
        """Fine-tuning of small LoRA adapters on a base model that is loaded."""
        from adapters.lora.peft_finetuning import FinetuneOptions, PeftFinetuner

        return PeftFinetuner(base, self.progress, options or FinetuneOptions())
