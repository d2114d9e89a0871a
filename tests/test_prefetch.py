"""Items made ahead on a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from inpaint_core.prefetch import prefetch


def test_all_items_come_in_their_order() -> None:
    assert list(prefetch(range(100), 3)) == list(range(100))
    assert list(prefetch([None, BaseException], 1)) == [None, BaseException]
    assert list(prefetch([], 2)) == []


def test_items_are_made_before_they_are_asked_for_and_no_more_than_that() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(50):
            made.append(number)
            yield number

    iterator = prefetch(items(), 4)
    assert next(iterator) == 0
    deadline = time.monotonic() + 10
    while len(made) < 6 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert len(made) == 6  # the one that was taken, four that wait, and one that waits for room
    iterator.close()  # type: ignore[attr-defined]
    assert len(made) == 6
    assert not [thread for thread in threading.enumerate() if thread.name == "ahead"]


def test_what_making_raises_is_raised_where_items_are_taken() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise MemoryError("no more")

    iterator = prefetch(items(), 4)
    assert next(iterator) == 1
    with pytest.raises(MemoryError, match="no more"):
        next(iterator)
