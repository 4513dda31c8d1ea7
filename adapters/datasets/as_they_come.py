"""Working on what has arrived, without waiting for more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from queue import Empty, Queue
from threading import Thread
from typing import TypeVar

Item = TypeVar("Item")


def in_chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield lists of `size` items, the last one shorter: the same lists for the same items."""
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk


def as_they_come(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield lists of what has arrived, at most `size` items each: waits for the first of each list only.

    The items are taken in another thread, at most `size` ahead. What they raise is raised after those before it.
    """
    arrived: Queue[list[Item] | BaseException | None] = Queue(maxsize=size)

    def read() -> None:
        try:
            for item in items:
                arrived.put([item])
            arrived.put(None)
        except BaseException as error:
            arrived.put(error)

    Thread(target=read, daemon=True).start()
    chunk: list[Item] = []
    while True:
        try:
            found = arrived.get(block=not chunk)
        except Empty:
            found = []
        if isinstance(found, list) and found and len(chunk) + 1 < size:
            chunk += found
            continue
        chunk += found if isinstance(found, list) else []
        if chunk:
            yield chunk
        chunk = []
        if found is None:
            return
        if isinstance(found, BaseException):
            raise found
