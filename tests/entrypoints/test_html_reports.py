"""The pages to send around: complete, self-contained, and safe whatever prompts and names hold."""

from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest
from attrs import evolve

from application.datasets.inspect_dataset import AdapterTexts, InspectReport, NearDuplicate
from application.routing.evaluate_router import EvaluateReport, OutOfScopeFigures, WrongRow
from domain.evaluation import GradedRow, evaluate
from domain.fragility import changed_figures
from domain.samples import RoutingSample
from domain.split import Split
from domain.text_statistics import PERCENTILES, TellingWord
from entrypoints.reports.html import dataset_page, evaluation_page
from tests.router_world import LABELS, router_card
from tests.scored_world import TRADE_OFF

NOW = datetime(2026, 11, 26, tzinfo=UTC)
HOSTILE = "</td><script>alert('x')</script><img src=http://evil.example/x.png> {{ 7 * 7 }} & \x1b[31m \ud800 \u202e"


class Page(HTMLParser):
    """What a browser would find: which elements there are, and what is to be read."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.tags, self.attributes, self.read = [], [], []
        self.feed(content.decode())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.read.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.read).split())


@pytest.fixture(scope="module")
def report() -> EvaluateReport:
    graded = [GradedRow(row % 3, row % 3 if row else 1, 0.5 + row / 50, row > 1) for row in range(20)]
    wrong = WrongRow(HOSTILE, "red", "green", 0.51, True, 0.1, HOSTILE, "green", 0.93)
    return EvaluateReport(
        data_path=Path("data/eval.jsonl"),
        figures=evaluate(graded, LABELS),
        card=evolve(router_card(), trade_off=TRADE_OFF, dataset=HOSTILE.replace("\ud800", "")),
        router_sha256="a" * 64,
        wrong=(wrong,),
        out_of_scope=OutOfScopeFigures(98, 0.97, 0.9, 0.91),
        robustness={"typos": changed_figures(graded, graded)},
        warnings=(f"refuses much <b>{HOSTILE}</b>",),
        remembered=3,
    )


def self_contained(page: Page) -> None:
    assert not {"script", "iframe", "object", "link", "img"} & set(page.tags)
    outside = [value for name, value in page.attributes if name in ("src", "href", "xlink:href") and value]
    assert all(value.startswith(("#", "data:image/png;base64,")) for value in outside)


def test_a_score_as_a_page_has_everything_and_nothing_from_elsewhere(report):
    page = Page(evaluation_page(report, NOW))
    self_contained(page)
    assert page.tags.count("svg") == 2
    for part in (
        "95.0 % of the prompts go to the right adapter",
        "91.0 % of 98 prompts that belong to no adapter are refused",
        "trained or calibrated on 3 of these prompts",
        "applies: 2.0 %",
        "of prompts that were changed in 1 ways are answered, 0.0 % of these wrongly",
        "typos",
        "letters swapped, doubled or left out",
        "Expected calibration error",
        "Area under the curve",
        "a" * 64,
        report.card.features.base.fingerprint,
        "moe-lora-router",
        "numpy",
        "2026-11-26",
        "similarity 0.930",
    ):
        assert part in page.text, part


def test_limits_at_one_place_of_the_curve_are_named_once(report):
    card = evolve(report.card, trade_off=tuple(evolve(one, min_confidence=0.8) for one in TRADE_OFF))
    texts = Page(evaluation_page(evolve(report, card=card), NOW)).read
    assert "0.02 to 0.05" in texts


def test_what_others_wrote_is_text_in_a_page(report):
    page = Page(evaluation_page(report, NOW))
    assert "<script>alert('x')</script>" in page.text  # as text
    assert "{{ 7 * 7 }}" in page.text
    assert "\\u001b[31m \\ud800 \\u202e" in page.text


def test_many_adapters_and_no_wrong_row_and_a_missing_limit_make_a_page(report):
    plain = evolve(report, wrong=(), robustness={}, out_of_scope=None, warnings=(), remembered=0)
    page = Page(evaluation_page(plain, NOW))
    assert "None." in page.text
    assert "What changed prompts do" not in page.text


def test_a_data_set_as_a_page():
    counts = {Split.TRAIN: 8, Split.VAL: 2}
    lengths = dict.fromkeys(PERCENTILES, 30)
    adapters = [
        AdapterTexts(name, counts, (10, 20, 5000), lengths, lengths, (TellingWord(HOSTILE, 3.0, 4),))
        for name in LABELS.names
    ]
    rows = [RoutingSample(HOSTILE, label, name, "1") for label, name in enumerate(LABELS.names[:2])]
    report = InspectReport(
        Path("my <b>data"), tuple(adapters), (NearDuplicate(0.9, *rows),), {("red", "green"): 1}, 0.8
    )
    page = Page(dataset_page(report, NOW))
    self_contained(page)
    assert "my <b>data" in page.text
    assert "3 adapters, 30 prompts" in page.text
    assert page.text.count("<script>") == 3 + 2
    assert page.tags.count("svg") == 2
