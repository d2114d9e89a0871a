"""The worker processes of the removal job: a block of the manifest in, counts of statuses out; records go to the journal."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NoReturn, TypeAlias, cast

import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.actor import ActorHandle

from inpaint_core.errors import DeviceFault, ResourceError, Stage, UserError
from inpaint_core.on_ray.attempts import Attempts
from inpaint_core.on_ray.cluster import check_assigned_gpus
from inpaint_core.on_ray.counters import RemovalCounters
from inpaint_core.on_ray.errors import CarriedError
from inpaint_core.removal.catalogue.entries import Entry, as_entries, name_of
from inpaint_core.removal.catalogue.journal import Journal, read_journal
from inpaint_core.removal.job import Job
from inpaint_core.removal.record import STATUSES

if TYPE_CHECKING:
    from inpaint_core.removal.worker import Worker

log = logging.getLogger(__name__)

# A block is retried when its worker dies. After this many deaths its images are taken one at a time, and one that
# kills its worker as often alone is recorded as failed: otherwise Ray would retry it for ever.
_DEATHS_OF_A_BLOCK = 2
_DEATHS_OF_AN_IMAGE = 2

WorkerFactory: TypeAlias = "Callable[[Job, int], Worker]"


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
                    "the workers die while they load the models, probably for lack of memory, or because of a fault of the GPU; "
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
