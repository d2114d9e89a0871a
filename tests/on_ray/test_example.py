"""The examples of `docs/`, run as a user runs them."""

import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.samples import encoded, photograph

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.usefixtures("jobs_join")
def test_a_remover_in_a_ray_data_pipeline_of_one_s_own(tmp_path: Path) -> None:
    images = {"one.png": encoded(photograph((96, 80))), "two.jpg": encoded(photograph((80, 96)), "JPEG")}
    (tmp_path / "in").mkdir()
    for name, data in {**images, "bad.jpg": b"not an image"}.items():
        (tmp_path / "in" / name).write_bytes(data)
    settings = ["detector.weights=people-vehicles.pt", "detector.classes=person", "detector.confidence=0.99"]
    example = [sys.executable, "docs/examples/ray_data.py", str(tmp_path / "in"), str(tmp_path / "out")]
    run = subprocess.run(
        [*example, *settings, "inpainter.kind=opencv"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), os.environ["PYTHONPATH"]))},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    rows = {Path(row["path"]).name: row for row in pq.read_table(tmp_path / "out").to_pylist()}
    assert {name: row["status"] for name, row in rows.items()} == {
        "one.png": "unchanged",
        "two.jpg": "unchanged",
        "bad.jpg": "failed",
    }
    assert {name: rows[name]["image"] for name in images} == images
    assert rows["bad.jpg"]["image"] is None
    assert rows["bad.jpg"]["error"]
