"""CPU seconds of all processes that a command starts, by kind: `python benchmarks/processes.py COMMAND [ARGUMENT ...]`.

A job on Ray has a dozen processes, most of whose CPU time are their imports; `time` leaves out those that outlive their parents.
Prints JSON after the command's own output, with its exit code, the most CPU first. Needs Linux, and psutil of the dev group.

    python benchmarks/processes.py .venv/bin/inpaint remove input=photos output=cleaned scaling.actors=1
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import subprocess
import sys
import time
from collections import defaultdict

import psutil

_SECONDS_BETWEEN_LOOKS = 0.1
_SECONDS_TO_END = 15.0
_PR_SET_CHILD_SUBREAPER = 36  # prctl(2): orphans become children of this process, by which they are found


def main() -> int:
    if len(sys.argv) < 2:
        print(__doc__)
        return 2
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    start = time.monotonic()
    command = subprocess.Popen(sys.argv[1:])
    seen = Seen(command.pid)
    while command.poll() is None:
        seen.look()
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    seconds = time.monotonic() - start
    while seen.look() and time.monotonic() < start + seconds + _SECONDS_TO_END:
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    print(json.dumps({"seconds": round(seconds, 1), **seen.by_kind()}, indent=2))
    return command.returncode


class Seen:
    """The processes below this one, with the CPU time and the title that each had last.

    Args:
        command: the pid of the command, which its parent waits for.
    """

    def __init__(self, command: int) -> None:
        self._command = command
        self._cpu: dict[psutil.Process, float] = {}
        self._kinds: dict[psutil.Process, str] = {}

    def look(self) -> bool:
        """Look once more; returns whether any process lives."""
        living = False
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                self._cpu[process] = times.user + times.system
                if process.status() != psutil.STATUS_ZOMBIE:
                    living = True
                    self._name(process, process.cmdline())
                elif process.ppid() == os.getpid() and process.pid != self._command:
                    os.waitpid(process.pid, os.WNOHANG)  # an orphan: others wait until it is gone
        return living

    def _name(self, process: psutil.Process, words: list[str]) -> None:
        title = " ".join(words[:1] if words and words[0].startswith("ray::") else words)
        if title and title != "ray::IDLE":
            # Of Ray's workers without the method that runs: "ray::MapWorker(MapBatches(RemovalActor)).submit"
            kind = title.partition("(")[0].partition(".")[0] if title.startswith("ray::") else title
            self._kinds[process] = kind[:160]

    def by_kind(self) -> dict[str, object]:
        """CPU seconds in all, and those of each process by the first 160 characters of its command or title."""
        kinds: dict[str, list[float]] = defaultdict(list)
        for process, cpu in self._cpu.items():
            kinds[self._kinds.get(process, "?")].append(round(cpu, 2))
        ordered = sorted(kinds.items(), key=lambda kind: -sum(kind[1]))
        return {
            "cpu": round(sum(self._cpu.values()), 1),
            "processes": {kind: sorted(cpu)[::-1] for kind, cpu in ordered},
        }


if __name__ == "__main__":
    sys.exit(main())
