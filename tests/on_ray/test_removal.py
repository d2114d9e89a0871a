"""The removal job on a real Ray, with a detector that needs no weights."""

import gc
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import ray
import torch
from numpy.typing import NDArray

from inpaint_core.detection.config import MaskFilesConfig
from inpaint_core.detection.detector import Detection
from inpaint_core.errors import ConfigError, ResourceError, StorageError, UserError, WeightsError
from inpaint_core.inpainting.config import OpencvConfig
from inpaint_core.on_ray.cluster import ActorResources, actor_resources
from inpaint_core.on_ray.removal import run_removal
from inpaint_core.removal.acceptance import AcceptConfig
from inpaint_core.removal.attempts import AttemptConfig
from inpaint_core.removal.catalogue import entries
from inpaint_core.removal.catalogue.config import ListingConfig
from inpaint_core.removal.catalogue.ledger import read_records
from inpaint_core.removal.config import MaskConfig, RemoveConfig, ScalingConfig
from inpaint_core.removal.job import Job, open_job, plan_job
from inpaint_core.removal.summary import Summary, exit_code, summary_lines
from inpaint_core.removal.worker import Worker
from inpaint_core.storage import open_storage
from tests import jobs
from tests.on_ray.failing import die, refuse
from tests.samples import PaintDetector, decoded, encoded, painted, photograph

pytestmark = pytest.mark.usefixtures("cluster")


def build(job: Job, threads: int) -> Worker:
    """A worker like the real one, with the detector of the tests."""
    attempts = [jobs.remover_of(config, PaintDetector()) for config in job.config.attempts()]
    return Worker(jobs.remover_of(job.config, PaintDetector(), attempts), job.source, job.target, job.run)


ALL_WORKERS = ScalingConfig(images_per_batch=4)


def config(tmp_path: Path, **changes: Any) -> RemoveConfig:
    """A job of one worker: most of what a job costs here is the start of its workers."""
    plain = RemoveConfig(
        str(tmp_path / "in"),
        str(tmp_path / "out"),
        # no weights to load in the driver; `build` puts the detector of the tests in its place
        detector=MaskFilesConfig(root=str(tmp_path)),
        mask=MaskConfig(grow_min=2),
        inpainter=OpencvConfig(),
        scaling=replace(ALL_WORKERS, actors=1),
        max_failed_fraction=0.5,
    )
    return replace(plain, **changes)


def put(tmp_path: Path, key: str, data: bytes) -> None:
    path = tmp_path / "in" / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


@pytest.fixture
def collection(tmp_path: Path) -> dict[str, bytes]:
    return jobs.collection(tmp_path / "in")


def rows(tmp_path: Path, **options: bool) -> dict[str, dict[str, Any]]:
    table = read_records(open_storage(str(tmp_path / "out")), **options)
    assert table["key"].to_pylist() == sorted(set(table["key"].to_pylist()))
    return {row["key"]: row for row in table.to_pylist()}


def silent(_: str) -> None:
    pass


def run(settings: RemoveConfig, factory: Any = build) -> Summary:
    return run_removal(settings, print_line=silent, factory=factory)


class Unreachable(PaintDetector):
    def detect(self, images: Sequence[NDArray[np.uint8]], keys: Sequence[str]) -> list[list[Detection]]:
        raise StorageError("s3://bucket: gone")


def build_unreachable(job: Job, threads: int) -> Worker:
    worker = build(job, threads)
    worker.remover.detector = Unreachable()
    return worker


