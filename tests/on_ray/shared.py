"""One Ray for all tests that can share it, as `ray start` makes it; jobs and this process join it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

from tests.on_ray import forked_workers
from tests.on_ray.processes import free_port, of_session, title_of

CPUS = 2
ADDRESS = "127.0.3.1"  # not 127.0.0.1, which Ray replaces by the address that others reach this machine at


class SharedRay:
    """A head node of two CPUs without a dashboard, in a session of its own. It asks for a token."""

    def __init__(self, log: Path, credentials: Mapping[str, str], *, host: str = ADDRESS, cpus: int = CPUS) -> None:
        """
        Args:
            log: what the node says.
            credentials: of the object store; workers have them from the node.
            host: a loopback address of its own.
            cpus: of the node.
        """
        self._log = log
        self._folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # sockets lie in it, whose paths may have 107 bytes
        self._host, self._cpus = host, cpus
        self.address = f"{host}:{free_port()}"
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith("AWS_") and name != "RAY_ADDRESS"
        }
        self.environment = {**kept, "RAY_TMPDIR": self._folder, **credentials}
        self._node: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the node and wait until it takes jobs."""
        port = self.address.rpartition(":")[2]
        command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--disable-usage-stats"]
        command += [f"--node-ip-address={self._host}", f"--port={port}", f"--num-cpus={self._cpus}", "--num-gpus=0"]
        command += [
            "--include-dashboard=false",
            "--include-log-monitor=false",
            f"--dashboard-agent-listen-port={free_port()}",
        ]
        with self._log.open("wb") as log:
            self._node = subprocess.Popen(
                forked_workers.command(f"{self._folder}/forks", command),
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + 120
        while "Ray runtime started" not in self._log.read_text():
            assert self._node.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.1)

    def processes(self, title: str) -> list[psutil.Process]:
        """The processes of this Ray whose title holds `title`, such as `ray::RemovalActor`."""
        assert self._node is not None
        return [process for process in of_session(self._node.pid) if title in title_of(process)]

    def stop(self) -> None:
        """End the node and what it started."""
        if self._node is None:
            return
        deadline = time.monotonic() + 20
        # Asked again and again: what is dead and not reaped yet is not among them.
        while (left := of_session(self._node.pid)) and time.monotonic() < deadline:
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            time.sleep(0.05)
        self._node.wait()
        shutil.rmtree(self._folder, ignore_errors=True)
