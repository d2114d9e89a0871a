"""What a training run keeps when its workers or machines are taken away, and that it has more or fewer workers then."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from ray.util.placement_group import placement_group, remove_placement_group

from inpaint_core.on_ray.workers import plan_workers
from inpaint_core.storage import open_storage
from inpaint_core.training.history import read_history
from inpaint_core.training.scaling_config import TrainScalingConfig
from tests.on_ray.processes import free_port, of_session
from tests.on_ray.shared import SharedRay
from tests.on_ray.test_training import SMALL, photographs, places_of

DRAIN_SECONDS = 12
# `inpaint train`, which looks for more machines every 2 seconds.
_TRAIN = """
import sys
from inpaint_core.cli import main
from inpaint_core.on_ray import workers
workers._SECONDS_BETWEEN_RESIZES = 2.0
sys.exit(main(["train", *sys.argv[1:]]))
"""


def until(found: Callable[[], Any], seconds: float = 150) -> None:
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)


class Nodes:
    """Nodes of one CPU beside a head of one CPU, on this machine."""

    def __init__(self, head: SharedRay, folder: Path) -> None:
        self._head, self._folder = head, folder
        self.address = head.address
        self._nodes: list[subprocess.Popen[bytes]] = []

    def add(self) -> subprocess.Popen[bytes]:
        """Start a node, and wait until it takes work."""
        number = len(self._nodes) + 2
        log = self._folder / f"node-{number}.log"
        command = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--disable-usage-stats"]
        command += [f"--address={self._head.address}", f"--node-ip-address=127.0.4.{number}", "--num-cpus=1"]
        command += ["--num-gpus=0", "--include-log-monitor=false", f"--dashboard-agent-listen-port={free_port()}"]
        drain = {"RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": str(DRAIN_SECONDS)}
        with log.open("wb") as file:
            node = subprocess.Popen(
                command,
                env={**self._head.environment, **drain},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._nodes.append(node)
        until(lambda: node.poll() is not None or "Ray runtime started" in log.read_text(), 90)
        assert node.poll() is None, log.read_text()
        return node

    def close(self) -> None:
        """End them and what they started."""
        for node in self._nodes:
            left = of_session(node.pid)
            for process in left:
                process.kill()
            psutil.wait_procs(left, timeout=20)
            node.wait()


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    """A cluster of its own."""
    head = SharedRay(tmp_path / "head.log", {}, host="127.0.4.1", cpus=1)
    found = Nodes(head, tmp_path)
    try:
        head.start()
        yield found
    finally:
        found.close()
        head.stop()


@pytest.mark.slow
def test_workers_become_fewer_and_more_as_machines_go_and_come(nodes: Nodes, tmp_path: Path) -> None:
    photographs(open_storage(str(tmp_path / "photos")))
    output = open_storage(str(tmp_path / "run"))
    arguments = [*SMALL, f"data={tmp_path / 'photos'}", f"output={output.uri}", "batch=4", "epochs=5000"]
    log = tmp_path / "train.log"

    def history() -> list[dict[str, Any]]:
        return read_history(output) if output.exists("history.parquet") else []

    def works_with(workers: int) -> bool:
        assert training.poll() is None, log.read_text()
        rows = history()
        return bool(rows) and rows[-1]["workers"] == workers

    first = nodes.add()
    with log.open("w") as out:
        training = subprocess.Popen(
            [sys.executable, "-c", _TRAIN, *arguments, "scaling.workers=1-2"],
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "RAY_ADDRESS": nodes.address},
        )
    try:
        until(lambda: works_with(2))
        first.send_signal(signal.SIGTERM)  # as Kubernetes does with a pod that has to go
        until(lambda: works_with(1))
        nodes.add()
        until(lambda: works_with(2))
        training.send_signal(signal.SIGTERM)
        assert training.wait(timeout=60) == 130, log.read_text()
    finally:
        training.kill()
        training.wait()
    lines = log.read_text().splitlines()
    assert "2 workers, 1 CPU each; 1 to 2 as machines come and go" in lines
    assert "a machine of this run will be taken away: until then, a checkpoint every 10 seconds" in lines
    resumed = places_of(lines, "resuming from ")
    assert len(resumed) == 2
    assert resumed[-1] == places_of(lines, "the workers were told to end")[-1], "no step is done twice for a new worker"
    assert [row["step"] for row in history()] == [8 * row["epoch"] for row in history()]
    assert {row["workers"] for row in history()} == {1, 2}


@pytest.mark.slow
def test_trials_with_a_part_of_a_gpu_share_one() -> None:
    """Ray reserves GPUs that it was told of, whether or not they are there."""
    plan = plan_workers(TrainScalingConfig(gpus_per_worker=0.25, cpus_per_worker=1), [{"CPU": 8.0, "GPU": 1.0}])
    ray.init("local", num_cpus=8, num_gpus=1, include_dashboard=False, log_to_driver=False)
    try:
        bundle = plan.scaling_config().total_resources
        groups = [placement_group([bundle]) for _ in range(5)]
        ready, waiting = ray.wait([group.ready() for group in groups], num_returns=5, timeout=5)
        assert (len(ready), len(waiting)) == (4, 1)
        for group in groups:
            remove_placement_group(group)
    finally:
        ray.shutdown()