def test_a_collection_is_cleaned_recorded_and_resumed(tmp_path: Path, collection: dict[str, bytes]) -> None:
    settings = config(tmp_path)
    all_workers = replace(settings, scaling=ALL_WORKERS)

    # an error that no image is to blame for stops the job and its workers, and leaves all images to the next job
    gc.disable()  # the CPUs come back at once, not when a collection happens to run; and although the error is kept
    try:
        with pytest.raises(StorageError, match=r"^s3://bucket: gone$") as error:
            run(all_workers, build_unreachable)
        assert error.value.__context__ is None
        deadline = time.monotonic() + 60
        while ray.available_resources().get("CPU", 0) < 2:
            assert time.monotonic() < deadline, "the workers of the failed job keep their CPUs"
            time.sleep(0.1)
        summary = run(all_workers)
    finally:
        gc.enable()

    records = rows(tmp_path)
    assert set(records) == set(collection)
    assert summary.totals.by_status == {"cleaned": 18, "unchanged": 10, "held": 0, "failed": 2}
    assert (summary.listed, summary.skipped, summary.processed) == (30, 0, 30)
    assert exit_code(settings, summary) == 0
    for key, data in collection.items():
        output, record = tmp_path / "out" / key, records[key]
        if record["status"] == "failed":
            assert not output.exists()
            assert record["stage"] == "decode"
            continue
        assert record["output_size"] == output.stat().st_size
        assert record["source_size"] == len(data)
        if record["status"] == "unchanged":
            assert output.read_bytes() == data
        else:
            assert PaintDetector().detect([decoded(output.read_bytes())], [key]) == [[]]
            assert (tmp_path / "out" / "_removal" / "masks" / f"{key}.png").exists()
    assert (tmp_path / "out" / "_removal" / "job.json").exists()
    files = [path.name for path in (tmp_path / "out" / "_removal" / "records").iterdir()]
    assert len(files) == 1
    assert pq.read_table(tmp_path / "out" / "_removal" / "records" / files[0]).num_rows == 30
    assert not list((tmp_path / "out" / "_removal" / "journal").rglob("*.parquet"))
    assert not list((tmp_path / "out" / "_removal" / "tmp").rglob("*"))

    # a full re-run does nothing
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "a").iterdir()}
    again = run(settings)
    assert (again.processed, again.skipped, again.failed_before) == (0, 30, 2)
    assert rows(tmp_path) == records
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "a").iterdir()} == before

    # what changed, what lost its output, and nothing else is done again
    put(tmp_path, "a/photo 00.png", encoded(painted(photograph(), (10, 10, 40, 40))))
    (tmp_path / "out" / "b" / "photo 01.png").unlink()
    third = jobs.summary(settings)  # in this process: what is pending is the driver's to find
    assert (third.processed, third.skipped) == (2, 28)
    changed = rows(tmp_path)
    assert {key for key in changed if changed[key] != records[key]} == {"a/photo 00.png", "b/photo 01.png"}
    assert changed["a/photo 00.png"]["status"] == "cleaned"

    # another config is another result; what breaks a rule is tried again
    held = jobs.summary(
        replace(
            settings,
            mask=MaskConfig(grow_min=3),
            limit=3,
            accept=AcceptConfig(max_seam=0.01, instead="blurred"),
            retry=(AttemptConfig(fill={"context": 3}),),
        )
    )
    assert held.processed == 3
    assert held.totals.by_status == {"cleaned": 0, "unchanged": 0, "held": 2, "failed": 1}
    assert (held.totals.retries.images, held.totals.retries.attempts) == (2, 2)
    tried = rows(tmp_path)["a/photo 02.png"]
    assert (tried["retries"], tried["held_for"]) == (1, ["seam <= 0.01"])
    assert (tmp_path / "out" / "a" / "photo 02.png").stat().st_size == tried["output_size"]


