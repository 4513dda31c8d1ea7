"""Making a data set: balance, conflicts, accounting, determinism, and what is refused."""

import json
from collections import Counter
from itertools import combinations, pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from application.datasets.dataset_metadata import format_as_json, format_from_json
from application.datasets.dataset_request import GenerateRequest
from application.datasets.generate_dataset import assign_splits
from application.ports.datasets import Source
from domain.conversations import RejectReason, RowFormat
from domain.errors import DataRejectedError, TargetExistsError, UsageError
from domain.samples import RoutingSample, normalise_text
from domain.split import Split
from tests.dataset_world import NAMES, generate, path_of, row, rows_of

OUT = Path("out")


def texts(store, name):
    return [json.loads(line)["text"] for line in store.folders[OUT][name].splitlines()]


def test_the_files_hold_what_was_asked_for():
    report, store = generate({name: rows_of(name, 40) for name in NAMES}, train_samples=20, eval_samples=5)
    sizes = {name: len(texts(store, f"{name}.jsonl")) for name in ("data", "train", "val", "eval")}
    assert sizes == {"data": 60, "train": 48, "val": 12, "eval": 15}
    assert texts(store, "data.jsonl") == texts(store, "train.jsonl") + texts(store, "val.jsonl")
    assert report.counts == {Split.TRAIN: 48, Split.VAL: 12, Split.EVAL: 15}
    for name, per_adapter in (("train", 16), ("val", 4), ("eval", 5)):
        rows = store.read_rows(OUT / f"{name}.jsonl")
        assert Counter((row.adapter, row.label) for row in rows) == {
            (adapter, label): per_adapter for label, adapter in enumerate(NAMES)
        }
        assert all(row.text.startswith(row.adapter) and row.source_id == row.text for row in rows)


def test_metadata_keeps_the_keys_of_the_guide():
    _, store = generate({name: rows_of(name, 40) for name in NAMES}, train_samples=20, eval_samples=5, seed=7)
    metadata = store.read_metadata(OUT)
    assert metadata["dataset_name"] == "routing"
    assert metadata["created_at"] == "2025-11-24T12:34:56.000000"
    assert (metadata["seed"], metadata["train_val_split"]) == (7, 0.8)
    assert metadata["adapters"]["claim-window"] == {"label": 1, "source_dataset": "claim-window.jsonl"}
    assert metadata["samples"] == {"train": 48, "val": 12, "eval": 15, "total": 75}
    assert metadata["label_distribution_train"] == dict.fromkeys(NAMES, 16)
    assert metadata["label_distribution_val"] == dict.fromkeys(NAMES, 4)


def test_the_same_request_gives_the_same_bytes_and_another_seed_does_not():
    rows = {name: rows_of(name, 40) for name in NAMES}
    same, again, other = (generate(rows, seed=seed)[1].folders[OUT] for seed in (1, 1, 2))
    assert same == again
    assert same["train.jsonl"] != other["train.jsonl"]


def test_an_adapters_draws_do_not_depend_on_the_other_adapters():
    rows = {name: rows_of(name, 40) for name in NAMES}
    _, three = generate(rows)
    _, two = generate({name: rows[name] for name in NAMES[:2]})
    for name in ("eval.jsonl", "data.jsonl"):
        mine = [sorted(text for text in texts(store, name) if text.startswith("calendar")) for store in (three, two)]
        assert mine[0] == mine[1]


def test_rejected_blank_and_repeated_draws_are_replaced_and_counted():
    good = rows_of("a", 20)
    bad = [None, None, [], {"id": 1}, row("A  PROMPT 3"), row("ａ prompt 4")]
    report, store = generate({"a": good + bad, "b": rows_of("b", 20)}, train_samples=20, eval_samples=0)
    account = report.accounts[0]
    assert len(texts(store, "data.jsonl")) == 40
    assert (account.kept, account.lines) == (20, 26)
    assert account.drawn == 20 + account.blank + account.n_rejected + account.duplicates
    assert account.drawn + account.not_drawn == account.lines
    assert account.drawn > 20
    keys = [normalise_text(text) for text in texts(store, "data.jsonl")]
    assert len(set(keys)) == len(keys)


def test_every_rejected_line_is_told_with_file_line_and_reason():
    rows = {"a": [*rows_of("a", 3), [], {"id": 1}], "b": rows_of("b", 9)}
    report, store = generate(rows, train_samples=9, eval_samples=0, allow_fewer=True)
    lines = [json.loads(line) for line in store.folders[OUT]["rejects.jsonl"].splitlines()]
    assert sorted((one["file"], one["line"], one["reason"]) for one in lines) == [
        ("a.jsonl", 4, "not-an-object"),
        ("a.jsonl", 5, "no-conversation"),
    ]
    assert report.n_rejects == 2
    rejected = {RejectReason.NOT_AN_OBJECT: 1, RejectReason.NO_CONVERSATION: 1}
    assert report.accounts[0].rejected == rejected
    assert store.read_metadata(OUT)["accounting"]["a"]["rejected"] == {str(k): n for k, n in rejected.items()}


