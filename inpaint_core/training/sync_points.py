"""Synchronisation points: steps at which all workers exchange their state, by the clock of the first one."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch

from inpaint_core.training.worker_context import WorkerContext

# A synchronisation makes a GPU wait, and workers wait for each other.
MOST_STEPS = 20
_SECONDS = 3.0
# Between checkpoints while a machine is being drained: the last of them is what is left of the run's work.
_SECONDS_BEFORE_LEAVING = 10.0


class WorkerTerminated(Exception):
    """A worker received SIGTERM. The run resumes from its checkpoint when the workers are started again."""


@dataclass(frozen=True)
class Notice:
    """What a worker has heard of its own end."""

    terminated: bool = False
    """Its process received SIGTERM."""
    draining: bool = False
    """A machine of the run is being drained. The same on every worker."""


@dataclass(frozen=True)
class SyncPoint:
    """What all workers know after a synchronisation: what the first one decided, and what any of them was notified of."""

    written: bool
    """All that was given to be written is written, or failed."""
    save: bool
    """It is time for a checkpoint."""
    terminated: bool = False
    """A worker received SIGTERM: this is the last step."""


class SyncPoints:
    """The first step is a synchronisation point, then one about every 3 seconds, at least every 20 steps.

    Args:
        context: the other workers.
        minutes: between checkpoints; None: never time for one, unless a machine is being drained.
    """

    def __init__(self, context: WorkerContext, minutes: float | None) -> None:
        self._context = context
        self._seconds = math.inf if minutes is None else 60 * minutes
        self._saved = self._synchronised = time.monotonic()
        self._steps = 0
        self._next = 1

    def due(self) -> bool:
        """Count a step; returns whether it is a synchronisation point. The same on every worker."""
        self._steps += 1
        return self._steps >= self._next

    def synchronise(self, *, written: bool, notice: Notice) -> SyncPoint:
        """Exchange the state of all workers. To be called at the same step on every worker.

        Args:
            written: see `SyncPoint`; that of the first worker counts.
            notice: counts on every worker.
        """
        now = time.monotonic()
        until = max(1, min(MOST_STEPS, int(_SECONDS * self._steps / max(now - self._synchronised, 1e-9))))
        between = min(self._seconds, _SECONDS_BEFORE_LEAVING if notice.draining else math.inf)
        save = now - self._saved >= between
        mine = [float(until), float(written), float(save)] if self._context.rank == 0 else [0.0] * 3
        shared = self._context.sum(torch.tensor([*mine, float(notice.terminated)], dtype=torch.float64)).tolist()
        self._next, self._steps, self._synchronised = int(shared[0]), 0, now
        terminated = bool(shared[3])
        return SyncPoint(written=bool(shared[1]), save=bool(shared[2]) or terminated, terminated=terminated)

    def saved(self) -> None:
        """A checkpoint was begun."""
        self._saved = time.monotonic()
