"""The removal job on Ray Data: keys in, records out; pixels never leave the worker that holds them."""

from __future__ import annotations

import logging
import math
import os
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn, TypeAlias, cast

import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.actor import ActorHandle
from ray.data import ActorPoolStrategy, DataContext

from inpaint_core.errors import DeviceFault, ResourceError, Stage, UserError
from inpaint_core.on_ray.cluster import ActorPlan, beside_driver, check_assigned_gpus, connect, plan_actors, settled
from inpaint_core.on_ray.counters import RemovalCounters, Waiting
from inpaint_core.on_ray.errors import CarriedError, unwrapped
from inpaint_core.progress import PrintLine, Progress
from inpaint_core.removal.catalogue.entries import Entry, as_entries, name_of, streams
from inpaint_core.removal.catalogue.journal import Journal, read_journal
from inpaint_core.removal.catalogue.layout import Layout
from inpaint_core.removal.catalogue.lease import JobLease
from inpaint_core.removal.catalogue.sorted_rows import SortedRows
from inpaint_core.removal.config import RemoveConfig, ScalingConfig
from inpaint_core.removal.job import Job, finish_job, open_job, plan_job
from inpaint_core.removal.record import STATUSES
from inpaint_core.removal.store_watch import StoreWatch
from inpaint_core.removal.summary import Summary

if TYPE_CHECKING:
    from inpaint_core.removal.worker import Worker

log = logging.getLogger(__name__)

# A block is retried when its worker dies. After this many deaths its images are taken one at a time, and one that
# kills its worker as often alone is recorded as failed: otherwise Ray would retry it for ever.
_DEATHS_OF_A_BLOCK = 2
_DEATHS_OF_AN_IMAGE = 2
# Starts of workers, for each of them, without one block begun: after that they will not succeed.
_STARTS_PER_ACTOR = 4
# Of a report, that is of one batch: Ray hands on what is larger than this. All reports are 24 bytes, so that a block that is
# done again is reported in the same parts, by whose number Ray tells which of them it has had.
_BYTES_PER_REPORT = 20

WorkerFactory: TypeAlias = "Callable[[Job, int], Worker]"


