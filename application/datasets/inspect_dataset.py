"""Use case: help people look into a routing data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

from attrs import frozen

from application.ports.datasets import DatasetReader
from application.ports.similarity import TextSimilarity
from domain.errors import DataRejectedError, UsageError
from domain.labels import LabelMap
from domain.samples import RoutingSample
from domain.split import Split
from domain.text_statistics import PERCENTILES, TellingWord, percentile, telling_words, words


@frozen
class AdapterTexts:
    """What one adapter's prompts look like.

    Attributes:
        name: the adapter's name.
        counts: rows by split.
        lengths: characters of every prompt.
        characters: percentiles of the characters, by percent.
        words: percentiles of the number of words, by percent.
        telling: its most telling words, most telling first.
    """

    name: str
    counts: Mapping[Split, int]
    lengths: tuple[int, ...]
    characters: Mapping[int, int]
    words: Mapping[int, int]
    telling: tuple[TellingWord, ...]


@frozen
class NearDuplicate:
    """Two prompts of different adapters that are hard to tell apart.

    Attributes:
        similarity: 0 to 1.
        first: the one; its adapter has the lower label.
        second: the other.
    """

    similarity: float
    first: RoutingSample
    second: RoutingSample


@frozen
class InspectReport:
    """What there is to see.

    Attributes:
        path: the data set's folder.
        adapters: per adapter, in label order.
        near_duplicates: the most similar prompts across adapters, most similar first.
        n_near_duplicates: how many pairs there are at or above the threshold, by pair of adapters.
        threshold: least similarity of a pair.
    """

    path: Path
    adapters: tuple[AdapterTexts, ...]
    near_duplicates: tuple[NearDuplicate, ...]
    n_near_duplicates: Mapping[tuple[str, str], int]
    threshold: float


@frozen
class InspectDataset:
    """Describes a data set's prompts and where two adapters' prompts are hard to tell apart.

    Attributes:
        store: where the data set lies.
        similarity: tells how alike two prompts are.
    """

    store: DatasetReader
    similarity: TextSimilarity

    def __call__(self, folder: Path, *, n_words: int = 8, n_pairs: int = 10, threshold: float = 0.8) -> InspectReport:
        """Look into the data set in `folder`.

        Args:
            folder: the data set's folder.
            n_words: telling words per adapter, at most.
            n_pairs: near-duplicate pairs, at most.
            threshold: least similarity of a near-duplicate pair, above 0 and at most 1.

        Raises:
            MissingFileError: no such data set.
            DataRejectedError: it cannot be read.
            UsageError: a number out of range.
        """
        if not 0 < threshold <= 1:
            raise UsageError(f"threshold {threshold} is not above 0 and at most 1")
        for what, number in (("words", n_words), ("pairs", n_pairs)):
            if number < 0:
                raise UsageError(f"{number} {what} cannot be shown: the number is negative")
        labels = self._labels(folder)
        files = {file.name: file for file in self.store.list_files(folder)}
        rows = {
            split: self.store.read_rows(folder / f"{split}.jsonl")
            for split in Split
            if f"{split}.jsonl" in files and files[f"{split}.jsonl"].size
        }
        everything = [row for part in rows.values() for row in part]
        telling = telling_words(
            {name: [row.text for row in everything if row.adapter == name] for name in labels.names}, n_words
        )
        near, counts = self._near_duplicates(everything, labels, n_pairs, threshold)
        return InspectReport(
            path=folder,
            adapters=tuple(_describe(name, rows, telling[name]) for name in labels.names),
            near_duplicates=near,
            n_near_duplicates=counts,
            threshold=threshold,
        )

    def _labels(self, folder: Path) -> LabelMap:
        metadata = self.store.read_metadata(folder)
        try:
            return LabelMap.from_mapping({name: one["label"] for name, one in metadata["adapters"].items()})
        except (KeyError, TypeError, AttributeError, UsageError) as error:
            raise DataRejectedError(
                "'adapters' gives no label map", where=folder / "metadata.json", hint=f"moe-router verify {folder}"
            ) from error

    def _near_duplicates(
        self, rows: list[RoutingSample], labels: LabelMap, n_pairs: int, threshold: float
    ) -> tuple[tuple[NearDuplicate, ...], dict[tuple[str, str], int]]:
        by_label = [[row for row in rows if row.label == label] for label in range(len(labels))]
        near: list[NearDuplicate] = []
        counts = {}
        for one, other in combinations(range(len(labels)), 2):
            both = by_label[one] + by_label[other]
            pairs, total = self.similarity.similar_pairs(
                [row.text for row in both], [row.label for row in both], threshold=threshold, limit=n_pairs
            )
            counts[labels.name_of(one), labels.name_of(other)] = total
            near += [NearDuplicate(pair.similarity, both[pair.first], both[pair.second]) for pair in pairs]
        near.sort(key=lambda pair: -pair.similarity)
        return tuple(near[:n_pairs]), counts


def _describe(name: str, rows: Mapping[Split, list[RoutingSample]], telling: tuple[TellingWord, ...]) -> AdapterTexts:
    mine = [row.text for part in rows.values() for row in part if row.adapter == name]
    counts = {split: Counter(row.adapter for row in part)[name] for split, part in rows.items()}
    lengths, n_words = [len(text) for text in mine], [len(words(text)) for text in mine]
    return AdapterTexts(
        name=name,
        counts=counts,
        lengths=tuple(lengths),
        characters={one: percentile(lengths, one) for one in PERCENTILES} if mine else {},
        words={one: percentile(n_words, one) for one in PERCENTILES} if mine else {},
        telling=telling,
    )
