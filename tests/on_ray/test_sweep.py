"""The sweep on a real Ray of two CPUs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from inpaint_core.config import load_config
from inpaint_core.errors import ConfigError, ResourceError
from inpaint_core.on_ray.sweep import plan_trials, run_sweep
from inpaint_core.storage import Storage
from inpaint_core.sweep.config import TuneConfig
from inpaint_core.sweep.outcomes import known_trials
from inpaint_core.sweep.report import write_report
from inpaint_core.training.config import TrainScalingConfig
from tests.on_ray.test_training import SMALL, photographs

ROOT = Path(__file__).resolve().parents[2]
JOB = [sys.executable, str(ROOT / "jobs" / "tune_losses.py")]
GRID = ["search.kind=grid", "search.l1_share=[0.0, 0.5, 1.0]", "objectives=[table_psnr, sharpness]"]


def settings(folder: Path, *more: str) -> list[str]:
    training = [f"training.{given}" for given in SMALL if not given.startswith("loss.")]
    return [*training, f"training.data={folder / 'photos'}", f"output={folder / 'sweep'}", *GRID, *more]


def sweep(folder: Path, *more: str) -> tuple[TuneConfig, list[str]]:
    config = load_config(TuneConfig, None, settings(folder, *more))
    lines: list[str] = []
    run_sweep(config, say=lines.append)
    return config, lines


def statuses(folder: Path) -> list[str | None]:
    output = Storage.open(str(folder / "sweep"), load_config(TuneConfig, None, []).training.s3)
    return [known.status for known in known_trials(output)]


def written(folder: Path) -> dict[str, int]:
    """When each trial's history was last written."""
    return {
        path.parent.name: path.stat().st_mtime_ns for path in (folder / "sweep" / "trials").glob("*/history.parquet")
    }


@pytest.mark.slow
def test_more_trials_than_cpus_all_finish_though_one_is_killed(cluster: None, tmp_path: Path) -> None:
    photographs(Storage.open(str(tmp_path / "photos")))
    killed: list[int] = []
    ended = threading.Event()

    def kill() -> None:
        while not killed and not ended.wait(0.05):
            for process in psutil.process_iter(["cmdline"]):
                if "ray::RayTrainWorker" in " ".join(process.info["cmdline"] or []):
                    process.kill()
                    killed.append(process.pid)
                    break

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        config, lines = sweep(tmp_path, "asha=null")
    finally:
        ended.set()
        killer.join()
    assert killed
    assert any(line.startswith("3 trials, up to 2 at once, of 1 worker, 1 CPU each") for line in lines)
    assert statuses(tmp_path) == ["finished"] * 3
    output = Storage.open(config.output, config.training.s3)
    assert write_report(config, output).startswith("best table_psnr ")
    table = pq.read_table(tmp_path / "sweep" / "trials.parquet")
    assert sorted(table["epoch"].to_pylist()) == [1, 1, 1, 2, 2, 2]
    # The same again has nothing to do; another point is trained alone.
    before = written(tmp_path)
    _, lines = sweep(tmp_path, "asha=null")
    assert any("all trials are done already" in line for line in lines)
    sweep(tmp_path, "asha=null", "search.l1_share=[0.0, 0.25]")
    assert len(statuses(tmp_path)) == 4
    after = written(tmp_path)
    assert {name: after[name] for name in before} == before


@pytest.mark.slow
def test_trials_that_fall_behind_or_diverge_end_early(cluster: None, tmp_path: Path) -> None:
    photographs(Storage.open(str(tmp_path / "photos")))
    points = "search.points=[{l1: 3.0e+38, ssim: 3.0e+38}]"  # their sum is more than float32 can hold
    _, lines = sweep(tmp_path, points, "training.epochs=4", "asha.grace=1", "asha.reduction=2", "concurrent=1")
    found = statuses(tmp_path)
    assert len(found) == 4
    assert found.count("diverged") == 1
    assert found.count("finished") >= 1
    assert "stopped" in found
    assert sum(": epoch 4, " in line for line in lines) == found.count("finished")


@pytest.mark.slow
def test_a_killed_driver_goes_on_and_optuna_remembers(tmp_path: Path) -> None:
    photographs(Storage.open(str(tmp_path / "photos")))
    arguments = settings(tmp_path, "asha=null", "search.kind=optuna", "search.points=3", "training.epochs=3")
    arguments = [given for given in arguments if not given.startswith("search.l1_share")]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    process = subprocess.Popen(
        [*JOB, *arguments, "concurrent=1"], stdout=subprocess.DEVNULL, env=environment, start_new_session=True
    )
    deadline = time.monotonic() + 200
    while "finished" not in (statuses(tmp_path) if (tmp_path / "sweep" / "trials").exists() else []):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = written(tmp_path)
    run = subprocess.run([*JOB, *arguments], capture_output=True, text=True, timeout=300, env=environment)
    assert run.returncode == 0, run.stdout + run.stderr
    assert statuses(tmp_path) == ["finished"] * 3
    finished_before = {name: time for name, time in before.items() if written(tmp_path)[name] == time}
    assert finished_before
    assert (tmp_path / "sweep" / "best.yaml").exists()
    assert run.stdout.splitlines()[-1].startswith("best table_psnr ")


def test_what_can_never_run_is_refused_at_once(cluster: None, tmp_path: Path) -> None:
    photographs(Storage.open(str(tmp_path / "photos")), 3)
    begun = time.monotonic()
    with pytest.raises(ResourceError, match=r"^scaling: 3 workers of 1 CPU each are asked for"):
        sweep(tmp_path, "training.scaling.workers=3")
    with pytest.raises(ConfigError, match=r"^holes.kinds: "):
        sweep(tmp_path, "training.holes.kinds=[box]")
    assert time.monotonic() - begun < 20


def test_another_sweeps_output_is_refused(cluster: None, tmp_path: Path) -> None:
    photographs(Storage.open(str(tmp_path / "photos")), 3)
    with pytest.raises(ConfigError, match=r"fewer than one batch|training images"):
        sweep(tmp_path)
    with pytest.raises(
        ConfigError, match=r"holds a run of another config \(training\.network\.width is 4 there and 8 here\)"
    ):
        sweep(tmp_path, "training.network.width=8")


@pytest.mark.parametrize(
    ("scaling", "nodes", "cpus", "at_once"),
    [
        ({}, [(2, 0)], 1, 2),
        ({"cpus_per_worker": 2}, [(2, 0)], 2, 1),
        ({"workers": 2}, [(4, 0), (3, 0)], 1, 3),
        ({}, [(16, 4), (16, 4)], 4, 8),
        ({"device": "cpu"}, [(16, 4)], 1, 16),
        ({"workers": 4}, [(16, 4), (16, 4)], 4, 2),
    ],
)
def test_trials_that_fit_at_once(
    scaling: dict[str, int | str], nodes: list[tuple[int, int]], cpus: int, at_once: int
) -> None:
    settled, plan, found = plan_trials(
        TrainScalingConfig(**scaling),  # type: ignore[arg-type]
        [{"CPU": float(cpu), "GPU": float(gpu)} for cpu, gpu in nodes],
    )
    assert (plan.cpus, found) == (cpus, at_once)
    assert settled.workers == plan.workers == scaling.get("workers", 1)
