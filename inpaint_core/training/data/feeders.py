"""Processes that make samples beside the training, over shared memory.

Each feeder has a pipe, which its work and its answers go through, and two slots of one anonymous piece of memory, where it
puts what it makes: while one is taken, it fills the other. They are plain processes without torch and Ray (a quarter of
a second to start, 60 MB each); they end when their pipe does, which is when the process that started them ends in any way.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Sequence
from multiprocessing.connection import Connection, Pipe
from typing import BinaryIO

from inpaint_core.hole_masks.keyed_random import Keys
from inpaint_core.training.data.sample_maker import Made, SampleMaker

SLOTS = 2
"""Of each feeder."""

_SECONDS_TO_END = 5.0
_MOST_BESIDE_GPU = 16
_CPUS_PER_FEEDER = 4  # where the CPUs train as well


def feeder_count(wanted: int | None, cpus: int, *, gpu: bool) -> int:
    """Feeders of a worker.

    Args:
        wanted: the setting; None: it follows from the rest.
        cpus: that the worker reserves.
        gpu: whether a GPU trains. It needs one CPU for its launches; otherwise the CPUs themselves train, slowly enough
            to leave little to feed.
    """
    if wanted is not None:
        return wanted
    return min(cpus - 1, _MOST_BESIDE_GPU) if gpu else cpus // _CPUS_PER_FEEDER


class Inline:
    """Makes samples in this process, when they are asked for: the stand-in for feeders where there are none."""

    room = 1
    """How much may be submitted before a result is taken."""

    def __init__(self, maker: SampleMaker) -> None:
        self._maker = maker
        self._waiting: deque[tuple[Keys, Sequence[bytes | str]]] = deque()

    def submit(self, keys: Keys, files: Sequence[bytes | str]) -> None:
        """Have samples made: see `SampleMaker`."""
        self._waiting.append((keys, files))

    def result(self) -> Made:
        """What was made of that which was submitted first; the caller's to keep."""
        keys, files = self._waiting.popleft()
        made = self._maker.empty(len(keys))
        self._maker(keys, files, made)
        return made

    def drop(self) -> None:
        """Forget what was submitted."""
        self._waiting.clear()

    def close(self) -> None:
        """End."""


class Feeders:
    """Several processes that make samples: what is submitted goes to them in turn, and results come in the same order.

    Args:
        maker: what they do.
        count: how many, at least 1.
        samples: the most that are submitted at once.
    """

    def __init__(self, maker: SampleMaker, count: int, samples: int) -> None:
        self._maker = maker
        self._slot = -(-max(maker.nbytes(samples), 1) // mmap.PAGESIZE) * mmap.PAGESIZE
        self.room = count * SLOTS
        self._submitted = self._taken = 0
        self._counts: deque[int] = deque()
        with _anonymous_memory(self._slot * self.room) as memory:
            self._memory = mmap.mmap(memory.fileno(), self._slot * self.room)
            self._feeders = [_Process(memory.fileno()) for _ in range(count)]
        for number, feeder in enumerate(self._feeders):
            feeder.send((maker, self._slot, number * SLOTS))

    def submit(self, keys: Keys, files: Sequence[bytes | str]) -> None:
        """Have samples made: see `SampleMaker`. At most `room` of them wait at a time."""
        if len(self._counts) >= self.room:
            raise RuntimeError("a result has to be taken first")
        self._feeders[self._submitted % len(self._feeders)].send((keys, list(files)))
        self._counts.append(len(keys))
        self._submitted += 1

    def result(self) -> Made:
        """What was made of that which was submitted first; the caller's to keep.

        Raises:
            RuntimeError: the feeder died.
            Exception: what it raised.
        """
        number, turn = self._taken % len(self._feeders), self._taken // len(self._feeders)
        samples = self._counts.popleft()
        self._taken += 1
        answer = self._feeders[number].receive()
        if isinstance(answer, BaseException):
            raise answer
        start = self._slot * (number * SLOTS + turn % SLOTS)
        with memoryview(self._memory) as whole, whole[start : start + self._slot] as slot:
            there = self._maker.empty(samples, slot)
            masks = None if there.masks is None else there.masks.copy()
            images = None if there.images is None else there.images.copy()
            del there
        return Made(masks, images, answer)

    def drop(self) -> None:
        """Wait for what was submitted, and forget it."""
        while self._counts:
            with contextlib.suppress(Exception):
                self.result()

    def close(self) -> None:
        """End the processes."""
        for feeder in self._feeders:
            feeder.close()
        for feeder in self._feeders:
            feeder.end()
        self._memory.close()


def start_feeders(maker: SampleMaker, count: int, samples: int) -> Feeders | Inline:
    """Feeders, or what stands in for none.

    Args:
        maker: what they do.
        count: how many processes; 0: this one.
        samples: the most that are submitted at once.
    """
    idle = maker.holes is None and maker.side is None
    return Feeders(maker, count, samples) if count and not idle else Inline(maker)


class _Process:
    """A feeder, as the process that uses it sees it."""

    def __init__(self, memory: int) -> None:
        ours, theirs = Pipe()
        # A new interpreter: a fork would take torch's and Ray's threads' locks along, and `multiprocessing`'s spawn would
        # load the main module, which is Ray's.
        command = [sys.executable, "-m", "inpaint_core.training.data.feeder_process", str(theirs.fileno()), str(memory)]
        path = os.pathsep.join(entry for entry in sys.path if entry)
        self._pipe: Connection = ours  # type: ignore[type-arg, unused-ignore]
        with theirs:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), memory),
                env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            )

    def send(self, message: object) -> None:
        with self._told_if_dead():
            self._pipe.send(message)

    def receive(self) -> list[tuple[int, str]] | BaseException:
        with self._told_if_dead():
            answer: list[tuple[int, str]] | BaseException = self._pipe.recv()
            return answer

    @contextlib.contextmanager
    def _told_if_dead(self):  # type: ignore[no-untyped-def]
        try:
            yield
        except (EOFError, OSError) as error:
            try:
                status = self._process.wait(_SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                status = None
            raise RuntimeError(
                f"training: a process that prepares samples ended (exit status {status}; -9: killed, such as for lack of "
                "memory); lower scaling.feeders, or set reading.keep=pixels"
            ) from error

    def close(self) -> None:
        self._pipe.close()

    def end(self) -> None:
        try:
            self._process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _anonymous_memory(size: int) -> BinaryIO:
    """A file of this size without a name, in memory where the system has that: it is gone with its last process."""
    if sys.platform == "linux":  # not in /dev/shm, which has 64 MB in many containers
        file: BinaryIO = os.fdopen(os.memfd_create("samples"), "w+b")
    else:
        file = tempfile.TemporaryFile()  # noqa: SIM115 - returned
    file.truncate(size)
    return file
