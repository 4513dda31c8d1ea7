from __future__ import annotations

from attrs import evolve

from domain.abstention import OUT_OF_SCOPE_ALLOWANCE, OUT_OF_SCOPE_ANSWERED, ScoredRow
from domain.trade_off import LIMITS_SHOWN, trade_off

ROWS = [
    *(ScoredRow(0.5 + i / 400, i / 1000, right=i > 20) for i in range(200)),
    *(ScoredRow(0.45 + i / 400, 0.02 + i / 1000, right=i > 40, changed=True) for i in range(200)),
    *(ScoredRow(0.4, 0.5 + i / 1000, right=False, in_scope=False) for i in range(100)),
]


def test_a_looser_target_never_answers_less_and_another_target_may_be_added():
    table = trade_off(ROWS, 0.03)
    assert [one.target_error for one in table] == sorted({*LIMITS_SHOWN, 0.03})
    coverages = [one.coverage for one in table]
    assert coverages == sorted(coverages)
    for one in table:
        assert one.refused >= 1 - max(OUT_OF_SCOPE_ANSWERED, OUT_OF_SCOPE_ALLOWANCE * one.target_error)
    assert table[-1].refused < table[0].refused == 1.0


def test_why_prompts_are_refused_is_told():
    limits = trade_off(ROWS)[2]
    refused = [row for row in ROWS if row.in_scope and row.confidence < limits.min_confidence]
    assert refused
    assert limits.strange == 0.0  # every score is below the limit
    far = [evolve(row, out_of_scope=9.0) if row.changed and row.confidence > 0.9 else row for row in ROWS]
    assert trade_off(far)[2].strange > 0.0


def test_every_share_is_counted_over_its_own_kind_of_rows():
    outside = [ScoredRow(0.3 + i / 100, 0.1 + i / 20, right=False, in_scope=False) for i in range(40)]
    far = [evolve(row, out_of_scope=9.0) for row in ROWS if row.changed][::3]
    rows = [row for row in ROWS if row.in_scope] + far + outside
    table = trade_off(rows)
    for one in table:

        def answered(row, one=one):
            return row.confidence >= one.min_confidence and row.out_of_scope <= one.max_out_of_scope

        kinds = {
            "own": [row for row in rows if row.in_scope and not row.changed],
            "changed": [row for row in rows if row.changed],
        }
        shares = {}
        for kind, some in kinds.items():
            said = [row.right for row in some if answered(row)]
            shares[kind] = (len(said) / len(some), said.count(False) / len(said))
        assert (one.coverage, one.error) == shares["own"]
        assert (one.changed_coverage, one.changed_error) == shares["changed"]
        assert one.refused == sum(not answered(row) for row in outside) / 40
        refused = [row for row in rows if row.in_scope and not answered(row)]
        assert one.strange == sum(row.out_of_scope > one.max_out_of_scope for row in refused) / len(refused)
    assert 0.0 < one.error < 1.0
    assert 0.0 < one.refused <= 1.0
    assert any(0.0 < one.strange < 1.0 for one in table)


def test_rows_of_a_kind_that_is_not_there_count_as_nothing():
    one = trade_off([ScoredRow(0.9, 0.1, right=True) for _ in range(30)])[0]
    assert (one.coverage, one.error) == (1.0, 0.0)
    assert (one.changed_coverage, one.changed_error, one.refused, one.strange) == (0.0, 0.0, 0.0, 0.0)


def test_the_targets_that_are_shown():
    assert LIMITS_SHOWN == (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
