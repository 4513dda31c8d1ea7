"""From what is said of a prompt's pieces to what is said of the prompt.

The strongest evidence decides: each label's logit is its highest over the pieces. Where two pieces speak for
different labels, the confidence drops. Background pieces do not count, unless all are: then the one that is least so.
Of the others company does not count, unless all are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from adapters.router.prompt_bank import PromptBank, Readings
from adapters.router.router_heads import log_sum_exp


@frozen(eq=False)
class PromptScores:
    """What is said of prompts.

    Attributes:
        logits: calibrated logit per label, (p, C).
        out_of_scope: out-of-scope score of the piece that is least out of scope, (p,).
        deciding: position among all pieces of the one with the strongest evidence, (p,).
    """

    logits: NDArray[np.float64]
    out_of_scope: NDArray[np.float64]
    deciding: NDArray[np.int64]


def prompt_scores(
    bank: PromptBank, readings: Readings, logits: NDArray[np.float64], sizes: Sequence[int]
) -> PromptScores:
    """Return the scores of prompts.

    Args:
        bank: what the readings are of.
        readings: of the pieces, prompt by prompt, n in all.
        logits: calibrated logits of the pieces, (n, C + 1), "none" last.
        sizes: how many pieces each prompt has, p numbers.
    """
    starts = np.cumsum([0, *sizes[:-1]])
    labelled = logits[:, :-1]
    least_background = np.repeat(np.maximum.reduceat(readings.own, starts), sizes)
    counts = (readings.own >= 0) | ((least_background < 0) & (readings.own == least_background))
    requests = counts & ~readings.company
    counts = np.where(np.repeat(np.logical_or.reduceat(requests, starts), sizes), requests, counts)
    scores = bank.score(readings, log_sum_exp(labelled))
    best = np.where(counts, labelled.max(axis=1), -np.inf)
    strongest = np.repeat(np.maximum.reduceat(best, starts), sizes)
    positions = np.where(best == strongest, np.arange(len(best)), len(best))
    return PromptScores(
        np.maximum.reduceat(np.where(counts[:, None], labelled, -np.inf), starts, axis=0),
        np.minimum.reduceat(np.where(counts, scores, np.inf), starts),
        np.minimum.reduceat(positions, starts),
    )
