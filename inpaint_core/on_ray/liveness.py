"""Whether the Ray of a job runs and answers: checked every second by a thread of the driver, which ends it otherwise.

The main thread may wait for an answer of Ray that never comes. Ray would end the process, without a line and with the exit
code 1, or not at all: a process of Ray that hangs keeps its connections open.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import ray

from inpaint_core.cli import CLUSTER_FAULT, end_process, print_error
from inpaint_core.errors import ClusterError
from inpaint_core.on_ray import reaper
from inpaint_core.on_ray.address import answers, host_and_port, listens

AGAIN = "the same command goes on from where this one has stopped"

_SECONDS_BETWEEN_LOOKS = 1.0
_SECONDS_TO_CONNECT = 5.0
# Ray itself ends a driver whose GCS or node is gone, without a word: the GCS after a minute, in which a cluster with fault
# tolerance has restarted it; the node after some ten seconds.
_SECONDS_WITHOUT_GCS = 45.0
_SECONDS_WITHOUT_NODE = 5.0
# A process of Ray that runs answers within milliseconds; on two CPUs with a load of 30, within 0.3 s as a rule and 1.9 s at most.
# One that has answered none of at least five questions in nearly as long as Ray itself waits for a GCS that has ended does not
# run any more.
_SECONDS_BETWEEN_QUESTIONS = 3.0
_SECONDS_TO_ANSWER = 8.0
_SECONDS_OF_SILENCE = 45.0
# More than two questions, and what else is done between two looks. If they lie further apart, this process itself was stopped
# (Ctrl-Z), and perhaps its Ray with it: nothing follows from what it heard.
_LONGEST_LOOK = 30.0
# For both starts of a Ray of the job's own, of which one takes 3 to 10 s. Ray's own limits come to minutes: 40 s to connect to a GCS
# that has ended, 60 s for an answer of one that hangs, 30 s for the node, and all again.
_SECONDS_TO_START = 50.0
_NEEDED = ("gcs_server", "raylet")  # of the processes of Ray


@dataclass(frozen=True)
class Gone:
    """What Ray lacks: a line for a person, and the seconds in which it may come back."""

    line: str
    patience: float


@dataclass(frozen=True)
class Cluster:
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
    def joined(cls) -> Cluster:
        """The one of now."""
        node: Any = ray._private.worker._global_node
        processes = node.all_processes if node.is_head() else {}  # only who starts a head has it in this process
        own = {name: processes[name][0].process for name in _NEEDED if processes.get(name)}
        return cls(own, node.gcs_address, (node.node_ip_address, node.node_manager_port), node.get_logs_dir_path())

    def gone(self) -> Gone | None:
        """What has ended; None: nothing."""
        for name, process in self.own.items():
            if process.poll() is not None:
                how = f"signal {-process.returncode}" if process.returncode < 0 else f"code {process.returncode}"
                return Gone(
                    f"Ray: its process {name}, which this job had started, has ended ({how}); {AGAIN}. If it ends again, "
                    f"see {self.logs}, and whether the machine is short of memory",
                    0,
                )
        if self.own:
            return None
        # The node first: a head node takes its GCS with it, and Ray ends the driver sooner.
        if not listens(*self.node, _SECONDS_TO_CONNECT):
            return Gone(
                f"Ray: this machine's node of the cluster at {self.address} has ended; when it runs again (ray start), {AGAIN}",
                _SECONDS_WITHOUT_NODE,
            )
        gcs = host_and_port(self.address)
        if gcs is not None and not listens(*gcs, _SECONDS_TO_CONNECT):
            return silent_cluster(self.address)
        return None

    def silent(self, seconds: float) -> Gone | None:
        """What runs and does not answer a question within some seconds; None: nothing."""
        host, port = self.node
        for name, address in (("gcs_server", self.address), ("raylet", f"{host}:{port}")):
            if answers(address, seconds):
                continue
            if self.own:
                return Gone(
                    f"Ray: its process {name}, which this job had started, runs, but has not answered for "
                    f"{_SECONDS_OF_SILENCE:g} s; {AGAIN}. If that comes again, see {self.logs}, and whether the machine is "
                    "short of CPU and memory",
                    _SECONDS_OF_SILENCE,
                )
            if name == "raylet":
                return Gone(
                    f"Ray: this machine's node of the cluster at {self.address} runs, but has not answered for "
                    f"{_SECONDS_OF_SILENCE:g} s; when it does again, or has been restarted (ray start), {AGAIN}",
                    _SECONDS_OF_SILENCE,
                )
            return silent_cluster(self.address)
        return None


def silent_cluster(address: str) -> Gone:
    """Of a cluster that does not run, or hangs."""
    return Gone(
        f"Ray: the cluster at {address} does not answer any more; when it runs again, {AGAIN}", _SECONDS_WITHOUT_GCS
    )


_NOT_STARTED = Gone(
    f"Ray: it has not started on this machine in {_SECONDS_TO_START:g} s; check that the machine has free "
    "CPU, memory and space in /tmp, and run the same command again. /tmp/ray/session_latest/logs has Ray's logs",
    _SECONDS_TO_START,
)


class LivenessWatch:
    """Ends this process with one line, and the exit code 3, where Ray has gone, hangs, or does not start.

    Args:
        address: of the cluster that the job joins; None: it starts a Ray of its own.
    """

    def __init__(self, address: str | None) -> None:
        self._address = address
        self._done = threading.Event()
        self._errors = os.dup(2)  # which shows nothing while Ray starts (`cluster.connect`)
        self._was_connected = False
        self._missing: Gone | None = None
        self._since = 0.0
        self._silence: Gone | None = None
        self._next_question = 0.0

    def start(self) -> None:
        """Begin to look."""
        threading.Thread(target=self._run, name="ray-watch", daemon=True).start()

    def stop(self) -> None:
        """Look no more."""
        self._done.set()

    def _run(self) -> None:
        looked = time.monotonic()
        while not self._done.wait(_SECONDS_BETWEEN_LOOKS):
            begun = time.monotonic()
            missing = self._look(begun)
            if time.monotonic() > looked + _LONGEST_LOOK:
                missing = self._silence = None
            looked = time.monotonic()
            if missing != self._missing:
                self._missing, self._since = missing, begun
            if missing is not None and looked >= self._since + missing.patience:
                self._end(missing)
        os.close(self._errors)

    def _look(self, now: float) -> Gone | None:
        """What is missing at this moment."""
        if ray.is_initialized():
            self._was_connected = True
            cluster = Cluster.joined()
            gone = cluster.gone()
            if gone is not None:
                self._silence = None
                return gone
            return self._asked(now, cluster.silent)
        if self._was_connected:
            return None  # the job has left it
        if self._address is None:
            return _NOT_STARTED if reaper.MARK in os.environ else None
        address = self._address
        return self._asked(now, lambda seconds: None if answers(address, seconds) else silent_cluster(address))

    def _asked(self, now: float, ask: Callable[[float], Gone | None]) -> Gone | None:
        """What does not answer; asked now and then, and again and again while there is something."""
        if self._silence is None and now < self._next_question:
            return None
        left = _SECONDS_TO_ANSWER if self._silence is None else self._since + _SECONDS_OF_SILENCE - now
        self._silence = ask(max(1.0, min(_SECONDS_TO_ANSWER, left)))
        self._next_question = time.monotonic() + _SECONDS_BETWEEN_QUESTIONS
        return self._silence

    def _end(self, missing: Gone) -> None:
        # Asked again: it may just have started, and `ray.shutdown` ends the processes of a job's own Ray once it has left it.
        if self._done.is_set() or ray.is_initialized() != self._was_connected:
            return
        os.dup2(self._errors, 2)
        print_error(ClusterError(missing.line))
        # Ray's threads, which wait for what has gone, would write more, and its end may last minutes.
        end_process(CLUSTER_FAULT)
