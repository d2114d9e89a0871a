"""A job that is to be killed, or whose Ray is, and the processes that belong to it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import psutil

from tests.on_ray.processes import of_session, title_of

ROOT = Path(__file__).resolve().parents[2]

Kind = Literal["worker", "driver", "raylet", "gcs", "store"]
KINDS: tuple[Kind, ...] = ("worker", "driver", "raylet", "gcs", "store")
ENDS_JOB: dict[Kind, int] = {"driver": -9, "raylet": 3, "gcs": 3}
"""Exit code of the job after a kill that ends it."""

_TITLES: dict[Kind, str] = {"worker": "RemovalActor", "raylet": "/raylet/raylet", "gcs": "/gcs_server"}


@dataclass(frozen=True)
class RunningJob:
    """A job with a Ray of its own, in a session of its own."""

    process: subprocess.Popen[bytes]
    folder: Path

    @classmethod
    def start(cls, script: str, arguments: Sequence[str], folder: Path) -> Self:
        """Start a script of `jobs/`; what it says goes to files in `folder`, in place of what the job before it said."""
        with (folder / "job.out").open("wb") as out, (folder / "job.err").open("wb") as err:
            process = subprocess.Popen(
                [sys.executable, str(ROOT / "jobs" / script), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**os.environ, "RAY_ADDRESS": "local"},
                start_new_session=True,
            )
        return cls(process, folder)

    def said(self, where: Literal["out", "err"]) -> str:
        """What it has written so far."""
        return (self.folder / f"job.{where}").read_text(errors="replace")

    def processes(self) -> list[psutil.Process]:
        """Those of the job and its Ray, but not the job itself."""
        pid = self.process.pid
        found = {process.pid: process for process in of_session(pid)}
        with contextlib.suppress(psutil.NoSuchProcess):
            found |= {process.pid: process for process in psutil.Process(pid).children(recursive=True)}
        return [process for number, process in found.items() if number != pid]

    def of(self, kind: Kind) -> list[psutil.Process]:
        """Those of a kind, but not the driver."""
        return [process for process in self.processes() if _TITLES[kind] in title_of(process)]

    def end(self) -> list[psutil.Process]:
        """Kill the job; returns the processes that it leaves."""
        left = self.processes() if self.process.poll() is None else []
        self.process.kill()
        self.process.wait()
        return left


def lives(process: psutil.Process) -> bool:
    """Whether a process has not ended."""
    try:
        return bool(process.is_running()) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
