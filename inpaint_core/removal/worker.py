"""From keys to written images and journalled records: what one worker process does, without Ray."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

import cv2
import pyarrow as pa
import torch
from threadpoolctl import threadpool_limits

from inpaint_core.device import choose_device
from inpaint_core.errors import ObjectError, Stage, StorageError
from inpaint_core.images.decode import pixel_count
from inpaint_core.removal.build import build_remover
from inpaint_core.removal.catalogue.entries import Entry, RunId
from inpaint_core.removal.catalogue.journal import Journal, journal_key
from inpaint_core.removal.catalogue.layout import Layout
from inpaint_core.removal.freed_memory import give_back_freed_memory
from inpaint_core.removal.image_task import ImageTask
from inpaint_core.removal.io_pool import IoPool, PooledStep, items
from inpaint_core.removal.job import Job
from inpaint_core.removal.output_writer import PERHAPS_WRITTEN, OutputWriter
from inpaint_core.removal.pixel_budget import PixelBudget
from inpaint_core.removal.portions import Portion, portions
from inpaint_core.removal.record import Record
from inpaint_core.removal.remover import ObjectRemover
from inpaint_core.storage import MissingObject, Storage, UnansweredRequest

# Files of a batch, decoded, come to roughly four pixels a byte (JPEG photographs): 32 megapixels.
_BYTES_PER_BATCH = 8 * 2**20
# oneDNN makes a kernel for each layer and size of its input: 75 for a detector, and a collection has tens of sizes. It keeps 1,024,
# and makes those that it has dropped again each time (27 ms an image). Read before the first kernel is made.
_KERNELS = "8192"
# Pixels of images, after whose work free memory goes back to the system.
_LARGE_PORTION = 8_000_000
# Of one worker, with nothing read between: more than these few are no accident of single objects.
_UNREADABLE_IN_A_ROW = 8


class Worker:
    """Reads, cleans and writes images, and keeps the journal.

    Several batches are under way at a time: some are read and decoded and some are encoded and written by threads while the
    models work on the one between. What waits for a store that is out of reach does not hold up the others, as far as the
    memory for a few batches goes. Where their images come to more than `scaling.pixels_in_flight`, those that have no room
    are decoded later.

    Args:
        remover: the models and settings.
        source: where the images are.
        target: where the results go.
        run: what the records carry.
        earlier_masks, earlier_held: see `OutputWriter`.
    """

    def __init__(
        self,
        remover: ObjectRemover,
        source: Storage,
        target: Storage,
        run: RunId,
        *,
        earlier_masks: bool = True,
        earlier_held: bool = True,
    ) -> None:
        self.remover = remover
        self.source = source
        self.target = target
        self.run = run
        self.config = remover.config
        self.layout = Layout.of(dry_run=self.config.dry_run)
        self._writer = OutputWriter(target, self.config, earlier_masks=earlier_masks, earlier_held=earlier_held)
        self._unreadable = 0  # images in a row
        self._budget = PixelBudget(self.config.scaling.pixels_in_flight)
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
        """Work through batches; yields the records of each (a table of `record.SCHEMA`) once they are journalled.

        Raises:
            StorageError, WeightsError: nothing of this kind can be mended image by image; the job has to stop.
            DeviceFault: the GPU failed; this process has to end, and another does what is not journalled.
        """
        readers, writers = self._pool(), self._pool()  # apart: one store may be out of reach, and the other not
        self._budget = PixelBudget(self.config.scaling.pixels_in_flight)
        waiting = deque(batches)
        loading: deque[list[PooledStep[ImageTask]]] = deque()
        ready: deque[Portion] = deque()
        encoding: deque[tuple[Portion, list[PooledStep[ImageTask]]]] = deque()
        writing: deque[tuple[Portion, list[PooledStep[ImageTask]]]] = deque()
        try:
            while waiting or loading or ready or encoding or writing:
                while waiting and len(loading) < 2:
                    tasks = [self._task(entry) for entry in waiting.popleft()]
                    for task in tasks:
                        self._budget.expect(task)
                    loading.append(readers.submit(self._load, tasks))
                if loading and not ready and readers.ready(loading[0]):
                    ready.extend(portions(items(loading.popleft()), self.config.scaling.pixels_in_flight // 2))
                if writing and writers.ready(writing[0][1]):
                    portion, steps = writing.popleft()
                    self._stop_if_nothing_can_be_written(items(steps))
                    if portion.batch:
                        yield from journal.add(task.record for task in portion.batch)
                elif encoding and len(writing) < 2 and writers.ready(encoding[0][1]):
                    portion, _ = encoding.popleft()
                    self._measure(portion.tasks)
                    writing.append((portion, writers.submit(self._write, portion.tasks)))
                elif ready and len(encoding) < 2 and self._take(ready[0].tasks, at_any_rate=not encoding):
                    portion = ready.popleft()
                    self._fill(writers, portion.tasks)  # readers may wait for a store
                    encoding.append((portion, writers.submit(self.remover.encode, portion.tasks)))
                else:
                    running = [queue[0][1] for queue in (writing, encoding) if queue] + [*loading][: not ready]
                    writers.pause(step for steps in running for step in steps)
            yield from journal.write_all()
        finally:
            readers.close()
            writers.close()

    def failed(self, entry: Entry, stage: Stage, reason: str, journal: Journal) -> Iterator[pa.Table]:
        """Journal an image as failed without touching it; yields its record as `process` does."""
        task = self._task(entry)
        task.fail(stage, reason)
        self._writer.remark_on_output(task)
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
        if not task.over:
            with task.timed(Stage.READ):
                task.data = self._read(task)
        if task.data is None:
            self._budget.give_back(task)
            return
        task.pixels = pixel_count(task.data)
        task.waits = not self._budget.take(task, task.pixels)
        if not task.waits:
            self._decode(task)

    def _decode(self, task: ImageTask) -> None:
        self.remover.decode(task)
        encoding = None if task.original is None else task.original.properties.encoding
        if task.over and task.record.stage == Stage.DECODE and encoding is not None:
            task.record.error = f"{task.record.error}; its Content-Encoding is {encoding}: store the image without it"

    def _take(self, tasks: Sequence[ImageTask], *, at_any_rate: bool) -> bool:
        """Have the pixels of images counted that wait for it; returns whether none is left that does."""
        for task in tasks:
            task.waits = task.waits and not self._budget.take(task, task.pixels, at_any_rate=at_any_rate)
        return not any(task.waits for task in tasks)

    def _fill(self, pool: IoPool[ImageTask], tasks: Sequence[ImageTask]) -> None:
        """Decode what had to wait, and run the models."""
        pool.wait(pool.submit(self._decode, [task for task in tasks if task.decoded is None and not task.over]))
        self.remover.fill(tasks)
        self._stop_if_nothing_can_be_read(tasks)

    def _measure(self, tasks: Sequence[ImageTask]) -> None:
        """Run the models on what was encoded, try again what breaks a rule, and let go of the pixels."""
        self.remover.count_residuals(tasks)
        self.remover.judge(tasks)
        for task in tasks:
            self._budget.give_back(task)
        if sum(task.pixels for task in tasks) >= _LARGE_PORTION:
            give_back_freed_memory()

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
                        f"{task.record.error}; the {_UNREADABLE_IN_A_ROW - 1} images before it had the same error: check the store, then run the "
                        "job again"
                    )
            elif task.written:
                self._unwritable = 0

    def _write(self, task: ImageTask) -> None:
        self.remover.finish(task)
        with task.timed(Stage.WRITE):
            try:
                self._writer.write(task)
            except ObjectError as error:
                task.unanswered = isinstance(error, UnansweredRequest)
                task.fail(Stage.WRITE, str(error))
        if task.over:
            self._writer.remark_on_output(task)
        task.release()


def build_worker(job: Job, *, threads: int) -> Worker:
    """The worker of this process: builds both models on its device.

    Args:
        job: the job.
        threads: CPU threads that the models may use.

    Raises:
        ConfigError, WeightsError: a class that the network does not know, weights of another kind of network.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", _KERNELS)
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    # NumPy's and SciPy's BLAS would take every CPU of the machine, and wait for one another where other workers use them.
    threadpool_limits(threads, user_api="blas")
    device = choose_device(job.config.scaling.device, "scaling.device", place="on this worker")
    remover = build_remover(
        job.config, job.detector_weights, job.inpainter_weights, device=device, attempts=job.attempt_weights
    )
    return Worker(
        remover, job.source, job.target, job.run, earlier_masks=job.earlier_masks, earlier_held=job.earlier_held
    )


def _timed_out(timeout: float) -> Callable[[ImageTask], None]:
    def report(task: ImageTask) -> None:
        if task.stage == Stage.WRITE:  # its thread may still succeed
            task.remark(PERHAPS_WRITTEN)
        task.fail(task.stage, f"timed out after {timeout:g} s (scaling.image_timeout)")

    return report
