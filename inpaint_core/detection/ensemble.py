"""Test-time augmentation: one list of objects from several passes over an image, at other sizes and mirrored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from inpaint_core.detection.detector import Detection, Region

SAME_OBJECT = 0.5
"""Detections of two passes are one object where the boxes, of one class, and the pixels overlap at least this much (intersection
over union)."""

SAME_PLACE = 0.8
"""Boxes of two classes have to overlap at least this much: one pass took the object for something else."""


def mirrored(detection: Detection, width: int) -> Detection:
    """What was found in an image's mirror image, as it lies in the image.

    Args:
        detection: the object.
        width: of the image, in pixels.
    """
    x0, y0, x1, y1 = detection.box
    mask = np.ascontiguousarray(detection.mask[:, ::-1])
    left = width - detection.left - mask.shape[1]
    uncertain = detection.uncertain
    if uncertain is not None:
        flipped = np.ascontiguousarray(uncertain.mask[:, ::-1])
        uncertain = Region(flipped, uncertain.top, width - uncertain.left - flipped.shape[1])
    return replace(detection, box=(width - x1, y0, width - x0, y1), mask=mask, left=left, uncertain=uncertain)


def merged(passes: Sequence[Sequence[Detection]], wanted: Collection[str]) -> list[Detection]:
    """The objects of an image, each once, most confident first.

    An object that several passes show is of the class in which they have the most confidence together, has the box and
    confidence of the most confident pass for that class, and the pixels that at least half of them show. Two objects of one
    pass are never one.

    Args:
        passes: the objects of each pass, of all classes.
        wanted: the classes that are asked for; other objects are left out.
    """
    pairs = [(detection, number) for number, found in enumerate(passes) for detection in found]
    objects: list[list[Detection]] = []
    # Of the most confident pass for each object: box and label; and which passes show it.
    boxes = np.zeros((len(pairs), 4))
    labels = np.empty(len(pairs), object)
    shown = np.zeros((len(pairs), len(passes)), np.bool_)
    for detection, number in sorted(pairs, key=lambda pair: -pair[0].confidence):
        count = len(objects)
        needed = np.where(labels[:count] == detection.label, SAME_OBJECT, SAME_PLACE)
        likeness = np.where(shown[:count, number], 0.0, _overlaps(boxes[:count], np.asarray(detection.box)) / needed)
        best = int(likeness.argmax()) if count else count
        if count and likeness[best] >= 1 and _shares(detection, objects[best][0]) >= SAME_OBJECT:
            objects[best].append(detection)
        else:
            best = count
            boxes[best], labels[best] = detection.box, detection.label
            objects.append([detection])
        shown[best, number] = True
    named = [(detections, _label(detections)) for detections in objects]
    found = [_united(detections, label) for detections, label in named if label in wanted]
    return sorted(found, key=lambda one: -one.confidence)


def _label(detections: Sequence[Detection]) -> str:
    """The class with the highest total confidence over the passes that show an object."""
    sums: dict[str, float] = defaultdict(float)
    for detection in detections:
        sums[detection.label] += detection.confidence
    return max(sums, key=lambda label: sums[label])


def _overlaps(boxes: NDArray[np.float64], box: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of some boxes (n, 4) with one."""
    sides = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
    both = np.maximum(sides, 0).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod()
    return np.asarray(both / np.maximum(areas - both, 1e-9), np.float64)


def _shares(first: Detection, second: Detection) -> float:
    """Intersection over union of two objects' pixels."""
    both = int(np.count_nonzero(_votes([first, second])[0] == 2))
    return both / (first.pixels + second.pixels - both)


def _united(detections: Sequence[Detection], label: str) -> Detection:
    """The first detection of a class, with the pixels that at least half of all show; where there are none, as it is.

    Args:
        detections: of one object, most confident first.
        label: the class.
    """
    best = next(detection for detection in detections if detection.label == label)
    if len(detections) == 1:
        return best
    votes, top, left = _votes(detections)
    mask = 2 * votes >= len(detections)
    return replace(best, mask=mask, top=top, left=left) if mask.any() else best


def _votes(detections: Sequence[Detection]) -> tuple[NDArray[np.uint16], int, int]:
    """How many of the detections show each pixel, and the row and column at which that begins."""
    top, left = min(one.top for one in detections), min(one.left for one in detections)
    bottom = max(one.top + one.mask.shape[0] for one in detections)
    right = max(one.left + one.mask.shape[1] for one in detections)
    votes = np.zeros((bottom - top, right - left), np.uint16)
    for one in detections:
        height, width = one.mask.shape
        votes[one.top - top :, one.left - left :][:height, :width] += one.mask
    return votes, top, left
