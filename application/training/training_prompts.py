"""What a run reads of its rows: their pieces, changed copies of them, and the texts that belong to no adapter.

Everything is listed once, so that one pass over the list encodes a whole run; all else are positions in that list.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from attrs import field, frozen

from domain.copies import accompanied, mistyped
from domain.left_out import near_duplicate_folds
from domain.pieces import pieces_of
from domain.samples import RoutingSample, normalise_text, routing_view

FOLDS: Final = 5
"""Folds of left-out rows."""

MANY_ROWS: Final = 1500
"""With more rows than this each has one copy, not two: rows of their own then show what copies would."""

COPIED_PIECES: Final = 2
"""So many pieces of a prompt are copied: the first and the last."""


@frozen
class PromptRow:
    """One row as positions in the list of texts.

    Attributes:
        label: its label.
        fold: the fold in which it is left out.
        pieces: its pieces.
        copies: changed copies by piece; only of some pieces.
        company: phrases that stand around it in a changed copy of the whole prompt.
    """

    label: int
    fold: int
    pieces: tuple[int, ...]
    copies: dict[int, tuple[int, ...]]
    company: tuple[int, ...]

    @property
    def changed(self) -> list[tuple[int, ...]]:
        """Changed copies of the whole prompt, each as its pieces."""
        found = [
            tuple(copy if each == piece else each for each in self.pieces)
            for piece, copies in self.copies.items()
            for copy in copies
        ]
        half = len(self.company) // 2
        return [*found, (*self.company[:half], *self.pieces, *self.company[half:])] if self.company else found


@frozen(eq=False)
class TrainingPrompts:
    """All texts of a run.

    Attributes:
        texts: the texts, each once, as the base model is to read them.
        rows: training rows, then validation rows.
        n_train: how many of the rows are training rows.
        background: positions of phrases that accompany requests and ask for nothing.
        out_of_scope: pieces of each prompt that belongs to no adapter, those that the user gave first.
        n_given: how many of these the user gave.
    """

    texts: tuple[str, ...]
    rows: tuple[PromptRow, ...]
    n_train: int
    background: tuple[int, ...]
    out_of_scope: tuple[tuple[int, ...], ...]
    n_given: int


@frozen
class _Listing:
    """Texts as they come, each listed once."""

    places: dict[str, int] = field(factory=dict)

    def add(self, text: str) -> int:
        return self.places.setdefault(text, len(self.places))

    def add_all(self, texts: Iterable[str]) -> tuple[int, ...]:
        return tuple(self.add(text) for text in texts)


def training_prompts(
    train: Sequence[RoutingSample],
    val: Sequence[RoutingSample],
    given: Sequence[str],
    packaged: Sequence[str],
    background: Sequence[str],
    seed: int,
) -> TrainingPrompts:
    """Return the texts of a run.

    A row's copies use the phrases of its own fold. They are left out with it, so that a left-out copy has wordings
    that the head in question has never met. Copies come last in the list.

    Args:
        train: training rows.
        val: validation rows.
        given: prompts that belong to no adapter, by the user's word.
        packaged: more such prompts, which some route may own after all.
        background: phrases that accompany requests and ask for nothing.
        seed: decides folds and copies.
    """
    samples = (*train, *val)
    listing = _Listing()
    pieces = [listing.add_all(pieces_of(sample.text).texts) for sample in samples]
    owned = {normalise_text(sample.text) for sample in samples}  # a phrase beside a request stays background
    phrases = [routing_view(phrase) for phrase in background if normalise_text(routing_view(phrase)) not in owned]
    filler = listing.add_all(phrases)
    others = tuple(listing.add_all(pieces_of(text).texts) for text in (*given, *packaged))
    folds = near_duplicate_folds(
        [sample.text for sample in samples], [sample.label for sample in samples], FOLDS, seed
    )
    texts = tuple(listing.places)
    rows = []
    for number, (sample, places, fold) in enumerate(zip(samples, pieces, folds, strict=True)):
        own = phrases[fold::FOLDS]
        copied = places if len(places) <= COPIED_PIECES else (places[0], places[-1])
        copies = {
            place: listing.add_all(_copies(texts[place], own, number, len(samples) > MANY_ROWS)) for place in copied
        }
        near = filler[fold::FOLDS]
        company = tuple(near[(number + step) % len(near)] for step in range(2)) if near else ()
        rows.append(PromptRow(sample.label, fold, places, copies, company))
    return TrainingPrompts(tuple(listing.places), tuple(rows), len(train), filler, others, len(given))


def _copies(text: str, phrases: Sequence[str], number: int, single: bool) -> tuple[str, ...]:
    """Return changed copies of a piece: one with typing errors, one with company; of many rows, one in turn."""
    wrong, with_company = mistyped(text, str(number)), accompanied(text, phrases, str(number))
    if single:
        return (routing_view(with_company if number % 2 else wrong),)
    return routing_view(wrong), routing_view(with_company)
