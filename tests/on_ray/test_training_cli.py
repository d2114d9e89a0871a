"""`jobs/train.py` as a user starts it: exit codes, messages, Ctrl-C, and a Ray that is killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from inpaint_core.storage import open_storage
from tests.on_ray.processes import all_end, rows_of, title_of, wait_for
from tests.on_ray.shared import SharedRay
from tests.on_ray.test_training import photographs

ROOT = Path(__file__).resolve().parents[2]
JOB = [sys.executable, str(ROOT / "jobs" / "train.py")]


def job(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    run = [*JOB, *arguments]
    return subprocess.run(run, capture_output=True, text=True, timeout=400, env={**os.environ, **environment})


def test_help_and_print_config() -> None:
    helped = job("--help")
    assert helped.returncode == 0
    assert "optimiser.generator_rate" in helped.stdout
    printed = job("--config", str(ROOT / "configs/train/joint_30_70.yaml"), "--print-config", "loss.ms_ssim=1e-1")
    assert printed.returncode == 0
    assert "ms_ssim: 0.1" in printed.stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["loss.ssmi=1"], "error: loss.ssmi: no such key; did you mean 'ssim'?"),
        (["batch=one"], "error: batch: "),
        (["holes.kinds=strokes", "loss.l1=1"], "error: holes.kinds: a network with network.output=center"),
        (["loss.l1=0"], "error: loss: no reconstruction term has a weight"),
        (
            ["holes.kinds=objects", "network.output=full", "loss.l1=1", "holes.objects=/does/not/exist.parquet"],
            "error: ",
        ),
        (["loss.l1=1", "data=/does/not/exist", "output=OUT"], "error: /does/not/exist: there is no such folder"),
        (["loss.l1=1", "data=/does/not/exist", "output=OUT", "scaling.workers=99"], "error: scaling: 99 workers"),
    ],
)
@pytest.mark.usefixtures("jobs_join")
def test_what_is_wrong_is_one_line(arguments: list[str], expected: str, tmp_path: Path) -> None:
    run = job(*(argument.replace("OUT", str(tmp_path / "out")) for argument in arguments))
    assert run.returncode == 2
    assert len(run.stderr.splitlines()) == 1, run.stderr
    assert run.stderr.startswith(expected)


def test_a_cluster_that_refuses_the_job_is_one_line_and_exit_code_3(tmp_path: Path, shared_ray: SharedRay) -> None:
    places = [f"data={tmp_path}", f"output={tmp_path.parent / 'out'}"]
    run = job("loss.l1=1", *places, RAY_ADDRESS=shared_ray.address, RAY_AUTH_MODE="disabled")
    assert run.returncode == 3
    assert run.stderr == (
        f"error: RAY_ADDRESS: the Ray cluster at {shared_ray.address} rejected this job's token, or received none; "
        "set RAY_AUTH_MODE=token, and the cluster's token in RAY_AUTH_TOKEN or ~/.ray/auth_token\n"
    )


@pytest.mark.slow
def test_a_job_whose_ray_is_killed_a_killed_one_and_an_interrupted_one_go_on_with_the_same_command(
    tmp_path: Path, shared_ray: SharedRay
) -> None:
    photographs(open_storage(str(tmp_path / "photos")), 24)
    arguments = [f"data={tmp_path / 'photos'}", f"output={tmp_path / 'run'}", "batch=8", "validation.images=8"]
    arguments += ["network.bottleneck=16", "network.width=4", "discriminator.width=4", "loss.l1=1"]
    arguments += ["validation.pictures=2", "epochs=100000", "scaling.cpus_per_worker=1"]

    def epochs() -> int:
        history = tmp_path / "run" / "history.parquet"
        return rows_of(history) if history.exists() else 0

    killed = subprocess.Popen([*JOB, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(killed, lambda: epochs() >= 2)
    started = psutil.Process(killed.pid).children(recursive=True)
    [gcs] = [process for process in started if "gcs_server" in title_of(process).partition(" ")[0]]
    gcs.kill()
    told, err = killed.communicate(timeout=30)
    assert killed.returncode == 3, told + err
    assert err.startswith(
        "error: Ray: its process gcs_server, which this job had started, has ended (signal 9); the same"
    )
    assert len(err.splitlines()) == 1, err
    assert "Traceback" not in told
    all_end(started)

    # This one joins another Ray, whose workers end with its driver.
    before = epochs()
    driver = subprocess.Popen(
        [*JOB, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "RAY_ADDRESS": shared_ray.address},
    )
    wait_for(driver, lambda: epochs() >= before + 2)
    driver.kill()
    driver.communicate()

    with (tmp_path / "out").open("w") as out:
        interrupted = subprocess.Popen([*JOB, *arguments], stdout=out, stderr=subprocess.PIPE, text=True)
    said = (tmp_path / "out").read_text  # what it says comes later than what it writes
    wait_for(interrupted, lambda: said().partition("resuming from epoch")[2].count(" done in ") >= 2)
    interrupted.send_signal(signal.SIGINT)
    _, err = interrupted.communicate(timeout=60)
    assert interrupted.returncode == 130, said() + err
    assert "interrupted; the same command resumes from the last checkpoint" in err
    assert "Traceback" not in said() + err
    rows = pq.read_table(tmp_path / "run" / "history.parquet").to_pylist()
    assert [row["epoch"] for row in rows] == list(range(1, len(rows) + 1))
    assert [row["step"] for row in rows] == [2 * row["epoch"] for row in rows]

    other = job(*arguments, "loss.l1=0.5")
    assert other.returncode == 2
    assert "holds a run of another config (loss.l1 is 1.0 there and 0.5 here)" in other.stderr
