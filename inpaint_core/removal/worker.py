"""From keys to written images and journalled records: what one worker process does, without Ray."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

import cv2
import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from PIL import Image
from threadpoolctl import threadpool_limits

from inpaint_core.device import choose_device
from inpaint_core.errors import ObjectError, Stage, StorageError
from inpaint_core.images.formats.codec import saved
from inpaint_core.removal.catalogue.entries import Entry, RunId
from inpaint_core.removal.catalogue.journal import Journal, journal_key
from inpaint_core.removal.catalogue.layout import Layout
from inpaint_core.removal.io_pool import IoPool, PooledStep, items
from inpaint_core.removal.job import Job
from inpaint_core.removal.object_mask import overlay
from inpaint_core.removal.record import NOT_CARRIED_OVER, Record
from inpaint_core.removal.remover import ImageTask, ObjectRemover, build_remover
from inpaint_core.storage import MissingObject, Storage, UnansweredRequest

# Files of a batch, decoded, come to roughly four pixels a byte (JPEG photographs): 32 megapixels.
_BYTES_PER_BATCH = 8 * 2**20
# Of one worker, with nothing read between: more than these few are no accident of single objects.
_UNREADABLE_IN_A_ROW = 8

_PERHAPS_WRITTEN = "the output under this key may be of this run, or of an earlier one"


class Worker:
    """Reads, cleans and writes images, and keeps the journal.

    Several batches are under way at a time: some are read and decoded and some are encoded and written by threads while the
    models work on the one between. What waits for a store that is out of reach does not hold up the others, as far as the
    memory for a few batches goes.

    Args:
        remover: the models and settings.
        source: where the images are.
        target: where the results go.
        run: what the records carry.
        earlier_masks: whether the output may hold masks of an earlier run; an image in which nothing is found now loses
            its own. False saves a request for each such image.
    """

    def __init__(
        self, remover: ObjectRemover, source: Storage, target: Storage, run: RunId, *, earlier_masks: bool = True
    ) -> None:
        self.remover = remover
        self.source = source
        self.target = target
        self.run = run
        self.config = remover.config
        self.layout = Layout.of(dry_run=self.config.dry_run)
        self._earlier_masks = earlier_masks
        self._unreadable = 0  # images in a row
        self._unwritable = 0

    def batches(self, entries: Sequence[Entry]) -> list[list[Entry]]:
        """Entries in batches of one detector pass and one write of the journal; always the same for the same entries.

        A batch has up to `images_per_batch` images, and fewer where the files are large: a worker holds the pixels of
        several batches at a time.
        """
        batches: list[list[Entry]] = []
        size = 0
        for entry in entries:
            size += entry.size
            if not batches or len(batches[-1]) == self.config.scaling.images_per_batch or size > _BYTES_PER_BATCH:
                batches.append([])
                size = entry.size
            batches[-1].append(entry)
        return batches

    def journal_key(self, block: Sequence[Entry], attempt: str) -> str:
        """Where an attempt at a block is journalled."""
        return journal_key(self.layout, self.run.run_id, [entry.key for entry in block], attempt)

    def process(self, batches: Sequence[Sequence[Entry]], journal: Journal) -> Iterator[pa.Table]:
        """Work through batches; yields the records of each (a table of `records.SCHEMA`) once they are journalled.

        Raises:
            StorageError, WeightsError: nothing of this kind can be mended image by image; the job has to stop.
            DeviceFault: the GPU failed; this process has to end, and another does what is not journalled.
        """
        readers, writers = self._pool(), self._pool()  # apart: one store may be out of reach, and the other not
        waiting = deque(batches)
        loading: deque[list[PooledStep[ImageTask]]] = deque()
        encoding: deque[list[PooledStep[ImageTask]]] = deque()
        writing: deque[list[PooledStep[ImageTask]]] = deque()
        try:
            while waiting or loading or encoding or writing:
                while waiting and len(loading) < 2:
                    tasks = [self._task(entry) for entry in waiting.popleft()]
                    loading.append(readers.submit(self._load, tasks))
                if writing and writers.ready(writing[0]):
                    tasks = items(writing.popleft())
                    self._stop_if_nothing_can_be_written(tasks)
                    yield from journal.add(task.record for task in tasks)
                elif encoding and len(writing) < 2 and writers.ready(encoding[0]):
                    tasks = items(encoding.popleft())
                    self.remover.count_residuals(tasks)
                    writing.append(writers.submit(self._write, tasks))
                elif loading and len(encoding) < 2 and readers.ready(loading[0]):
                    tasks = items(loading.popleft())
                    self.remover.fill(tasks)
                    self._stop_if_nothing_can_be_read(tasks)
                    encoding.append(writers.submit(self.remover.encode, tasks))
                else:
                    writers.pause(step for queue in (writing, encoding, loading) if queue for step in queue[0])
            yield from journal.write_all()
        finally:
            readers.close()
            writers.close()

    def failed(self, entry: Entry, stage: Stage, reason: str, journal: Journal) -> Iterator[pa.Table]:
        """Journal an image as failed without touching it; yields its record as `process` does."""
        task = self._task(entry)
        task.fail(stage, reason)
        self._remark_on_output(task)
        yield from journal.add([task.record])
        yield from journal.write_all()

    def _pool(self) -> IoPool[ImageTask]:
        """Threads whose steps have `scaling.image_timeout`, which does not count while a store answers nothing."""
        scaling = self.config.scaling
        return IoPool(
            scaling.io_threads,
            scaling.image_timeout,
            _timed_out(scaling.image_timeout),
            excused=lambda: self.source.outage_seconds() + self.target.outage_seconds(),
        )

    def _task(self, entry: Entry) -> ImageTask:
        record = Record(entry.key, entry.size, entry.etag, self.run.run_id, self.run.config_hash, datetime.now(UTC))
        task = ImageTask(record)
        if entry.problem is not None:
            task.fail(Stage.LIST, entry.problem)
        elif entry.size > self.config.listing.max_bytes:
            task.fail(
                Stage.LIST, f"{entry.size:,} bytes are more than listing.max_bytes ({self.config.listing.max_bytes:,})"
            )
        return task

    def _load(self, task: ImageTask) -> None:
        if task.over:
            return
        with task.timed(Stage.READ):
            task.data = self._read(task)
        self.remover.decode(task)
        encoding = None if task.original is None else task.original.properties.encoding
        if task.over and task.record.stage == Stage.DECODE and encoding is not None:
            task.record.error = f"{task.record.error}; its Content-Encoding is {encoding}: store the image without it"

    def _read(self, task: ImageTask) -> bytes | None:
        try:
            data, task.original = self.source.read_original(task.key, task.record.source_size)
        except ObjectError as error:
            task.gone = isinstance(error, MissingObject)
            task.fail(Stage.READ, str(error))
            return None
        return data

    def _stop_if_nothing_can_be_read(self, tasks: Sequence[ImageTask]) -> None:
        """Count the images in a row that could not be read; those that are gone, or were never read, do not count.

        Raises:
            StorageError: too many, so that the rest of the collection would be worked through for nothing.
        """
        for task in tasks:
            if not task.over or task.record.stage not in (Stage.LIST, Stage.READ):
                self._unreadable = 0
            elif task.record.stage == Stage.READ and not task.gone:
                self._unreadable += 1
                if self._unreadable == _UNREADABLE_IN_A_ROW:
                    raise StorageError(
                        f"{task.record.error}; the {_UNREADABLE_IN_A_ROW - 1} images before it could not be read either: fix the "
                        "access (permissions, credentials, network), or exclude them with listing.exclude, then run the job again"
                    )

    def _stop_if_nothing_can_be_written(self, tasks: Sequence[ImageTask]) -> None:
        """Count the images in a row whose writing the store did not answer.

        Raises:
            StorageError: too many.
        """
        for task in tasks:
            if task.unanswered:
                self._unwritable += 1
                if self._unwritable == _UNREADABLE_IN_A_ROW:
                    raise StorageError(
                        f"{task.record.error}; so it was with the {_UNREADABLE_IN_A_ROW - 1} images before it: check the store, then "
                        "run the job again"
                    )
            elif task.written:
                self._unwritable = 0

    def _write(self, task: ImageTask) -> None:
        self.remover.finish(task)
        with task.timed(Stage.WRITE):
            try:
                self._write_objects(task)
            except ObjectError as error:
                task.unanswered = isinstance(error, UnansweredRequest)
                task.fail(Stage.WRITE, str(error))
        if task.over:
            self._remark_on_output(task)
        task.release()

    def _write_objects(self, task: ImageTask) -> None:
        """Put the image, then its mask, in the place of what an earlier run left there; a failed image puts nothing.

        In this order, because no store replaces two objects at once. A write of the image that does not succeed leaves
        the earlier image with the earlier mask. Between the two writes there is the new image with the earlier mask, and
        no record of either: the next run sees an image of another size than the record's, and does both again. The other
        way round an earlier image, which its record calls done, would keep a mask that is not its own.
        """
        if task.over:
            return
        if task.output is not None and not self.config.dry_run:
            self._write_image(task, task.output)
            task.written = True
        if task.target is None:
            self._delete_masks(task)
            return
        self.target.write(self.layout.mask(task.key), mask_png(task.target.mask))
        if self.config.dry_run and task.decoded is not None:
            tinted = overlay(task.decoded.pixels, task.target.core, task.target.mask)
            self.target.write(self.layout.overlay(task.key), _png(Image.fromarray(tinted)))

    def _write_image(self, task: ImageTask, output: bytes) -> None:
        """Write the output with the properties of the input; the record says which of them were lost."""
        assert task.original is not None
        original = task.original
        if self.config.write.times == "now":
            original = replace(original, properties=original.properties.without_time())
        lost = self.target.write_like(task.key, output, original, unchanged=output is task.data)
        if lost:
            task.remark(f"{NOT_CARRIED_OVER}{', '.join(lost)}")

    def _delete_masks(self, task: ImageTask) -> None:
        """After a new version was written in which nothing was filled: the mask is of the version that it replaced."""
        if self._earlier_masks:
            self.target.delete(self.layout.mask(task.key))
            if self.config.dry_run:
                self.target.delete(self.layout.overlay(task.key))

    def _remark_on_output(self, task: ImageTask) -> None:
        """Say in a failed image's record what lies under its key: no failure takes an output away."""
        if self.config.dry_run:
            return
        if task.written:
            task.remark("the output under this key is of this run, but its mask is not")
            return
        if task.unanswered:
            task.remark(_PERHAPS_WRITTEN)
            return
        with suppress(ObjectError):  # not a key that anything could lie under, or not to be seen with these credentials
            if self.target.exists(task.key):
                task.remark("the output under this key is of an earlier run")


