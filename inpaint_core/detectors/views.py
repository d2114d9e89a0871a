"""One list of objects from several looks at an image: at other sizes, and in the mirror."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from inpaint_core.detectors import Detection

SAME_OBJECT = 0.5
"""Boxes of two looks and one class that overlap at least this much (intersection over union) are of one object."""

SAME_PLACE = 0.8
"""Boxes of two looks that overlap at least this much are of one object, which one of them took for another class."""


def mirrored(detection: Detection, width: int) -> Detection:
    """What was found in an image's mirror image, as it lies in the image.

    Args:
        detection: the object.
        width: of the image, in pixels.
    """
    x0, y0, x1, y1 = detection.box
    mask = np.ascontiguousarray(detection.mask[:, ::-1])
    left = width - detection.left - mask.shape[1]
    return replace(detection, box=(width - x1, y0, width - x0, y1), mask=mask, left=left)


def merged(views: Sequence[Sequence[Detection]]) -> list[Detection]:
    """The objects of an image, each once, most confident first.

    An object that several looks show has the class, box and confidence of the surest one, and the pixels that at least half of
    them show. Two objects of one look are never one.

    Args:
        views: the objects of each look.
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
        if count and likeness[best] >= 1:
            objects[best].append(detection)
        else:
            best = count
            boxes[best], labels[best] = detection.box, detection.label
            objects.append([detection])
        shown[best, view] = True
    return [_united(looks) for looks in objects]


def _overlaps(boxes: NDArray[np.float64], box: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of some boxes (n, 4) with one."""
    sides = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
    both = np.maximum(sides, 0).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod()
    return np.asarray(both / np.maximum(areas - both, 1e-9), np.float64)


def _united(looks: Sequence[Detection]) -> Detection:
    """The first, with the pixels that at least half of all show; where there are none, as it is."""
    if len(looks) == 1:
        return looks[0]
    top, left = min(look.top for look in looks), min(look.left for look in looks)
    bottom = max(look.top + look.mask.shape[0] for look in looks)
    right = max(look.left + look.mask.shape[1] for look in looks)
    votes = np.zeros((bottom - top, right - left), np.int32)
    for look in looks:
        height, width = look.mask.shape
        votes[look.top - top :, look.left - left :][:height, :width] += look.mask
    mask = 2 * votes >= len(looks)
    return replace(looks[0], mask=mask, top=top, left=left) if mask.any() else looks[0]
