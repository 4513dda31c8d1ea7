"""Finding lines without looking at the others, against splitting the whole content."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.datasets.raw_lines import LineLocator


class Keeper:
    def __init__(self):
        self.lines = []

    def begin(self):
        self.lines.append(b"")

    def add(self, part):
        self.lines[-1] += bytes(part)


CONTENTS = st.lists(st.sampled_from([b"\n", b"\n\n", b"a", b"bc\n", b"\r\n", b"long line " * 9, b"\xff\x00"])).map(
    b"".join
)


@given(content=CONTENTS, block=st.sampled_from([1, 2, 3, 7, 64, 4096]), data=st.data())
@settings(max_examples=300, deadline=None)
def test_the_wanted_lines_are_found_whatever_the_block_size(content, block, data):
    lines = content.split(b"\n")
    lines = lines if lines[-1] else lines[:-1]
    wanted = sorted(data.draw(st.sets(st.integers(0, len(lines) + 3))))
    keeper = Keeper()
    locator = LineLocator(io.BytesIO(content), block, keeper)
    spans = list(locator.locate(iter(wanted)))
    expected = [number for number in wanted if number < len(lines)]
    assert locator.lines == len(lines)
    assert [span.line for span in spans] == expected
    assert [content[span.start : span.start + span.length] for span in spans] == [lines[n] for n in expected]
    assert keeper.lines[: len(expected)] == [lines[n] for n in expected]
    assert [content[: span.start].count(b"\n") for span in spans] == expected


@pytest.mark.parametrize("step", [1, 499, 501, 3000])
def test_far_and_near_line_ends_of_one_block_are_found(step):
    content = b"".join(b"%d\n" % number for number in range(10_000))
    wanted = range(0, 10_000, step)
    spans = list(LineLocator(io.BytesIO(content), len(content)).locate(iter(wanted)))
    assert [int(content[span.start : span.start + span.length]) for span in spans] == list(wanted)
