"""What the robustness benchmark promises: unseen wordings, rows that do not leak, and counts that add up."""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
from attrs import evolve

from domain.change_wordings import WORDINGS
from domain.robustness import CHANGES
from domain.samples import RoutingSample
from tests.benchmarks.test_routing_benchmark import BENCHMARKS, folder

__all__ = ["folder"]  # a fixture


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def imported(name: str) -> ModuleType:
        return __import__(name)

    return imported


def test_changed_prompts_have_wordings_that_the_product_does_not_have(module):
    changed = module("changed_prompts")
    assert {kind.name for kind in changed.CHANGES} == {kind.name for kind in CHANGES}
    known = {wording for _, wordings in WORDINGS.values() for wording in wordings}
    lists = [value for name, value in vars(changed).items() if name.isupper() and isinstance(value[0], str)]
    assert len(lists) == 11
    for wordings in lists:
        assert len(set(wordings)) == len(wordings) >= 12
        assert not known & set(wordings)


def test_templated_rows_are_distinct_and_prompts_by_hand_are_none_of_them(module):
    templated = module("templated")
    data = templated.draw(50, seed=1)
    assert data == templated.draw(50, seed=1)
    assert Counter(row.adapter for row in data.train) == dict.fromkeys(data.routes, 40)
    assert Counter(row.adapter for row in data.val) == dict.fromkeys(data.routes, 10)
    texts = [row.text for row in (*data.train, *data.val)]
    assert len(set(texts)) == len(texts)
    assert not [text for text in texts if "{" in text]
    assert (len(data.test), len(data.out_of_scope)) == (30, 15)
    assert not set(texts) & {row.text for row in data.test}
    assert len(templated.draw(200, seed=1).train) == 160 * 6


def test_documents_train_on_no_unseen_wording_and_on_no_subject_of_the_test(module):
    documents = module("documents")
    data = documents.draw(20, seed=1, test_per_task=4)
    trained = "\n".join(row.text for row in (*data.train, *data.val))
    literal = [wording for wordings in documents.TASKS.values() for wording in wordings if "{" not in wording]
    unseen = [w for wordings in documents.TASKS.values() for w in wordings[-documents.UNSEEN :] if "{" not in w]
    assert not [wording for wording in unseen if wording in trained]
    assert len([wording for wording in literal if wording in trained]) > 30
    long = data.test["last, beyond 512 tokens"]
    assert all(len(row.text.split()) >= 600 for row in long)
    # A subject is told by sentences without a place to fill.
    fixed = [{line for line in each.sentences if "{" not in line} for each in documents.subjects()]
    assert len(fixed) == 22
    tested = "\n".join(row.text for rows in data.test.values() for row in rows)
    for sentences in fixed:
        assert not (any(line in trained for line in sentences) and any(line in tested for line in sentences))
    for case, rows in data.test.items():
        assert Counter(row.adapter for row in rows) == dict.fromkeys(documents.TASKS, 4), case


class OneRoute:
    """Answers everything that is longer than three words, with the first route."""

    def train(self, train: object, val: object) -> None:
        pass

    def score(self, texts):
        import numpy as np
        from routing_peers import Scored

        long = np.array([len(text.split()) > 3 for text in texts], float)
        return Scored(np.zeros(len(texts), int), long, 1 - long)


def test_counts_of_every_case_add_up_and_make_the_tables(module, folder):
    trials, robustness = module("robustness_trials"), module("robustness")
    trial = trials.changed_trial(folder, 10, 1, test_per_route=5, out_of_scope=6, noise=0.0, unbalanced=False)
    assert Counter(row.label for row in trial.train) == dict.fromkeys(range(3), 8)
    assert [case.kind for case in trial.cases] == [
        "unchanged",
        *robustness.KINDS,
        "out of scope",
        "out of scope, changed",
    ]
    run = {"part": "changed", "system": "one", "samples": 10, "seed": 1}
    counts = trials.measure(trials.PeerAnswers(OneRoute(), [1.0]), trial, **run)
    first = counts[0]
    assert (first.kind, first.total, first.right) == ("unchanged", 15, 5)
    assert all(each.answered_rightly <= min(each.right, each.answered) <= each.total for each in counts)
    assert [each.total for each in counts] == [15] * 16 + [6, 6]
    half = [evolve(first, kind="unchanged", answered=10, answered_rightly=4), *counts[1:]]
    report = robustness.report(half)
    assert "| one | 10 | 1.0 | unchanged | 0.333 | 0.267 | 0.600 |  |" in report
    assert "| one | 10 | 1.0 | 1 | 0.667 (0.667) | 0.600 (0.600) |" in report