def build_worker(job: Job, *, threads: int) -> Worker:
    """The worker of this process: builds both models on its device.

    Args:
        job: the job.
        threads: CPU threads that the models may use.

    Raises:
        ConfigError, WeightsError: a class that the network does not know, weights of another kind of network.
    """
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    # NumPy's and SciPy's BLAS would take every CPU of the machine, and wait for one another where other workers use them.
    threadpool_limits(threads, user_api="blas")
    device = choose_device(job.config.scaling.device, "scaling.device", place="on this worker")
    remover = build_remover(job.config, job.detector_weights, job.inpainter_weights, device=device)
    return Worker(remover, job.source, job.target, job.run, earlier_masks=job.earlier_masks)


def mask_png(mask: NDArray[np.bool_]) -> bytes:
    """A (H, W) bool mask as a 1-bit PNG, white where pixels were filled."""
    return _png(Image.fromarray(mask))


def _png(image: Image.Image) -> bytes:
    return saved(image, "PNG", compress_level=3)


def _timed_out(timeout: float) -> Callable[[ImageTask], None]:
    def report(task: ImageTask) -> None:
        if task.stage == Stage.WRITE:  # its thread may still succeed
            task.remark(_PERHAPS_WRITTEN)
        task.fail(task.stage, f"timed out after {timeout:g} s (scaling.image_timeout)")

    return report
