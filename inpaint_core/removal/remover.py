"""One image's way through the removal: decode, detect, mask, inpaint, encode, measure. No storage, no Ray.

`ObjectRemover` holds both models and works on batches of `Walk`s, the state of one image on its way. Each step takes
only walks that have not failed; whatever goes wrong with one image fails that image alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from inpaint_core.detection.detector import Detection, Detector
from inpaint_core.errors import ImageError, UserError
from inpaint_core.images.decode import Decoded, decode
from inpaint_core.images.encode import encode
from inpaint_core.inpainting.inpainter import Hole, Inpainter
from inpaint_core.metrics.hole import hole_metrics
from inpaint_core.removal.config import RemoveConfig
from inpaint_core.removal.measure import ShiftedHole, outside_max_diff, residual_objects, seam, shifted_hole
from inpaint_core.removal.object_mask import ObjectMask, object_mask
from inpaint_core.removal.record import FoundObject, Record

log = logging.getLogger(__name__)


@dataclass
class Walk:
    """One image on its way: its record so far, and what the steps hand to each other."""

    record: Record
    data: bytes | None = None
    decoded: Decoded | None = None
    detections: list[Detection] = field(default_factory=list)
    target: ObjectMask | None = None
    shifted: ShiftedHole | None = None
    filled: NDArray[np.uint8] | None = None
    filled_shifted: NDArray[np.uint8] | None = None
    output: bytes | None = None
    seen: NDArray[np.uint8] | None = None  # the output, decoded again
    over: bool = False  # failed
    gone: bool = False  # the input is not there any more
    written: bool = False  # the output is
    stage: str = "read"  # the one it is in, for a step that never ends

    @property
    def key(self) -> str:
        """Key of the image."""
        return self.record.key

    def fail(self, stage: str, reason: str) -> None:
        """End the walk: the record says where and why, and nothing is written any more."""
        self.record.status, self.record.stage, self.record.error = "failed", stage, reason
        self.record.output_size = None
        self.output = None
        self.over = True

    def remark(self, note: str) -> None:
        """Add to the record's note."""
        self.record.note = note if self.record.note is None else f"{self.record.note}; {note}"

    def release(self) -> None:
        """Let go of pixels and bytes."""
        self.data = self.decoded = self.target = self.shifted = None
        self.filled = self.filled_shifted = self.output = self.seen = None
        self.detections = []

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Count the block's seconds for a stage; an error inside fails this walk, a `UserError` stops the job."""
        self.stage = stage
        start = time.perf_counter()
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # noqa: BLE001  the boundary of one image
            self.fail(*describe(stage, error))
        finally:
            self.record.seconds[stage] = self.record.seconds.get(stage, 0.0) + time.perf_counter() - start


def describe(stage: str, error: Exception) -> tuple[str, str]:
    """Stage and reason for a record; an error that no step foresaw is logged with its traceback."""
    if isinstance(error, ImageError):
        return error.stage, error.reason
    log.error("unforeseen error in %s", stage, exc_info=error)
    return stage, f"{type(error).__name__}: {error}"