class Attempts:
    """Counts how often a block or an image was begun; lives outside the workers, so that it outlives them."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._token = uuid.uuid4().hex[:8]
        self._first: float | None = None
        self._starts = 0

    def start(self) -> int:
        """Count one more start of a worker; returns how many there were since anything was begun."""
        self._starts += 1
        return self._starts

    def begin(self, name: str) -> int:
        """Count one more beginning of `name`; returns how many there were, this one included."""
        self._first = self._first or time.monotonic()
        self._starts = 0
        self._counts[name] = self._counts.get(name, 0) + 1
        return self._counts[name]

    def token(self) -> str:
        """A name of this count: another one counts from the beginning."""
        return self._token

    def seconds(self) -> float:
        """Seconds since the first beginning of anything; 0 where nothing was begun."""
        return time.monotonic() - self._first if self._first else 0.0


class RemovalActor:
    """One worker process: holds both models, and works through blocks of the manifest."""

    def __init__(
        self,
        job: ray.ObjectRef[Job],
        factory: WorkerFactory,
        threads: int,
        attempts: ActorHandle[Attempts],
        start_limit: int,
    ) -> None:
        self._attempts = attempts
        self._counters = RemovalCounters()
        self._worker: Worker | None = None
        self._error: UserError | None = None
        try:
            if cast(int, ray.get(attempts.start.remote())) > start_limit:
                raise ResourceError(
                    "the workers die while they load the models, probably for lack of memory, or of a fault of the GPU; "
                    "lower scaling.actors, or see Ray's logs of the workers"
                )
            content = ray.get(job)
            check_assigned_gpus(content.config.scaling.device)
            self._worker = factory(content, threads)
        except UserError as error:
            # Raised with the first block: there it reaches the driver as itself, not as the death of an actor.
            self._error = error
        except Exception as error:
            from inpaint_core.device import raise_device_fault  # torch

            try:
                raise_device_fault(error)
            except DeviceFault as fault:
                _end_process(fault)
            raise

    def __call__(self, block: pa.Table) -> Iterator[pa.Table]:
        """Process the entries of a block; yields a row for each batch: how many images have which status."""
        if self._worker is None:
            raise CarriedError(self._error)
        try:
            for records in self._process(self._worker, block):
                statuses = records["status"].to_pylist()
                yield pa.table({status: [statuses.count(status)] for status in STATUSES})
        except UserError as error:
            raise CarriedError(error) from error
        except DeviceFault as fault:
            _end_process(fault)

    def _process(self, worker: Worker, table: pa.Table) -> Iterator[pa.Table]:
        block = as_entries(table)
        attempt = self._begin(name_of(entry.key for entry in block))
        token = cast(str, ray.get(self._attempts.token.remote()))
        journals = [worker.journal_key(block, f"{token}-{number}") for number in range(1, attempt + 1)]
        left = worker.batches(block)
        for number, earlier in enumerate(journals[:-1], 1):
            finished = read_journal(worker.target, earlier)
            if number > _DEATHS_OF_A_BLOCK:
                left = [[entry] for batch in left for entry in batch]
            for batch in left:  # in the parts in which that attempt gave them
                records = finished.filter(pc.is_in(finished["key"], pa.array([entry.key for entry in batch])))
                if len(records):
                    yield records
            done = set(finished["key"].to_pylist())
            left = [rest for batch in left if (rest := [entry for entry in batch if entry.key not in done])]
        journal = Journal(worker.target, journals[-1])
        if attempt <= _DEATHS_OF_A_BLOCK:
            yield from self._counted(worker.process(left, journal))
        else:
            yield from self._one_by_one(worker, [entry for batch in left for entry in batch], journal)

    def _one_by_one(self, worker: Worker, entries: list[Entry], journal: Journal) -> Iterator[pa.Table]:
        for entry in entries:
            if self._begin(f"image {entry.key}") > _DEATHS_OF_AN_IMAGE:
                reason = f"the worker process died {_DEATHS_OF_AN_IMAGE} times at this image alone (memory, a fault of the GPU, or a crash in a library)"
                yield from self._counted(worker.failed(entry, Stage.WORKER, reason, journal))
            else:
                yield from self._counted(worker.process([[entry]], journal))

    def _counted(self, tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
        for records in tables:
            self._counters.add(records)
            yield records

    def _begin(self, name: str) -> int:
        return cast(int, ray.get(self._attempts.begin.remote(name)))


def _end_process(fault: DeviceFault) -> NoReturn:
    """End this process as a crash would: Ray starts another, with another CUDA context, which takes over the images."""
    log.critical("this worker ends: %s", fault, exc_info=fault)
    logging.shutdown()
    os._exit(1)


def _build(job: Job, threads: int) -> Worker:
    from inpaint_core.removal.worker import build_worker  # torch and the models: in the workers, never in the driver

    return build_worker(job, threads=threads)


def run_removal(config: RemoveConfig, *, print_line: PrintLine = print, factory: WorkerFactory = _build) -> Summary:
    """Run the removal job to its end, or as far as it gets before Ctrl-C.

    Args:
        config: the job's config.
        print_line: takes what a user should read, line by line.
        factory: builds the worker of each process.

    Raises:
        UserError: config, stores, weights or resources do not allow the job. What was finished stays in the journal,
            and the same command goes on from there.
    """
    start = time.monotonic()
    scaling = config.scaling
    if (scaling.actors, scaling.cpus_per_actor, scaling.gpus_per_actor) != (None, None, None):
        connect()
        _settle(scaling, 1, print_line)  # what can never be met is said before anything is listed
    job = open_job(config)
    layout = Layout.of(dry_run=config.dry_run)
    stores = (job.source, job.target)
    with StoreWatch(stores, print_line), JobLease(job.target, layout, job.run.run_id, print_line) as lease:
        return _run_job(job, start, lease, print_line, factory)


def _run_job(job: Job, start: float, lease: JobLease, print_line: PrintLine, factory: WorkerFactory) -> Summary:
    config = job.config
    todo = plan_job(job, print_line)
    lease.check()
    print_line(
        f"{len(todo.manifest):,} images ({todo.other:,} other objects left out), {todo.done:,} already done, "
        f"{len(todo.pending):,} to do"
    )
    job = replace(job, earlier_masks=todo.earlier_masks, earlier_held=todo.earlier_held)
    run = _RemovalStream(job, todo.pending, print_line, factory, lease)
    interrupted = False
    try:
        if len(todo.pending):
            run.consume()
    except KeyboardInterrupt:
        interrupted = True
        print_line("interrupted; keeping what is finished")
    seconds = run.working_seconds()
    if interrupted:
        ray.shutdown()  # the workers would go on, and journal what the merge below no longer sees
    startup = time.monotonic() - start - seconds
    lease.check()
    return Summary(
        listed=len(todo.manifest),
        skipped=todo.done,
        failed_before=todo.failed_before,
        processed=run.processed,
        totals=finish_job(job, todo, print_line),
        seconds=seconds,
        startup_seconds=startup,
        interrupted=interrupted,
        records=f"{job.target.uri}/{Layout.of(dry_run=config.dry_run).records}",
    )


def _settle(scaling: ScalingConfig, batches: int, print_line: PrintLine) -> ActorPlan:
    gpus = scaling.gpus_per_actor if scaling.gpus_per_actor is not None else float(scaling.device == "cuda")
    bundle = {"CPU": scaling.cpus_per_actor or 1.0} | ({"GPU": gpus} if gpus else {})
    return settled(
        lambda nodes: plan_actors(scaling, nodes, batches=batches),
        [bundle] * (scaling.actors or 1),
        scaling.wait_for_nodes,
        print_line,
    )


class _RemovalStream:
    """Streams of blocks through the actors, one after the other."""

    def __init__(
        self, job: Job, pending: SortedRows, print_line: PrintLine, factory: WorkerFactory, lease: JobLease
    ) -> None:
        self._lease = lease
        self._job = job
        self._pending = pending
        self._print_line = print_line
        self._factory = factory
        self._attempts: ActorHandle[Attempts] | None = None
        self._waiting: Waiting | None = None
        self.processed = 0

    def consume(self) -> None:
        """Process everything, showing progress.

        Raises:
            UserError: what a worker raised as one.
        """
        progress = Progress(len(self._pending), self._print_line)
        try:
            for reports in unwrapped(self._stream()):
                counts = Counter({status: pc.sum(reports[status]).as_py() for status in STATUSES})
                self.processed += counts.total()
                if self._waiting is not None:
                    self._waiting.less(counts.total())
                progress.add(counts.elements())
                self._lease.check()
        finally:
            progress.close()

    def working_seconds(self) -> float:
        """Seconds since the first worker began."""
        if self._attempts is None:
            return 0.0
        return cast(float, ray.get(self._attempts.seconds.remote()))

    def _stream(self) -> Iterator[pa.Table]:
        connect()
        scaling = self._job.config.scaling
        batches = math.ceil(len(self._pending) / scaling.images_per_batch)
        actors = _settle(scaling, batches, self._print_line)
        self._print_line(str(actors))
        if further := self._job.further_weights():
            size = sum(len(weights.data) for weights in further)
            self._print_line(
                f"retry: each worker also holds {len(further)} further network{'s' * (len(further) > 1)} "
                f"({size / 1e6:,.0f} MB of weights)"
            )
        context = DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        # Ray would end a job that waits for a busy cluster, or for a slow network on a CPU, after half an hour.
        context.execution_no_progress_timeout_s = -1
        self._attempts = beside_driver(Attempts)
        self._waiting = Waiting(len(self._pending))
        with _block_size(_BYTES_PER_REPORT):
            yield from self._reports(actors)

    def _reports(self, actors: ActorPlan) -> Iterator[pa.Table]:
        scaling = self._job.config.scaling
        job = ray.put(self._job)
        for blocks in streams(self._pending, workers=actors.actors, images_per_batch=scaling.images_per_batch):
            reports = ray.data.from_arrow(blocks).map_batches(
                RemovalActor,
                fn_constructor_kwargs={
                    "job": job,
                    "factory": self._factory,
                    "threads": max(1, int(actors.cpus)),
                    "attempts": self._attempts,
                    "start_limit": _STARTS_PER_ACTOR * actors.actors,
                },
                # Whole blocks: all have this size, but for the last. Ray refuses None where it is asked for GPUs.
                batch_size=max(block.num_rows for block in blocks),
                batch_format="pyarrow",
                zero_copy_batch=True,
                # Where the number is not set, a node that joins in the middle is used.
                compute=ActorPoolStrategy(
                    min_size=actors.actors, max_size=scaling.actors or max(actors.actors, len(blocks))
                ),
                num_cpus=actors.cpus,
                num_gpus=actors.gpus,
            )
            yield from reports.iter_batches(batch_size=None, batch_format="pyarrow")


@contextmanager
def _block_size(most: int) -> Iterator[None]:
    """Blocks of Ray Data have so many bytes at most, as long as the `with` statement lasts."""
    context = DataContext.get_current()
    before = context.target_max_block_size
    context.target_max_block_size = most
    try:
        yield
    finally:
        context.target_max_block_size = before
