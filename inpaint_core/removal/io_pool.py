"""Threads that read, decode, encode and write, and that are left behind when one of them hangs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar("Item")

THREAD_NAME = "image-io"
"""What the names of all threads begin with."""


@dataclass
class PooledStep(Generic[Item]):
    """One step of one item, running or waiting in a thread."""

    item: Item
    step: Callable[[Item], None]
    future: Future[None] | None = None
    started: float | None = None


@dataclass
class IoPool(Generic[Item]):
    """Runs steps of items in threads, each for a limited time.

    Python cannot end a thread that hangs in a decoder or on a socket; it is left behind, its item is reported, and
    the others go on in fresh threads.

    Args:
        threads: steps that run at the same time.
        timeout: seconds that one step may take, counted from its start.
        on_timeout: called with the item whose step took longer.
    """

    threads: int
    timeout: float
    on_timeout: Callable[[Item], None]
    _executor: ThreadPoolExecutor = field(init=False)

    def __post_init__(self) -> None:
        self._executor = ThreadPoolExecutor(self.threads, thread_name_prefix=THREAD_NAME)

    def submit(self, step: Callable[[Item], None], items: Sequence[Item]) -> list[PooledStep[Item]]:
        """Start a step for each item."""
        pooled_steps = [PooledStep(item, step) for item in items]
        for pooled in pooled_steps:
            self._start(pooled)
        return pooled_steps

    def wait(self, pooled_steps: Sequence[PooledStep[Item]]) -> list[Item]:
        """Wait for all, in order, and return their items; an exception of a step is raised here."""
        for pooled in pooled_steps:
            self._wait(pooled)
        return [pooled.item for pooled in pooled_steps]

    def close(self) -> None:
        """Drop what has not started; do not wait for what has."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _start(self, pooled: PooledStep[Item]) -> None:
        def run() -> None:
            pooled.started = time.monotonic()
            pooled.step(pooled.item)

        pooled.future = self._executor.submit(run)

    def _wait(self, pooled: PooledStep[Item]) -> None:
        while True:
            assert pooled.future is not None
            started = pooled.started
            left = self.timeout if started is None else started + self.timeout - time.monotonic()
            try:
                return pooled.future.result(timeout=max(left, 0.01))
            except FutureTimeoutError:
                if pooled.future.done():  # the step itself raised a TimeoutError
                    raise
                if pooled.started is None:
                    # It never got a thread: all of them hang. Whoever waits for those reports them; this one moves on.
                    if pooled.future.cancel():
                        self._renew()
                        self._start(pooled)
                elif time.monotonic() - pooled.started >= self.timeout:
                    self._renew()
                    return self.on_timeout(pooled.item)

    def _renew(self) -> None:
        self._executor.shutdown(wait=False)
        self._executor = ThreadPoolExecutor(self.threads, thread_name_prefix=THREAD_NAME)
