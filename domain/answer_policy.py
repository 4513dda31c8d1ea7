"""Who answers a prompt when the router's choice cannot."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from types import MappingProxyType

from attrs import frozen

from domain.errors import DataRejectedError, LoraAdapterError, UsageError
from domain.labels import LabelMap, check_adapter_name
from domain.routing import ROUTERS_OWN, OtherLimits, Reason, RoutingDecision


class FallbackKind(StrEnum):
    """What happens when the router's choice cannot answer, or when there is none."""

    STRICT = "strict"
    BASE = "base"
    ADAPTER = "adapter"
    ERROR = "error"


@frozen
class Fallback:
    """Who answers when the router abstains or fails, or when the LoRA adapter that it chose is not there.

    | kind | router abstains | router fails | LoRA adapter missing |
    | --- | --- | --- | --- |
    | STRICT (nothing asked for) | base model | error | error at the start |
    | BASE | base model | base model | base model |
    | ADAPTER | that LoRA adapter | that LoRA adapter | that LoRA adapter |
    | ERROR | error | error | error at the start |

    Attributes:
        kind: the row of the table.
        adapter: the LoRA adapter's name for ADAPTER, else None.
    """

    kind: FallbackKind = FallbackKind.STRICT
    adapter: str | None = None

    @classmethod
    def parse(cls, text: str | None) -> Fallback:
        """Return the fallback for an option's value: None, "base", "error" or an adapter's name."""
        if text is None:
            return cls()
        if text in ("base", "error"):
            return cls(FallbackKind(text))
        return cls(FallbackKind.ADAPTER, check_adapter_name(text))

    @property
    def stands_in(self) -> bool:
        """Whether it was asked to answer for a LoRA adapter that is missing, and for a router that fails."""
        return self.kind in (FallbackKind.BASE, FallbackKind.ADAPTER)


STRICT = Fallback()
"""No fallback was asked for."""


@frozen
class AnswerPolicy:
    """Who may answer a request.

    Attributes:
        fallback: who answers when the router abstains or fails, or its choice is missing.
        disabled: adapters that are not to answer.
        limits: when the router abstains, where its own limits are not wanted.
    """

    fallback: Fallback = STRICT
    disabled: frozenset[str] = frozenset()
    limits: OtherLimits = ROUTERS_OWN


CHOSEN_ONLY = AnswerPolicy()
"""The adapter that the router chose, and the base model where it chose none."""


@frozen
class WhoAnswers:
    """Who answers a prompt.

    Attributes:
        adapter: the LoRA adapter, or None for the bare base model.
        fallback: why it is not the router's confident choice; None when it is.
    """

    adapter: str | None
    fallback: str | None = None


def check_available(labels: LabelMap, available: Collection[str], policy: AnswerPolicy = CHOSEN_ONLY) -> None:
    """Raise unless every answer that the router can ask for has somebody to give it.

    Raises:
        UsageError: a disabled adapter is unknown, the fallback is disabled or is none of those given, or none was
            given at all and no fallback stands in.
        LoraAdapterError: some LoRA adapters were given, another one is missing, and no fallback stands in.
    """
    fallback, disabled = policy.fallback, policy.disabled
    for name in disabled:
        labels.label_of(name)
    if fallback.adapter in disabled:
        raise UsageError(f"the fallback {fallback.adapter!r} is disabled")
    if fallback.adapter is not None and fallback.adapter not in available:
        raise UsageError(
            f"the fallback {fallback.adapter!r} is not one of the LoRA adapters that were given",
            hint=f"given: {', '.join(sorted(available)) or 'none'}; also possible: base, error",
        )
    missing = [name for name in labels.names if name not in available and name not in disabled]
    if missing and not available and not fallback.stands_in:
        raise UsageError(
            "no LoRA adapter was given to answer with",
            hint="give folders (`lora-dir DIR`, or `lora NAME=DIR`), or let the base model answer (`fallback base`)",
        )
    if missing and not fallback.stands_in:
        raise LoraAdapterError(
            f"no LoRA adapter for {', '.join(missing)}, which the router may choose",
            hint=f"given: {', '.join(sorted(available)) or 'none'}; give its folder, disable it "
            f"(`disable {missing[0]}`), or allow a fallback (`fallback base`)",
        )


def who_answers(
    decision: RoutingDecision,
    available: Collection[str],
    fallback: Fallback,
    refused: Mapping[str, str] = MappingProxyType({}),
) -> WhoAnswers:
    """Return who answers.

    Args:
        decision: the router's.
        available: the LoRA adapters that can answer.
        fallback: who answers for one that cannot.
        refused: why some of those that cannot were refused.

    Raises:
        LoraAdapterError: the chosen LoRA adapter is missing and no fallback stands in.
        DataRejectedError: the router abstains, and that was asked to be an error.
    """
    if decision.adapter is None:
        return who_answers_without_choice(explain(decision), fallback)
    if decision.adapter in available:
        return WhoAnswers(decision.adapter)
    reason = refused.get(decision.adapter)
    why = f"LoRA adapter {decision.adapter} {f'is refused: {reason}' if reason else 'was not given'}"
    if not fallback.stands_in:
        raise LoraAdapterError(why, hint="give its folder, or allow a fallback (`fallback base`)")
    return WhoAnswers(fallback.adapter, why)


def who_answers_without_choice(why: str, fallback: Fallback) -> WhoAnswers:
    """Return who answers when the router chose nobody; raises DataRejectedError when that is to be an error."""
    if fallback.kind is FallbackKind.ERROR:
        raise DataRejectedError(f"the router chose no adapter: {why}", hint="a fallback could answer")
    return WhoAnswers(fallback.adapter, why)


def explain(decision: RoutingDecision) -> str:
    """Return in a few words why the router abstained."""
    limits = decision.thresholds
    if decision.reason is Reason.OUT_OF_SCOPE:
        return f"out of scope: score {decision.out_of_scope:.3f} above {limits.max_out_of_scope:.3f}"
    if decision.reason is Reason.LOW_CONFIDENCE:
        return f"unsure: confidence {decision.confidence:.3f} for {decision.best} below {limits.min_confidence:.3f}"
    return "every adapter is disabled"