def test_a_limit_for_peers_is_the_lowest_that_keeps_the_target(module):
    trials, peers = module("robustness_trials"), module("routing_peers")
    rows = [RoutingSample("a b c", 0, "x", "1"), RoutingSample("a b c d", 1, "y", "2")]

    class Ranked(OneRoute):
        def score(self, texts):
            import numpy as np

            confidence = np.array([0.9 if len(text.split()) == 3 else 0.5 for text in texts])
            return peers.Scored(np.zeros(len(texts), int), confidence, 1 - confidence)

    system = trials.PeerAnswers(Ranked(), [0.0, 0.5])
    system.train(rows, rows)
    answered = system(["a b c", "a b c d"]).answered
    assert {target: each.tolist() for target, each in answered.items()} == {0.0: [True, False], 0.5: [True, True]}


def test_rows_can_be_unbalanced_and_labels_wrong(module, folder):
    trials = module("robustness_trials")

    def trial(noise: float, unbalanced: bool):
        return trials.changed_trial(
            folder, 20, 1, test_per_route=5, out_of_scope=6, noise=noise, unbalanced=unbalanced
        )

    assert Counter(row.label for row in trial(0.0, True).train) == {0: 16, 1: 7, 2: 16}
    pairs = list(zip(trial(0.0, False).train, trial(0.5, False).train, strict=True))
    wrong = sum(before.label != after.label for before, after in pairs)
    assert 0.3 * len(pairs) < wrong < 0.7 * len(pairs)


def test_results_are_gone_on_with_only_under_the_same_settings(module, tmp_path: Path):
    robustness, trials = module("robustness"), module("robustness_trials")
    count = trials.Count("changed", "one", 10, 1, 0.02, "unchanged", 4, 3, 2, 2, 0.1)
    robustness.save([count], {"oos": 6}, tmp_path / "kept.json")
    assert robustness.load(tmp_path / "kept.json", {"oos": 6}) == [count]
    with pytest.raises(ValueError, match="holds counts of"):
        robustness.load(tmp_path / "kept.json", {"oos": 7})


PARROT = """
class Parrot:
    file_bytes = 7

    def train(self, train, val):
        print("chatter")
        assert [row.adapter for row in train] == ["banking"] and not val

    def route(self, text):
        assert text.startswith("how")

SYSTEMS = {"parrot": ("a parrot", lambda seed: Parrot())}
"""


def test_a_worker_takes_its_code_from_the_checkout_that_it_is_given(module, tmp_path: Path):
    cost = module("robustness_cost")
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "routing.py").write_text(PARROT)
    (tmp_path / "domain").symlink_to(BENCHMARKS.parent / "domain")
    worker = cost.Worker("parrot", 1, tmp_path)
    rows = (RoutingSample("how much", 0, "banking", "1"),)
    trained = worker.train(module("routing_data").BenchmarkData(("banking",), rows, (), (), ()))
    assert trained["bytes"] == 7
    assert min(trained.values()) >= 0
    taken = cost.times([worker], ["how\nlong"] * 8)
    assert [len(each) for each in taken] == [8 - cost.WARM_UP]
    assert min(taken[0]) > 0
    with pytest.raises(SystemExit, match=r"parrot of .* ended"):
        worker.ask("what")
    worker.close()


def test_five_sentences_begin_with_the_prompt_and_ratios_are_of_the_same_prompt(module):
    cost = module("robustness_cost")
    text = cost.of_five("how long", random.Random(1))
    assert text.startswith("how long. ")
    assert len(set(re.split(r"(?<=[.!]) ", text))) >= 5
    assert cost.shown([2.0, 4.0, 6.0], [1.0, 2.0, 12.0]) == ["4.0 (2.0 to 6.0)", "2.00"]
