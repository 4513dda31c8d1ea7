"""Which layers of a base model are worth trying as features."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from attrs import frozen

from domain.features import FeatureTap, Pooling

SHALLOW_MODEL = 12
"""Up to this many blocks every layer may be used; deeper models are tapped in their first third only."""

DEEP_FRACTIONS = (1 / 30, 4 / 30, 7 / 30, 10 / 30)


@frozen
class FeatureChoice:
    """One way to make features: some layers, one pooling.

    Attributes:
        layers: indices into ``hidden_states``, ascending.
        pooling: how tokens are pooled.
    """

    layers: tuple[int, ...]
    pooling: Pooling

    @property
    def taps(self) -> tuple[FeatureTap, ...]:
        """The pooled layers, in the order of the features."""
        return tuple(FeatureTap(layer, self.pooling) for layer in self.layers)

    @property
    def cost(self) -> tuple[int, int]:
        """What a prompt costs: blocks to run, then features to keep; for ties."""
        return self.layers[-1], len(self.layers)

    def __str__(self) -> str:
        """Return ``layers 1+4+7+10, mean pooling``."""
        return f"layers {'+'.join(map(str, self.layers))}, {self.pooling} pooling"


def feature_candidates(
    n_layers: int, layers: tuple[int, ...] | None, pooling: Pooling | None
) -> tuple[FeatureChoice, ...]:
    """Return the features to choose from, cheapest first; what the caller has fixed stays fixed.

    A model of up to 12 blocks (small encoders, whose last layer was trained to be used) offers its last layers and
    combinations of all. A deeper one offers layers of its first third: in causal models those carry the topic
    of a prompt better than the last ones, which are busy with the next token, and each prompt then costs a
    third of a pass.

    Args:
        n_layers: number of blocks.
        layers: layers that the user chose, or None.
        pooling: pooling that the user chose, or None.
    """
    sets = _layer_sets(n_layers) if layers is None else (layers,)
    found = [FeatureChoice(chosen, pooling or Pooling.MEAN) for chosen in sets]
    if pooling is None:  # the mean has never lost so far, so the last token gets one chance, with all layers
        found.append(FeatureChoice(max(sets, key=lambda chosen: (len(chosen), chosen)), Pooling.LAST))
    return tuple(sorted(found, key=lambda choice: choice.cost))


def deepest_layer(n_layers: int, layers: tuple[int, ...] | None, pooling: Pooling | None) -> int:
    """Return the deepest layer of all candidates: what lies above need not even be loaded."""
    return max(choice.layers[-1] for choice in feature_candidates(n_layers, layers, pooling))


def _layer_sets(n_layers: int) -> tuple[tuple[int, ...], ...]:
    if n_layers <= SHALLOW_MODEL:
        thirds = _distinct(round(n_layers * part / 3) for part in (1, 2, 3))
        ends = [(n_layers - 1, n_layers), _distinct((n_layers // 2, n_layers))]
        sets = [(n_layers,), (n_layers - 1,), *ends, thirds, tuple(range(1, n_layers + 1))]
    else:
        spread = _distinct(round(n_layers * fraction) for fraction in DEEP_FRACTIONS)
        # A low layer, close to the words, beside one of the topic is worth more than a second one of the topic.
        low, topic, deepest = spread[0], spread[-2], spread[-1]
        sets = [(topic,), (deepest,), (topic, deepest), _distinct((low, topic)), (low, topic, deepest), spread]
    return tuple(dict.fromkeys(chosen for chosen in sets if chosen))


def _distinct(layers: Iterable[int]) -> tuple[int, ...]:
    return tuple(sorted({max(1, layer) for layer in layers}))


def distinct_taps(choices: Sequence[FeatureChoice]) -> tuple[FeatureTap, ...]:
    """Return every tap that some choice needs, once, in a fixed order."""
    return tuple(sorted({tap for choice in choices for tap in choice.taps}))
