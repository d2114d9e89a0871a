"""Mean losses of an epoch, and the check that stops a run whose loss became NaN or infinite."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from inpaint_core.errors import TrainingError
from inpaint_core.training.sync_points import MOST_STEPS
from inpaint_core.training.worker_context import WorkerContext


def not_finite(step: int, what: str) -> TrainingError:
    """The error of a run that broke at a step."""
    return TrainingError(
        f"training: at step {step} {what}; the last checkpoint is from before it. Lower optimiser.generator_rate or "
        "optimiser.discriminator_rate, set optimiser.clip, or set scaling.precision=float32"
    )


class Meter:
    """Sums of the parts of the loss, over steps and workers.

    Args:
        context: the device and the other workers.
    """

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self._waiting: list[tuple[int, Mapping[str, Tensor]]] = []
        self._sums: dict[str, float] = {}
        self._steps: dict[str, int] = {}

    def add(self, step: int, parts: Mapping[str, Tensor]) -> None:
        """Take the scalars of a step; every so many steps, all that wait are checked and added up.

        Raises:
            TrainingError: see `flush`.
        """
        self._waiting.append((step, parts))
        if len(self._waiting) >= MOST_STEPS:
            self.flush()

    def flush(self) -> None:
        """Check and add up what waits. To be called at the same step on every worker.

        Raises:
            TrainingError: a part is not finite; names the first such step and part.
        """
        if not self._waiting:
            return
        # Steps differ in their parts: some terms begin later, the R1 penalty is there every few steps.
        for names, those in groupby(self._waiting, key=lambda waiting: tuple(waiting[1])):
            self._add(names, list(those))
        self._waiting.clear()

    def _add(self, names: tuple[str, ...], those: list[tuple[int, Mapping[str, Tensor]]]) -> None:
        values = torch.stack([torch.stack([parts[name] for name in names]) for _, parts in those])
        means = (self._context.sum(values.double()) / self._context.ranks).cpu()
        broken = (~torch.isfinite(means)).nonzero()
        if len(broken):
            row, column = broken[0].tolist()
            raise not_finite(
                those[row][0], f"the loss part {names[column]!r} is not finite ({means[row, column].item()})"
            )
        # Step by step: the sums do not depend on when they were flushed.
        for step in means.tolist():
            for name, value in zip(names, step, strict=True):
                self._sums[name] = self._sums.get(name, 0.0) + value
                self._steps[name] = self._steps.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        """Mean of each part over the flushed steps that had it."""
        return {name: total / self._steps[name] for name, total in self._sums.items()}

    def clear(self) -> None:
        """Begin a new epoch."""
        self._sums.clear()
        self._steps.clear()

    def state(self) -> dict[str, Any]:
        """Numbers from which `load` makes this meter again."""
        return {"sums": dict(self._sums), "steps": dict(self._steps)}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`."""
        self._sums = dict(state["sums"])
        steps = state["steps"]  # one number for all parts in states of earlier versions
        self._steps = dict(steps) if isinstance(steps, Mapping) else dict.fromkeys(self._sums, steps)
