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

    def results(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tools.results", *places, "--models", "base", "--epochs", "1", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400)

    run = results(*TINY)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "epoch 1 of 1 done" in run.stdout
    text = document.read_text()
    assert "\n| base | 1 | 0 | 0." in text
    assert (tmp_path / "benchmarks" / "results-center.jpg").exists()

    again = results(*TINY)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "epoch 1 of 1 done" not in again.stdout
    assert document.read_text() == text

    # What a training tells is not told twice, and its exit code is the command's.
    (tmp_path / "runs" / "base" / "history.parquet").unlink()
    (tmp_path / "runs" / "base" / "config.yaml").write_text("- no config")
    refused = results(*TINY)
    assert refused.returncode == 2
    first, second = refused.stderr.splitlines()
    assert first.startswith("error: output: ")
    assert second.startswith("error: ")
    assert second.endswith(
        "base.yaml: its training ended with exit code 2; the same command goes on, --models leaves it out"
    )
