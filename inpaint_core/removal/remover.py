"""One image's way through the removal: decode, detect, mask, inpaint, encode, measure. No storage, no Ray.

`ObjectRemover` holds both models and works on batches of `ImageTask`s, each the state of one image. Each step takes only
tasks that have not failed; whatever goes wrong with one image fails that image alone. A `DeviceFault` is raised: no image
is to blame for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from inpaint_core.detection.detector import DescribingDetector, Detection, Detector, Features
from inpaint_core.errors import ImageError, Stage
from inpaint_core.images.decode import Decoded, decode
from inpaint_core.images.encode import encode
from inpaint_core.images.names import without_names
from inpaint_core.inpainting.inpainter import Hole, Inpainter
from inpaint_core.metrics.hole import HoleMetrics, hole_metrics
from inpaint_core.removal.blur import blurred_file
from inpaint_core.removal.config import RemoveConfig
from inpaint_core.removal.cut_out import (
    described,
    detected,
    hole_and_alpha,
    outside_difference,
    over_backgrounds,
    visible_seam,
)
from inpaint_core.removal.freed_memory import LARGE_PIXELS, give_back_freed_memory
from inpaint_core.removal.image_task import ImageTask, isolated
from inpaint_core.removal.likeness import likeness
from inpaint_core.removal.masking import mask_task
from inpaint_core.removal.measure import outside_exact, residual_objects
from inpaint_core.removal.object_mask import ObjectMask
from inpaint_core.removal.record import Record
from inpaint_core.removal.retry import try_again
from inpaint_core.removal.rule_check import rules_of


class ObjectRemover:
    """Both models and the settings; removes objects from batches of images.

    Args:
        config: the job's config.
        detector: finds the objects.
        inpainter: fills the holes.
        attempts: the same with the settings of each of `config.attempts()`, for results that break a rule.
    """

    def __init__(
        self,
        config: RemoveConfig,
        detector: Detector,
        inpainter: Inpainter,
        attempts: Sequence[ObjectRemover] = (),
    ) -> None:
        self.config = config
        self._attempts = attempts
        self._rules = rules_of(config)
        self._needs_input = bool(self._rules) and (bool(attempts) or config.accept.instead != "cleaned")
        self.detector = detector
        self.inpainter = inpainter

    def decode(self, task: ImageTask) -> None:
        """Bytes to pixels."""
        if task.over or task.data is None:
            return
        with task.timed(Stage.DECODE):
            task.decoded = decode(task.data, max_pixels=self.config.listing.max_pixels)
            task.record.format = task.decoded.format
            task.record.height, task.record.width = task.decoded.pixels.shape[:2]
        _give_back_freed(task)  # the decoder's own picture

    def fill(self, tasks: Sequence[ImageTask]) -> None:
        """Detect, mask, inpaint: the batched steps between decoding and encoding."""
        self.detect(tasks)
        self.fill_found(tasks)

    def detect(self, tasks: Sequence[ImageTask]) -> None:
        """Find the objects."""
        isolated(Stage.DETECT, _live(tasks), self._detect)

    def fill_found(self, tasks: Sequence[ImageTask]) -> None:
        """Mask and inpaint the objects that were found."""
        for task in _live(tasks):
            with task.timed(Stage.MASK):
                mask_task(task, self.config)
            _give_back_freed(task)
        if not self.config.dry_run:
            isolated(Stage.INPAINT, [task for task in _live(tasks) if task.target is not None], self._inpaint)
        _give_back_freed(*tasks)

    def fill_masks(self, tasks: Sequence[ImageTask], masks: Sequence[NDArray[np.bool_]]) -> None:
        """Inpaint given masks, each (H, W) bool, in place of those of detected objects: the pixels as they are, nothing is grown.

        A mask of another size than its image, or without a pixel, fails the task.
        """
        for task, mask in zip(tasks, masks, strict=True):
            if task.over:
                continue
            with task.timed(Stage.MASK):
                if mask.shape != _pixels(task).shape[:2]:
                    raise ImageError(
                        Stage.MASK, f"a mask of {mask.shape[1]} x {mask.shape[0]} pixels is not of this image"
                    )
                if not mask.any():
                    raise ImageError(Stage.MASK, "the mask is empty")
                task.target = ObjectMask(mask, mask, [], None)
                task.record.status, task.record.mask_fraction = "cleaned", float(mask.mean())
        isolated(Stage.INPAINT, [task for task in _live(tasks) if task.target is not None], self._inpaint)

    def encode(self, task: ImageTask) -> None:
        """The bytes to write, and what can be measured on them without a model."""
        if task.over or task.decoded is None:
            return
        if task.target is None or task.filled is None:
            task.output = task.data
            if task.target is None:
                task.decoded = None
            return
        with task.timed(Stage.MEASURE):
            shifted = task.compared or self._compare_shifted(task)
        if task.over:
            return
        task.shifted = task.filled_shifted = None
        with task.timed(Stage.ENCODE):
            source = self._without_names(task, task.decoded, task.target.mask)
            encoded = encode(source, task.filled, task.target.mask, lossy_quality=self.config.write.quality)
            task.output = encoded.data
            for note in task.decoded.notes + encoded.notes:
                task.remark(note)
        if task.output is None:
            return
        task.filled = None
        _give_back_freed(task)
        with task.timed(Stage.MEASURE):
            written = decode(task.output, max_pixels=self.config.listing.max_pixels, shown_as=task.decoded)
            _give_back_freed(task)
            task.output_views = over_backgrounds(written)
            task.record.outside_exact = outside_exact(task.decoded, written, encoded.changed)
            task.record.outside_max_diff = outside_difference(task.decoded, written, task.target.mask)
            task.record.seam = visible_seam(written, task.target.mask)
            if shifted is not None:
                task.record.shifted_pixels = shifted.pixels
                task.record.l1, task.record.l2 = shifted.l1, shifted.l2
                task.record.psnr, task.record.ssim = shifted.psnr, shifted.ssim
        # Large photographs wait here for the detector and for the write: only with what those need.
        task.decoded = None
        if not self._needs_input:  # otherwise it may be what is written, or tried again
            task.data = None

    def _without_names(self, task: ImageTask, source: Decoded, mask: NDArray[np.bool_]) -> Decoded:
        if self.config.write.names == "keep":
            return source
        source, regions = without_names(source, mask)
        if regions:
            task.remark(f"names of {regions} region{'s' * (regions > 1)} dropped")
        return source

    def count_residuals(self, tasks: Sequence[ImageTask]) -> None:
        """Run the detector on the outputs and count what it still finds under the mask."""
        if self.config.measure.residual_objects and self.config.detector.looks_at_pixels:
            isolated(Stage.MEASURE, [task for task in _live(tasks) if task.output_views], self._residuals)
        for task in tasks:
            task.output_views = []

    def judge(self, tasks: Sequence[ImageTask]) -> None:
        """Hold the results that break a rule, after the further attempts at them."""
        for task in _live(tasks):
            if task.record.status != "cleaned" or task.output is None or self.config.dry_run:
                continue
            task.record.output_size = len(task.output)
            if self._attempts and self._broken(task.record):
                try_again(task, self, self._attempts, self._rules, self.config.scaling.image_timeout)
            if broken := self._broken(task.record):
                task.record.status, task.record.held_for = "held", broken
                if self.config.accept.instead == "blurred":
                    self._blur(task)

    def finish(self, task: ImageTask) -> Record:
        """The record, complete but for the write."""
        task.record.finished_at = datetime.now(UTC)
        # Not of a task that was given up: its step may have gone on in its thread, and left an output after all.
        if task.output is not None and not task.over and not self.config.dry_run:
            task.record.output_size = len(task.output)
        return task.record

    def _broken(self, record: Record) -> list[str]:
        return [str(rule) for rule in self._rules if rule.is_broken_by(record)]

    def _blur(self, task: ImageTask) -> None:
        assert task.data is not None
        assert task.target is not None
        with task.timed(Stage.ENCODE):
            original = decode(task.data, max_pixels=self.config.listing.max_pixels)
            task.blurred = blurred_file(original, task.target.mask, self.config.write).data

    def _detect(self, tasks: Sequence[ImageTask]) -> None:
        views = [
            over_backgrounds(_decoded(task)) if self.config.detector.looks_at_pixels else [_pixels(task)]
            for task in tasks
        ]
        for task, detections in zip(tasks, detected(self.detector, views, _keys(tasks)), strict=True):
            task.detections = detections

    def _inpaint(self, tasks: Sequence[ImageTask]) -> None:
        for task in tasks:
            # Two fills of a large photograph take too much memory beside each other: the one that is only measured goes first.
            if task.shifted is not None and task.shifted.mask.size > LARGE_PIXELS:
                hole = hole_and_alpha(_decoded(task), task.shifted.core, task.shifted.mask)[0]
                (task.filled_shifted,) = self.inpainter.inpaint([hole])
                task.compared = self._compare_shifted(task)
                task.shifted = task.filled_shifted = None
                give_back_freed_memory()
        holes: list[list[Hole]] = []
        alphas: list[NDArray[np.uint8] | None] = []
        for task in tasks:
            assert task.target is not None
            hole, alpha = hole_and_alpha(_decoded(task), task.target.core, task.target.mask)
            holes.append([hole])
            alphas.append(alpha)
            if task.shifted is not None:
                holes[-1].append(hole_and_alpha(_decoded(task), task.shifted.core, task.shifted.mask)[0])
        for task, alpha, (filled, *shifted) in zip(tasks, alphas, self.inpainter.inpaint_images(holes), strict=True):
            task.filled = filled if alpha is None else np.dstack([filled, alpha])
            task.filled_shifted = shifted[0] if shifted else None

    def _compare_shifted(self, task: ImageTask) -> HoleMetrics | None:
        if task.shifted is None or task.filled_shifted is None:
            return None
        return hole_metrics(_pixels(task), task.filled_shifted, task.shifted.mask)

    def _residuals(self, tasks: Sequence[ImageTask]) -> None:
        images, keys = [task.output_views for task in tasks], _keys(tasks)
        found: Sequence[tuple[list[Detection], Features | None]]
        if isinstance(self.detector, DescribingDetector):
            found = described(self.detector, images, keys)
        else:
            found = [(detections, None) for detections in detected(self.detector, images, keys)]
        for task, (detections, features) in zip(tasks, found, strict=True):
            assert task.target is not None
            task.record.residual_objects = residual_objects(detections, task.target.mask)
            if features is not None:
                task.record.likeness = likeness(features, task.target.mask)


def remove_objects(data: bytes, remover: ObjectRemover, *, key: str = "image") -> tuple[bytes | None, Record]:
    """Remove objects from one image.

    Args:
        data: an encoded image of one of the formats of `inpaint_core.images.decode`.
        remover: the models and settings.
        key: the name that the record gets (a detector of mask files finds the mask by it).

    Returns:
        The cleaned image in the same format (the same bytes where there was nothing to remove; None where it failed),
        and its record.

    Raises:
        UserError: weights do not belong to their network.
        DeviceFault: the GPU failed; a new process is needed.
    """
    record = Record(key, len(data), "", "", "", datetime.now(UTC))
    task = ImageTask(record, data=data)
    remover.decode(task)
    remover.fill([task])
    remover.encode(task)
    remover.count_residuals([task])
    remover.judge([task])
    return task.output, remover.finish(task)


def _live(tasks: Sequence[ImageTask]) -> list[ImageTask]:
    return [task for task in tasks if not task.over]


def _decoded(task: ImageTask) -> Decoded:
    assert task.decoded is not None
    return task.decoded


def _pixels(task: ImageTask) -> NDArray[np.uint8]:
    return _decoded(task).pixels


def _give_back_freed(*tasks: ImageTask) -> None:
    """Where an image is large, what was freed: arrays of less than 32 MB are kept for later, also those that no step needs again."""
    if any(task.decoded is not None and task.decoded.pixels.size > 3 * LARGE_PIXELS for task in tasks):
        give_back_freed_memory()


def _keys(tasks: Sequence[ImageTask]) -> list[str]:
    return [task.key for task in tasks]
