"""What a training run keeps when its workers or machines are taken away, and that it has more or fewer workers then."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.util.placement_group import placement_group, remove_placement_group

from inpaint_core.on_ray.workers import worker_resources
from inpaint_core.storage import open_storage
from inpaint_core.training.history import read_history
from inpaint_core.training.scaling_config import TrainScalingConfig
from tests.on_ray.nodes import HEAD, Nodes
from tests.on_ray.processes import wait_for
from tests.on_ray.test_training import SMALL, photographs, places_of

DRAIN_SECONDS = 12
# `inpaint train`, which looks for more machines every 2 seconds.
_TRAIN = """
import sys
from inpaint_core.cli import program
from inpaint_core.on_ray import workers
workers._SECONDS_BETWEEN_RESIZES = 2.0
sys.argv.insert(1, "train")
program()
"""


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    """A cluster of its own: a head of one CPU and a node of one."""
    drain = {"RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": str(DRAIN_SECONDS)}
    nodes = Nodes(tmp_path, network="127.0.4", head_cpus=1, settings=drain)
    try:
        for number in (HEAD, 2):
            nodes.start(number)
        yield nodes
    finally:
        nodes.close()


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

    with log.open("w") as out:
        training = subprocess.Popen(
            [sys.executable, "-c", _TRAIN, *arguments, "scaling.workers=1-2"],
            stdout=out,
            stderr=subprocess.STDOUT,
            text=True,
            env=nodes.environment(),
        )
    try:
        wait_for(training, lambda: works_with(2), 150)
        nodes.tell_to_leave(2)
        wait_for(training, lambda: works_with(1), 150)
        nodes.start(3)
        # What it says comes later than what it writes.
        wait_for(training, lambda: works_with(2) and log.read_text().count("resuming from ") == 2, 150)
        training.send_signal(signal.SIGTERM)
        assert training.wait(timeout=60) == 130, log.read_text()
    finally:
        training.kill()
        training.wait()
    lines = log.read_text().splitlines()
    assert "2 workers, 1 CPU each; 1 to 2 as machines come and go" in lines
    assert "a machine of this run is being drained: until it ends, a checkpoint every 10 seconds" in lines
    resumed = places_of(lines, "resuming from ")
    assert len(resumed) == 2
    assert resumed[-1] == places_of(lines, "the workers end after SIGTERM")[-1], (
        "no step is done twice for a new worker"
    )
    assert [row["step"] for row in history()] == [8 * row["epoch"] for row in history()]
    assert {row["workers"] for row in history()} == {1, 2}


@pytest.mark.slow
def test_trials_with_a_part_of_a_gpu_share_one() -> None:
    """Ray reserves GPUs that it was told of, whether or not they are there."""
    resources = worker_resources(
        TrainScalingConfig(gpus_per_worker=0.25, cpus_per_worker=1), [{"CPU": 8.0, "GPU": 1.0}]
    )
    ray.init("local", num_cpus=8, num_gpus=1, include_dashboard=False, log_to_driver=False)
    try:
        bundle = resources.scaling_config().total_resources
        groups = [placement_group([bundle]) for _ in range(5)]
        ready, waiting = ray.wait([group.ready() for group in groups], num_returns=4, timeout=60)
        assert (len(ready), len(waiting)) == (4, 1)
        assert ray.wait(waiting, timeout=1) == ([], waiting)
        for group in groups:
            remove_placement_group(group)
    finally:
        ray.shutdown()
