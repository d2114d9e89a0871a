"""Jobs on a cluster that has no worker until they ask for some: Ray's own autoscaler, whose machines are processes here."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import ray
from ray.autoscaler._private.fake_multi_node.node_provider import (
    FAKE_HEAD_NODE_ID,
    FAKE_HEAD_NODE_TYPE,
    FakeMultiNodeProvider,
)
from ray.autoscaler.sdk import request_resources

from inpaint_core.config import load_config
from inpaint_core.on_ray.cluster import connect, node_resources
from inpaint_core.on_ray.sweep import settled_trials
from inpaint_core.training.sweep.config import TuneConfig
from tests.on_ray.processes import free_port, runs_in
from tests.samples import encoded, photograph

ROOT = Path(__file__).resolve().parents[2]
MOST_WORKERS = 2
ADDRESS = "127.0.2.1"
SECONDS_FOR_NODES = 300

# Beside another test's jobs, which share the CPUs with the processes of three nodes, none had come after 150 s (seen once).
pytestmark = pytest.mark.alone


@pytest.fixture(scope="module")
def autoscaled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A head without CPUs, and an autoscaler that brings nodes of one CPU each and takes them away when they are idle."""
    folder = tmp_path_factory.mktemp("autoscaled")
    port = free_port()
    config = {
        "cluster_name": "test",
        # Named by its module, since the wheel lacks a file that the name `fake_multinode` needs.
        "provider": {
            "type": "external",
            "module": f"{FakeMultiNodeProvider.__module__}.{FakeMultiNodeProvider.__name__}",
            "gcs_address": f"{ADDRESS}:{port}",
            "head_node_id": FAKE_HEAD_NODE_ID,
            "launch_multiple": True,
            "disable_node_updaters": True,
        },
        "head_node_type": FAKE_HEAD_NODE_TYPE,
        "available_node_types": {
            FAKE_HEAD_NODE_TYPE: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "worker": {
                "resources": {"CPU": 1, "object_store_memory": 2**27},
                "node_config": {},
                "max_workers": MOST_WORKERS,
            },
        },
        "max_workers": MOST_WORKERS,
        "idle_timeout_minutes": 0.2,
        **{name: {} for name in ("auth", "docker", "file_mounts")},
        **{name: [] for name in ("cluster_synced_files", "initialization_commands", "setup_commands")},
        **{f"{node}_{kind}": [] for node in ("head", "worker") for kind in ("setup_commands", "start_ray_commands")},
    }
    (folder / "autoscaling.json").write_text(json.dumps(config))
    short = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # sockets lie in it, whose paths may have 107 bytes
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | {"RAY_TMPDIR": short}
    command = [
        str(Path(sys.executable).with_name("ray")),
        "start",
        "--head",
        "--block",
        "--disable-usage-stats",
        "--include-dashboard=false",
    ]
    command += [f"--node-ip-address={ADDRESS}", f"--port={port}", f"--dashboard-agent-listen-port={free_port()}"]
    command += ["--num-cpus=0", f"--autoscaling-config={folder / 'autoscaling.json'}"]
    log_file = folder / "head.log"
    with log_file.open("w") as log:
        head = subprocess.Popen(
            command,
            env={
                **environment,
                "RAY_FAKE_CLUSTER": "1",
                "RAY_enable_autoscaler_v2": "1",
                "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
                "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
                "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            },
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 90
        while "Ray runtime started" not in log_file.read_text():
            assert head.poll() is None, log_file.read_text()
            assert time.monotonic() < deadline, log_file.read_text()
            time.sleep(0.2)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RAY_TMPDIR", short)
            patch.setenv("RAY_ADDRESS", f"{ADDRESS}:{port}")
            yield
    finally:
        ours = [
            process for process in psutil.process_iter() if runs_in(process, {head.pid}) or in_session(process, short)
        ]
        for process in ours:
            process.send_signal(signal.SIGKILL)
        psutil.wait_procs(ours, timeout=20)
        head.wait()
        shutil.rmtree(short, ignore_errors=True)


def in_session(process: psutil.Process, folder: str) -> bool:
    """Whether a process belongs to the Ray whose files lie in `folder`."""
    try:
        return process.environ().get("RAY_TMPDIR") == folder and process.pid != os.getpid()
    except psutil.Error:
        return False


@pytest.fixture
def joined(autoscaled: None) -> Iterator[None]:
    """This process has joined the cluster."""
    connect()
    yield
    ray.shutdown()


def test_a_sweep_asks_for_nodes_waits_for_them_and_lets_them_go(joined: None) -> None:
    lines: list[str] = []
    assert settled(MOST_WORKERS, SECONDS_FOR_NODES, lines) == MOST_WORKERS
    assert lines[0].startswith(f"waiting up to {SECONDS_FOR_NODES} s for nodes: ")
    request_resources(bundles=[{"CPU": 1}] * MOST_WORKERS)  # or they might go now, and on a busy machine one has gone
    deadline = time.monotonic() + 120
    while len(node_resources()) <= MOST_WORKERS:
        assert time.monotonic() < deadline, "nodes that were asked for do not come back"
        time.sleep(0.5)
    # More are asked for than can come: it begins with those that are there.
    assert settled(MOST_WORKERS + 1, 3, lines) == MOST_WORKERS
    assert lines[1].endswith(f"there is room for {MOST_WORKERS} of {MOST_WORKERS + 1} trials at once")
    deadline = time.monotonic() + 120
    while len(node_resources()) > 1:
        assert time.monotonic() < deadline, "nodes stay that nobody asks for"
        time.sleep(0.5)


def test_removal_waits_for_the_nodes_that_it_asks_for(autoscaled: None, tmp_path: Path) -> None:
    for name in ("in", "masks"):
        (tmp_path / name).mkdir()
    hole = np.zeros((96, 80, 3), np.uint8)
    hole[30:60, 20:50] = 255
    for number in range(20):
        (tmp_path / "in" / f"{number}.png").write_bytes(encoded(photograph((80, 96), seed=number)))
        (tmp_path / "masks" / f"{number}.png").write_bytes(encoded(hole))
    remove = [sys.executable, "jobs/remove_objects.py", f"input={tmp_path}/in", f"output={tmp_path}/out"]
    remove += ["detector.kind=masks", f"detector.root={tmp_path}/masks", "inpainter.kind=opencv"]

    refused = subprocess.run(remove, capture_output=True, text=True, cwd=ROOT, timeout=200)
    assert refused.returncode == 2, refused.stdout + refused.stderr
    assert "has room for 0" in refused.stderr

    remove += ["scaling.actors=2", f"scaling.wait_for_nodes={SECONDS_FOR_NODES}", "scaling.images_per_batch=2"]
    done = subprocess.run(remove, capture_output=True, text=True, cwd=ROOT, timeout=SECONDS_FOR_NODES + 250)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"waiting up to {SECONDS_FOR_NODES} s for nodes" in done.stdout
    assert "2 workers, 1 CPU each" in done.stdout
    assert "20 cleaned" in done.stdout


def settled(at_once: int, wait: float, lines: list[str]) -> int:
    """How many trials find room at once, of a sweep that would run so many."""
    overrides = [
        f"concurrent={at_once}",
        f"training.scaling.wait_for_nodes={wait}",
        "training.data=none",
        "output=none",
    ]
    config = load_config(TuneConfig, ROOT / "configs" / "tune.yaml", overrides)
    _, resources, room = settled_trials(config, trials=6, print_line=lines.append)
    assert (resources.workers, resources.cpus) == (1, 1)
    return room
