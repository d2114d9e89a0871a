"""The sweep on a real Ray of two CPUs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from inpaint_core.config import load_config
from inpaint_core.errors import ConfigError, ResourceError
from inpaint_core.on_ray.sweep import run_sweep, trial_resources
from inpaint_core.storage import open_storage
from inpaint_core.training.checkpoint import load_state
from inpaint_core.training.config import TrainConfig
from inpaint_core.training.scaling_config import TrainScalingConfig
from inpaint_core.training.sweep.config import TuneConfig
from inpaint_core.training.sweep.outcomes import KnownTrial, known_trials
from inpaint_core.training.sweep.report import write_report
from tests.on_ray.processes import kill_driver, rows_of, wait_for
from tests.on_ray.shared import SharedRay
from tests.on_ray.test_training import SMALL, photographs

ROOT = Path(__file__).resolve().parents[2]
JOB = [sys.executable, str(ROOT / "jobs" / "tune_losses.py")]
EPOCHS = 12  # short ones: something can happen in the middle, and most of the time is still the start of processes


def settings(folder: Path, *more: str) -> list[str]:
    small = [f"training.{given}" for given in SMALL if not given.startswith(("loss.", "epochs="))]
    run = [f"training.epochs={EPOCHS}", "training.optimiser.warmup_steps=0", "objectives=[table_psnr, sharpness]"]
    return [*small, *run, f"training.data={folder / 'photos'}", f"output={folder / 'sweep'}", *more]


def sweep(folder: Path, *more: str) -> tuple[TuneConfig, list[str]]:
    config = load_config(TuneConfig, None, settings(folder, *more))
    lines: list[str] = []
    run_sweep(config, print_line=lines.append)
    return config, lines


def known(folder: Path) -> list[KnownTrial]:
    output = open_storage(str(folder / "sweep"), load_config(TuneConfig, None, []).training.s3)
    return known_trials(output) if (folder / "sweep" / "trials").exists() else []


def epochs(folder: Path) -> dict[str, int]:
    """Of each trial's history, by its folder."""
    histories = (folder / "sweep" / "trials").glob("*/history.parquet")
    return {path.parent.name: rows_of(path) for path in histories}


def written(folder: Path) -> dict[str, int]:
    """When each trial's history was last written."""
    histories = (folder / "sweep" / "trials").glob("*/history.parquet")
    return {path.parent.name: path.stat().st_mtime_ns for path in histories}


@pytest.mark.slow
def test_trials_run_in_turn_end_early_and_survive_the_loss_of_their_process(cluster: SharedRay, tmp_path: Path) -> None:
    photographs(open_storage(str(tmp_path / "photos")))
    behind = "{l1: 1.0e-6, adversarial_weight: 0.999, reconstruction_weight: 0.001}"
    overflows = "{l1: 3.0e+38, ssim: 3.0e+38}"  # their sum is more than float32 holds
    grid = [
        "search.kind=grid",
        f"search.points=[{{l1: 1.0}}, {overflows}, {behind}]",
        "asha.grace=6",
        "asha.reduction=2",
        "concurrent=1",  # or it would depend on their speed which trial is there to be compared with
    ]
    killed: list[int] = []
    ended = threading.Event()

    def kill() -> None:
        """The process of the first trial, once its workers have started and done something."""
        while not killed and not ended.wait(0.1):
            for process in cluster.processes("ray::ResourceTrainable") if epochs(tmp_path) else []:
                process.kill()
                killed.append(process.pid)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        config, lines = sweep(tmp_path, *grid)
    finally:
        ended.set()
        killer.join()
    assert killed
    assert any(line.startswith("3 trials, up to 1 at once, of 1 worker, 1 CPU each") for line in lines)
    found = {trial.trial.loss.l1: trial.status for trial in known(tmp_path)}
    assert found == {1.0: "finished", 3e38: "diverged", 1e-6: "stopped"}
    told = [line for line in lines if line.startswith("bce 0.001, l1 1, seed 0: epoch ")]
    numbers = [int(line.split("epoch ")[1].split(",")[0]) for line in told]
    assert numbers == list(range(numbers[0], EPOCHS + 1))  # those that the killed process had not passed on are known
    assert "bce 0.001, l1 1, seed 0: its process died; it resumes from its last checkpoint" in lines
    output = open_storage(config.output, config.training.s3)
    assert write_report(config, output).line.startswith("best table_psnr ")
    best = load_config(TrainConfig, tmp_path / "sweep" / "best.yaml", [])
    assert best == replace(config.training, loss=replace(config.training.loss, l1=1.0), output=f"{config.output}/best")
    table = pq.read_table(tmp_path / "sweep" / "trials.parquet").to_pydict()
    assert table["status"].count("finished") == EPOCHS
    assert 6 <= table["status"].count("stopped") < EPOCHS
    # The same again has nothing to do.
    before = written(tmp_path)
    _, lines = sweep(tmp_path, *grid)
    assert any("all trials are done already" in line for line in lines)
    assert written(tmp_path) == before


