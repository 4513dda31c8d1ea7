"""Encoding one share of a training run's prompts ahead of the run, so that several machines can share the work."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import chain

from attrs import frozen

from application.ports import DatasetReader, FeatureExtractorSource, PromptReader, TrainJob
from application.training.choose_features import require_candidates
from application.training.training_data import Companions, read_training_data
from domain.errors import UsageError
from domain.feature_choice import deepest_layer, distinct_taps


@frozen
class EncodeReport:
    """What one share came to: its number of distinct prompts, and of layers they were encoded at."""

    prompts: int
    taps: int


@frozen
class EncodeShare:
    """Encodes a share of the batches of a job's prompts at all layers that the run will look at.

    The features end up in the feature cache behind `extractors`; the run finds them there by content. Batches are
    those of a run that does all the work itself with an empty cache: the features have the same bits, and so has
    the head. Shares differ by one batch at most (see :func:`balanced_shares`), since no batch is divided.

    Attributes:
        rows: reads training and validation rows.
        prompts: reads out-of-scope prompts.
        extractors: loads base models, with a cache.
        companions: packaged texts that take part.
    """

    rows: DatasetReader
    prompts: PromptReader
    extractors: FeatureExtractorSource
    companions: Companions

    def __call__(self, job: TrainJob, share: int, shares: int) -> EncodeReport:
        """Encode share number `share`, from 0, of `shares`; raises what reading and loading raise."""
        if not 0 <= share < shares:
            raise UsageError(f"share {share} is not one of {shares}")
        data = read_training_data(self.rows, self.prompts, job, self.companions)
        extractor = self.extractors(
            job.base_model,
            max_tokens=job.options.max_tokens,
            use_cache=True,
            max_layer=partial(deepest_layer, layers=job.options.layers, pooling=job.options.pooling),
        )
        taps = distinct_taps(require_candidates(extractor, job.options))
        batches = extractor.batches(data.prompts.texts)
        chosen = balanced_shares([_size(batch) for batch in batches], shares)[share]
        mine = list(chain.from_iterable(batches[index] for index in chosen))
        if mine:
            extractor.extract(mine, taps)
        return EncodeReport(len(mine), len(taps))


def balanced_shares(sizes: Sequence[int], shares: int) -> list[list[int]]:
    """Divide pieces of work into shares of about the same size; return the indices of each share in ascending order.

    The largest piece left goes to the share that has least (R. L. Graham, 1969): no two shares differ by more than
    one piece. The same arguments always give the same shares, so that machines agree without talking.
    """
    loads, found = [0] * shares, [list[int]() for _ in range(shares)]
    for index in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        least = loads.index(min(loads))
        loads[least] += sizes[index]
        found[least].append(index)
    return [sorted(share) for share in found]


def _size(batch: Sequence[str]) -> int:
    """Return the characters of a batch with its padding: what encoding it costs, up to a factor."""
    return len(batch) * max(map(len, batch))
