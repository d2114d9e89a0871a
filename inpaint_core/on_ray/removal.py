"""The removal job on Ray Data: keys in, records out; pixels never leave the worker that holds them."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.actor import ActorHandle
from ray.data import ActorPoolStrategy, DataContext

from inpaint_core.on_ray.attempts import Attempts
from inpaint_core.on_ray.cluster import ActorResources, actor_resources, beside_driver, connect, settled
from inpaint_core.on_ray.counters import Waiting
from inpaint_core.on_ray.errors import unwrapped
from inpaint_core.on_ray.removal_actor import RemovalActor, WorkerFactory
from inpaint_core.progress import PrintLine, Progress
from inpaint_core.removal.catalogue.entries import streams
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

# Starts of workers, for each of them, without one block begun: after that they will not succeed.
_STARTS_PER_ACTOR = 4
# Of a report, that is of one batch: Ray hands on what is larger than this. All reports are 24 bytes, so that a block that is
# done again is reported in the same parts, by whose number Ray tells which of them it has had.
_BYTES_PER_REPORT = 20


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
        print_line("interrupted; finished images are kept")
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


def _settle(scaling: ScalingConfig, batches: int, print_line: PrintLine) -> ActorResources:
    gpus = scaling.gpus_per_actor if scaling.gpus_per_actor is not None else float(scaling.device == "cuda")
    bundle = {"CPU": scaling.cpus_per_actor or 1.0} | ({"GPU": gpus} if gpus else {})
    return settled(
        lambda nodes: actor_resources(scaling, nodes, batches=batches),
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

    def _reports(self, actors: ActorResources) -> Iterator[pa.Table]:
        scaling = self._job.config.scaling
        job = ray.put(self._job)
        for blocks in streams(self._pending, workers=actors.actors, images_per_batch=scaling.images_per_batch):
            # Not `from_arrow`, which starts a task for each block that counts its rows.
            reports = ray.data.from_blocks(blocks).map_batches(
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
