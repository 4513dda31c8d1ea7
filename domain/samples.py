"""One row of a routing data set, and when two texts count as the same."""

from __future__ import annotations

import unicodedata

from attrs import frozen


@frozen
class RoutingSample:
    """A text with the adapter that should answer it.

    Attributes:
        text: what the router reads; never empty.
        label: the adapter's label in the data set's label map.
        adapter: the adapter's name.
        source_id: where the text comes from: the ``id`` of its source row.
    """

    text: str
    label: int
    adapter: str
    source_id: str


def normalise_text(text: str) -> str:
    """Return the form under which two texts count as the same prompt: NFKC, casefolded, white space folded.

    Idempotent: casefolding can undo NFKC (and the reverse), so both are applied until nothing changes, as
    the Unicode Standard defines NFKC_Casefold (section 3.13, D146).
    """
    current = text
    while True:
        folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", current).casefold())
        if folded == current:
            return " ".join(folded.split())
        current = folded


def routing_view(text: str) -> str:
    """Return the text as the base model reads it for routing: capitals throughout become small letters.

    A language model splits "CLICK TODAY" into other tokens than "click today", so shouted prompts would look like
    nothing that the router was trained on. Ordinary capitals carry meaning (names, codes) and stay. Used alike in
    training and serving, so that both see the same features. Idempotent.
    """
    return text.lower() if text == text.upper() else text
