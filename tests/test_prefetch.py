"""Items made before they are needed, by threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from inpaint_core.prefetch import THREAD_NAME, KeyedPrefetch, prefetch, prefetch_map


def running() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(THREAD_NAME)]


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
    while len(made) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert len(made) == 5  # the one that was taken, and four that wait
    iterator.close()
    assert len(made) == 5
    assert not running()


def test_what_making_raises_is_raised_where_items_are_taken() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise MemoryError("no more")

    iterator = prefetch(items(), 4)
    assert next(iterator) == 1
    with pytest.raises(MemoryError, match="no more"):
        next(iterator)


def test_several_threads_keep_the_order_and_the_bound() -> None:
    started: list[int] = []

    def make(number: int) -> int:
        started.append(number)
        time.sleep(0.03 if number % 3 == 0 else 0.0)  # so that later ones are ready before earlier ones
        return -number

    iterator = prefetch_map(make, range(30), threads=4, count=6)
    taken = []
    for value in iterator:
        taken.append(value)
        assert len(started) <= len(taken) + 6
    assert taken == [-number for number in range(30)]
    assert not running()


def test_an_error_of_one_of_several_threads_is_raised_at_its_turn() -> None:
    def make(number: int) -> int:
        if number == 3:
            raise ValueError("three")
        return number

    iterator = prefetch_map(make, range(10), threads=4, count=8)
    assert [next(iterator) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(iterator)
    assert not running()


def test_what_waits_is_dropped_when_the_iterator_is_closed() -> None:
    started: list[int] = []
    go = threading.Event()

    def make(number: int) -> int:
        started.append(number)
        if number:
            go.wait(10)
        return number

    iterator = prefetch_map(make, range(100), threads=2, count=20)
    assert next(iterator) == 0
    deadline = time.monotonic() + 10
    while len(started) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    threading.Timer(0.1, go.set).start()
    iterator.close()
    assert started == [0, 1, 2]
    assert not running()


def test_expected_keys_are_made_once_and_taken_in_any_order() -> None:
    made: list[tuple[str, bool]] = []

    def make(key: str) -> str:
        made.append((key, threading.current_thread() is threading.main_thread()))
        return key.upper()

    with closing(KeyedPrefetch(make, threads=2)) as results:
        results.expect(["a", "b", "b"])
        results.expect(["a", "b", "c"])
        assert [results.take(key) for key in "cabd"] == ["C", "A", "B", "D"]
        assert results.take("a") == "A"
    assert sorted(made) == [("a", False), ("a", True), ("b", False), ("c", False), ("d", True)]


def test_keys_that_are_no_longer_expected_are_dropped() -> None:
    started: list[int] = []
    go = threading.Event()

    def make(key: int) -> int:
        started.append(key)
        go.wait(10)
        return key

    with closing(KeyedPrefetch(make, threads=1)) as results:
        results.expect([0, 1, 2])
        while not started:
            time.sleep(0.01)
        results.expect([2])
        go.set()
        assert results.take(2) == 2
    assert started == [0, 2]


def test_an_error_is_raised_where_its_key_is_taken() -> None:
    def make(key: int) -> int:
        raise OSError(f"{key} is lost")

    with closing(KeyedPrefetch(make, threads=1)) as results:
        results.expect([7])
        with pytest.raises(OSError, match="7 is lost"):
            results.take(7)


def test_without_threads_nothing_is_made_before_it_is_taken() -> None:
    made: list[int] = []
    results = KeyedPrefetch(made.append, threads=0)
    results.expect([1, 2])
    assert made == []
    results.take(2)
    assert made == [2]