def test_of_many_rejected_lines_all_are_counted_and_the_first_twenty_are_kept_per_source():
    rows = {"a": [*rows_of("a", 3), *[[]] * 21], "b": [*rows_of("b", 3), *[[]] * 20]}
    report, store = generate(rows, train_samples=9, eval_samples=0, allow_fewer=True)
    kept = [json.loads(line)["file"] for line in store.folders[OUT]["rejects.jsonl"].splitlines()]
    assert (kept.count("a.jsonl"), kept.count("b.jsonl")) == (20, 20)
    assert [account.n_rejected for account in report.accounts] == [21, 20]


def test_a_text_that_two_adapters_claim_is_dropped_from_both_and_counted():
    shared = [row(f"shared {number}") for number in range(3)]
    rows = {"a": rows_of("a", 10) + shared, "b": [row("SHARED 1"), *rows_of("b", 12), row("shared  2")]}
    _, store = generate(rows, train_samples=8, eval_samples=2, seed=3)
    assert len(texts(store, "data.jsonl") + texts(store, "eval.jsonl")) == 20
    seen = {}
    for name in ("data", "eval"):
        for one in store.read_rows(OUT / f"{name}.jsonl"):
            assert seen.setdefault(normalise_text(one.text), one.adapter) == one.adapter
    everything = generate(rows, train_samples=14, eval_samples=0, allow_fewer=True)[0]
    assert [account.conflicts for account in everything.accounts] == [2, 2]
    assert [account.kept for account in everything.accounts] == [11, 11]


def test_a_text_claimed_three_times_is_under_no_adapter():
    rows = {name: [row("same"), *rows_of(name, 3)] for name in "abc"}
    _, store = generate(rows, train_samples=3, eval_samples=0)
    assert "same" not in texts(store, "data.jsonl")
    full = generate(rows, train_samples=4, eval_samples=0, allow_fewer=True)[0]
    assert [account.conflicts for account in full.accounts] == [1, 1, 1]


def test_fewer_rows_than_asked_for_name_adapter_counts_and_reasons_and_write_nothing():
    rows = {"a": [*rows_of("a", 12), None, [], row("a prompt 1")], "b": rows_of("b", 30)}
    with pytest.raises(DataRejectedError) as caught:
        generate(rows)
    message = str(caught.value)
    assert "a.jsonl: adapter 'a': 15 rows asked, 12 usable in 15 lines" in message
    assert "1 not-an-object, 1 duplicates, 1 blank, first at line 14" in message
    assert "allow fewer" in message


def test_allow_fewer_keeps_the_balance_at_the_smallest_adapters_count():
    rows = {"a": rows_of("a", 9), "b": rows_of("b", 30)}
    report, store = generate(rows, train_samples=10, eval_samples=5, allow_fewer=True)
    assert report.per_adapter == (6, 3)  # in the proportion asked for
    assert Counter(one.adapter for one in store.read_rows(OUT / "data.jsonl")) == {"a": 6, "b": 6}
    assert [account.kept for account in report.accounts] == [9, 9]
    assert report.accounts[1].surplus == report.accounts[1].drawn - 9 > 0


def test_no_usable_row_at_all_is_refused_even_with_fewer_allowed():
    with pytest.raises(DataRejectedError, match="15 rows asked, 0 usable in 1 lines"):
        generate({"a": [[]], "b": rows_of("b", 30)}, allow_fewer=True)


def test_validation_counts_every_line_and_strict_stops_at_the_first_bad_one():
    rows = {"a": [*rows_of("a", 20), [], None, *rows_of("x", 3), {"id": 1}], "b": rows_of("b", 20)}
    report, store = generate(rows, validate=True)
    found = report.validated[0]
    assert (found.lines, found.usable, found.blank) == (26, 23, 1)
    assert found.rejected == {RejectReason.NOT_AN_OBJECT: 1, RejectReason.NO_CONVERSATION: 1}
    assert store.read_metadata(OUT)["validation"]["b"]["usable"] == 20
    rejects = [json.loads(line) for line in store.folders[OUT]["rejects.jsonl"].splitlines()]
    assert [one["line"] for one in rejects] == [21, 26]
    with pytest.raises(DataRejectedError, match=r"a\.jsonl: line 21: not-an-object"):
        generate(rows, strict=True)


def test_a_taken_folder_is_refused_and_replaced_only_when_told():
    rows = {"a": rows_of("a", 20)}
    _, store = generate(rows)
    with pytest.raises(TargetExistsError):
        generate(rows, store)
    before = dict(store.folders[OUT])
    generate(rows, store, seed=5, replace=True)
    assert store.folders[OUT]["train.jsonl"] != before["train.jsonl"]


def test_without_a_folder_the_name_is_made_of_prefix_and_time_and_is_unique():
    rows = {"a": rows_of("a", 20)}
    first, store = generate(rows, output_dir=None, prefix="mine")
    second, _ = generate(rows, store, output_dir=None, prefix="mine")
    assert first.path == Path("datasets/mine_20251124_123456")
    assert second.path == Path("datasets/mine_20251124_123456_2")


