"""The examples of docs/data-formats.md are read as the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from adapters.datasets.source_reader import FileSourceReader
from application.ports.datasets import Source

PAGE = (Path(__file__).parents[1] / "docs" / "data-formats.md").read_text()
EXAMPLES = re.findall(r"```json\n(.*?)\n```\n\nRead as `(.*?)`, routed: `(.*?)`", PAGE, re.DOTALL)


def test_no_example_is_left_out():
    assert len(EXAMPLES) == PAGE.count("```json\n") > 8


@pytest.mark.parametrize(("row", "read_as", "routed"), EXAMPLES)
def test_a_row_is_read_as_the_page_says(tmp_path, row, read_as, routed):
    (tmp_path / "rows.jsonl").write_text(row)
    with FileSourceReader().open(Source("a", tmp_path / "rows.jsonl"), seed=0, expected=1) as draws:
        (line,) = draws
    assert draws.source.read_as == f"JSON Lines; {read_as}"
    assert line.outcome.replace("\n", " / ") == routed
