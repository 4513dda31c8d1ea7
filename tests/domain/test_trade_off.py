from __future__ import annotations

from attrs import evolve

from domain.abstention import ScoredRow
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
    assert all(one.refused == 1.0 for one in table)


def test_why_prompts_are_refused_is_told():
    limits = trade_off(ROWS)[2]
    refused = [row for row in ROWS if row.in_scope and row.confidence < limits.min_confidence]
    assert refused
    assert limits.strange == 0.0  # every score is below the limit
    far = [evolve(row, out_of_scope=9.0) if row.changed and row.confidence > 0.9 else row for row in ROWS]
    assert trade_off(far)[2].strange > 0.0
