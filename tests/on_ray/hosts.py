"""Several machines on this one, for tests: hosts in network namespaces with names, addresses and a /tmp/ray of their own.

Each host is a Ray node as `ray start` makes it. They see the same installed software, as machines of a cluster do, and nothing of
the folder that the test keeps to the driver's host.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
import pytest

RAY = str(Path(sys.executable).with_name("ray"))
PORT = 6379


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def skip_without_namespaces() -> None:
    if os.geteuid() != 0 or shutil.which("ip") is None or shutil.which("unshare") is None:
        pytest.skip("needs network namespaces: root, and Debian's iproute2")
    probe = f"probe-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"needs network namespaces, which this machine does not allow: {made.stderr.strip()}")
    run("ip", "netns", "del", probe)


class Hosts:
    """A switch with hosts on it; this process is on it too, as `10.213.N.254`."""

    def __init__(self, folder: Path, hidden: Path) -> None:
        """
        Args:
            folder: for logs.
            hidden: a folder that only the first host sees.
        """
        self._folder, self._hidden = folder, hidden
        self._network = f"10.213.{os.getpid() % 250 + 1}"
        self._tag = f"{os.getpid() % 100_000}"
        self._switch = f"s{self._tag}"
        self._nodes: dict[int, subprocess.Popen[bytes]] = {}
        self._namespaces = [self._switch]
        run("ip", "netns", "add", self._switch)
        run("ip", "-n", self._switch, "link", "add", "bridge", "type", "bridge")
        run("ip", "-n", self._switch, "link", "set", "bridge", "up")
        self._plug("", f"{self._network}.254")

    def address(self, number: int) -> str:
        return f"{self._network}.{number}"

    def add(self, number: int) -> None:
        """A new host; it runs nothing yet."""
        name = self.namespace(number)
        run("ip", "netns", "add", name)
        self._namespaces.append(name)
        run("ip", "-n", name, "link", "set", "lo", "up")
        self._plug(name, self.address(number))
        etc = Path("/etc/netns") / name  # what `ip netns exec` puts over /etc
        etc.mkdir(parents=True)
        names = "".join(f"{self.address(other)} {self.namespace(other)}\n" for other in range(1, 9))
        (etc / "hosts").write_text(f"127.0.0.1 localhost\n{names}")

    def popen(
        self, number: int, command: Sequence[str], environment: Mapping[str, str], log: str
    ) -> subprocess.Popen[bytes]:
        """Start a command on a host."""
        mounts = f"mkdir -p /tmp/ray && mount -t tmpfs tmpfs /tmp/ray && hostname {self.namespace(number)}"
        if number > 1:
            mounts += f" && mount -t tmpfs tmpfs {self._hidden}"
        if number in self._nodes:  # beside the node, in its own view of the files
            enter = ["nsenter", f"--target={self._inside(number).pid}", "--mount", "--uts", "--net", "--", *command]
        else:
            shell = f'{mounts} && exec "$@"'
            enter = [
                "ip",
                "netns",
                "exec",
                self.namespace(number),
                "unshare",
                "--mount",
                "--uts",
                "bash",
                "-c",
                shell,
                "-",
                *command,
            ]
        with (self._folder / log).open("ab") as file:
            return subprocess.Popen(
                enter, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, env=dict(environment), cwd="/"
            )

    def start_node(self, number: int, environment: Mapping[str, str], *options: str) -> None:
        """`ray start` on a host, the head on the first; waits until the cluster knows it."""
        place = ["--head", f"--port={PORT}"] if number == 1 else [f"--address={self.address(1)}:{PORT}"]
        command = [
            RAY,
            "start",
            "--block",
            "--disable-usage-stats",
            "--include-log-monitor=false",
            f"--node-ip-address={self.address(number)}",
            *place,
            *options,
        ]
        log = self._folder / f"node-{number}.log"
        node = self.popen(number, command, environment, log.name)
        self._nodes[number] = node
        deadline = time.monotonic() + 90
        while "Ray runtime started" not in log.read_text(errors="replace"):
            assert node.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.1)

    def processes(self, number: int) -> list[psutil.Process]:
        """All that run on a host."""
        pids = run("ip", "netns", "pids", self.namespace(number)).split()
        return [psutil.Process(int(pid)) for pid in pids if psutil.pid_exists(int(pid))]

    def works(self, number: int, name: str) -> bool:
        """Whether a process whose title holds `name` runs on a host."""
        return any(name in title(process) for process in self.processes(number))

    def nodes(self) -> list[int]:
        """The hosts whose node runs."""
        return sorted(self._nodes)

    def kill(self, number: int) -> None:
        """Power off: SIGKILL to everything on a host."""
        for process in self.processes(number):
            if process.is_running():
                process.send_signal(signal.SIGKILL)
        node = self._nodes.pop(number, None)
        if node is not None:
            node.wait()

    def close(self) -> None:
        """End everything and leave nothing behind."""
        for name in self._namespaces[:0:-1]:
            for pid in run("ip", "netns", "pids", name).split():
                os.kill(int(pid), signal.SIGKILL)
        for node in self._nodes.values():
            node.wait()
        for name in reversed(self._namespaces):
            run("ip", "netns", "del", name)
            shutil.rmtree(Path("/etc/netns") / name, ignore_errors=True)
        subprocess.run(["ip", "link", "del", f"r{self._tag}"], capture_output=True, check=False)

    def _inside(self, number: int) -> psutil.Process:
        """A process of a host's node: the one that has its view of the files."""
        return next(process for process in self.processes(number) if "ray" in title(process))

    def namespace(self, number: int) -> str:
        return f"h{number}-{self._tag}"

    def _plug(self, namespace: str, address: str) -> None:
        """A cable from a namespace (this process's own, where it is empty) to the switch."""
        number = address.rpartition(".")[2]
        inner, outer = (f"r{self._tag}" if not namespace else "eth0"), f"p{number}"
        run("ip", "link", "add", f"t{self._tag}", "type", "veth", "peer", "name", f"u{self._tag}")
        run("ip", "link", "set", f"u{self._tag}", "name", outer, "netns", self._switch)
        run("ip", "-n", self._switch, "link", "set", outer, "master", "bridge", "up")
        where = ["netns", namespace] if namespace else []
        run("ip", "link", "set", f"t{self._tag}", "name", inner, *where)
        at = ["-n", namespace] if namespace else []
        run("ip", *at, "address", "add", f"{address}/24", "dev", inner)
        run("ip", *at, "link", "set", inner, "up")


def title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
