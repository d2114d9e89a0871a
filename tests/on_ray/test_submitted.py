"""Jobs submitted to the cluster of `cluster/local`, as a user does: status, logs, exit code, cancel and resume."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest

from inpaint_core.removal.catalogue.ledger import read_records
from inpaint_core.storage import S3Options, Storage, open_storage
from tests.on_ray.processes import free_port, runs_in
from tests.s3.seaweedfs import SeaweedFS
from tests.samples import encoded, painted, photograph

pytestmark = [pytest.mark.slow, pytest.mark.s3]
ROOT = Path(__file__).resolve().parents[2]
BOX = (60, 40, 90, 80)


@dataclass
class Local:
    """A running `cluster/local/up 2`."""

    environment: dict[str, str]
    state: Path
    server: SeaweedFS
    bucket: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.environment['RAY_DASHBOARD_PORT']}"

    def storage(self, prefix: str) -> Storage:
        return open_storage(f"s3://{self.bucket}/{prefix}", S3Options(endpoint=self.server.endpoint))

    def ray_job(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        ray = Path(sys.executable).with_name("ray")
        # What a user's own shell has: no credentials of the store, which the nodes hold.
        environment = {name: value for name, value in self.environment.items() if not name.startswith("AWS_")}
        command = [str(ray), "job", arguments[0], "--address", self.url, *arguments[1:]]
        return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=300)

    def remove(self, name: str, *options: str) -> list[str]:
        """The arguments that submit a removal of the images under `name`."""
        job = [
            "python",
            "jobs/remove_objects.py",
            f"input=s3://{self.bucket}/{name}",
            f"output=s3://{self.bucket}/{name}-out",
        ]
        job += [f"s3.endpoint={self.server.endpoint}", "detector.kind=masks", f"detector.root=s3://{self.bucket}/masks"]
        return [
            "submit",
            "--working-dir",
            ".",
            *options,
            "--",
            *job,
            "inpainter.kind=opencv",
            "scaling.images_per_batch=2",
        ]

    def get(self, path: str) -> str:
        request = urllib.request.Request(
            f"{self.url}{path}", headers={"Authorization": f"Bearer {self.environment['RAY_AUTH_TOKEN']}"}
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            text: str = answer.read().decode()
        return text

    def photographs(self, name: str, count: int) -> None:
        images, masks = self.storage(name), self.storage("masks")
        hole = np.zeros((144, 192, 3), np.uint8)
        hole[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 255
        data, mask = encoded(painted(photograph((192, 144), seed=1), BOX), "JPEG", quality=90), encoded(hole)
        for number in range(count):
            images.write(f"{number:03}.jpg", data)
            masks.write(f"{number:03}.png", mask)


@pytest.fixture(scope="module")
def local(s3_server: SeaweedFS, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    folder = tmp_path_factory.mktemp("local")
    short = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # sockets lie in it, whose paths may have 107 bytes
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RAY_"))}
    environment |= {"RAY_PORT": str(free_port()), "RAY_DASHBOARD_PORT": str(free_port()), "RAY_TMPDIR": short}
    environment |= {"RAY_LOCAL_STATE": str(folder / "state"), "RAY_AUTH_MODE": "token", "RAY_worker_niceness": "0"}
    environment |= {"RAY_AUTH_TOKEN": secrets.token_hex(32), "AWS_EC2_METADATA_DISABLED": "true"}
    environment |= {"AWS_ACCESS_KEY_ID": s3_server.admin.key_id, "AWS_SECRET_ACCESS_KEY": s3_server.admin.secret}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"

    def script(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(ROOT / "cluster" / "local" / name), *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)

    try:
        up = script("up", "2")
        assert up.returncode == 0, up.stdout + up.stderr
        assert "2 node(s) to work on" in up.stdout
        # Each node unpacks the code of jobs in a folder of its own, and first removes what lies there.
        assert {path.parent.name for path in Path(short).glob("ray/*/session_latest")} == {"worker-1", "worker-2"}
        again = script("up")
        assert again.returncode == 2
        assert "a cluster is running" in again.stderr
        yield Local(environment, folder / "state", s3_server, s3_server.make_bucket())
    finally:
        sessions = {int(path.read_text()) for path in (folder / "state").glob("*.pid")}
        down = script("down")
        _, left = psutil.wait_procs([one for one in psutil.process_iter() if runs_in(one, sessions)], timeout=10)
        shutil.rmtree(short, ignore_errors=True)
    assert "3 node(s) stopped" in down.stdout
    assert left == []


@pytest.fixture(autouse=True)
def credentials(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in local.environment.items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)


def test_a_submitted_job_says_what_it_did_and_no_secret(local: Local) -> None:
    local.photographs("few", 24)
    run = local.ray_job(*local.remove("few", "--submission-id", "few"))
    assert run.returncode == 0, run.stdout + run.stderr
    assert "2 workers, 1 CPU each" in run.stdout
    assert "24 cleaned, 0 unchanged, 0 failed of 24 images" in run.stdout
    assert "Job 'few' succeeded" in run.stdout + run.stderr
    assert "SUCCEEDED" in local.ray_job("status", "few").stdout.upper()
    assert read_records(local.storage("few-out")).num_rows == 24

    # The credentials are the nodes': nothing that Ray shows holds them.
    secret = local.server.admin.secret
    logged = json.loads(local.get("/api/jobs/few/logs"))["logs"]
    assert "24 cleaned, 0 unchanged" in logged
    shown = local.get("/api/jobs/") + logged + local.get("/api/v0/actors?detail=1")
    assert "few" in shown
    assert secret not in shown
    [session] = (
        path for path in Path(local.environment["RAY_TMPDIR"], "ray").glob("session_2*") if not path.is_symlink()
    )
    logs = [path for path in (session / "logs").rglob("*") if path.is_file()]
    assert any(path.name == "job-driver-few.log" for path in logs)
    assert not [path for path in logs if secret in path.read_text(errors="replace")]
    # What it counted, as Prometheus would scrape it from the nodes.
    discovery = session / "prom_metrics_service_discovery.json"
    deadline = time.monotonic() + 60
    while cleaned(discovery) != 24:
        assert time.monotonic() < deadline
        time.sleep(1)
    asked = set(re.findall(r"\bray_\w+", (ROOT / "cluster" / "grafana" / "removal.json").read_text()))
    names = {line.partition("{")[0] for line in told(discovery)}
    assert "ray_inpaint_images_total" in asked
    assert asked - names <= {
        "ray_node_gpus_utilization",
        "ray_inpaint_images_waiting",
    }  # without a GPU, and of a job that runs


def told(discovery: Path) -> list[str]:
    """What all nodes tell Prometheus, line by line."""
    targets = json.loads(discovery.read_text())[0]["targets"] if discovery.exists() else []
    lines: list[str] = []
    for target in targets:
        with urllib.request.urlopen(f"http://{target}/metrics", timeout=20) as answer:
            lines += answer.read().decode().splitlines()
    return lines


def cleaned(discovery: Path) -> int:
    """The images that all nodes have counted as cleaned."""
    counts = [line for line in told(discovery) if re.match(r'ray_inpaint_images_total\{.*status="cleaned".*\}', line)]
    return int(sum(float(line.rpartition(" ")[2]) for line in counts))


# What a submitted job finds, and what it does with two wrong commands; its exit code is that of the second.
PROBE = """
import os, subprocess, sys
print("names", *sorted(os.listdir()))
print("bytes", sum(os.path.getsize(os.path.join(at, name)) for at, _, names in os.walk(".") for name in names), flush=True)
job = sys.argv[1:]
print("relative ended with", subprocess.run([*job, "output=cleaned"]).returncode, flush=True)
os.execvp(job[0], [*job, "mask.growth=1"])
"""


def test_a_small_package_travels_and_a_job_that_can_not_run_fails_with_its_one_line(local: Local) -> None:
    submit = local.remove("few")
    command = submit.index("--") + 1
    run = local.ray_job(*submit[:command], "python", "-c", PROBE, *submit[command:])
    names = re.search(r"^names (.*)$", run.stdout, re.MULTILINE)
    assert names is not None, run.stdout + run.stderr
    assert {"jobs", "inpaint_core", "configs"} <= set(names[1].split())
    assert not set(names[1].split()) & {"tests", "benchmarks", ".venv", ".git", "runs", "demo"}
    size = re.search(r"^bytes (\d+)$", run.stdout, re.MULTILINE)
    assert size is not None
    assert int(size[1]) < 25e6

    assert "'cleaned' is relative, and a submitted job runs in a copy" in run.stdout
    assert re.search(r"^relative ended with 2$", run.stdout, re.MULTILINE)
    assert run.returncode == 1
    assert "error: mask.growth: no such key; did you mean 'grow'?" in run.stdout
    assert "exit code 2" in run.stdout + run.stderr


def test_a_stopped_job_goes_on_when_it_is_submitted_again(local: Local) -> None:
    local.photographs("many", 200)
    submitted = local.ray_job(*local.remove("many", "--no-wait", "--submission-id", "first"), "scaling.actors=1")
    assert submitted.returncode == 0, submitted.stderr
    output = local.storage("many-out")
    deadline = time.monotonic() + 150
    while not any(info.key.startswith("_removal/journal/") for info in output.list()):
        assert time.monotonic() < deadline, local.ray_job("logs", "first").stdout
        time.sleep(0.5)
    stopped = local.ray_job("stop", "first")
    assert stopped.returncode == 0, stopped.stderr
    assert json.loads(local.get("/api/jobs/first"))["status"] == "STOPPED"
    assert "interrupted: the same command continues from here" in local.ray_job("logs", "first").stdout
    finished = read_records(output).num_rows
    assert 0 < finished < 200
    again = local.ray_job(*local.remove("many"), "scaling.actors=1")
    assert again.returncode == 0, again.stdout
    assert f"{finished:,} already done, {200 - finished:,} to do" in again.stdout
    assert read_records(output).num_rows == 200
