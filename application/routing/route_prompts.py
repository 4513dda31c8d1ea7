"""Use case: decide for each prompt which adapter should answer it, or that none should."""

from __future__ import annotations

from attrs import evolve, frozen

from application.ports import FeatureExtractor, RouterScorer, TrainedRouter
from domain.errors import MismatchError, UsageError
from domain.features import BaseModel, FeatureSpec
from domain.pieces import pieces_of
from domain.routing import AbstentionThresholds, RoutingDecision, decide


@frozen
class RouteRequest:
    """Which prompts to route.

    Attributes:
        prompts: the raw user texts, without any chat template.
        nearest: how many of the nearest remembered prompts to show with each decision, 0 or more.
        disabled: names of adapters that must not be chosen.
        thresholds: when to abstain, instead of the router's own limits.
    """

    prompts: tuple[str, ...]
    nearest: int = 0
    disabled: frozenset[str] = frozenset()
    thresholds: AbstentionThresholds | None = None


@frozen(eq=False)
class RoutePrompts:
    """Routes prompts with one trained router over one base model; loads no LoRA adapter.

    Attributes:
        router: the trained router.
        features: extracts features of the base model that the router was trained on.
        scorer: applies the router to features.
    """

    router: TrainedRouter
    features: FeatureExtractor
    scorer: RouterScorer

    def __attrs_post_init__(self) -> None:
        """Raise MismatchError, both sides shown, unless router and base model belong together."""
        require_same_features(self.router.card.features, self.features)

    def __call__(self, request: RouteRequest) -> list[RoutingDecision]:
        """Return one decision per prompt, in order.

        Raises:
            UsageError: a disabled adapter is unknown, or `nearest` is negative.
        """
        if request.nearest < 0:
            raise UsageError(f"nearest {request.nearest} is negative")
        card = self.router.card
        for name in request.disabled:
            card.labels.label_of(name)
        if not request.prompts:
            return []
        prompts = [pieces_of(text) for text in request.prompts]
        texts = [text for prompt in prompts for text in prompt.texts]
        rows = self.features.extract(texts, card.features.taps)
        sizes = [len(prompt.texts) for prompt in prompts]
        scores = self.scorer.score(self.router, rows, texts, sizes, nearest=request.nearest)
        thresholds = request.thresholds or card.thresholds
        return [
            evolve(
                decide(each, card.labels, thresholds, request.disabled),
                piece=prompt.texts[each.deciding],
                shortened=prompt.shortened,
                pieces=len(prompt.texts),
            )
            for each, prompt in zip(scores, prompts, strict=True)
        ]


def require_same_features(spec: FeatureSpec, extractor: FeatureExtractor) -> None:
    """Raise MismatchError, both sides shown, unless `extractor` makes the features of a router's `spec`."""
    mine, theirs = spec.base, extractor.base
    if evolve(mine, name="") != evolve(theirs, name=""):
        raise MismatchError(
            f"base model differs: the router was trained on {_shown(mine)}, loaded is {_shown(theirs)}",
            hint="load the router's own base model, or train a router on this one",
        )
    loaded = FeatureSpec(theirs, spec.layers, spec.pooling, extractor.max_tokens)
    spec.require_same(loaded, mine="the router", theirs="the loaded base model")


def _shown(base: BaseModel) -> str:
    return f"{base.name} ({base.n_layers} layers, hidden size {base.hidden_size}, {base.fingerprint[:16]})"
