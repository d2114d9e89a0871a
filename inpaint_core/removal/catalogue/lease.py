"""One job at a time in an output: the lease of the process that runs it.

The holder writes a new number into its lease every few seconds. Whoever finds a lease that does not change for several times as
long takes it over: its holder was killed, or its machine is gone. One that is older than any outage which its holder may wait for
is taken over at once; its age is by the store's clock. Two jobs that
start at the same moment both write the lease; the last one has it, and the other one ends when it sees that.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from inpaint_core.errors import ConfigError, ObjectError, StorageError
from inpaint_core.progress import PrintLine
from inpaint_core.removal.catalogue.layout import Layout
from inpaint_core.storage import Storage
from inpaint_core.storage.base import MissingObject


@dataclass(frozen=True)
class Pace:
    """Times of a lease in seconds."""

    renewed: float = 10.0
    """Between two renewals."""
    stale: float = 45.0
    """Age at which a lease that is not renewed counts as left behind."""


@dataclass(frozen=True)
class Holder:
    """Who has a lease."""

    run_id: str
    host: str
    process: int
    machine: str
    """Names the kernel and the process namespace; empty where that is not known."""
    started: str
    renewals: int = 0

    @classmethod
    def of_this_process(cls, run_id: str) -> Holder:
        """The holder of a run that this process does."""
        return cls(run_id, socket.gethostname(), os.getpid(), _machine(), f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC")

    @property
    def is_gone(self) -> bool:
        """Whether it was a process of this machine that has ended; False where that cannot be known."""
        return bool(self.machine) and self.machine == _machine() and not Path(f"/proc/{self.process}").exists()

    def __str__(self) -> str:
        return f"run {self.run_id}, process {self.process} on {self.host}, since {self.started}"


class JobLease:
    """The lease of a job's output, renewed by a thread until the `with` statement ends.

    Args:
        storage: the output.
        layout: of the kind of run: a dry run has a lease of its own.
        run_id: of the run that takes it.
        print_line: takes what a user should read.
        pace: times.
    """

    def __init__(
        self, storage: Storage, layout: Layout, run_id: str, print_line: PrintLine, pace: Pace | None = None
    ) -> None:
        self._storage = storage
        self._layout = layout
        self._pace = pace or Pace()
        # The thread tries again by itself, and the end of a job does not wait for a store that is out of reach.
        self._hasty = storage.with_patience(self._pace.renewed / 2)
        self._print_line = print_line
        self._mine = Holder.of_this_process(run_id)
        self._taken_by: Holder | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def __enter__(self) -> Self:
        """Take the lease, where nobody has it or its holder is gone.

        Raises:
            ConfigError: another job is running in this output.
            StorageError: the output cannot be used.
        """
        self._storage.write(self._layout.lease_probe, b"")  # makes a missing folder
        try:
            self._wait_for_others()
            self._write(self._storage)
        finally:
            with suppress(ObjectError, StorageError):
                self._storage.delete(self._layout.lease_probe)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(timeout=self._pace.renewed)
        with suppress(ObjectError, StorageError):  # it will be stale soon
            if self._taken_by is None and self._is_mine(self._read(self._hasty)):
                self._hasty.delete(self._layout.lease)

    def check(self) -> None:
        """Make sure that no other job has taken the lease.

        Raises:
            ConfigError: one has.
        """
        if self._taken_by is not None:
            raise ConfigError(
                f"output: {self._storage.uri} was taken over by another job ({self._taken_by}); this one ends, and what "
                "it finished is kept. Run one job at a time, or give two outputs"
            )

    def _wait_for_others(self) -> None:
        first = self._read(self._storage)
        if first is None:
            return
        age = None if first.is_gone else self._age()
        # Not by its age alone: a holder whose store was out of reach could not renew its lease.
        watched = age is not None and age < self._pace.stale + self._storage.retry_seconds
        if watched:
            self._print_line(
                f"another job may be running in {self._storage.uri} ({first}); waiting up to {self._pace.stale:.0f} s for its "
                "lease to be renewed"
            )
        deadline = time.monotonic() + self._pace.stale
        while watched and time.monotonic() < deadline:
            time.sleep(self._pace.renewed / 4)
            now = self._read(self._storage)
            if now is None:
                return
            if now != first:
                raise ConfigError(
                    f"output: another job is running in {self._storage.uri} ({now}); wait until it ends or stop it, or give "
                    "another output"
                )
        self._print_line(f"resuming after a job that ended without releasing its lease ({first})")

    def _renew(self) -> None:
        while not self._ended.wait(self._pace.renewed):
            with suppress(ObjectError, StorageError):  # the job itself sees an outage, and tells of it
                holder = self._read(self._hasty)
                if holder is not None and not self._is_mine(holder):
                    self._taken_by = holder
                    return
                self._write(self._hasty)

    def _is_mine(self, holder: Holder | None) -> bool:
        return holder is not None and replace(holder, renewals=0) == replace(self._mine, renewals=0)

    def _write(self, storage: Storage) -> None:
        self._mine = replace(self._mine, renewals=self._mine.renewals + 1)
        storage.write(self._layout.lease, json.dumps(asdict(self._mine), indent=1).encode())

    def _read(self, storage: Storage) -> Holder | None:
        try:
            content: Any = json.loads(storage.read(self._layout.lease))
            return Holder(**content)
        except MissingObject:
            return None
        except (ValueError, TypeError):  # of another version
            return Holder("unknown", "an unknown host", 0, "", "an unknown time")

    def _age(self) -> float | None:
        """Seconds since the lease was written; None: it is gone."""
        self._storage.write(self._layout.lease_probe, b"")
        folder = self._layout.lease.rpartition("/")[0]
        times = {info.key: info.modified for info in self._storage.list(folder)}
        if self._layout.lease not in times:
            return None
        now = times.get(self._layout.lease_probe, times[self._layout.lease] + timedelta(seconds=self._pace.stale))
        return (now - times[self._layout.lease]).total_seconds()


def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""
