"""Holes by kind: a random one for training, the same one for ever for evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from inpaint_core.errors import ConfigError
from inpaint_core.hole_masks.drawing import (
    Boxes,
    Strokes,
    draw_boxes,
    draw_boxes_of,
    draw_strokes,
    draw_strokes_of,
)
from inpaint_core.hole_masks.keyed_random import Keys, child_keys, integers, uniforms
from inpaint_core.hole_masks.kinds import HoleKind
from inpaint_core.hole_masks.shapes import MAKE_ONE, ObjectShapes, draw_objects, draw_objects_of

MAX_PERCENT = 60
"""Largest part of the image that a hole takes, in per cent: beyond it there is little left to continue."""

MAX_PERCENT_EVALUATION_SETS = 50
"""The same of `thin`, `medium` and `thick`: LaMa's own limit (`max_tamper_area: 0.5`)."""

_ATTEMPTS = 20

# Of LaMa's training (`irregular_kwargs` and `box_kwargs`, mixed 1:1 where both kinds are chosen).
_STROKES = Strokes(times=(1, 5), max_length=200, max_width=100)
_BOXES = Boxes(times=(1, 4), sides=(30, 150), margin=10)

# Of LaMa's evaluation sets `random_thin_256`, `random_medium_256`, `random_thick_256`. None of them has shapes of
# segmented objects (`segm_proba: 0`). `irregular_proba: 1` beside `box_proba: 0.3` means 10 in 13.
_THIN = Strokes(times=(4, 50), max_length=40, max_width=10)
_MEDIUM = Strokes(times=(4, 5), max_length=100, max_width=50)
_MEDIUM_BOXES = Boxes(times=(1, 5), sides=(10, 50), margin=0)
_THICK = Strokes(times=(1, 5), max_length=200, max_width=100)
_THICK_BOXES = Boxes(times=(1, 3), sides=(30, 150), margin=10)

# The place of a kind is its number in the seeds of evaluation holes: only ever append.
_NUMBERED: tuple[HoleKind, ...] = ("center", "box", "strokes", "thin", "medium", "thick", "objects")


class HoleSampler:
    """Random holes for training, of one kind or of several. May be pickled."""

    def __init__(
        self,
        kinds: Sequence[HoleKind],
        weights: Sequence[float] | None,
        objects: ObjectShapes | None,
        size: int = 128,
    ) -> None:
        """Prepare the mixture.

        Args:
            kinds: the kinds of holes, at least one.
            weights: how often each kind is drawn, positive, in any unit; None: equally often.
            objects: shapes of real objects, which the kind `objects` needs.
            size: side of the holes' image in pixels.

        Raises:
            ConfigError: `weights` is not as long as `kinds`, or `objects` is None and needed.
        """
        if not kinds:
            raise ConfigError("holes.kinds: is empty; give at least one kind, such as holes.kinds=[center]")
        if weights is not None and len(weights) != len(kinds):
            raise ConfigError(
                f"holes.weights: has {len(weights)} values for {len(kinds)} kinds ({', '.join(kinds)}); "
                "give one for each of holes.kinds, or null"
            )
        if "objects" in kinds:
            _needed(objects)
        self.kinds = tuple(kinds)
        self.size = size
        self._objects = objects
        share = np.asarray(weights if weights is not None else [1.0] * len(kinds), dtype=np.float64)
        self._cumulative = np.cumsum(share / share.sum())

    def __call__(self, keys: Keys) -> NDArray[np.bool_]:
        """Holes.

        Args:
            keys: (n,) uint64 (`keyed_random`): each hole follows from its own, whatever the others are.

        Returns:
            (n, size, size) bool, True = hole: at least one pixel, and at most `MAX_PERCENT` of the image.
        """
        masks = np.empty((len(keys), self.size, self.size), np.bool_)
        drawn = np.searchsorted(self._cumulative, uniforms(keys, 0), side="right").clip(max=len(self.kinds) - 1)
        for number, kind in enumerate(self.kinds):
            rows = np.flatnonzero(drawn == number)
            for attempt in range(_ATTEMPTS):
                if not len(rows):
                    break
                holes = _draw_of(kind, child_keys(keys[rows], 1 + attempt), self.size, self._objects)
                masks[rows] = holes
                rows = rows[~_within_limit(kind, holes)]
            masks[rows] = center_hole(self.size)
        return masks


