"""What comes through a pipe is worked on while the pipe is open."""

from queue import Queue

import pytest

from adapters.datasets.as_they_come import as_they_come, in_chunks


def test_a_list_waits_for_nothing_but_its_first_item():
    pipe: Queue[int | None] = Queue()
    found = as_they_come(iter(pipe.get, None), 3)
    pipe.put(1)
    assert next(found) == [1]  # while the pipe is open
    for item in (2, 3, 4, 5, None):
        pipe.put(item)
    rest = list(found)
    assert [item for one in rest for item in one] == [2, 3, 4, 5]
    assert all(1 <= len(one) <= 3 for one in rest)


def test_what_came_before_an_error_is_not_lost():
    def items():
        yield from "ab"
        raise KeyError("c")

    found, seen = as_they_come(items(), 8), []
    with pytest.raises(KeyError):
        seen.extend(item for one in found for item in one)
    assert seen == ["a", "b"]


def test_chunks_of_a_file_are_always_the_same():
    assert list(in_chunks(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(in_chunks([], 2)) == []
