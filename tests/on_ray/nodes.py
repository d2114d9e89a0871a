"""A Ray of several nodes on this machine: a head, and nodes of one CPU that can be killed one by one, or told to leave."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

from tests.on_ray.processes import free_port, of_session, title_of

_NETWORK = "127.0.6"  # not 127.0.0.1, which Ray replaces by the address that others reach this machine at
_SECONDS_TO_START = 180.0
_STARTS = 5
HEAD = 1


class Nodes:
    """Nodes by number, each in a session of its own; the first is the head, beside which drivers run."""

    def __init__(
        self, folder: Path, *, network: str = _NETWORK, head_cpus: int = 0, settings: Mapping[str, str] | None = None
    ) -> None:
        """
        Args:
            folder: for what the nodes say.
            network: the first three numbers of their addresses, of which only these nodes make use.
            head_cpus: CPUs of the head.
            settings: environment variables of Ray's processes.
        """
        self._folder = folder
        self._network, self._head_cpus, self._settings = network, head_cpus, dict(settings or {})
        self._temporary = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # sockets lie in it: paths of 107 bytes at most
        self._port = free_port()
        self._token = os.environ.get("RAY_AUTH_TOKEN") or secrets.token_hex(32)
        self._nodes: dict[int, subprocess.Popen[bytes]] = {}

    @property
    def address(self) -> str:
        """Of the GCS."""
        return f"{self._network}.{HEAD}:{self._port}"

    def environment(self) -> dict[str, str]:
        """Of a job that joins them."""
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self._token}
        watcher = {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "1"}  # nodes may be told to leave
        return {**os.environ, **token, **watcher, "RAY_ADDRESS": self.address}

    def start(self, number: int) -> None:
        """Start a node, and wait until it takes work; again where that fails, as it does on a busy machine after 30 s."""
        for _ in range(_STARTS):
            self._launch(number)
            if self._is_ready(number):
                return
            self.kill(number)
        raise RuntimeError(
            f"node {number} did not start, {_STARTS} times: {self._said(number).strip().splitlines()[-1:]}"
        )

    def _launch(self, number: int) -> None:
        place = [f"--address={self.address}", "--num-cpus=1"]
        if number == HEAD:
            place = ["--head", f"--port={self._port}", f"--num-cpus={self._head_cpus}", "--include-dashboard=false"]
        command = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--disable-usage-stats", *place]
        command += [f"--node-ip-address={self._network}.{number}", f"--dashboard-agent-listen-port={free_port()}"]
        command += ["--num-gpus=0", "--include-log-monitor=false", f"--object-store-memory={2**27}"]
        environment = {**self.environment(), **self._settings, "RAY_TMPDIR": self._temporary}
        del environment["RAY_ADDRESS"]
        with self._log(number).open("wb") as out:
            self._nodes[number] = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _is_ready(self, number: int) -> bool:
        deadline = time.monotonic() + _SECONDS_TO_START
        while time.monotonic() < deadline and self._nodes[number].poll() is None:
            if "Ray runtime started" in self._said(number):
                return True
            time.sleep(0.1)
        return False

    def _log(self, number: int) -> Path:
        return self._folder / f"node-{number}.log"

    def _said(self, number: int) -> str:
        return self._log(number).read_text(errors="replace")

    def holding(self, title: str) -> dict[int, psutil.Process]:
        """By node, a process whose title holds `title`."""
        found = {}
        for number, node in self._nodes.items():
            for process in of_session(node.pid):
                if title in title_of(process):
                    found[number] = process
        return found

    def tell_to_leave(self, number: int) -> None:
        """SIGTERM to a node, as Kubernetes does with a pod that has to go."""
        self._nodes[number].terminate()

    def kill(self, number: int) -> None:
        """Power off: SIGKILL to everything on a node."""
        node = self._nodes.pop(number)
        deadline = time.monotonic() + 20
        # Asked again and again: a process may start another meanwhile, and what is dead and not reaped yet is not among them.
        while (left := of_session(node.pid)) and time.monotonic() < deadline:
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            node.poll()
            time.sleep(0.05)
        node.wait()

    def close(self) -> None:
        """End all of it."""
        for number in sorted(self._nodes, reverse=True):
            self.kill(number)
        shutil.rmtree(self._temporary, ignore_errors=True)
