"""Addresses where no Ray answers, a Ray that cannot be started, and errors of Ray: each one line."""

import contextlib
import http.server
import logging
import logging.handlers
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
import ray
from ray.exceptions import ActorDiedError, LocalRayletDiedError, RayTaskError, UserCodeException

from inpaint_core.errors import ClusterError, ResourceError
from inpaint_core.on_ray import address, faults, liveness, reaper
from inpaint_core.on_ray.own_ray import start_ray
from tests.on_ray.processes import free_port
from tests.on_ray.shared import SharedRay

HOST = "127.0.5.1"  # not 127.0.0.1, which Ray replaces by the address that others reach this machine at


@pytest.fixture
def silent() -> Iterator[str]:
    """Takes connections and never says a word."""
    with socket.create_server((HOST, 0)) as server:
        yield f"{HOST}:{server.getsockname()[1]}"


@pytest.fixture
def web_server() -> Iterator[str]:
    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None: ...

    with http.server.ThreadingHTTPServer((HOST, 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"{HOST}:{server.server_port}"
        server.shutdown()


def refusal(monkeypatch: pytest.MonkeyPatch, given: str) -> str:
    monkeypatch.setenv("RAY_ADDRESS", given)
    with pytest.raises(ClusterError) as raised:
        address.cluster_address()
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_server_that_is_not_ray(monkeypatch: pytest.MonkeyPatch, web_server: str) -> None:
    assert refusal(monkeypatch, web_server).startswith(
        f"RAY_ADDRESS: what answers at {web_server} is not Ray; give the"
    )


def test_a_server_that_says_nothing(monkeypatch: pytest.MonkeyPatch, silent: str) -> None:
    assert address._SECONDS_TO_CONNECT + address._SECONDS_TO_ANSWER < 45
    monkeypatch.setattr(address, "_SECONDS_TO_ANSWER", 0.5)
    told = refusal(monkeypatch, silent)
    assert told.startswith(
        f"RAY_ADDRESS: the Ray cluster at {silent} takes connections, but does not answer within 0.5 s"
    )


def test_a_port_where_nothing_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    assert refusal(monkeypatch, f"{HOST}:{port}") == (
        f"RAY_ADDRESS: no Ray cluster answers at {HOST}:{port}; start it, or unset RAY_ADDRESS"
    )
    assert f"at localhost:{port} (which Ray takes for " in refusal(monkeypatch, f"localhost:{port}")


@pytest.mark.parametrize("given", ["ray://127.0.0.1:10001", "http://127.0.0.1:8265"])
def test_ray_client_and_dashboard_are_refused_at_once(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    told = refusal(monkeypatch, given)
    assert told.startswith(
        f"RAY_ADDRESS: {given} is not the address of a cluster for a job that runs on it; submit the job"
    )


def test_an_address_without_port(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refusal(monkeypatch, "head-node").startswith("RAY_ADDRESS: 'head-node' is no address; give HOST:PORT")


def test_a_cluster_that_answers(monkeypatch: pytest.MonkeyPatch, shared_ray: SharedRay) -> None:
    monkeypatch.setenv("RAY_ADDRESS", shared_ray.address)
    assert address.cluster_address() == shared_ray.address
    monkeypatch.setenv("RAY_ADDRESS", "local")
    assert address.cluster_address() is None


def test_what_ray_start_has_left_where_now_another_server_listens(
    monkeypatch: pytest.MonkeyPatch, web_server: str
) -> None:
    monkeypatch.delenv("RAY_ADDRESS")
    monkeypatch.setattr(address, "read_ray_address", lambda: web_server)
    assert address.cluster_address() is None


def test_a_token_is_used_without_a_warning_of_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name)
    monkeypatch.setattr(address, "read_ray_address", lambda: None)
    log, shown = logging.getLogger("ray"), logging.handlers.BufferingHandler(100)
    monkeypatch.setattr(log, "level", log.level)
    log.setLevel(logging.INFO)  # as where Ray was only imported
    log.addHandler(shown)
    try:
        assert address.cluster_address() is None
    finally:
        log.removeHandler(shown)
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert shown.buffer == []


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_ray_is_started_once_more_and_nothing_of_the_first_start_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    looks_for_drains = "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"
    monkeypatch.delenv(looks_for_drains)
    children: list[subprocess.Popen[bytes]] = []

    def init(fails: int) -> None:
        assert os.environ[looks_for_drains] == "0"  # nobody drains the nodes of this Ray
        children.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]))
        if len(children) <= fails:
            raise Exception("The current node timed out during startup.\nThis could happen because")

    try:
        start_ray(lambda: init(1))
        assert len(children) == 2
        assert children[0].wait(10) == -9
        assert children[1].poll() is None
        with pytest.raises(ClusterError, match=r"twice \(The current node timed out during startup\); check") as raised:
            start_ray(lambda: init(9))
        assert "\n" not in str(raised.value)
        assert [child.wait(10) for child in children[2:]] == [-9, -9]
        assert children[1].poll() is None
        assert not {reaper.MARK, looks_for_drains} & set(os.environ)
    finally:
        for child in children:
            child.kill()
            child.wait()


