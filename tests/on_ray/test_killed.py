"""kill -9 of a worker, of the driver and of the object store, in the middle of 160 images on S3; the same command goes on."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pytest

from inpaint_core.config import load_config
from inpaint_core.on_ray.removal import run_removal
from inpaint_core.removal.catalogue.ledger import read_records
from inpaint_core.removal.config import RemoveConfig
from inpaint_core.storage import S3Options, Storage, open_storage
from tests.on_ray.processes import kill_driver, title_of, wait_for
from tests.on_ray.shared import SharedRay
from tests.samples import PaintDetector, decoded, encoded, painted, photograph

ROOT = Path(__file__).resolve().parents[2]
IMAGES = 160
BOX = (60, 40, 90, 80)


@pytest.fixture
def bucket(s3_bucket: Any) -> Any:
    """The photographs and their masks in the bucket."""
    options = S3Options(endpoint=s3_bucket.endpoint)
    images, masks = open_storage(f"{s3_bucket.uri}/in", options), open_storage(f"{s3_bucket.uri}/masks", options)
    hole = np.zeros((144, 192, 3), np.uint8)
    hole[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 255
    mask = encoded(hole)
    pictures = [encoded(painted(photograph((192, 144), seed=seed), BOX), "JPEG", quality=90) for seed in range(10)]
    for number in range(IMAGES):
        images.write(f"{number % 9}/photo {number:03}.jpg", pictures[number % 10])
        if number % 5:  # every fifth image has nothing to remove
            masks.write(f"{number % 9}/photo {number:03}.png", mask)
    return s3_bucket


def settings(bucket: Any) -> list[str]:
    """Those of the job."""
    places = [f"input={bucket.uri}/in", f"output={bucket.uri}/out", f"s3.endpoint={bucket.endpoint}"]
    return [*places, "detector.kind=masks", f"detector.root={bucket.uri}/masks", "scaling.images_per_batch=4"]


def start(bucket: Any, address: str, *more: str) -> subprocess.Popen[str]:
    """The job on the Ray at an address; "local": one of its own."""
    command = [sys.executable, str(ROOT / "jobs" / "remove_objects.py"), *settings(bucket), *more]
    environment = {**os.environ, "RAY_ADDRESS": address}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def output(bucket: Any) -> Storage:
    return open_storage(f"{bucket.uri}/out", S3Options(endpoint=bucket.endpoint))


def written(storage: Storage) -> dict[str, Any]:
    return {info.key: info for info in storage.list() if not info.key.startswith("_removal/")}


def done(storage: Storage) -> dict[str, dict[str, Any]]:
    """The records of an output, by key."""
    return {row["key"]: row for row in read_records(storage).to_pylist()}


def workers(run: subprocess.Popen[str]) -> list[psutil.Process]:
    children = psutil.Process(run.pid).children(recursive=True)
    return [child for child in children if "RemovalActor" in title_of(child)]


def finish(run: subprocess.Popen[str]) -> str:
    text, errors = run.communicate(timeout=400)
    assert run.returncode == 0, text + errors
    return text


def check_all(bucket: Any) -> pa.Table:
    """Every image has one record and one whole output, and nothing else lies there."""
    storage = output(bucket)
    records = read_records(storage)
    files = written(storage)
    assert records["key"].to_pylist() == sorted(files)
    assert len(files) == IMAGES
    source = open_storage(f"{bucket.uri}/in", S3Options(endpoint=bucket.endpoint))
    for row in records.select(["key", "status", "output_size"]).to_pylist():
        data = storage.read(row["key"])
        assert len(data) == row["output_size"]
        if row["status"] == "unchanged":
            assert data == source.read(row["key"])
        else:
            assert row["status"] == "cleaned"
            assert PaintDetector().detect([decoded(data)], [row["key"]]) == [[]]
    assert records["status"].to_pylist().count("unchanged") == IMAGES / 5
    return records


@pytest.mark.s3
def test_a_killed_worker_a_killed_driver_and_a_killed_store(bucket: Any, shared_ray: SharedRay) -> None:
    storage = output(bucket)
    first = start(bucket, "local")
    wait_for(first, lambda: len(written(storage)) >= 16, 400)
    victim = workers(first)[0]
    victim.kill()
    wait_for(first, lambda: len({worker.pid for worker in workers(first)} - {victim.pid}) == 2, 400)  # it is replaced
    wait_for(first, lambda: len(written(storage)) >= 50, 400)
    kill_driver(first)
    finished, before = done(storage), written(storage)
    assert 20 < len(finished) < IMAGES

    second = start(bucket, shared_ray.address, "s3.retry_minutes=0.5", "scaling.actors=1")
    wait_for(second, lambda: len(written(storage)) >= len(before) + 12, 400)
    bucket.server.kill()
    try:
        text, errors = second.communicate(timeout=400)
    finally:
        bucket.server.start()  # the same data and ports, for this test and those after it
    assert second.returncode == 2, text + errors
    assert errors.strip().splitlines()[-1].startswith("error: ")
    assert bucket.endpoint in errors
    assert "Traceback" not in errors
    assert f"{len(finished)} already done, {IMAGES - len(finished)} to do" in text
    assert " has not answered since " in text
    more = done(storage)
    assert len(finished) < len(more) < IMAGES

    text = finish(start(bucket, shared_ray.address, "scaling.actors=1"))
    assert f"{len(more)} already done, {IMAGES - len(more)} to do" in text
    records = check_all(bucket)
    after = written(storage)
    for row in records.to_pylist():
        if row["key"] in more:
            assert row == more[row["key"]]
        if row["key"] in finished:
            assert row == finished[row["key"]]
            assert after[row["key"]].modified == before[row["key"]].modified  # not written again

    # In this process: a job with nothing to do needs no Ray.
    lines: list[str] = []
    summary = run_removal(load_config(RemoveConfig, None, settings(bucket)), print_line=lines.append)
    assert any(f"{IMAGES} already done, 0 to do" in line for line in lines)
    assert (summary.processed, summary.skipped) == (0, IMAGES)
    assert check_all(bucket).equals(records)


@pytest.mark.s3
def test_wrong_credentials_and_a_missing_bucket_are_one_line(s3_bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    places = {"missing bucket": f"{s3_bucket.uri}-not-there", "wrong key": s3_bucket.uri}
    for case, uri in places.items():
        if case == "wrong key":
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
        command = [sys.executable, str(ROOT / "jobs" / "remove_objects.py"), f"input={uri}/in", f"output={uri}/out"]
        command += [f"s3.endpoint={s3_bucket.endpoint}", "detector.kind=masks"]
        run = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), timeout=100)
        assert run.returncode == 2, case
        assert run.stderr.startswith(f"error: {uri}"), run.stderr
        assert len(run.stderr.strip().splitlines()) == 1
        assert "not-the-secret" not in run.stdout + run.stderr
