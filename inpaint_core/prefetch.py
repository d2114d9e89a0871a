"""Items made before they are needed, by threads: ordered and bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import repeat
from typing import TypeVar

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