def evaluation_holes(
    kind: HoleKind,
    indices: Sequence[int] | range,
    *,
    seed: int,
    objects: ObjectShapes | None = None,
    size: int = 128,
) -> NDArray[np.bool_]:
    """The holes of a fixed evaluation set.

    The hole of an image follows from `kind`, `seed` and its index alone (and, for `objects`, from the shapes), whatever
    the other indices are, on every machine.

    Args:
        kind: the kind of the set.
        indices: which images of the set, from 0.
        seed: which set, from 0.
        objects: shapes of real objects, which the kind `objects` needs.
        size: side of the images in pixels.

    Returns:
        (n, size, size) bool, True = hole; bounds as in `HoleSampler`.

    Raises:
        ConfigError: `objects` is None and needed.
    """
    if kind == "objects":
        _needed(objects)
    holes = np.zeros((len(indices), size, size), dtype=np.bool_)
    number = _NUMBERED.index(kind)
    for place, index in enumerate(indices):
        holes[place] = _hole(kind, np.random.default_rng((seed, int(index), number)), size, objects)
    return holes


def center_hole(size: int) -> NDArray[np.bool_]:
    """(size, size) bool, True on the middle half of each side: the middle 64x64 of 128x128."""
    mask = np.zeros((size, size), dtype=np.bool_)
    mask[size // 4 : size - size // 4, size // 4 : size - size // 4] = True
    return mask


def _hole(kind: HoleKind, rng: np.random.Generator, size: int, objects: ObjectShapes | None) -> NDArray[np.bool_]:
    """A hole within the limits: drawn again, up to 20 times, until it is; then the middle of the image."""
    for _ in range(_ATTEMPTS):
        mask = _draw(kind, rng, size, objects)
        if _within_limit(kind, mask[None])[0]:
            return mask
    return center_hole(size)


def _within_limit(kind: HoleKind, masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which of the masks (n, size, size) are holes: not empty, and not too large."""
    limit = MAX_PERCENT_EVALUATION_SETS if kind in ("thin", "medium", "thick") else MAX_PERCENT
    areas = np.array([np.count_nonzero(mask) for mask in masks])
    within: NDArray[np.bool_] = (areas > 0) & (areas * 100 <= limit * masks.shape[1] * masks.shape[2])
    return within


def _draw(kind: HoleKind, rng: np.random.Generator, size: int, objects: ObjectShapes | None) -> NDArray[np.bool_]:
    match kind:
        case "center":
            return center_hole(size)
        case "box":
            return draw_boxes(_BOXES, rng, size)
        case "strokes":
            return draw_strokes(_STROKES, rng, size)
        case "thin":
            return draw_strokes(_THIN, rng, size)
        case "medium":
            return _strokes_or_boxes(_MEDIUM, _MEDIUM_BOXES, rng, size)
        case "thick":
            return _strokes_or_boxes(_THICK, _THICK_BOXES, rng, size)
        case "objects":
            return draw_objects(_needed(objects), rng, size)
        case _:
            assert_never(kind)


def _draw_of(kind: HoleKind, keys: Keys, size: int, objects: ObjectShapes | None) -> NDArray[np.bool_]:
    """What `_draw` draws, (n, size, size), for keys (n,)."""
    match kind:
        case "center":
            return np.broadcast_to(center_hole(size), (len(keys), size, size))
        case "box":
            return draw_boxes_of(_BOXES, keys, size)
        case "strokes":
            return draw_strokes_of(_STROKES, keys, size)
        case "thin":
            return draw_strokes_of(_THIN, keys, size)
        case "medium":
            return _strokes_or_boxes_of(_MEDIUM, _MEDIUM_BOXES, keys, size)
        case "thick":
            return _strokes_or_boxes_of(_THICK, _THICK_BOXES, keys, size)
        case "objects":
            return draw_objects_of(_needed(objects), keys, size)
        case _:
            assert_never(kind)


def _strokes_or_boxes(strokes: Strokes, boxes: Boxes, rng: np.random.Generator, size: int) -> NDArray[np.bool_]:
    return draw_strokes(strokes, rng, size) if rng.integers(13) < 10 else draw_boxes(boxes, rng, size)


def _strokes_or_boxes_of(strokes: Strokes, boxes: Boxes, keys: Keys, size: int) -> NDArray[np.bool_]:
    with_strokes = integers(keys, 0, 0, 13) < 10
    masks = np.empty((len(keys), size, size), np.bool_)
    inner = child_keys(keys, 1)
    masks[with_strokes] = draw_strokes_of(strokes, inner[with_strokes], size)
    masks[~with_strokes] = draw_boxes_of(boxes, inner[~with_strokes], size)
    return masks


def _needed(objects: ObjectShapes | None) -> ObjectShapes:
    if objects is None:
        raise ConfigError(f"holes.objects: holes of kind `objects` need a file of object shapes; {MAKE_ONE}")
    return objects
