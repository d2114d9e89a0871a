"""Items made before they are needed, by threads: in order, or by key."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import repeat
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")
R = TypeVar("R")

THREAD_NAME = "prefetch"
"""What the names of all threads begin with."""


def prefetch(items: Iterable[T], count: int) -> Generator[T, None, None]:
    """The items, up to `count` of them made by a thread before they are asked for.

    An exception of an item is raised where that item is taken. When the iterator is closed, the thread ends after the item
    that it is making.

    Args:
        items: advanced by one thread alone.
        count: at least 1.
    """
    iterator = iter(items)

    def make(_: None) -> tuple[T] | None:
        for item in iterator:
            return (item,)
        return None

    with closing(prefetch_map(make, repeat(None), threads=1, count=count)) as made:
        while (entry := next(made)) is not None:
            yield entry[0]


def prefetch_map(make: Callable[[T], R], items: Iterable[T], *, threads: int, count: int) -> Generator[R, None, None]:
    """The results of a function for each item, in their order, up to `count` made before they are asked for.

    An exception of the function is raised where its result is taken. When the iterator is closed, the threads end after the
    calls that they are in.

    Args:
        make: called by several threads at a time.
        items: advanced by the thread that takes the results.
        threads: calls at a time, at most.
        count: at least 1.
    """
    waiting: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix=THREAD_NAME)
    try:
        for item in items:
            waiting.append(pool.submit(make, item))
            if len(waiting) > count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


class KeyedPrefetch(Generic[K, R]):
    """The results of a function by key, made before they are taken, in whatever order that is.

    An exception of the function is raised where its result is taken.

    Args:
        make: called by several threads at a time.
        threads: calls at a time, at most; 0: each result is made when it is taken.
    """

    def __init__(self, make: Callable[[K], R], threads: int) -> None:
        self._make = make
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None
        self._expected: dict[K, Future[R]] = {}

    def expect(self, keys: Sequence[K]) -> None:
        """Begin to make the results of some keys; those of other keys that were expected are dropped."""
        if not self._threads:
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix=THREAD_NAME)
        for key in self._expected.keys() - set(keys):
            self._expected.pop(key).cancel()
        for key in keys:
            if key not in self._expected:
                self._expected[key] = self._pool.submit(self._make, key)

    def take(self, key: K) -> R:
        """The result of a key, which is made now unless it was expected."""
        expected = self._expected.pop(key, None)
        return self._make(key) if expected is None else expected.result()

    def close(self) -> None:
        """Make nothing more that was expected; `expect` starts the threads again."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None
            self._expected.clear()
