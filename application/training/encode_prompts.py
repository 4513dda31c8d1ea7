"""Encoding one share of a training run's prompts ahead of the run, so that several machines can share the work."""

from __future__ import annotations

from itertools import chain

from attrs import frozen

from application.ports import FeatureExtractorSource, PromptReader, RowReader, TrainJob
from application.training.choose_features import require_candidates
from application.training.training_data import read_training_data
from domain.errors import UsageError
from domain.feature_choice import distinct_taps


@frozen
class EncodeReport:
    """What one share came to: its number of distinct prompts, and of layers they were encoded at."""

    prompts: int
    taps: int


@frozen
class EncodeShare:
    """Encodes every n-th batch of a job's prompts at all layers that the run will look at.

    The features end up in the feature cache behind `extractors`; the run finds them there by content. Batches are
    those of a run that does all the work itself with an empty cache: the features have the same bits, and so has
    the head. Shares are of about equal size when there are several batches for each.

    Attributes:
        rows: reads training and validation rows.
        prompts: reads out-of-scope prompts.
        extractors: loads base models, with a cache.
    """

    rows: RowReader
    prompts: PromptReader
    extractors: FeatureExtractorSource

    def __call__(self, job: TrainJob, share: int, shares: int) -> EncodeReport:
        """Encode share number `share`, from 0, of `shares`; raises what reading and loading raise."""
        if not 0 <= share < shares:
            raise UsageError(f"share {share} is not one of {shares}")
        data = read_training_data(self.rows, self.prompts, job)
        extractor = self.extractors(job.base_model, max_tokens=job.options.max_tokens, use_cache=True)
        taps = distinct_taps(require_candidates(extractor, job.options))
        mine = list(chain.from_iterable(extractor.batches(data.texts)[share::shares]))
        if mine:
            extractor.extract(mine, taps)
        return EncodeReport(len(mine), len(taps))
