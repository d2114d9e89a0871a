"""The processes of a job and of its Ray, for tests that wait for them and kill them."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def rows_of(table: Path) -> int:
    """Rows of a Parquet file that a running job may replace at any moment: it is opened once (pyarrow opens a path twice)."""
    rows: int = pq.read_table(io.BytesIO(table.read_bytes())).num_rows
    return rows


def wait_for(run: subprocess.Popen[str], condition: Callable[[], bool], seconds: float = 400) -> None:
    """Wait until a job has done something, which it does before it ends."""
    deadline = time.monotonic() + seconds
    while True:
        asked = time.monotonic()
        if condition():
            return
        if asked > deadline:
            kill_driver(run)  # or it would take the CPUs of the tests that follow
            pytest.fail(f"the job did not come so far in {seconds:g} s")
        if run.poll() is not None:
            pytest.fail(f"the job ended too early: {run.communicate()}")
        time.sleep(max(0.1, 10 * (time.monotonic() - asked)))  # the CPUs are the job's


def kill_driver(run: subprocess.Popen[str]) -> None:
    """kill -9 of a driver that started its own Ray, whose processes all follow it."""
    started = psutil.Process(run.pid).children(recursive=True)
    run.kill()
    run.communicate()
    all_end(started)


def all_end(processes: list[psutil.Process], seconds: float = 10) -> None:
    """Wait until processes have ended; fails, and ends them, where some have not in time."""
    _, left = psutil.wait_procs(processes, timeout=seconds)
    titles = [title_of(process) for process in left]
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=20)
    assert not titles, f"still there after {seconds:g} s: {titles}"


def runs_in(process: psutil.Process, sessions: set[int]) -> bool:
    """Whether a process lives in one of these sessions."""
    try:
        return os.getsid(process.pid) in sessions and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, OSError):
        return False


def of_session(session: int) -> list[psutil.Process]:
    """The processes that live in a session."""
    return [process for process in psutil.process_iter() if runs_in(process, {session})]


def title_of(process: psutil.Process) -> str:
    """The command line of a process, which Ray replaces by a title; empty where it has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
