"""Further attempts at an image whose result breaks a rule, and which of the results is kept.

Each attempt begins with the input image. It goes through the steps of the first one, with other settings, and is measured by the
same means: with the detector and the settings of the first.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from inpaint_core.detection.detector import Detector
from inpaint_core.detection.ensemble import merged
from inpaint_core.removal.acceptance import Rule, severity
from inpaint_core.removal.freed_memory import LARGE_PIXELS, give_back_freed_memory
from inpaint_core.removal.image_task import ImageTask
from inpaint_core.removal.record import MEASURED, Record

_OF_A_RESULT = (*MEASURED, "objects", "mask_fraction", "output_size", "note")
"""Columns that are of the result that is kept."""


class Steps(Protocol):
    """The steps of one image; see `remover.ObjectRemover`."""

    detector: Detector

    def decode(self, task: ImageTask) -> None:
        """Bytes to pixels."""

    def detect(self, tasks: Sequence[ImageTask]) -> None:
        """Pixels to objects."""

    def fill_found(self, tasks: Sequence[ImageTask]) -> None:
        """Objects to filled pixels."""

    def encode(self, task: ImageTask) -> None:
        """Filled pixels to bytes, and what can be measured on them."""

    def count_residuals(self, tasks: Sequence[ImageTask]) -> None:
        """What the detector measures."""


def try_again(task: ImageTask, first: Steps, attempts: Sequence[Steps], rules: Sequence[Rule], seconds: float) -> None:
    """Make attempts until no rule is broken, and leave the best result in the task; of two that are as good, the earlier one.

    What was removed at first is removed in each attempt: the detector of an attempt adds objects. An attempt that fails, fills
    nothing, leaves out such objects or cannot be measured as the first one was counts as made, and is not taken; the note says so.

    Args:
        task: an image that was cleaned and measured; `data` is still there.
        first: what it was cleaned with.
        attempts: the same with the settings of each attempt.
        rules: the result with the lowest `severity` is the best.
        seconds: after so many no attempt begins.

    Raises:
        UserError, DeviceFault: see `ImageTask.timed`.
    """
    assert task.target is not None
    start = time.perf_counter()
    # Decoded and searched again: to keep pixels and objects of every image until it is measured would cost more.
    again = _anew(task)
    first.decode(again)
    first.detect([again])
    best, lowest, kept, made = task, severity(rules, task.record), None, 0
    remarks = [f"retry failed ({again.record.error})"] if again.over else []
    for index, attempt in enumerate(() if again.over else attempts):
        if time.perf_counter() - start >= seconds:
            remarks.append(f"no time for retry.{index} (scaling.image_timeout)")
            break
        other = _attempt(again, first, attempt, last=index == len(attempts) - 1)
        made += 1
        _add_seconds(task.record, other.record)
        if other.over:
            remarks.append(f"retry.{index} failed ({other.record.error})")
        elif other.target is None:
            remarks.append(f"retry.{index} filled nothing ({other.record.note})")
        elif np.any(task.target.core & ~other.target.mask):
            remarks.append(f"retry.{index} leaves out objects that were removed at first")
        elif unknown := _no_longer_measured(task.record, other.record, rules):
            remarks.append(f"retry.{index} has no {', '.join(unknown)}")
        elif (broken := severity(rules, other.record)) < lowest:
            best, lowest, kept = other, broken, index
            if not broken[0]:
                break
        del other  # its bytes and masks are not kept beside the next one
    _add_seconds(task.record, again.record)
    if best is not task:
        task.output, task.target = best.output, best.target
        for column in _OF_A_RESULT:
            setattr(task.record, column, getattr(best.record, column))
    for remark in remarks:
        task.remark(remark)
    task.record.retries, task.record.retry_kept = made, kept
    task.record.retry_seconds = time.perf_counter() - start


def _attempt(again: ImageTask, first: Steps, attempt: Steps, *, last: bool) -> ImageTask:
    """One attempt at an image that is decoded, and whose objects are known, as far as it gets.

    The last one takes its pixels and objects away, so that they are let go as early as at first.
    """
    task = _anew(again)
    task.decoded, task.detections = again.decoded, again.detections
    if attempt.detector is not first.detector:
        attempt.detect([task])
        passes = [again.detections, task.detections]
        task.detections = merged(passes, {found.label for objects in passes for found in objects})
        del passes
    if last:
        again.decoded, again.detections = None, []
    if task.pixels > LARGE_PIXELS:
        give_back_freed_memory()
    attempt.fill_found([task])
    attempt.encode(task)
    first.count_residuals([task])
    if task.output is not None:
        task.record.output_size = len(task.output)
    task.decoded = task.filled = task.shifted = task.filled_shifted = None
    return task


def _no_longer_measured(first: Record, other: Record, rules: Sequence[Rule]) -> list[str]:
    """Columns of rules that are null in another record and not in the first: null keeps every rule, but is no improvement."""
    columns = dict.fromkeys(rule.column for rule in rules)
    return [name for name in columns if getattr(first, name) is not None and getattr(other, name) is None]


def _anew(task: ImageTask) -> ImageTask:
    """The same image, of which nothing is known yet."""
    old = task.record
    record = Record(old.key, old.source_size, old.source_etag, old.run_id, old.config_hash, old.finished_at)
    return ImageTask(record, data=task.data, pixels=task.pixels)


def _add_seconds(record: Record, other: Record) -> None:
    for stage, seconds in other.seconds.items():
        record.seconds[stage] = record.seconds.get(stage, 0.0) + seconds
