"""When all workers look at the run together: at the same steps, which the clock of the first one decides."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from inpaint_core.training.worker_context import WorkerContext

# Looking makes a GPU wait, and workers wait for each other.
MOST_STEPS = 20
_SECONDS = 3.0


@dataclass(frozen=True)
class Look:
    """What the first worker says to all."""

    written: bool
    """All that was given to be written is written, or failed."""
    save: bool
    """It is time for a checkpoint."""


class Looks:
    """Looks after the first step, and then about every 3 seconds, at least every 20 steps.

    Args:
        context: the other workers.
        minutes: between checkpoints; None: never time for one.
    """

    def __init__(self, context: WorkerContext, minutes: float | None) -> None:
        self._context = context
        self._minutes = minutes
        self._saved = self._looked = time.monotonic()
        self._steps = 0
        self._next = 1

    def due(self) -> bool:
        """Count a step; returns whether it is time to look. The same on every worker."""
        self._steps += 1
        return self._steps >= self._next

    def look(self, *, written: bool) -> Look:
        """Hear the first worker, whose arguments count. To be called at the same step on every worker."""
        now = time.monotonic()
        until = max(1, min(MOST_STEPS, int(_SECONDS * self._steps / max(now - self._looked, 1e-9))))
        save = self._minutes is not None and now - self._saved >= 60 * self._minutes
        mine = [float(until), float(written), float(save)] if self._context.rank == 0 else [0.0] * 3
        heard = self._context.sum(torch.tensor(mine, dtype=torch.float64)).tolist()
        self._next, self._steps, self._looked = int(heard[0]), 0, now
        return Look(written=bool(heard[1]), save=bool(heard[2]))

    def saved(self) -> None:
        """A checkpoint was begun."""
        self._saved = time.monotonic()
