"""Threads that read, decode, encode and write, and that are left behind when one of them hangs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for_futures
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar("Item")

THREAD_NAME = "image-io"
"""What the names of all threads begin with."""


_LONGEST_PAUSE = 1.0  # seconds


@dataclass
class PooledStep(Generic[Item]):
    """One step of one item, running or waiting in a thread."""

    item: Item
    step: Callable[[Item], None]
    future: Future[None]
    queued: float
    """When it was given to the threads, by the clock of the pool."""
    started: float | None = None
    over: bool = False
    """Whether it has ended, or was reported."""


@dataclass
class IoPool(Generic[Item]):
    """Runs steps of items in threads, each for a limited time.

    Python cannot end a thread that hangs in a decoder or on a socket; it is left behind, its item is reported, and
    the others go on in fresh threads.

    Args:
        threads: steps that run at the same time.
        timeout: seconds that one step may take, counted from its start.
        on_timeout: called with the item whose step took longer.
        excused: seconds so far that do not count, such as those of an outage.
    """

    threads: int
    timeout: float
    on_timeout: Callable[[Item], None]
    excused: Callable[[], float] = float
    _executor: ThreadPoolExecutor = field(init=False)

    def __post_init__(self) -> None:
        self._executor = self._new_executor()

    def submit(self, step: Callable[[Item], None], items: Sequence[Item]) -> list[PooledStep[Item]]:
        """Start a step for each item."""
        pooled_steps = [PooledStep(item, step, Future(), 0.0) for item in items]
        for pooled in pooled_steps:
            self._start(pooled)
        return pooled_steps

    def ready(self, pooled_steps: Sequence[PooledStep[Item]]) -> bool:
        """Whether all have ended or were reported; an exception of a step is raised here."""
        for pooled in pooled_steps:
            if not pooled.over:
                self._look_at(pooled)
        return all(pooled.over for pooled in pooled_steps)

    def wait(self, pooled_steps: Sequence[PooledStep[Item]]) -> list[Item]:
        """Wait for all, and return their items in order; an exception of a step is raised here."""
        while not self.ready(pooled_steps):
            self.pause(pooled_steps)
        return items(pooled_steps)

    def pause(self, pooled_steps: Iterable[PooledStep[Item]]) -> None:
        """Wait until one more of them has ended, or has taken too long; for a second at most."""
        running = [pooled for pooled in pooled_steps if not (pooled.over or pooled.future.done())]
        longest = min((self._left(pooled) for pooled in running), default=0.0)
        wait_for_futures(
            [pooled.future for pooled in running], min(max(longest, 0.01), _LONGEST_PAUSE), return_when=FIRST_COMPLETED
        )

    def close(self) -> None:
        """Drop what has not started; do not wait for what has."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _start(self, pooled: PooledStep[Item]) -> None:
        def run() -> None:
            pooled.started = self._clock()
            pooled.step(pooled.item)

        pooled.queued = self._clock()
        pooled.future = self._executor.submit(run)

    def _look_at(self, pooled: PooledStep[Item]) -> None:
        if pooled.future.done():
            pooled.over = True
            pooled.future.result()
        elif self._left(pooled) > 0:
            return
        elif pooled.started is not None:
            pooled.over = True
            self._renew()
            self.on_timeout(pooled.item)
        elif pooled.future.cancel():  # it never got a thread: all of them hang. Those are reported; this one moves on.
            self._renew()
            self._start(pooled)

    def _left(self, pooled: PooledStep[Item]) -> float:
        """Seconds before a step has taken too long, or has waited too long for a thread."""
        return (pooled.queued if pooled.started is None else pooled.started) + self.timeout - self._clock()

    def _clock(self) -> float:
        return time.monotonic() - self.excused()

    def _renew(self) -> None:
        self._executor.shutdown(wait=False)
        self._executor = self._new_executor()

    def _new_executor(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.threads, thread_name_prefix=THREAD_NAME)


def items(pooled_steps: Sequence[PooledStep[Item]]) -> list[Item]:
    """The items of steps, in order."""
    return [pooled.item for pooled in pooled_steps]