class ObjectRemover:
    """Both models and the settings; removes objects from batches of images.

    Args:
        config: the job's config.
        detector: finds the objects.
        inpainter: fills the holes.
    """

    def __init__(self, config: RemoveConfig, detector: Detector, inpainter: Inpainter) -> None:
        self.config = config
        self.detector = detector
        self.inpainter = inpainter

    def decode(self, walk: Walk) -> None:
        """Bytes to pixels."""
        if walk.over or walk.data is None:
            return
        with walk.timed("decode"):
            walk.decoded = decode(walk.data, max_pixels=self.config.listing.max_pixels)
            walk.record.format = walk.decoded.format
            walk.record.height, walk.record.width = walk.decoded.pixels.shape[:2]

    def fill(self, walks: Sequence[Walk]) -> None:
        """Detect, mask, inpaint: the batched steps between decoding and encoding."""
        self._isolated("detect", _live(walks), self._detect)
        for walk in _live(walks):
            self._mask(walk)
        if not self.config.dry_run:
            self._isolated("inpaint", [walk for walk in _live(walks) if walk.target is not None], self._inpaint)

    def encode(self, walk: Walk) -> None:
        """The bytes to write, and what can be measured on them without a model."""
        if walk.over or walk.decoded is None:
            return
        if walk.target is None or walk.filled is None:
            walk.output = walk.data
            if walk.target is None:
                walk.decoded = None
            return
        with walk.timed("encode"):
            walk.output = encode(
                walk.decoded, walk.filled, walk.target.mask, lossy_quality=self.config.write.lossy_quality
            )
        if walk.output is None:
            return
        with walk.timed("measure"):
            walk.seen = decode(walk.output, max_pixels=self.config.listing.max_pixels).pixels
            walk.record.outside_max_diff = outside_max_diff(walk.decoded.pixels, walk.seen, walk.target.mask)
            walk.record.seam = seam(walk.seen, walk.target.mask)
            self._compare_shifted(walk)
        # Large photographs wait here for the detector and for the write: only with what those need.
        walk.data = walk.decoded = walk.filled = walk.shifted = walk.filled_shifted = None

    def count_residuals(self, walks: Sequence[Walk]) -> None:
        """Run the detector on the outputs and count what it still finds under the mask."""
        if self.config.measure.residual_objects and self.config.detector.kind != "masks":
            self._isolated("measure", [walk for walk in _live(walks) if walk.seen is not None], self._residuals)
        for walk in walks:
            walk.seen = None

    def finish(self, walk: Walk) -> Record:
        """The record, complete but for the write."""
        walk.record.finished_at = datetime.now(UTC)
        # Not of a walk that was given up: its step may have gone on in its thread, and left an output after all.
        if walk.output is not None and not walk.over and not self.config.dry_run:
            walk.record.output_size = len(walk.output)
        return walk.record

    def _detect(self, walks: Sequence[Walk]) -> None:
        found = self.detector.detect([_pixels(walk) for walk in walks], [walk.key for walk in walks])
        for walk, detections in zip(walks, found, strict=True):
            walk.detections = detections

    def _mask(self, walk: Walk) -> None:
        with walk.timed("mask"):
            pixels = _pixels(walk)
            target = object_mask(walk.detections, pixels.shape[:2], self.config.mask)
            walk.record.note = target.note
            walk.record.mask_fraction = float(target.mask.mean())
            walk.record.objects = [
                FoundObject(found.label, found.confidence, found.box, found.pixels)
                for found in walk.detections
                if found.pixels >= self.config.mask.min_object_pixels
            ]
            walk.record.status = "cleaned" if target.kept else "unchanged"
            if not target.kept:
                return
            walk.target = target
            if self.config.measure.shifted_hole and not self.config.dry_run:
                everything = replace(self.config.mask, min_object_pixels=0, max_mask_fraction=1.0)
                occupied = (
                    target.mask
                    if len(target.kept) == len(walk.detections)
                    else object_mask(walk.detections, pixels.shape[:2], everything).mask | target.mask
                )
                walk.shifted = shifted_hole(target.mask, target.core, occupied)

    def _inpaint(self, walks: Sequence[Walk]) -> None:
        holes: list[Hole] = []
        for walk in walks:
            assert walk.target is not None
            holes.append(Hole(_pixels(walk), walk.target.core, walk.target.mask))
            if walk.shifted is not None:
                holes.append(Hole(_pixels(walk), walk.shifted.core, walk.shifted.mask))
        results = iter(self.inpainter.inpaint(holes))
        for walk in walks:
            walk.filled = next(results)
            if walk.shifted is not None:
                walk.filled_shifted = next(results)

    def _compare_shifted(self, walk: Walk) -> None:
        if walk.shifted is None or walk.filled_shifted is None:
            return
        metrics = hole_metrics(_pixels(walk), walk.filled_shifted, walk.shifted.mask)
        walk.record.shifted_pixels = metrics.pixels
        walk.record.l1, walk.record.l2 = metrics.l1, metrics.l2
        walk.record.psnr, walk.record.ssim = metrics.psnr, metrics.ssim

    def _residuals(self, walks: Sequence[Walk]) -> None:
        images = [walk.seen for walk in walks if walk.seen is not None]
        found = self.detector.detect(images, [walk.key for walk in walks])
        for walk, detections in zip(walks, found, strict=True):
            assert walk.target is not None
            walk.record.residual_objects = residual_objects(detections, walk.target.mask)

    def _isolated(self, stage: str, walks: Sequence[Walk], step: Callable[[Sequence[Walk]], None]) -> None:
        """Run a batched step; when it fails, run its halves, until what fails is one image.

        That isolates a bad image, and a batch too large for a GPU's memory passes in smaller ones.
        """
        if not walks:
            return
        start = time.perf_counter()
        try:
            step(walks)
        except UserError:
            raise
        except Exception as error:  # noqa: BLE001  the boundary of one image
            if len(walks) == 1:
                walks[0].fail(*describe(stage, error))
            else:
                self._isolated(stage, walks[: len(walks) // 2], step)
                self._isolated(stage, walks[len(walks) // 2 :], step)
                return
        share = (time.perf_counter() - start) / len(walks)
        for walk in walks:
            walk.record.seconds[stage] = walk.record.seconds.get(stage, 0.0) + share


def remove_objects(data: bytes, remover: ObjectRemover, *, key: str = "image") -> tuple[bytes | None, Record]:
    """Remove objects from one image.

    Args:
        data: an encoded image of one of the formats of `inpaint_core.images.decode`.
        remover: the models and settings.
        key: the name that the record gets (a detector of mask files finds the mask by it).

    Returns:
        The cleaned image in the same format (the same bytes where there was nothing to remove; None where it failed),
        and its record.
    """
    record = Record(key, len(data), "", "", "", datetime.now(UTC))
    walk = Walk(record, data=data)
    remover.decode(walk)
    remover.fill([walk])
    remover.encode(walk)
    remover.count_residuals([walk])
    return walk.output, remover.finish(walk)


def _live(walks: Sequence[Walk]) -> list[Walk]:
    return [walk for walk in walks if not walk.over]


def _pixels(walk: Walk) -> NDArray[np.uint8]:
    assert walk.decoded is not None
    return walk.decoded.pixels
