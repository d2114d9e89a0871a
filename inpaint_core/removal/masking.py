"""From the objects of an image to what is filled, what its record says of them, and the hole that it is measured by."""

from __future__ import annotations

from dataclasses import replace

from inpaint_core.detection.tiles import LARGE
from inpaint_core.removal.config import RemoveConfig
from inpaint_core.removal.cut_out import with_remains
from inpaint_core.removal.image_task import ImageTask
from inpaint_core.removal.measure import ShiftedHole, shifted_hole
from inpaint_core.removal.object_mask import ObjectMask, object_mask
from inpaint_core.removal.record import FoundObject


def mask_task(task: ImageTask, config: RemoveConfig) -> None:
    """Set `target` and `shifted` of a task whose objects were found; both stay None where nothing is to be filled.

    The masks of the objects themselves are let go of: they are needed no longer, and those of large ones are as large as the image.
    """
    assert task.decoded is not None
    pixels, rgba = task.decoded.pixels, task.decoded.rgba
    target = object_mask(task.detections, pixels.shape[:2], config.mask, pixels)
    if rgba is not None:
        target = with_remains(target, rgba[..., 3])
    task.record.note = target.note
    if (factor := config.detector.scaled_down(*pixels.shape[:2])) > LARGE:
        task.remark(f"scaled down {factor:.3g} times to be searched, without tiles: small objects may be missed")
    task.record.mask_fraction = float(target.mask.mean())
    task.record.objects = [
        FoundObject(found.label, found.confidence, found.box, found.pixels)
        for found in task.detections
        if found.pixels >= config.mask.min_object_pixels
    ]
    task.record.status = "cleaned" if target.kept else "unchanged"
    if not target.kept:
        return
    task.target = replace(target, kept=[])
    if config.measure.shifted_hole and not config.dry_run:
        task.shifted = _shifted(task, target, config)
    task.detections = []


def _shifted(task: ImageTask, target: ObjectMask, config: RemoveConfig) -> ShiftedHole | None:
    """A hole of the same shape, where neither objects nor what is not opaque lie, since colours are compared."""
    assert task.decoded is not None
    pixels, rgba = task.decoded.pixels, task.decoded.rgba
    occupied = target.mask
    if len(target.kept) < len(task.detections):
        everything = replace(config.mask, min_object_pixels=0, max_mask_fraction=1.0)
        occupied = occupied | object_mask(task.detections, pixels.shape[:2], everything).mask
    if rgba is not None:
        occupied = occupied | (rgba[..., 3] < 255)
    return shifted_hole(target.mask, target.core, occupied)
