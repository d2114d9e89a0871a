"""The removal job on Ray Data: keys in, records out; pixels never leave the worker that holds them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeAlias, cast

import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.actor import ActorHandle
from ray.data import ActorPoolStrategy, DataContext

from inpaint_core.errors import ResourceError, UserError
from inpaint_core.on_ray.cluster import ActorPlan, beside_driver, connect, plan_actors, settled
from inpaint_core.on_ray.counters import RemovalCounters, Waiting
from inpaint_core.on_ray.stop import Stop, unwrapped
from inpaint_core.progress import Progress
from inpaint_core.removal.config import RemoveConfig, ScalingConfig
from inpaint_core.removal.entries import Entry, as_entries, name_of
from inpaint_core.removal.job import Job, open_job, plan_job
from inpaint_core.removal.layout import Layout
from inpaint_core.removal.ledger import merge_journal, read_journal, totals
from inpaint_core.removal.summary import Summary

if TYPE_CHECKING:
    from inpaint_core.removal.worker import Worker

# Images of one Ray task: enough that its first and last batch, which overlap with nothing, weigh little; few enough
# that progress is seen and that every worker has several.
_IMAGES_PER_BLOCK = 64
_BLOCKS_PER_ACTOR = 4
# A block is retried when its worker dies. After this many deaths its images are taken one at a time, and one that
# kills its worker as often alone is recorded as failed: otherwise Ray would retry it for ever.
_DEATHS_OF_A_BLOCK = 2
_DEATHS_OF_AN_IMAGE = 2
# Starts of workers, for each of them, without one block begun: after that they will not succeed.
_STARTS_PER_ACTOR = 4
# Bytes of records that a worker gathers before the driver hears of them: a batch, so that progress is seen.
_BYTES_PER_REPORT = 4_096

WorkerFactory: TypeAlias = "Callable[[Job, int], Worker]"


class Attempts:
    """Counts how often a block or an image was begun; lives outside the workers, so that it outlives them."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
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
                    "the workers die while they load the models, probably for lack of memory; lower scaling.actors"
                )
            self._worker = factory(ray.get(job), threads)
        except UserError as error:
            # Raised with the first block: there it reaches the driver as itself, not as the death of an actor.
            self._error = error

    def __call__(self, block: pa.Table) -> Iterator[pa.Table]:
        """Process the entries of a block; yields their records, batch by batch."""
        if self._worker is None:
            raise Stop(self._error)
        try:
            for records in self._process(self._worker, block):
                self._counters.add(records)
                yield records
        except UserError as error:
            raise Stop(error) from error

    def _process(self, worker: Worker, block: pa.Table) -> Iterator[pa.Table]:
        entries = as_entries(block)
        batches = worker.batches(entries)
        attempt = self._begin(name_of(entry.key for entry in entries))
        if attempt > 1:
            missing = []
            for batch in batches:
                finished = read_journal(worker.target, worker.journal_key(batch))
                if finished is None:
                    missing.append(batch)
                else:
                    yield finished
            batches = missing
        if attempt <= _DEATHS_OF_A_BLOCK:
            yield from worker.process(batches)
        else:
            yield from self._one_by_one(worker, [entry for batch in batches for entry in batch])

    def _one_by_one(self, worker: Worker, entries: list[Entry]) -> Iterator[pa.Table]:
        for entry in entries:
            finished = read_journal(worker.target, worker.journal_key([entry]))
            if finished is not None:
                yield finished
            elif self._begin(f"image {entry.key}") > _DEATHS_OF_AN_IMAGE:
                reason = f"the worker process died {_DEATHS_OF_AN_IMAGE} times at this image alone (memory, or a crash in a library)"
                yield worker.failed(entry, "worker", reason)
            else:
                yield from worker.process([[entry]])

    def _begin(self, name: str) -> int:
        return cast(int, ray.get(self._attempts.begin.remote(name)))


def _build(job: Job, threads: int) -> Worker:
    from inpaint_core.removal.build import build_worker  # torch and the models: in the workers, never in the driver

    return build_worker(job, threads=threads)


