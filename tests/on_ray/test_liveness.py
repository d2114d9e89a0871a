"""Processes of Ray that have ended, hang (SIGSTOP) or do not start: the driver ends with one line and exit code 3."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import grpc
import psutil
import pytest

from inpaint_core.errors import ClusterError
from inpaint_core.on_ray import address, liveness
from inpaint_core.on_ray.address import answers
from tests.on_ray.processes import all_end, free_port, title_of, wait_for
from tests.on_ray.shared import SharedRay

ROOT = Path(__file__).resolve().parents[2]
HOST = "127.0.5.2"  # not 127.0.0.1, which Ray replaces by the address that others reach this machine at

# Less patience, so that the test does not take a minute. What a driver does, after it.
QUICK = """
import time
from inpaint_core.on_ray import liveness
liveness._SECONDS_TO_ANSWER, liveness._SECONDS_BETWEEN_QUESTIONS, liveness._SECONDS_BETWEEN_LOOKS = 1.0, 0.5, 0.2
liveness._SECONDS_OF_SILENCE = liveness._SECONDS_WITHOUT_GCS = 4.0
"""
WAITS = """
from inpaint_core.on_ray.faults import cluster_faults
with cluster_faults():
    print("waits", flush=True)
    time.sleep(60)
"""
HANGS = """
liveness._NOT_STARTED = liveness.Gone(liveness._NOT_STARTED.line, 2.0)
from inpaint_core.on_ray.cluster import _without_log_level
from inpaint_core.on_ray.faults import cluster_faults
from inpaint_core.on_ray.own_ray import start_ray
def init():
    with _without_log_level():
        print("waits", flush=True)
        time.sleep(60)
with cluster_faults():
    start_ray(init)
"""
WAITS_FOR_RAY = """
import ray
from inpaint_core.on_ray.cluster import connect
from inpaint_core.on_ray.faults import cluster_faults
def endless():
    time.sleep(600)
with cluster_faults():
    connect()
    ray.get(ray.remote(endless).remote())
