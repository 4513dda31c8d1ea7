"""Every answer scorer keeps the port's contract."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adapters.in_memory.scoring import InMemoryAnswerScorer
from adapters.lora.score_cache import CachedAnswerScorer
from application.ports.scoring import AnswerScore, AnswerScorer, ScoreRequest
from domain.chats import Message, as_chat
from domain.errors import DataRejectedError, UsageError
from tests.lora_world import NAMES
from tests.upstream_world import BASE, FakeVllm
from tests.upstream_world import scorer as upstream_scorer

PAIRS = (
    ("Book a table", "Done."),
    ("File a claim for the broken window in the kitchen, please.", "Which doctor near me takes my insurance?"),
    ("What is the weather like?", "a"),
)
REQUESTS = [
    ScoreRequest(as_chat(asked), Message("assistant", said), name) for asked, said in PAIRS for name in (None, *NAMES)
]


@pytest.fixture(scope="module", params=["in-memory", "cached", "upstream", "peft", "peft, all blocks"])
def scorer(request: pytest.FixtureRequest, tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> AnswerScorer:
    if request.param in ("in-memory", "cached"):
        plain = InMemoryAnswerScorer(NAMES)
        path = tmp_path_factory.mktemp("cache") / "scores.sqlite"
        return plain if request.param == "in-memory" else CachedAnswerScorer(plain, path, "base", {})
    if request.param == "upstream":
        return upstream_scorer(FakeVllm(dict.fromkeys(NAMES, BASE)), NAMES)
    from adapters.base_model.transformers_base import load_base
    from adapters.lora.peft_engine import PeftEngine
    from adapters.lora.peft_scoring import PeftAnswerScorer
    from tests.lora_world import TARGETS, write_loras

    base = load_base(str(tiny_base), cache_dir=tiny_base.parent, device="cpu")
    targets = TARGETS if "all" in request.param else r".*\.[23]\..*(q_proj|down_proj)"
    folders = write_loras(base, tmp_path_factory.mktemp("loras"), targets=targets)
    return PeftAnswerScorer(PeftEngine(base, folders))


def scores(scorer: AnswerScorer, requests: list[ScoreRequest]) -> list[Any]:
    pairs = list(scorer.score(requests))
    assert sorted(index for index, _ in pairs) == list(range(len(requests)))
    return [dict(pairs)[index] for index in range(len(requests))]


def close(one: list[AnswerScore], other: list[AnswerScore]) -> None:
    assert [each.tokens for each in one] == [each.tokens for each in other]
    assert [each.loss for each in one] == pytest.approx([each.loss for each in other], rel=1e-5)


def test_each_request_has_a_score_of_whom_it_names(scorer: AnswerScorer) -> None:
    assert scorer.adapters == NAMES
    found = scores(scorer, REQUESTS)
    assert len({round(each.loss, 4) for each in found}) == len(REQUESTS)
    assert all(each.tokens > 0 and each.loss > 0 for each in found)
    assert {each.tokens for each in found[:4]} == {found[0].tokens}
    assert found[0].per_token == found[0].loss / found[0].tokens


def test_a_score_depends_on_its_request_only(scorer: AnswerScorer) -> None:
    together = scores(scorer, REQUESTS)
    close(together, [scores(scorer, [request])[0] for request in REQUESTS])
    close(together, scores(scorer, REQUESTS[::-1])[::-1])
    for name in (None, *NAMES):  # one LoRA adapter at a time
        own = [index for index, request in enumerate(REQUESTS) if request.adapter == name]
        close([together[index] for index in own], scores(scorer, [REQUESTS[index] for index in own]))


def test_what_cannot_be_scored_gives_its_error(scorer: AnswerScorer) -> None:
    for request, error in (
        (ScoreRequest(as_chat("a"), Message("assistant", "b"), "nobody"), UsageError),
        (ScoreRequest(as_chat("a"), Message("assistant", "long " * 9000), NAMES[0]), DataRejectedError),
    ):
        found = scores(scorer, [REQUESTS[0], request, REQUESTS[1]])
        assert isinstance(found[1], error)
        close([found[0], found[2]], scores(scorer, REQUESTS[:2]))
    assert list(scorer.score([])) == []