@pytest.mark.slow
def test_a_killed_driver_goes_on_and_optuna_remembers(tmp_path: Path, shared_ray: SharedRay) -> None:
    photographs(open_storage(str(tmp_path / "photos")))
    # Two losses to choose from and three choices: one comes twice, and is trained once.
    space = ["search.space.l1_share=[0.5, 0.5]", "search.space.structure=ssim", "search.space.adversarial=[bce, lsgan]"]
    arguments = settings(tmp_path, "search.kind=optuna", "search.points=3", *space, "asha=null")
    first = subprocess.Popen([*JOB, *arguments, "concurrent=1"], stdout=subprocess.DEVNULL, text=True)
    wait_for(first, lambda: any(count >= 2 for count in epochs(tmp_path).values()))
    kill_driver(first)
    [begun] = known(tmp_path)
    done = epochs(tmp_path)[begun.trial.name]
    assert done < EPOCHS
    # An epoch's row is written before its checkpoint: killed between the two, the run does that epoch again.
    saved = load_state(open_storage(str(tmp_path / "sweep" / "trials" / begun.trial.name)), torch.device("cpu"))
    assert saved is not None
    assert saved["epoch"] in (done - 1, done)
    environment = {**os.environ, "RAY_ADDRESS": shared_ray.address}  # the killed one had started its own
    run = subprocess.run([*JOB, *arguments], capture_output=True, text=True, timeout=400, env=environment)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "up to 2 at once, of 1 worker, 1 CPU each" in run.stdout
    assert run.stdout.splitlines()[-1].startswith("best table_psnr ")
    assert [trial.status for trial in known(tmp_path)] == ["finished"] * 2
    assert begun.trial in [trial.trial for trial in known(tmp_path)]
    line_of = re.compile(rf"^{re.escape(begun.trial.point)}, seed 0: epoch (\d+),", re.MULTILINE)
    told = [int(epoch) for epoch in line_of.findall(run.stdout)]
    assert told == list(range(saved["epoch"] + 1, EPOCHS + 1))
    assert set(epochs(tmp_path).values()) == {EPOCHS}


def test_what_can_never_run_is_refused_at_once(cluster: SharedRay, tmp_path: Path) -> None:
    photographs(open_storage(str(tmp_path / "photos")), 3)
    begun = time.monotonic()
    with pytest.raises(ResourceError, match=r"^scaling: 3 workers of 1 CPU each were requested"):
        sweep(tmp_path, "training.scaling.workers=3")
    with pytest.raises(ConfigError, match=r"^holes.kinds: "):
        sweep(tmp_path, "training.holes.kinds=[box]")
    with pytest.raises(ConfigError, match=r"^training.scaling.workers: 1-2 is for a single run"):
        sweep(tmp_path, "training.scaling.workers=1-2")
    assert time.monotonic() - begun < 20


def test_another_sweeps_output_is_refused(cluster: SharedRay, tmp_path: Path) -> None:
    photographs(open_storage(str(tmp_path / "photos")), 3)
    too_much = "training.scaling.workers=3"  # ends it before anything is read
    for width in (4, 8):  # nothing is trained yet: the first gives way
        with pytest.raises(ResourceError):
            sweep(tmp_path, f"training.network.width={width}", too_much)
    trained = tmp_path / "sweep" / "trials" / "0123abcd-seed0" / "last.pt"
    trained.parent.mkdir(parents=True)
    trained.touch()
    with pytest.raises(
        ConfigError, match=r"holds a run of another config \(training\.network\.width is 8 there and 4 here\)"
    ):
        sweep(tmp_path, too_much)


@pytest.mark.parametrize(
    ("scaling", "nodes", "cpus", "at_once"),
    [
        ({}, [(2, 0)], 1, 2),
        ({"cpus_per_worker": 2}, [(2, 0)], 2, 1),
        ({"workers": 2}, [(4, 0), (3, 0)], 1, 3),
        ({}, [(16, 4), (16, 4)], 4, 8),
        ({"device": "cpu"}, [(16, 4)], 1, 16),
        ({"workers": 4}, [(16, 4), (16, 4)], 4, 2),
        ({"gpus_per_worker": 0.25}, [(16, 1)], 4, 4),
        ({"gpus_per_worker": 0.25}, [(2, 1)], 1, 2),
        ({"gpus_per_worker": 0.3}, [(16, 4)], 1, 12),  # three on each GPU
        ({"gpus_per_worker": 0.5}, [(8, 0)], 1, 8),
    ],
)
def test_trials_that_fit_at_once(
    scaling: dict[str, float | str], nodes: list[tuple[int, int]], cpus: int, at_once: int
) -> None:
    settled, resources, found = trial_resources(
        TrainScalingConfig(**scaling),  # type: ignore[arg-type]
        [{"CPU": float(cpu), "GPU": float(gpu)} for cpu, gpu in nodes],
    )
    assert (resources.cpus, found) == (cpus, at_once)
    assert settled.workers == resources.workers == scaling.get("workers", 1)
