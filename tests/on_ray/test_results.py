"""`python -m tools.results` as a user starts it: its trainings are jobs on a real Ray."""

import subprocess
import sys
from pathlib import Path

import pytest

from inpaint_core.storage import open_storage
from tests.on_ray.test_training import photographs

ROOT = Path(__file__).resolve().parents[2]
TINY = ["network.bottleneck=8", "network.width=4", "discriminator.width=4", "batch=4", "scaling.cpus_per_worker=1"]
TINY += ["validation.images=2", "validation.pictures=1"]


@pytest.mark.usefixtures("jobs_join")
def test_a_model_is_trained_and_its_table_written(tmp_path: Path) -> None:
    photographs(open_storage(str(tmp_path / "photos")), 8)
    document = tmp_path / "RESULTS.md"
    document.write_text(
        "".join(f"<!-- results: begin {name} -->\n<!-- results: end {name} -->\n" for name in ("center", "center-56"))
    )
    photos, runs = str(tmp_path / "photos"), str(tmp_path / "runs")
    places = ["--data", photos, "--validation", photos, "--output", runs, "--document", str(document)]

    command = [sys.executable, "-m", "tools.results", *places, "--models", "base", "--epochs", "1", *TINY]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "epoch 1 of 1 done" in run.stdout
    assert "\n| base | 1 | 0 | 0." in document.read_text()
    assert (tmp_path / "benchmarks" / "results-center.jpg").exists()
