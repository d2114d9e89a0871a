"""One list of objects from several looks at an image: at other sizes, and in the mirror."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

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
    objects: list[list[Detection]] = []
    seen_in: list[set[int]] = []
    pairs = [(detection, view) for view, found in enumerate(views) for detection in found]
    for detection, view in sorted(pairs, key=lambda pair: -pair[0].confidence):
        likenesses = [
            _likeness(detection, first) if view not in views_of else 0.0
            for (first, *_), views_of in zip(objects, seen_in, strict=True)
        ]
        best = int(np.argmax(likenesses)) if likenesses else -1
        if best >= 0 and likenesses[best] >= 1:
            objects[best].append(detection)
            seen_in[best].add(view)
        else:
            objects.append([detection])
            seen_in.append({view})
    return [_united(looks) for looks in objects]


def _likeness(first: Detection, second: Detection) -> float:
    """1 or more: the same object."""
    return _overlap(first.box, second.box) / (SAME_OBJECT if first.label == second.label else SAME_PLACE)


def _overlap(first: tuple[float, float, float, float], second: tuple[float, float, float, float]) -> float:
    """Intersection over union of two boxes."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    both = max(width, 0.0) * max(height, 0.0)
    areas = ((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
    return both / max(sum(areas) - both, 1e-9)


def _united(looks: Sequence[Detection]) -> Detection:
    """The first, with the pixels that at least half of all show; a box of the surest is never without a pixel."""
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