def test_a_port_that_is_taken_is_told_at_once() -> None:
    starts: list[int] = []

    def init() -> None:
        starts.append(1)
        raise RuntimeError(
            "Failed to start GCS.  Last 1 lines of error files:\n[2026] (gcs_server) grpc_server.cc:134:  An unexpected system "
            "state has occurred. Check failed: server_ Failed to start the grpc server. The specified port is 6379. This means"
        )

    with pytest.raises(ClusterError, match=r"its GCS cannot use the port 6379, which another process uses; stop that"):
        start_ray(init)
    assert len(starts) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_the_reaper_ends_what_is_marked_or_named_and_nothing_else() -> None:
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    marked = subprocess.Popen(sleep, env={**os.environ, reaper.MARK: "abc"})
    named, reused, other = (subprocess.Popen(sleep, env={**os.environ, reaper.MARK: "abcd"}) for _ in range(3))
    with contextlib.ExitStack() as stack:
        for process in (marked, named, reused, other):
            stack.callback(process.wait)
            stack.callback(process.kill)
        started = reaper.started(reused.pid)
        assert started is not None
        lines = (
            f"{named.pid} {reaper.started(named.pid)}\n{reused.pid} {started - 1}\n"  # as if its pid had been another's
        )
        # Until its input ends, it waits.
        run = subprocess.Popen([sys.executable, "-I", "-S", reaper.__file__, "abc"], stdin=subprocess.PIPE, text=True)
        assert run.stdin is not None
        run.stdin.write(lines + reaper.AT_ONCE)
        run.stdin.flush()
        time.sleep(0.3)
        assert marked.poll() is None
        run.stdin.close()
        assert run.wait(10) == 0
        assert [process.wait(1) for process in (marked, named)] == [-9, -9]
        assert [process.poll() for process in (reused, other)] == [None, None]


def task_error(cause: Exception) -> RayTaskError:
    return RayTaskError("f", "Traceback: ...", cause)


def wrapped(inner: Exception) -> Exception:
    outer = UserCodeException()
    outer.__cause__ = inner
    return outer


def test_errors_of_the_cluster_become_one_line_and_those_of_the_work_stay() -> None:
    died = LocalRayletDiedError()
    for error in (died, task_error(died).as_instanceof_cause(), wrapped(died)):
        with pytest.raises(ClusterError) as raised, faults.cluster_faults():
            raise error
        told = str(raised.value)
        assert told.startswith("Ray: LocalRayletDiedError: The task's local raylet died"), told
        assert told.endswith("; the same command goes on from where this one has stopped")
        assert "\n" not in told
    in_constructor = ActorDiedError(task_error(ValueError("wrong")))
    for error in (ValueError("wrong"), task_error(ValueError("wrong")), in_constructor, wrapped(ValueError("wrong"))):
        with pytest.raises(type(error)) as kept, faults.cluster_faults():
            raise error
        assert kept.value is error
    with pytest.raises(ResourceError), faults.cluster_faults():
        raise ResourceError("scaling: too much") from died


def test_what_a_cluster_lacks() -> None:
    with socket.create_server((HOST, 0)) as gcs, socket.create_server((HOST, 0)) as node:
        joined = liveness.Cluster({}, f"{HOST}:{gcs.getsockname()[1]}", node.getsockname()[:2], "/tmp/ray/logs")
        assert joined.gone() is None
        gcs.close()
        gone = joined.gone()
        assert gone is not None
        assert gone.line.startswith(
            f"Ray: the cluster at {joined.address} does not answer any more; when it runs again"
        )
        # Before Ray itself ends the process without a word, after 60 seconds.
        assert gone.patience + 2 * liveness._SECONDS_TO_CONNECT < 60
        node.close()
        gone = joined.gone()
        assert gone is not None
        assert gone.line.startswith(f"Ray: this machine's node of the cluster at {joined.address} has ended")

    ended = subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"])
    ended.wait()
    running = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    own = liveness.Cluster({"gcs_server": running, "raylet": ended}, "nowhere", (HOST, 1), "/tmp/ray/logs").gone()
    running.communicate()
    assert own is not None
    assert own.patience == 0
    assert own.line.startswith(
        "Ray: its process raylet, which this job had started, has ended (code 7); the same command"
    )


def test_nothing_is_looked_for_where_ray_is_not_in_use() -> None:
    assert not ray.is_initialized()
    assert faults.leave(3) == 3
