"""Test-time augmentation: one list of objects from several passes over an image, at other sizes and mirrored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from inpaint_core.detection.detector import Detection, Region

SAME_OBJECT = 0.5
"""What two looks show is one object where the boxes, of one class, and the pixels overlap at least this much (intersection over
union)."""

SAME_PLACE = 0.8
"""Boxes of two classes have to overlap at least this much: one look took the object for something else."""


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


def merged(views: Sequence[Sequence[Detection]], wanted: Collection[str]) -> list[Detection]:
    """The objects of an image, each once, most confident first.

    An object that several looks show is of the class in which they have the most confidence together, has the box and
    confidence of the surest look at it as that, and the pixels that at least half of them show. Two objects of one look are
    never one.

    Args:
        views: the objects of each look, of all classes.
        wanted: the classes that are asked for; other objects are left out.
    """
    pairs = [(detection, view) for view, found in enumerate(views) for detection in found]
    objects: list[list[Detection]] = []
    # Of the surest look at each object: box and label; and which looks show it.
    boxes = np.zeros((len(pairs), 4))
    labels = np.empty(len(pairs), object)
    shown = np.zeros((len(pairs), len(views)), np.bool_)
    for detection, view in sorted(pairs, key=lambda pair: -pair[0].confidence):
        count = len(objects)
        needed = np.where(labels[:count] == detection.label, SAME_OBJECT, SAME_PLACE)
        likeness = np.where(shown[:count, view], 0.0, _overlaps(boxes[:count], np.asarray(detection.box)) / needed)
        best = int(likeness.argmax()) if count else count
        if count and likeness[best] >= 1 and _shares(detection, objects[best][0]) >= SAME_OBJECT:
            objects[best].append(detection)
        else:
            best = count
            boxes[best], labels[best] = detection.box, detection.label
            objects.append([detection])
        shown[best, view] = True
    named = [(looks, _label(looks)) for looks in objects]
    found = [_united(looks, label) for looks, label in named if label in wanted]
    return sorted(found, key=lambda one: -one.confidence)


def _label(looks: Sequence[Detection]) -> str:
    """The class with the highest total confidence over several passes."""
    sums: dict[str, float] = defaultdict(float)
    for look in looks:
        sums[look.label] += look.confidence
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


def _united(looks: Sequence[Detection], label: str) -> Detection:
    """The surest of a class, with the pixels that at least half of all show; where there are none, as it is.

    Uncertain pixels are those of the surest.
    """
    surest = next(look for look in looks if look.label == label)
    if len(looks) == 1:
        return surest
    votes, top, left = _votes(looks)
    mask = 2 * votes >= len(looks)
    return replace(surest, mask=mask, top=top, left=left) if mask.any() else surest


def _votes(looks: Sequence[Detection]) -> tuple[NDArray[np.uint16], int, int]:
    """How many of the looks show each pixel, and the row and column at which that begins."""
    top, left = min(look.top for look in looks), min(look.left for look in looks)
    bottom = max(look.top + look.mask.shape[0] for look in looks)
    right = max(look.left + look.mask.shape[1] for look in looks)
    votes = np.zeros((bottom - top, right - left), np.uint16)
    for look in looks:
        height, width = look.mask.shape
        votes[look.top - top :, look.left - left :][:height, :width] += look.mask
    return votes, top, left