def test_a_dry_run_beside_files_that_no_job_wrote(tmp_path: Path, collection: dict[str, bytes]) -> None:
    mine = tmp_path / "out" / "a" / "broken.jpg"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    with pytest.raises(ConfigError, match=r"already holds 1 of these keys .*broken\.jpg.*overwrite=true"):
        run(config(tmp_path))
    dry = config(tmp_path, dry_run=True, limit=6)
    summary = run(dry)
    assert summary.processed == 6
    assert summary.totals.by_status == {"cleaned": 3, "unchanged": 2, "held": 0, "failed": 1}
    assert any("3 would be cleaned" in line for line in summary_lines(dry, summary))
    assert summary.records == f"{tmp_path / 'out'}/_removal/dry_run/records"
    written = {path.relative_to(tmp_path / "out").parts for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert {parts[0] for parts in written} == {"_removal", "a"}
    assert mine.read_bytes() == b"mine"
    assert len(rows(tmp_path, dry_run=True)) == 6
    assert rows(tmp_path) == {}
    assert len(list((tmp_path / "out" / "_removal" / "dry_run" / "overlays").rglob("*.*"))) == 3


class Poison(PaintDetector):
    """Kills its process at one image, as a crash in a decoder or the kernel's OOM killer would."""

    def detect(self, images: Sequence[NDArray[np.uint8]], keys: Sequence[str]) -> list[list[Detection]]:
        if "a/photo 10.png" in keys:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().detect(images, keys)


def build_poisoned(job: Job, threads: int) -> Worker:
    worker = build(job, threads)
    worker.remover.detector = Poison()
    return worker


def test_an_image_that_kills_its_worker_fails_alone_and_keeps_its_earlier_output(
    tmp_path: Path, collection: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(tmp_path, scaling=ALL_WORKERS)
    few = replace(settings, listing=ListingConfig(include="a/photo 1*"))
    assert jobs.summary(few).totals.by_status["failed"] == 0  # in this process; what its worker does is not the point
    out = tmp_path / "out"
    mask = out / "_removal" / "masks" / "a" / "photo 10.png.png"
    before = {path: path.read_bytes() for path in (*(out / "a").iterdir(), mask)}
    assert out / "a" / "photo 10.png" in before

    monkeypatch.setattr(entries, "IMAGES_PER_STREAM", 20)  # two streams of blocks, the first with that image
    summary = run(replace(settings, mask=MaskConfig(grow_min=5)), build_poisoned)
    assert summary.processed == len(collection)
    records = rows(tmp_path)
    assert set(records) == set(collection)
    record = records["a/photo 10.png"]
    assert (record["status"], record["stage"]) == ("failed", "worker")
    assert "died" in record["error"]
    assert record["note"] == "the output under this key is of an earlier run"
    assert summary.totals.by_status["failed"] == 3
    written = {f"{path.parent.name}/{path.name}" for path in (*(out / "a").iterdir(), *(out / "b").iterdir())}
    assert written == set(collection) - {"a/broken.jpg", "b/empty.png"}
    for kept in (out / "a" / "photo 10.png", mask):
        assert kept.read_bytes() == before[kept]


class FaultyOnce(PaintDetector):
    """A GPU that fails at one image, once for the whole job; in that process it fails from then on."""

    def __init__(self, mark: Path) -> None:
        super().__init__()
        self.mark = mark
        self.broken = False

    def detect(self, images: Sequence[NDArray[np.uint8]], keys: Sequence[str]) -> list[list[Detection]]:
        if "a/photo 10.png" in keys and not self.mark.exists():
            self.mark.touch()
            self.broken = True
        if self.broken:
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
        return super().detect(images, keys)


def build_faulty(job: Job, threads: int) -> Worker:
    worker = build(job, threads)
    worker.remover.detector = FaultyOnce(Path(job.config.output).parent / "failed once")
    return worker


def test_a_fault_of_the_gpu_ends_its_worker_and_fails_no_image(tmp_path: Path, collection: dict[str, bytes]) -> None:
    strict = {"accept": AcceptConfig(max_seam=0.01, instead="blurred"), "retry": (AttemptConfig(fill={"context": 3}),)}
    summary = run(config(tmp_path, **strict), build_faulty)
    assert (tmp_path / "failed once").exists()
    assert set(rows(tmp_path)) == set(collection)
    # What breaks a rule is tried again, on the other worker, too.
    assert summary.totals.by_status == {"cleaned": 0, "unchanged": 10, "held": 18, "failed": 2}
    assert (summary.totals.retries.images, summary.totals.retries.attempts) == (18, 18)
    assert {row["stage"] for row in rows(tmp_path).values() if row["status"] == "failed"} == {"decode"}
    held = [row for row in rows(tmp_path).values() if row["status"] == "held"]
    assert {(row["retries"], *row["held_for"]) for row in held} == {(1, "seam <= 0.01")}
    for row in held:
        assert (tmp_path / "out" / row["key"]).stat().st_size == row["output_size"]


def test_a_worker_that_cannot_start_stops_the_job_with_its_reason(tmp_path: Path, collection: dict[str, bytes]) -> None:
    with pytest.raises(WeightsError, match=r"^detector\.weights: another network$"):
        run(config(tmp_path, scaling=ALL_WORKERS), refuse)


def test_workers_that_die_while_they_start_end_the_job(tmp_path: Path, collection: dict[str, bytes]) -> None:
    with pytest.raises(ResourceError, match=r"die while they load the models.*lower scaling\.actors"):
        run(config(tmp_path, scaling=ScalingConfig(actors=1)), die)


def listed(job: RemoveConfig) -> list[str]:
    keys: list[str] = plan_job(open_job(job), silent).manifest.read()["key"].to_pylist()
    return keys


def test_masks_among_the_images_are_not_taken_for_images(tmp_path: Path) -> None:
    image = encoded(photograph((96, 80)), "JPEG")
    for key, data in {"a.jpg": image, "a.png": encoded(photograph((96, 80))), "b.jpg": image, "m/b.png": image}.items():
        put(tmp_path, key, data)
    beside = config(tmp_path, detector=MaskFilesConfig(root=str(tmp_path / "in"), pattern="{stem}.png"))
    with pytest.raises(ConfigError, match=r"makes 'm/b\.png' its own mask"):
        plan_job(open_job(beside), silent)
    beside = replace(beside, listing=ListingConfig(exclude="m/**"))
    assert listed(beside) == ["a.jpg", "b.jpg"]
    below = replace(beside, listing=ListingConfig(), detector=MaskFilesConfig(root=str(tmp_path / "in" / "m")))
    assert listed(below) == ["a.jpg", "a.png", "b.jpg"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"detector\.root: .*empty holds no files"):
        plan_job(open_job(replace(below, detector=MaskFilesConfig(root=str(tmp_path / "empty")))), silent)


@pytest.mark.parametrize("place", ["in", "."])
def test_an_output_that_is_or_holds_the_input_is_refused(
    tmp_path: Path, collection: dict[str, bytes], place: str
) -> None:
    with pytest.raises(ConfigError, match="output: "):
        run(config(tmp_path, output=str(tmp_path / place)))


def test_an_input_without_images(tmp_path: Path) -> None:
    put(tmp_path, "readme.txt", b"")
    with pytest.raises(UserError, match=r"holds no image to process \(1 other objects\)"):
        run(config(tmp_path))
    with pytest.raises(StorageError, match="nowhere"):
        run(config(tmp_path, input=str(tmp_path / "nowhere")))


def test_a_request_that_can_never_be_met_is_refused(tmp_path: Path, collection: dict[str, bytes]) -> None:
    with pytest.raises(ResourceError, match=r"3 workers of 1 CPU .* has room for 2"):
        run(config(tmp_path, scaling=ScalingConfig(actors=3)))
    with pytest.raises(ResourceError, match=r"1 worker of 1 CPU and 1 GPU each"):
        run(config(tmp_path, scaling=ScalingConfig(gpus_per_actor=1)))


@pytest.mark.parametrize(
    ("scaling", "nodes", "batches", "expected"),
    [
        ({}, [(1, 0)], 100, ActorResources(1, 1, 0)),
        ({}, [(2, 0)], 100, ActorResources(2, 1, 0)),
        ({}, [(2, 0)], 1, ActorResources(1, 1, 0)),
        ({}, [(1, 1)], 100, ActorResources(1, 1, 0.5)),
        ({}, [(4, 1)], 100, ActorResources(2, 2, 0.5)),
        ({}, [(8, 1)], 100, ActorResources(4, 2, 0.25)),
        ({}, [(16, 1)], 100, ActorResources(8, 2, 0.125)),
        ({}, [(24, 1)], 100, ActorResources(8, 3, 0.125)),
        ({}, [(128, 1)], 100, ActorResources(8, 16, 0.125)),
        ({}, [(4, 1), (32, 1)], 100, ActorResources(12, 1, 0.125)),
        ({}, [(16, 4)], 100, ActorResources(8, 2, 0.5)),
        ({}, [(2, 4)], 100, ActorResources(2, 1, 0.5)),
        ({}, [(8, 0), (16, 2)], 100, ActorResources(8, 2, 0.25)),
        ({"device": "cpu"}, [(4, 1)], 100, ActorResources(4, 1, 0)),
        ({"cpus_per_actor": 3}, [(4, 0), (8, 0)], 100, ActorResources(3, 3, 0)),
        ({"gpus_per_actor": 0.25}, [(16, 1)], 100, ActorResources(4, 4, 0.25)),
        ({"gpus_per_actor": 1, "cpus_per_actor": 2}, [(16, 2)], 100, ActorResources(2, 2, 1)),
        ({"actors": 2, "cpus_per_actor": 0.5}, [(1, 0)], 100, ActorResources(2, 0.5, 0)),
    ],
)
def test_actors_follow_from_what_there_is(
    scaling: dict[str, Any], nodes: list[tuple[int, int]], batches: int, expected: ActorResources
) -> None:
    there = [{"CPU": float(cpu), "GPU": float(gpu)} for cpu, gpu in nodes]
    assert actor_resources(ScalingConfig(**scaling), there, batches=batches) == expected
