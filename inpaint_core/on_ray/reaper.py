"""Ends what is left of a job's own Ray when the job has ended, by `kill -9` too.

Ray's processes follow their driver, but not at once: workers and agents take up to a minute. Run as a program, this waits for
the end of its standard input, which only the driver holds open. It knows the processes by a mark in their environment, which
all inherit from the driver; those that write their title over it are named by the driver. Needs Linux (`/proc`) and nothing
besides Python's standard library.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Collection
from pathlib import Path

MARK = "INPAINT_RAY_MARK"
"""Name of the environment variable."""

AT_ONCE = "at once\n"
"""A line for its standard input: not even Ray's own end is waited for."""

_PROC = Path("/proc")
_SECONDS_TO_END_BY_ITSELF = 3.0
_SECONDS_BETWEEN_LOOKS = 0.5
_SECONDS_TO_DIE = 60.0


def started(pid: int) -> int | None:
    """When a process was started, in clock ticks since the machine was; None: it has ended. With the pid, names it for good."""
    fields = _status(pid)
    return int(fields[19]) if fields else None


def children(parents: Collection[int]) -> list[int]:
    """The processes that some others have started."""
    return [pid for pid in _pids() if (fields := _status(pid)) and int(fields[1]) in parents]


def marked(mark: str) -> list[int]:
    """The processes of this user with a mark."""
    entry = f"{MARK}={mark}".encode()
    found = []
    for pid in _pids():
        with contextlib.suppress(OSError):  # another user's, or ended
            if entry in (_PROC / str(pid) / "environ").read_bytes().split(b"\0") and _status(pid):
                found.append(pid)
    return found


def _pids() -> list[int]:
    return [int(folder.name) for folder in _PROC.iterdir() if folder.name.isdecimal()]


def _status(pid: int) -> list[bytes]:
    """The fields of `/proc/PID/stat` (man 5 proc) from the third on; none where the process has ended."""
    try:
        # The second field, the program's name in brackets, may hold spaces and brackets.
        fields = (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return []
    return [] if fields[0] in (b"Z", b"X") else fields


def main() -> None:
    """Wait for the driver's end, and then for that of its Ray's processes, or kill them."""
    mark = sys.argv[1]
    named = {}
    patience = _SECONDS_TO_END_BY_ITSELF
    for line in sys.stdin:  # until the driver ends
        if line == AT_ONCE:
            patience = 0.0
            continue
        pid, start = map(int, line.split())
        named[pid] = start
    ended = time.monotonic()
    while time.monotonic() < ended + _SECONDS_TO_DIE:
        left = [*marked(mark), *(pid for pid, start in named.items() if started(pid) == start)]
        if not left:
            return
        if time.monotonic() > ended + patience:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(_SECONDS_BETWEEN_LOOKS)


if __name__ == "__main__":
    main()
