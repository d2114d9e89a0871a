"""A removal job from its plan to its end in this process, without Ray, with the detector that needs no weights."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from inpaint_core.detection.config import MaskFilesConfig
from inpaint_core.inpainting.config import OpencvConfig
from inpaint_core.inpainting.inpainter import Inpainter
from inpaint_core.removal.catalogue.entries import as_entries
from inpaint_core.removal.catalogue.journal import Journal
from inpaint_core.removal.catalogue.layout import RESERVED, Layout
from inpaint_core.removal.catalogue.ledger import read_records
from inpaint_core.removal.catalogue.totals import Totals
from inpaint_core.removal.config import MaskConfig, RemoveConfig, ScalingConfig
from inpaint_core.removal.io_pool import THREAD_NAME
from inpaint_core.removal.job import Job, JobPlan, finish_job, open_job, plan_job
from inpaint_core.removal.remover import ObjectRemover
from inpaint_core.removal.summary import Summary
from inpaint_core.removal.worker import Worker
from inpaint_core.storage import Storage
from tests.samples import PaintDetector, encoded, painted, photograph

Break = Callable[[Worker], None]
"""Makes something of a worker fail."""


def config(source: str, target: str, masks: Path, **changes: Any) -> RemoveConfig:
    """Settings of a job that needs no weights; `masks` is any folder that holds a file."""
    plain = RemoveConfig(
        source,
        target,
        detector=MaskFilesConfig(root=str(masks)),
        mask=MaskConfig(grow_min=2),
        inpainter=OpencvConfig(),
        scaling=ScalingConfig(images_per_batch=4, io_threads=2),
    )
    return replace(plain, **changes)


def remover_of(config: RemoveConfig, detector: PaintDetector, attempts: Sequence[ObjectRemover] = ()) -> ObjectRemover:
    """A remover like the real one, with the detector of the tests."""
    model = config.inpainter.build(None, device=torch.device("cpu"), autocast=False)
    return ObjectRemover(config, detector, Inpainter(model, config.fill), attempts)


def worker_of(job: Job) -> Worker:
    """A worker like the real one, with the detector of the tests."""
    detector = PaintDetector()
    attempts = [remover_of(config, detector) for config in job.config.attempts()]
    return Worker(
        remover_of(job.config, detector, attempts),
        job.source,
        job.target,
        job.run,
        earlier_masks=job.earlier_masks,
        earlier_held=job.earlier_held,
    )


def start(settings: RemoveConfig, retry_seconds: float = 1.0) -> tuple[Job, JobPlan]:
    """A job, opened and planned."""
    job = open_job(settings)
    for storage in (job.source, job.target):
        storage.retry_seconds, storage.request_timeout = retry_seconds, 2.0
    todo = plan_job(job, lambda _: None)
    return replace(job, earlier_masks=todo.earlier_masks, earlier_held=todo.earlier_held), todo


def run(settings: RemoveConfig, broken: Break = lambda _: None, *, retry_seconds: float = 1.0) -> dict[str, Any]:
    """Run a job to its end; returns all records by key."""
    job = _ended(settings, broken, retry_seconds)[0]
    return {row["key"]: row for row in read_records(job.target).to_pylist()}


def summary(settings: RemoveConfig) -> Summary:
    """Run a job to its end; returns its summary, whose seconds mean nothing."""
    job, todo, processed, totals = _ended(settings, lambda _: None, 1.0)
    return Summary(
        listed=len(todo.manifest),
        skipped=todo.done,
        failed_before=todo.failed_before,
        processed=processed,
        totals=totals,
        seconds=1.0,
        startup_seconds=1.0,
        interrupted=False,
        records=f"{job.target.uri}/{Layout.of(dry_run=settings.dry_run).records}",
    )


def _ended(settings: RemoveConfig, broken: Break, retry_seconds: float) -> tuple[Job, JobPlan, int, Totals]:
    """Run a job to its end; returns it, its plan, how many images its worker reported, and the counts of all images."""
    job, todo = start(settings, retry_seconds)
    entries = as_entries(todo.pending.read())
    worker = worker_of(job)
    broken(worker)
    journal = Journal(job.target, worker.journal_key(entries, "1"))
    try:
        processed = sum(table.num_rows for table in worker.process(worker.batches(entries), journal))
    finally:
        join_threads()
    return job, todo, processed, finish_job(job, todo, lambda _: None)


def join_threads() -> None:
    """Wait for the steps that a stopped worker leaves running, as the end of its process would end them.

    What broke the worker is broken for them, too: a test that mends it earlier sees what they write afterwards.
    """
    for thread in threading.enumerate():
        if thread.name.startswith(THREAD_NAME):
            thread.join(60)
            assert not thread.is_alive(), f"{thread.name} still runs"


def written(storage: Storage) -> dict[str, bytes]:
    """Every output and mask: what a run may not lose."""
    masks = f"{RESERVED}/masks/"
    found = [
        info.key for info in storage.list() if not info.key.startswith(f"{RESERVED}/") or info.key.startswith(masks)
    ]
    return {key: storage.read(key) for key in found}


def collection(folder: Path) -> dict[str, bytes]:
    """Write 30 images in two folders below `folder`: every third without an object, and two that are broken; returns them by key."""
    files = {}
    for number in range(28):
        image = photograph((96, 80), seed=number)
        image = image if number % 3 == 0 else painted(image, (30, 20, 50, 45))
        files[f"{'ab'[number % 2]}/photo {number:02}.png"] = encoded(image)
    files["a/broken.jpg"] = encoded(photograph(), "JPEG")[:900]
    files["b/empty.png"] = b""
    for key, data in files.items():
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return files
