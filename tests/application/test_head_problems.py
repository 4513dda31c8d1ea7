"""What heads are trained on: telling pieces, prompts that a route owns after all, folds that are left out whole."""

from __future__ import annotations

import random
from typing import Any

import pytest
from attrs import evolve

from adapters.in_memory.features import InMemoryFeatureExtractor
from adapters.in_memory.training import RecordingObserver
from adapters.router.torch_heads import TorchHeadTrainer
from application.training.choose_features import ChosenFeatures
from application.training.head_problems import HeadProblems, with_telling_pieces, without_owned_prompts
from application.training.training_prompts import FOLDS, training_prompts
from domain.features import BaseModel, FeatureSpec
from domain.samples import RoutingSample
from domain.training_events import Noted
from tests.training_world import COMPANIONS, rows

OTHER_WORDS = (
    "soup",
    "bread",
    "lunch",
    "train",
    "late",
    "snow",
    "hill",
    "river",
    "moon",
    "cat",
    "guitar",
    "cousin",
    "mud",
)


def problems_of(train: list[RoutingSample], given: Any = (), packaged: Any = COMPANIONS.generic) -> HeadProblems:
    prompts = training_prompts(train, rows(2, 2), given, packaged, COMPANIONS.background, 7)
    spec = FeatureSpec(BaseModel("tiny", "tiny-v1", n_layers=4, hidden_size=32), (1, 3))
    matrix = InMemoryFeatureExtractor(spec.base).extract(prompts.texts, spec.taps)
    return HeadProblems(prompts, ChosenFeatures(spec, matrix), 3, 7)


def accompanied(train: list[RoutingSample], every: int) -> list[RoutingSample]:
    """Put a sentence of its own before or after every so-manieth row."""
    rng, made = random.Random(0), list(train)
    for number in range(0, len(train), every):
        company = " ".join(rng.sample(OTHER_WORDS, 4)) + "."
        text = train[number].text
        made[number] = evolve(train[number], text=f"{text}. {company}" if number % 4 else f"{company} {text}.")
    return made


def test_the_pieces_that_tell_are_found_and_their_company_is_told_to_belong_to_none() -> None:
    problems = with_telling_pieces(problems_of(accompanied(rows(10, 1), 2)), TorchHeadTrainer())
    several = [(row, places) for row, places in zip(problems.prompts.rows, problems.telling, strict=True)]
    several = [(row, places) for row, places in several if len(row.pieces) == 3]  # two sentences, and both together
    assert len(several) == 15
    train, known = problems.for_training().train, problems.known()
    labels = dict(zip(train.texts, train.labels, strict=True))
    mistaken = 0
    for row, places in several:
        request, company = sorted(problems.texts(row.pieces[:2]), key=lambda text: text.split()[0] in OTHER_WORDS)
        assert request in problems.texts(places)
        assert labels[request] == row.label
        assert labels[company] == (row.label if company in problems.texts(places) else 3)
        assert (company in known.texts) == (company in problems.texts(places))
        mistaken += company in problems.texts(places)
    assert mistaken <= 3


def test_a_row_keeps_a_telling_piece_even_where_no_head_recognises_it() -> None:
    train = [*rows(6, 1), RoutingSample("Zorgle fub. Quux wibble.", 0, "calendar", "odd")]
    problems = with_telling_pieces(problems_of(train), TorchHeadTrainer())
    assert all(problems.telling)
    assert set(problems.telling[18]) <= set(problems.prompts.rows[18].pieces)


def test_packaged_prompts_that_a_route_owns_are_left_out_and_told_and_given_ones_stay() -> None:
    *owned, given = [row.text for row in rows(3, 9)]
    heard = RecordingObserver()
    before = problems_of(rows(10, 1), (given,), (*COMPANIONS.generic, *owned))
    after = without_owned_prompts(before, TorchHeadTrainer(), heard.on_event)
    left = {text for pieces in after.prompts.out_of_scope for text in after.texts(pieces)}
    assert left == {given, *COMPANIONS.generic}
    assert after.prompts.n_given == 1
    [note] = [event.message for event in heard.events if isinstance(event, Noted)]
    assert "8 of 16 packaged out-of-scope prompts look like" in note


@pytest.mark.parametrize("fold", range(FOLDS))
def test_a_left_out_fold_holds_neither_its_rows_their_copies_nor_its_phrases(fold: int) -> None:
    problems = problems_of(accompanied(rows(10, 1), 3), ("sing", "dance"))
    prompts, problem = problems.prompts, problems.without(fold)
    inside = [row for row in prompts.rows if row.fold == fold]
    assert inside
    seen = set(problem.train.texts)
    elsewhere = {place for row in prompts.rows if row.fold != fold for place in row.pieces}
    absent = {place for row in inside for place in row.pieces} - elsewhere
    absent |= {place for row in inside for copies in row.copies.values() for place in copies} - {
        place for row in prompts.rows if row.fold != fold for copies in row.copies.values() for place in copies
    }
    absent |= set(prompts.background[fold::FOLDS])
    absent |= {place for pieces in prompts.out_of_scope[fold::FOLDS] for place in pieces}
    assert not seen & set(problems.texts(absent))
    copies = {place for row in inside for each in row.copies.values() for place in each}
    strange = set(problems.texts(prompts.background)) - set(problems.texts(prompts.background[fold::FOLDS]))
    # The wordings of its copies are the fold's own as well: no phrase of another fold stands in them.
    assert not any(phrase in text for text in problems.texts(copies) for phrase in strange)
    present = {place for row in prompts.rows if row.fold != fold for each in row.copies.values() for place in each}
    assert set(problems.texts(present)) <= seen


def test_the_head_is_asked_about_exactly_what_was_left_out() -> None:
    problems = problems_of(rows(10, 1), ("sing", "dance"))
    asked: list[int] = []
    for fold in range(FOLDS):
        places: list[int] = []

        def logits(some: Any, places: list[int] = places) -> Any:
            places.extend(some)
            return problems.chosen.matrix[list(some)][:, :4]

        out = problems.left_out(fold, logits)
        assert sum(out.sizes) == len(places) == len(out.features)
        assert len(out.sizes) == len(out.labels) == len(out.changed)
        asked += [size for size, label in zip(out.sizes, out.labels, strict=True) if label == 3]
        rows_here = [row for row in problems.prompts.rows if row.fold == fold]
        assert sum(label < 3 and not changed for label, changed in zip(out.labels, out.changed, strict=True)) == len(
            rows_here
        )
        assert sum(out.changed) == sum(len(row.changed) for row in rows_here)
    assert len(asked) == len(problems.prompts.out_of_scope)