"""


def driver(what: str, *, address: str = "local") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", QUICK + what],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "RAY_ADDRESS": address},
    )


def stop(processes: Sequence[psutil.Process]) -> None:
    assert processes
    for process in processes:
        process.send_signal(signal.SIGSTOP)


@contextlib.contextmanager
def stopped(processes: Sequence[psutil.Process]) -> Iterator[None]:
    stop(processes)
    try:
        yield
    finally:
        for process in processes:
            process.send_signal(signal.SIGCONT)


def end_of(run: subprocess.Popen[str], code: int, seconds: float = 60) -> str:
    """The one line of a driver that ends by itself."""
    try:
        told, errors = run.communicate(timeout=seconds)
    finally:
        run.kill()
    assert run.returncode == code, told + errors
    assert len(errors.splitlines()) == 1, errors
    return errors


def test_who_answers(shared_ray: SharedRay, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server((HOST, 0)) as silent:  # takes connections, as a stopped process does
        assert not answers(f"{HOST}:{silent.getsockname()[1]}", 0.5)
    assert not answers(f"{HOST}:{free_port()}", 0.5)
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port(f"{HOST}:0")
    server.start()
    assert answers(f"{HOST}:{port}", 10)  # without a health check
    server.stop(None)
    assert answers(shared_ray.address, 10)
    with stopped(shared_ray.processes("/gcs_server")):
        assert not answers(shared_ray.address, 1.0)
        monkeypatch.setenv("RAY_ADDRESS", shared_ray.address)
        monkeypatch.setattr(address, "_SECONDS_TO_ANSWER", 1.0)
        with pytest.raises(ClusterError, match=r"takes connections, but does not answer within 1 s"):
            address.cluster_address()
    assert answers(shared_ray.address, 10)


def test_silence_is_told_in_time() -> None:
    """From the last answer on: one question that is answered, and then none, the last of which is asked for what is left."""
    assert liveness._SECONDS_BETWEEN_LOOKS + liveness._SECONDS_BETWEEN_QUESTIONS + liveness._SECONDS_OF_SILENCE + 1 < 60
    assert liveness._SECONDS_OF_SILENCE > 4 * (liveness._SECONDS_TO_ANSWER + liveness._SECONDS_BETWEEN_LOOKS)
    longest = liveness._SECONDS_BETWEEN_LOOKS + 2 * (liveness._SECONDS_TO_CONNECT + liveness._SECONDS_TO_ANSWER)
    assert longest < liveness._LONGEST_LOOK < liveness._SECONDS_OF_SILENCE


def watching(monkeypatch: pytest.MonkeyPatch, answered: threading.Event, ended: list[str]) -> liveness.LivenessWatch:
    """A watch of a cluster that answers as long as `answered` is set; what it would end with goes to `ended`."""
    monkeypatch.setattr(liveness, "answers", lambda address, seconds: answered.is_set() or answered.wait(seconds))
    for name, value in (("TO_ANSWER", 0.1), ("BETWEEN_LOOKS", 0.02), ("BETWEEN_QUESTIONS", 0.05)):
        monkeypatch.setattr(liveness, f"_SECONDS_{name}", value)
    watch = liveness.LivenessWatch(f"{HOST}:1")
    monkeypatch.setattr(watch, "_end", lambda missing: (ended.append(missing.line), watch.stop()))
    return watch


def test_a_pause_is_no_alarm_and_silence_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "_SECONDS_OF_SILENCE", 1.0)
    monkeypatch.setattr(liveness, "_SECONDS_WITHOUT_GCS", 1.0)
    answered, ended = threading.Event(), list[str]()
    answered.set()
    watch = watching(monkeypatch, answered, ended)
    watch.start()
    for _ in range(3):
        answered.clear()
        time.sleep(0.4)
        answered.set()
        time.sleep(0.2)
    assert ended == []
    answered.clear()
    deadline = time.monotonic() + 20
    while not ended and time.monotonic() < deadline:
        time.sleep(0.05)
    assert ended == [
        f"Ray: the cluster at {HOST}:1 does not answer any more; when it runs again, the same command goes on from where this "
        "one has stopped"
    ]


def test_a_job_that_was_stopped_itself_asks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As by Ctrl-Z: when it goes on, its Ray may need a moment, too."""
    monkeypatch.setattr(liveness, "_SECONDS_OF_SILENCE", 1.0)
    monkeypatch.setattr(liveness, "_SECONDS_WITHOUT_GCS", 1.0)
    monkeypatch.setattr(liveness, "_LONGEST_LOOK", 0.5)
    answered, ended = threading.Event(), list[str]()
    watch = watching(monkeypatch, answered, ended)
    jump = 0.0
    monkeypatch.setattr(liveness, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + jump))
    watch.start()
    for _ in range(3):
        time.sleep(0.3)
        jump += 600
    assert ended == []
    watch.stop()


def test_a_cluster_that_hangs_while_a_job_is_about_to_join_it(shared_ray: SharedRay) -> None:
    run = driver(WAITS, address=shared_ray.address)
    assert run.stdout is not None
    assert run.stdout.readline() == "waits\n"
    with stopped(shared_ray.processes("/gcs_server")):
        error = end_of(run, 3)
    assert error.startswith(f"error: Ray: the cluster at {shared_ray.address} does not answer any more; when it runs")


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_start_that_never_ends() -> None:
    error = end_of(driver(HANGS), 3)
    assert error.startswith(
        "error: Ray: it has not started on this machine in 50 s; check that the machine has free CPU"
    )


def test_a_job_whose_gcs_hangs() -> None:
    run = driver(WAITS_FOR_RAY)
    started: list[psutil.Process] = []

    def has_begun() -> bool:
        started[:] = psutil.Process(run.pid).children(recursive=True)
        return any("ray::endless" in title_of(process) for process in started)

    wait_for(run, has_begun)
    stop([process for process in started if "/gcs_server" in title_of(process).partition(" ")[0]])
    error = end_of(run, 3)
    assert error.startswith(
        "error: Ray: its process gcs_server, which this job had started, runs, but has not answered for 4 s; the same"
    )
    all_end(started)
