"""The state of one image on its way through the removal, and how what goes wrong with it becomes its record."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from inpaint_core.detection.detector import Detection
from inpaint_core.device import raise_device_fault
from inpaint_core.errors import DeviceFault, ImageError, Stage, UserError
from inpaint_core.images.decode import Decoded
from inpaint_core.metrics.hole import HoleMetrics
from inpaint_core.removal.measure import ShiftedHole
from inpaint_core.removal.object_mask import ObjectMask
from inpaint_core.removal.record import Record
from inpaint_core.storage import Original

log = logging.getLogger(__name__)


@dataclass
class ImageTask:
    """One image on its way: its record so far, and what the steps hand to each other."""

    record: Record
    data: bytes | None = None
    decoded: Decoded | None = None
    detections: list[Detection] = field(default_factory=list)
    target: ObjectMask | None = None
    shifted: ShiftedHole | None = None
    filled: NDArray[np.uint8] | None = None
    filled_shifted: NDArray[np.uint8] | None = None
    compared: HoleMetrics | None = None
    output: bytes | None = None
    blurred: bytes | None = None  # the original with its objects blurred, where that takes the place of a held output
    output_views: list[NDArray[np.uint8]] = field(default_factory=list)  # of the output, decoded again
    pixels: int = 0  # by the header
    waits: bool = False  # for room to be decoded
    over: bool = False  # failed
    original: Original | None = None  # what the output's properties come from
    gone: bool = False  # the input is not there any more
    written: bool = False  # the output is
    unanswered: bool = False  # a write of it may have been done
    stage: Stage = Stage.READ  # the one it is in, for a step that never ends

    @property
    def key(self) -> str:
        """Key of the image."""
        return self.record.key

    def fail(self, stage: Stage, reason: str) -> None:
        """End the task: the record says where and why, and nothing is written any more."""
        self.record.status, self.record.stage, self.record.error = "failed", stage, reason
        self.record.held_for = None
        self.record.output_size = None
        self.output = self.blurred = None
        self.over = True

    def remark(self, note: str) -> None:
        """Add to the record's note."""
        self.record.note = note if self.record.note is None else f"{self.record.note}; {note}"

    def release(self) -> None:
        """Let go of pixels and bytes."""
        self.data = self.original = self.decoded = self.target = self.shifted = None
        self.filled = self.filled_shifted = self.output = self.blurred = None
        self.detections, self.output_views = [], []

    @contextmanager
    def timed(self, stage: Stage) -> Iterator[None]:
        """Count the seconds of the `with` statement for a stage; an error in it fails this task.

        Raises:
            UserError: the job has to stop.
            DeviceFault: this process has to end.
        """
        self.stage = stage
        start = time.perf_counter()
        try:
            yield
        except (UserError, DeviceFault):
            raise
        except Exception as error:  # noqa: BLE001  the boundary of one image
            raise_device_fault(error)
            self.fail(*describe(stage, error))
        finally:
            self.record.seconds[stage] = self.record.seconds.get(stage, 0.0) + time.perf_counter() - start


def describe(stage: Stage, error: Exception) -> tuple[Stage, str]:
    """Stage and reason for a record; an error that no step foresaw is logged with its traceback."""
    if isinstance(error, ImageError):
        return error.stage, error.reason
    log.error("unforeseen error in %s", stage, exc_info=error)
    return stage, f"{type(error).__name__}: {error}"


def isolated(stage: Stage, tasks: Sequence[ImageTask], step: Callable[[Sequence[ImageTask]], None]) -> None:
    """Run a batched step; when it fails, run its halves, until what fails is one image.

    That isolates a bad image, and a batch too large for a GPU's memory passes in smaller ones.

    Raises:
        UserError, DeviceFault: see `ImageTask.timed`.
    """
    if not tasks:
        return
    start = time.perf_counter()
    try:
        step(tasks)
    except (UserError, DeviceFault):
        raise
    except Exception as error:  # noqa: BLE001  the boundary of one image
        raise_device_fault(error)
        if len(tasks) == 1:
            tasks[0].fail(*describe(stage, error))
        else:
            isolated(stage, tasks[: len(tasks) // 2], step)
            isolated(stage, tasks[len(tasks) // 2 :], step)
            return
    share = (time.perf_counter() - start) / len(tasks)
    for task in tasks:
        task.record.seconds[stage] = task.record.seconds.get(stage, 0.0) + share
