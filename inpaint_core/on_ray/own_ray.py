"""A Ray that a job starts for itself on this machine: started twice if need be, and ended with the job, however that ends."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray

from inpaint_core.errors import ClusterError
from inpaint_core.on_ray import reaper
from inpaint_core.on_ray.address import first_line

_STARTS = 2
_SECONDS_TO_END = 20.0
# For the GCS, which Ray gives 30 s to take a port, and does not miss when it has ended: it takes 1.5 s on two CPUs with a load of
# 34. Twice 20 s fit into what `liveness` gives both starts.
_WAIT_FOR_GCS = ("RAY_gcs_server_port_wait_time_s", "20")
# Ray Train watches for drains of nodes with an actor, which takes 2 s of CPU time at each start. Nobody drains this Ray's only node.
_NO_DRAINS = {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0"}
_PORT_TAKEN = re.compile(r"Failed to start the grpc server\. The specified port is (\d+)")


def start_ray(init: Callable[[], object]) -> None:
    """Start Ray, and once more where that fails for another reason than a port that another process has.

    Args:
        init: starts it, and connects this process.

    Raises:
        ClusterError: it failed for good.
    """
    os.environ.setdefault(*_WAIT_FOR_GCS)
    for attempt in range(1, _STARTS + 1):
        mark = uuid.uuid4().hex
        with _environment({reaper.MARK: mark} | {name: _NO_DRAINS[name] for name in _NO_DRAINS.keys() - os.environ}):
            watcher = _Reaper.start(mark) if sys.platform == "linux" else None
            try:
                init()
            except Exception as error:  # Ray raises `Exception` itself, too
                with contextlib.suppress(Exception):
                    ray.shutdown()
                if watcher is not None:
                    watcher.end()
                taken = _PORT_TAKEN.search(str(error))
                if taken is not None:
                    raise ClusterError(
                        f"Ray: its GCS cannot use the port {taken[1]}, which another process uses; stop that process, or set another "
                        "port in RAY_GCS_SERVER_PORT (none: any free one), and run the same command again"
                    ) from error
                if attempt == _STARTS:
                    raise ClusterError(
                        f"Ray: it could not be started on this machine, twice ({first_line(error)}); check that the machine "
                        "has free CPU, memory and space in /tmp, and run the same command again. /tmp/ray/session_latest/logs "
                        "has Ray's logs"
                    ) from error
            else:
                if watcher is not None:
                    watcher.name(_unmarked())
                return


def _unmarked() -> list[int]:
    """Ray's agents, which write their title over their environment, and what else its first processes have started so far."""
    node: Any = ray._private.worker._global_node
    pids = [] if node is None else [info.process.pid for infos in node.all_processes.values() for info in infos]
    return [*pids, *reaper.children(pids)]


@dataclass(frozen=True)
class _Reaper:
    """The process of `reaper`. It ends this Ray when the pipe closes: with this process, which alone holds its other end."""

    process: subprocess.Popen[bytes]
    pipe: int

    @classmethod
    def start(cls, mark: str) -> _Reaper:
        """Start it, in a session of its own, where no signal to this job's processes reaches it."""
        environment = {name: value for name, value in os.environ.items() if name != reaper.MARK}
        read, write = os.pipe()
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", reaper.__file__, mark],
                env=environment,
                stdin=read,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        finally:
            os.close(read)
        return cls(process, write)

    def name(self, pids: list[int]) -> None:
        """Tell it of processes that their environment does not show."""
        lines = (f"{pid} {start}\n" for pid in pids if (start := reaper.started(pid)) is not None)
        os.write(self.pipe, "".join(lines).encode())

    def end(self) -> None:
        """Have it end what there is now, and wait for that."""
        os.write(self.pipe, reaper.AT_ONCE.encode())
        os.close(self.pipe)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_SECONDS_TO_END)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for the processes that are started meanwhile."""
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]
