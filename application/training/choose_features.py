"""Features of a run's prompts: one pass over them, and from that the choice of layers and pooling."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import frozen

from application.ports import FeatureExtractor, FeatureProbe
from application.training.training_data import TrainingData
from domain.feature_choice import FeatureChoice, distinct_taps, feature_candidates
from domain.features import FeatureSpec, FeatureTap, Matrix
from domain.training import TrainOptions
from domain.training_events import CandidateScored, TrainingEvent


@frozen(eq=False)
class ChosenFeatures:
    """Features of every prompt of a run.

    Attributes:
        spec: how they were made, and are to be made in serving.
        matrix: raw features of the texts of the run's
            :class:`application.training.training_prompts.TrainingPrompts`, in their order.
    """

    spec: FeatureSpec
    matrix: Matrix


@frozen(eq=False)
class _Encoded:
    """Features of every prompt at several taps, (n, taps * hidden_size)."""

    matrix: Matrix
    taps: Sequence[FeatureTap]
    hidden_size: int

    def columns(self, choice: FeatureChoice) -> list[int]:
        starts = [self.taps.index(tap) * self.hidden_size for tap in choice.taps]
        return [start + offset for start in starts for offset in range(self.hidden_size)]


def choose_features(
    extractor: FeatureExtractor,
    probe: FeatureProbe,
    data: TrainingData,
    options: TrainOptions,
    emit: Callable[[TrainingEvent], None],
) -> ChosenFeatures:
    """Encode every prompt once, at all candidate taps in the same pass, and keep the best candidate's features.

    Candidates are scored on training and validation rows only. The lowest loss wins, ties go to the cheaper
    candidate. With layers and pooling given there is nothing to score.

    Raises:
        UsageError: the layers asked for are not the model's.
    """
    base = extractor.base
    candidates = require_candidates(extractor, options)
    taps = distinct_taps(candidates)
    encoded = _Encoded(extractor.extract(data.prompts.texts, taps), taps, base.hidden_size)
    chosen = _best(candidates, encoded, probe, data, emit) if len(candidates) > 1 else candidates[0]
    # In one piece, as a checkpoint gives it back: the last bits of sums over it depend on its layout.
    matrix = encoded.matrix[:, encoded.columns(chosen)].copy()
    return ChosenFeatures(FeatureSpec(base, chosen.layers, chosen.pooling, extractor.max_tokens), matrix)


def require_candidates(extractor: FeatureExtractor, options: TrainOptions) -> tuple[FeatureChoice, ...]:
    """Return the features to choose from; raises UsageError when the layers asked for are not the model's."""
    base = extractor.base
    candidates = feature_candidates(base.n_layers, options.layers, options.pooling)
    for choice in candidates:
        FeatureSpec(base, choice.layers, choice.pooling, extractor.max_tokens)  # refuses layers that are not there
    return candidates


def _best(
    candidates: Sequence[FeatureChoice],
    encoded: _Encoded,
    probe: FeatureProbe,
    data: TrainingData,
    emit: Callable[[TrainingEvent], None],
) -> FeatureChoice:
    told = {place: row.label for row in data.prompts.rows for place in row.pieces}  # the others have no say
    labels = list(told.values())
    labelled = encoded.matrix[list(told)]
    scores = [probe.score(labelled[:, encoded.columns(choice)], labels, len(data.labels)) for choice in candidates]
    best = min(range(len(candidates)), key=lambda i: (scores[i].loss, i))
    for index, (choice, score) in enumerate(zip(candidates, scores, strict=True)):
        emit(CandidateScored("features", str(choice), score.loss, score.accuracy, chosen=index == best))
    return candidates[best]