def run_removal(
    config: RemoveConfig, *, say: Callable[[str], None] = print, factory: WorkerFactory = _build
) -> Summary:
    """Run the removal job to its end, or as far as it gets before Ctrl-C.

    Args:
        config: the job's config.
        say: takes what a user should read, line by line.
        factory: builds the worker of each process.

    Raises:
        UserError: config, stores, weights or resources do not allow the job. What was finished stays in the journal,
            and the same command goes on from there.
    """
    start = time.monotonic()
    scaling = config.scaling
    if (scaling.actors, scaling.cpus_per_actor, scaling.gpus_per_actor) != (None, None, None):
        connect()
        _settle(scaling, 1, say)  # what can never be met is said before anything is listed
    job = open_job(config)
    todo = plan_job(job, say)
    pending = todo.plan.pending
    say(
        f"{len(todo.keys):,} images ({todo.other:,} other objects left out), {todo.plan.done:,} already done, "
        f"{len(pending):,} to do"
    )
    run = _Run(job, pending, say, factory)
    interrupted = False
    try:
        if len(pending):
            run.consume()
    except KeyboardInterrupt:
        interrupted = True
        say("interrupted; keeping what is finished")
    seconds = run.working_seconds()
    if interrupted:
        ray.shutdown()  # the workers would go on, and journal what the merge below no longer sees
    startup = time.monotonic() - start - seconds
    layout = Layout.of(dry_run=config.dry_run)
    records = merge_journal(job.target, layout, job.run.run_id, say)
    return Summary(
        listed=len(todo.keys),
        skipped=todo.plan.done,
        failed_before=todo.plan.failed_before,
        processed=run.processed,
        totals=totals(records.filter(pc.is_in(records["key"], todo.keys))),
        seconds=seconds,
        startup_seconds=startup,
        interrupted=interrupted,
        records=f"{job.target.uri}/{layout.records}",
    )


def _settle(scaling: ScalingConfig, batches: int, say: Callable[[str], None]) -> ActorPlan:
    gpus = scaling.gpus_per_actor if scaling.gpus_per_actor is not None else float(scaling.device == "cuda")
    bundle = {"CPU": scaling.cpus_per_actor or 1.0} | ({"GPU": gpus} if gpus else {})
    return settled(
        lambda nodes: plan_actors(scaling, nodes, batches=batches),
        [bundle] * (scaling.actors or 1),
        scaling.wait_for_nodes,
        say,
    )


class _Run:
    """One stream of blocks through the actors."""

    def __init__(self, job: Job, pending: pa.Table, say: Callable[[str], None], factory: WorkerFactory) -> None:
        self._job = job
        self._pending = pending
        self._say = say
        self._factory = factory
        self._attempts: ActorHandle[Attempts] | None = None
        self._waiting: Waiting | None = None
        self.processed = 0

    def consume(self) -> None:
        """Process everything, showing progress.

        Raises:
            UserError: what a worker raised as one.
        """
        progress = Progress(len(self._pending), self._say)
        try:
            for records in unwrapped(self._stream()):
                self.processed += len(records)
                if self._waiting is not None:
                    self._waiting.less(len(records))
                progress.add(records["status"].to_pylist())
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
        actors = _settle(scaling, batches, self._say)
        self._say(str(actors))
        context = DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.target_max_block_size = _BYTES_PER_REPORT
        # Ray would end a job that waits for a busy cluster, or for a slow network on a CPU, after half an hour.
        context.execution_no_progress_timeout_s = -1
        self._attempts = beside_driver(Attempts)
        self._waiting = Waiting(len(self._pending))
        blocks = self._blocks(actors.actors)
        records = ray.data.from_arrow(blocks).map_batches(
            RemovalActor,
            fn_constructor_kwargs={
                "job": ray.put(self._job),
                "factory": self._factory,
                "threads": max(1, int(actors.cpus)),
                "attempts": self._attempts,
                "start_limit": _STARTS_PER_ACTOR * actors.actors,
            },
            batch_size=None,
            batch_format="pyarrow",
            zero_copy_batch=True,
            # Where the number is not set, a node that joins in the middle is used.
            compute=ActorPoolStrategy(
                min_size=actors.actors, max_size=scaling.actors or max(actors.actors, len(blocks))
            ),
            num_cpus=actors.cpus,
            num_gpus=actors.gpus,
        )
        yield from records.iter_batches(batch_size=None, batch_format="pyarrow")

    def _blocks(self, actors: int) -> list[pa.Table]:
        """The pending rows in blocks; a block is what Ray schedules and retries."""
        batch = self._job.config.scaling.images_per_batch
        fair = math.ceil(len(self._pending) / (actors * _BLOCKS_PER_ACTOR))
        size = math.ceil(min(max(fair, batch), max(_IMAGES_PER_BLOCK, batch)) / batch) * batch
        return [self._pending.slice(start, size).combine_chunks() for start in range(0, len(self._pending), size)]