@pytest.mark.parametrize("name", ["../../x", "a/b", "..", "a\nb", "", "x" * 65, "x" * 300, "é"])
def test_unsafe_names_are_refused(name):
    with pytest.raises(UsageError, match="not"):
        GenerateRequest([Source("a", path_of("a"))], prefix=name)
    with pytest.raises(UsageError, match="not allowed"):
        GenerateRequest([Source(name, path_of("a"))])


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"train_samples": 0}, "train-samples 0"),
        ({"eval_samples": -1}, "eval-samples -1"),
        ({"train_val_split": 1.5}, "train-val-split 1.5"),
        ({"train_val_split": float("nan")}, "train-val-split nan"),
        ({"sources": []}, "at least one adapter"),
        ({"sources": [Source("a", Path("x")), Source("a", Path("y"))]}, "named twice"),
        ({"sources": [Source("a", Path("-")), Source("b", Path("-"))]}, "standard input"),
        ({"sources": [Source("a", Path("x"), line_limit=0)]}, "line-limit"),
    ],
)
def test_senseless_requests_are_refused(options, complaint):
    with pytest.raises(UsageError, match=complaint):
        GenerateRequest(**{"sources": [Source("a", path_of("a"))], **options})


pools = st.lists(st.integers(0, 12), min_size=4, max_size=20)  # small numbers: many repeats and conflicts


@given(pools=st.lists(pools, min_size=2, max_size=4), seed=st.integers(0, 5), n_train=st.integers(1, 6))
@settings(max_examples=150, deadline=None)
def test_whatever_the_input_the_promises_hold_or_it_is_refused(pools, seed, n_train):
    rows = {f"a{label}": [row(f"t{number}") for number in pool] for label, pool in enumerate(pools)}
    try:
        report, store = generate(rows, train_samples=n_train, eval_samples=2, seed=seed, allow_fewer=True)
    except DataRejectedError:
        return
    parts = {name: [] for name in ("train", "val", "eval")}
    for name in parts:
        if store.folders[OUT].get(f"{name}.jsonl"):
            parts[name] = [(normalise_text(one.text), one.adapter) for one in store.read_rows(OUT / f"{name}.jsonl")]
    everything = [key for part in parts.values() for key, _ in part]
    assert len(set(everything)) == len(everything)
    counts = Counter(adapter for part in parts.values() for _, adapter in part)
    assert len(set(counts.values())) == 1
    assert len(counts) == len(rows)
    for account in report.accounts:
        losses = account.blank + account.n_rejected + account.duplicates + account.conflicts + account.surplus
        assert account.drawn == account.kept + losses
        assert 0 <= account.not_drawn == account.lines - account.drawn
    for one, other in combinations(parts, 2):
        assert not {key for key, _ in parts[one]} & {key for key, _ in parts[other]}


def test_each_line_is_as_likely_in_each_split():
    """Chi-square over seeds for the split assignment, with a third of the draws rejected and replaced."""
    n_seeds, usable = 400, 24
    lines = [one for text in rows_of("a", usable) for one in (text, None)][: usable + 12]
    counts = {split: Counter() for split in ("train", "val", "eval")}
    for seed in range(n_seeds):
        _, store = generate({"a": lines}, train_samples=10, eval_samples=5, seed=seed)
        for split in counts:
            counts[split].update(texts(store, f"{split}.jsonl"))
    n_texts = sum(one is not None for one in lines)
    for split, size in (("train", 8), ("val", 2), ("eval", 5)):
        expected = n_seeds * size / n_texts
        values = [counts[split][f"a prompt {number}"] for number in range(n_texts)]
        chi_square = sum((value - expected) ** 2 / expected for value in values)
        assert n_texts == 18
        assert chi_square < 40.8, f"{split}: {values}"  # 0.999 quantile at 17 degrees of freedom


def test_splits_are_mixed_over_the_adapters():
    rows = [[RoutingSample(f"{name}{n}", label, name, "") for n in range(50)] for label, name in enumerate("ab")]
    train = assign_splits(rows, 0, 0.8, 0)[Split.TRAIN]
    changes = sum(one.adapter != other.adapter for one, other in pairwise(train))
    assert changes > 20


ALPACA, OTHER_TAGS = RowFormat(layout="columns", columns=("q",)), RowFormat(user_roles={"me"}, role_tags=["w"])


@pytest.mark.parametrize("row_format", [RowFormat(), ALPACA, OTHER_TAGS])
def test_a_row_format_survives_metadata(row_format):
    stored = json.loads(json.dumps(format_as_json(row_format)))
    assert format_as_json(format_from_json(stored)) == stored
    assert format_from_json(stored).is_user("human") == row_format.is_user("human")
    for damaged in ({}, {**stored, "layout": "odd"}, {**stored, "columns": 7}):
        with pytest.raises((KeyError, TypeError, ValueError)):
            format_from_json(damaged)
