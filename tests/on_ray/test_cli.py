"""`jobs/remove_objects.py` as a user starts it: exit codes, messages, Ctrl-C."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from inpaint_core.removal.catalogue.ledger import read_records
from inpaint_core.storage import open_storage
from tests.on_ray.processes import wait_for
from tests.on_ray.shared import SharedRay
from tests.samples import encoded, painted, photograph

ROOT = Path(__file__).resolve().parents[2]
JOB = [sys.executable, str(ROOT / "jobs" / "remove_objects.py")]
IMAGES = 100  # more than a run does before it hears that it is interrupted


def job(*arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*JOB, *arguments], capture_output=True, text=True, env={**os.environ, **environment}, cwd=cwd, timeout=400
    )


def collection(tmp_path: Path, count: int) -> list[str]:
    """Images with a painted object, and their mask files; the arguments that name them."""
    image = photograph((96, 80))
    mask = np.zeros_like(image)
    mask[20:45, 30:50] = 255
    for number in range(count):
        for folder, pixels in (
            ("in", painted(image, (30, 20, 50, 45))),
            ("masks", mask),
        ):
            path = tmp_path / folder / f"{number % 7}" / f"{number:04}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded(pixels))
    places = [f"input={tmp_path / 'in'}", f"output={tmp_path / 'out'}"]
    return [
        *places,
        "detector.kind=masks",
        f"detector.root={tmp_path / 'masks'}",
        "mask.grow_min=2",
    ]


def test_help_and_print_config() -> None:
    helped = job("--help")
    assert helped.returncode == 0
    assert "detector.confidence" in helped.stdout
    printed = job("--config", str(ROOT / "configs" / "remove.yaml"), "input=a", "output=b", "--print-config", "limit=3")
    assert printed.returncode == 0
    assert "limit: 3" in printed.stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["input=a", "output=b", "mask.growth=1"], "error: mask.growth: no such key; did you mean 'grow'?"),
        (["input=a"], "error: output: required"),
        (
            ["input=/does/not/exist", "output=b", "detector.kind=masks"],
            "error: /does/not/exist: there is no such folder",
        ),
        (["input=nope://x", "output=b"], "error: "),
        (["input=.", "output=out"], "error: detector.weights"),
    ],
    ids=["key", "required", "input", "scheme", "weights"],
)
def test_what_a_user_has_to_mend_is_one_line_and_exit_code_2(
    tmp_path: Path, arguments: list[str], expected: str
) -> None:
    run = job(*arguments, cwd=tmp_path, YOLO_OFFLINE="true", XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert run.returncode == 2
    assert run.stderr.startswith(expected)
    assert len(run.stderr.strip().splitlines()) == 1


@pytest.mark.usefixtures("jobs_join")
def test_a_run_says_what_it_did_and_ends_with_0_or_1(tmp_path: Path) -> None:
    arguments = collection(tmp_path, 10)
    (tmp_path / "in" / "bad.jpg").write_bytes(b"not an image")
    run = job(*arguments)
    assert run.returncode == 1, run.stdout + run.stderr
    assert "10 cleaned, 0 unchanged, 1 failed of 11 images" in run.stdout
    assert "objects: 10 mask" in run.stdout
    assert f"records: {tmp_path / 'out'}/_removal/records" in run.stdout
    assert "more than max_failed_fraction (5%) failed" in run.stdout
    again = job(*arguments, "max_failed_fraction=0.5")
    assert again.returncode == 0
    assert "11 already done, 0 to do" in again.stdout
    assert "1 failed in earlier runs and were skipped; retry_failed=true" in again.stdout


def test_an_interrupted_run_goes_on_from_there(tmp_path: Path, shared_ray: SharedRay) -> None:
    arguments = [*collection(tmp_path, IMAGES), "scaling.images_per_batch=2", "scaling.actors=1"]
    # Both have started a Ray of their own. Jobs that joined one are interrupted in `test_submitted` and `test_leaving`.
    first = interrupted(tmp_path, arguments, signal.SIGINT, finished=0)
    second = interrupted(tmp_path, arguments, signal.SIGTERM, finished=first)
    again = job(*arguments, RAY_ADDRESS=shared_ray.address)
    assert again.returncode == 0, again.stdout + again.stderr
    assert f"{second:,} already done, {IMAGES - second:,} to do" in again.stdout
    assert f"{IMAGES} cleaned" in again.stdout


def interrupted(tmp_path: Path, arguments: list[str], number: signal.Signals, *, finished: int) -> int:
    """A run that is interrupted once a batch is done and written down; returns how many images are finished then.

    Args:
        tmp_path: what holds the output.
        arguments: of the run.
        number: what interrupts it.
        finished: how many images were before.
    """
    run = subprocess.Popen([*JOB, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    journal = tmp_path / "out" / "_removal" / "journal"
    wait_for(run, lambda: bool(list(journal.rglob("*.parquet"))))
    run.send_signal(number)
    output, errors = run.communicate(timeout=60)
    assert run.returncode == 130, output + errors
    assert f"{finished:,} already done, {IMAGES - finished:,} to do" in output
    assert "interrupted: the same command continues from here" in output
    assert "Traceback" not in errors
    there = read_records(open_storage(str(tmp_path / "out"))).num_rows
    assert finished < there < IMAGES
    return there
