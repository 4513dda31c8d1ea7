"""Use case: measure LoRA adapters, and a router's choices between them, by reference answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from attrs import evolve, frozen

from application.comparing.compare_report import CompareReport, CompareRequest, UnscoredRow
from application.ports.answering import AnswerEngine, Generation, GenerationRequest
from application.ports.datasets import DatasetReader
from application.ports.runtime import ProgressReporter
from application.ports.scoring import AnswerScore, AnswerScorer, ScoreRequest
from application.routing.route_prompts import RoutePrompts, RouteRequest
from domain.answers import GenerationOptions
from domain.chats import Chat
from domain.comparison import ScoredRow
from domain.errors import DataRejectedError, MoeRouterError, UsageError
from domain.matching import answers_match
from domain.references import ReferenceAnswer
from domain.split import Split

Scores = dict[int, tuple[AnswerScore, ...] | MoeRouterError]
"""By position of a reference answer: its scores under the base model and every adapter, or why it has none."""


@frozen(eq=False)
class CompareAdapters:
    """Scores the reference answer of every prompt under the base model and every adapter.

    Attributes:
        datasets: reads the data set.
        scorer: tells how likely an answer is.
        progress: told after every score.
        route: the router whose choices are measured; None to look at the adapters alone.
        engine: answers, where answers are to be compared.
    """

    datasets: DatasetReader
    scorer: AnswerScorer
    progress: ProgressReporter
    route: RoutePrompts | None = None
    engine: AnswerEngine | None = None

    def __call__(self, request: CompareRequest) -> CompareReport:
        """Return what was measured.

        Raises:
            MissingFileError: the data set is not there, or keeps no reference answers.
            DataRejectedError: the data set cannot be used, or no answer can be scored.
            UsageError: a LoRA adapter is missing, or the router knows others.
        """
        answers = self._answers(request)
        names = self._names(answers)
        held_out = Counter(
            row.adapter for row in self.datasets.read_rows(request.dataset_dir / f"{Split.EVAL}.jsonl")
        )
        kept = Counter(one.adapter for one in answers)
        drawn = _first(answers, request.samples)
        chats = [_chat(one, own_system=request.own_system) for one in drawn]
        rows = self._routed(drawn)
        scores = self._scores(drawn, chats, names)
        whole = {place: each for place, each in scores.items() if not isinstance(each, MoeRouterError)}
        refused = {place: each for place, each in scores.items() if isinstance(each, MoeRouterError)}
        if not whole:
            raise DataRejectedError(
                f"none of {len(drawn)} reference answers can be scored: {next(iter(refused.values())).what}",
                where=request.dataset_dir,
            )
        places = sorted(whole)
        if request.generation is not None:
            rows = self._answered(drawn, chats, rows, places, names, request.generation)
        own = {place: 1 + names.index(drawn[place].adapter) for place in places}
        return CompareReport(
            dataset_dir=request.dataset_dir,
            names=names,
            rows=tuple(
                evolve(
                    rows[place],
                    losses=tuple(score.per_token for score in whole[place]),
                    tokens=whole[place][own[place]].tokens,
                )
                for place in places
            ),
            lacking={name: held_out[name] - kept[name] for name in held_out if held_out[name] > kept[name]},
            unscored=tuple(
                UnscoredRow(drawn[place].adapter, drawn[place].source_id, error.what)
                for place, error in sorted(refused.items())
            ),
            router_sha256=None if self.route is None else self.route.router.sha256,
            seed=request.seed,
            routed=self.route is not None,
        )

    def _answers(self, request: CompareRequest) -> list[ReferenceAnswer]:
        answers = self.datasets.read_answers(request.dataset_dir)
        if not answers:
            raise DataRejectedError("holds no reference answers", where=request.dataset_dir)
        return answers

    def _names(self, answers: Sequence[ReferenceAnswer]) -> tuple[str, ...]:
        """Return the adapters: those of the data set and the router must be there, others may be."""
        there = self.scorer.adapters
        wanted = dict.fromkeys(one.adapter for one in answers)
        if self.route is not None:
            wanted |= dict.fromkeys(self.route.router.card.labels.names)
        if missing := [name for name in wanted if name not in there]:
            raise UsageError(
                f"no LoRA adapter {', '.join(missing)}, which the data set or the router names",
                hint="give one folder for every adapter that is named",
            )
        return there

    def _routed(self, drawn: Sequence[ReferenceAnswer]) -> list[ScoredRow]:
        """Return the rows, not scored yet, with the router's choices."""
        rows = [ScoredRow(one.adapter, one.source_id, one.text, (), 0) for one in drawn]
        if self.route is None:
            return rows
        decisions = self.route(RouteRequest(tuple(one.text for one in drawn)))
        return [
            evolve(row, chosen=each.adapter, best=each.best, confidence=each.confidence)
            for row, each in zip(rows, decisions, strict=True)
        ]

    def _scores(self, drawn: Sequence[ReferenceAnswer], chats: Sequence[Chat], names: Sequence[str]) -> Scores:
        speakers = (None, *names)
        requests = [
            ScoreRequest(chat, one.answer, speaker)
            for one, chat in zip(drawn, chats, strict=True)
            for speaker in speakers
        ]
        found: dict[int, AnswerScore | MoeRouterError] = {}
        what = f"Scoring {len(drawn)} answers under {len(names)} adapters and the base model"
        with self.progress.track(what, len(requests)) as task:
            for index, score in self.scorer.score(requests):
                found[index] = score
                task.advance()
        scores: Scores = {}
        for place in range(len(drawn)):
            each = [found[place * len(speakers) + number] for number in range(len(speakers))]
            error = next((one for one in each if isinstance(one, MoeRouterError)), None)
            scores[place] = error or tuple(one for one in each if isinstance(one, AnswerScore))
        return scores

    def _answered(
        self,
        drawn: Sequence[ReferenceAnswer],
        chats: Sequence[Chat],
        rows: Sequence[ScoredRow],
        places: Sequence[int],
        names: Sequence[str],
        options: GenerationOptions,
    ) -> list[ScoredRow]:
        """Return the rows with everybody's answers, and whether each is the reference answer."""
        assert self.engine is not None, "somebody has to answer"
        asked = [(place, speaker) for place in places for speaker in (None, *names)]
        requests = [GenerationRequest(chats[place], speaker) for place, speaker in asked]
        texts = [""] * len(asked)
        with self.progress.track(f"Generating {len(requests)} answers", len(requests)) as task:
            for index, generation in self.engine.generate(requests, options):
                if isinstance(generation, Generation):  # what cannot be answered matches nothing
                    texts[index] = generation.text
                task.advance()
        answered = list(rows)
        width = 1 + len(names)
        for number, place in enumerate(places):
            said = tuple(texts[number * width : (number + 1) * width])
            matches = tuple(answers_match(drawn[place].answer, text) for text in said)
            answered[place] = evolve(rows[place], answers=said, matches=matches)
        return answered


def _first(answers: Sequence[ReferenceAnswer], most: int) -> list[ReferenceAnswer]:
    """Return the first `most` of each adapter, in their order, which is random."""
    taken: Counter[str] = Counter()
    drawn = []
    for one in answers:
        taken[one.adapter] += 1
        if taken[one.adapter] <= most:
            drawn.append(one)
    return drawn


def _chat(one: ReferenceAnswer, *, own_system: bool) -> Chat:
    return one.chat if own_system else tuple(turn for turn in one.chat if turn.role != "system")
