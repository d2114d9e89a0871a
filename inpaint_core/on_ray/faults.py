"""What becomes of a command when Ray fails it: one line, exit code 3, and nothing of Ray's after that."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import ray
from ray.exceptions import (
    AsyncioActorExit,
    CrossLanguageError,
    ObjectRefStreamEndOfStreamError,
    RayError,
    RayTaskError,
    TaskCancelledError,
    UserCodeException,
)

from inpaint_core.cli import CLUSTER_FAULT, print_error
from inpaint_core.errors import ClusterError, UserError
from inpaint_core.on_ray.address import cluster_address, first_line, host_and_port, listens
from inpaint_core.on_ray.errors import layers

_SECONDS_BETWEEN_LOOKS = 1.0
_SECONDS_TO_CONNECT = 5.0
# Ray itself ends a driver whose GCS or node is gone, without a word: the GCS after a minute, in which a cluster with fault
# tolerance has restarted it; the node after some ten seconds.
_SECONDS_WITHOUT_GCS = 45.0
_SECONDS_WITHOUT_NODE = 5.0
_NEEDED = ("gcs_server", "raylet")  # of the processes of Ray
_AGAIN = "the same command goes on from where this one has stopped"

# Of the errors of Ray, those that come from the work itself, and not from the cluster.
_OF_THE_WORK = (
    RayTaskError,
    UserCodeException,
    CrossLanguageError,
    TaskCancelledError,
    AsyncioActorExit,
    ObjectRefStreamEndOfStreamError,
)


@contextmanager
def cluster_faults() -> Iterator[None]:
    """Raise the errors of Ray as a `ClusterError`, and end this process with one line when Ray has gone.

    Gone: a process of this job's own Ray, or the cluster that the job has joined. The main thread may then wait for an answer
    that never comes. Ray would end the process, without a line and with the exit code 1.

    Raises:
        ClusterError: at once where the cluster that the job would join does not answer; later, what the work raised.
    """
    cluster_address()
    done = threading.Event()
    threading.Thread(target=_watch, args=(done,), name="ray-watch", daemon=True).start()
    try:
        yield
    except ClusterError:
        raise
    except Exception as error:
        fault = _fault_of(error)
        if fault is None:
            raise
        raise fault from error
    finally:
        done.set()


def leave(code: int) -> int:
    """End a command that has printed its last line, after which nothing of Ray's is to come.

    Args:
        code: its exit code, returned where Ray can be left in good order; what follows is not shown then.
    """
    if code == 0 or not ray.is_initialized():
        return code
    if code == CLUSTER_FAULT:
        _end_process(code)  # to leave a cluster that does not answer takes Ray minutes
    sys.stdout.flush()
    sys.stderr.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    return code


def _fault_of(error: BaseException) -> ClusterError | None:
    """The fault of the cluster that an error comes from; None: it comes from the work."""
    gone = _Cluster.joined().gone() if ray.is_initialized() else None
    if gone is not None:
        return ClusterError(gone.line)
    if isinstance(error, UserError):
        return None
    for layer in layers(error):
        of_the_work = isinstance(layer, _OF_THE_WORK) or getattr(layer, "actor_init_failed", False)
        if isinstance(layer, RayError) and not of_the_work:
            return ClusterError(f"Ray: {type(layer).__name__}: {first_line(layer)}; {_AGAIN}")
    return None


@dataclass(frozen=True)
class _Gone:
    """What Ray lacks: a line for a person, and the seconds in which it may come back."""

    line: str
    patience: float


@dataclass(frozen=True)
class _Cluster:
    """The Ray that this process is connected to.

    Args:
        own: by name, the processes that this job cannot do without, where it has started them.
        address: of the GCS.
        node: host and port of the raylet of this machine.
        logs: the folder of Ray's logs.
    """

    own: Mapping[str, subprocess.Popen[bytes]]
    address: str
    node: tuple[str, int]
    logs: str

    @classmethod
    def joined(cls) -> _Cluster:
        """The one of now."""
        node: Any = ray._private.worker._global_node
        processes = node.all_processes if node.is_head() else {}  # only who starts a head has it in this process
        own = {name: processes[name][0].process for name in _NEEDED if processes.get(name)}
        return cls(own, node.gcs_address, (node.node_ip_address, node.node_manager_port), node.get_logs_dir_path())

    def gone(self) -> _Gone | None:
        """What is missing; None: nothing."""
        for name, process in self.own.items():
            if process.poll() is not None:
                how = f"signal {-process.returncode}" if process.returncode < 0 else f"code {process.returncode}"
                return _Gone(
                    f"Ray: its process {name}, which this job had started, has ended ({how}); {_AGAIN}. If it ends again, "
                    f"see {self.logs}, and whether the machine is short of memory",
                    0,
                )
        if self.own:
            return None
        # The node first: a head node takes its GCS with it, and Ray ends the driver sooner.
        if not listens(*self.node, _SECONDS_TO_CONNECT):
            return _Gone(
                f"Ray: this machine's node of the cluster at {self.address} has ended; when it runs again (ray start), {_AGAIN}",
                _SECONDS_WITHOUT_NODE,
            )
        gcs = host_and_port(self.address)
        if gcs is not None and not listens(*gcs, _SECONDS_TO_CONNECT):
            line = f"Ray: the cluster at {self.address} does not answer any more; when it runs again, {_AGAIN}"
            return _Gone(line, _SECONDS_WITHOUT_GCS)
        return None


def _watch(done: threading.Event) -> None:
    """End the process when Ray has gone."""
    missing: _Gone | None = None
    since = 0.0
    while not done.wait(_SECONDS_BETWEEN_LOOKS):
        now = _Cluster.joined().gone() if ray.is_initialized() else None
        if now != missing:
            missing, since = now, time.monotonic()
        # Asked again, since `ray.shutdown` ends the processes of a job's own Ray once it has left it.
        if missing is None or time.monotonic() < since + missing.patience or not ray.is_initialized():
            continue
        if not done.is_set():
            print_error(ClusterError(missing.line))
            _end_process(CLUSTER_FAULT)


def _end_process(code: int) -> NoReturn:
    """Ray's threads, which wait for what has gone, would write more, and its end may last minutes."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
