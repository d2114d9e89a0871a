"""One list of objects from the tiles of a large image and the whole of it: each object once, with the pixels of all its views."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from inpaint_core.detection.detector import Detection, Region
from inpaint_core.detection.tiles import Extent, Level, Tile

SAME_OBJECT = 0.5
"""Two tiles show one object where their pixels of one class overlap at least this much (intersection over union), in the part
of the image that both tiles show; a view of one class shows a part of another where at least this share of its pixels lies in
the other."""

SAME_PLACE = 0.8
"""The same for pixels of two classes: one tile took the object for something else."""

CONTAINED = 0.7
"""A view with at least this part of its pixels in another of its class shows a part of it, or is a double."""

RECOGNISED = 96
"""Side in pixels of the network's input (square root of the box's area) from which a network is taken to see an object as well as
it ever will: what COCO calls a large object."""


@dataclass(frozen=True)
class _View:
    """An object as tiles of one level show it, and the numbers of these tiles. `complete`: no border of a tile cuts it."""

    detection: Detection
    tiles: frozenset[int]
    complete: bool


def joined(
    levels: Sequence[Level],
    found: Sequence[Sequence[Sequence[Detection]]],
    whole: Sequence[Detection],
    shape: tuple[int, int],
    input_size: int,
) -> list[Detection]:
    """The objects of a large image, each once, most confident first.

    - What a tile's border cuts, and another tile of the level shows entirely, counts as that one shows it, if it does.
    - The views of an object from several tiles of a level are united.
    - Of the levels (the whole image is the last), the coarsest counts that shows the object with 96 pixels or more of the
      network's input, united with the parts of it that finer levels show; of small objects the finest. What a coarser level
      alone shows is kept, and what a finer one alone shows, unless its tile cuts it.

    Args:
        levels: grids of tiles, finest first.
        found: for each level, for each of its tiles the objects, in pixels of the tile.
        whole: the objects found in the whole image.
        shape: (H, W) of the image.
        input_size: longer side of the network's input, to which tiles and image are scaled.
    """
    views: list[_View] = []
    finer: list[Tile] = []
    last = Level(max(shape), (Tile(0, 0, *shape),))
    for level, in_tiles in zip([*levels, last], [*found, [whole]], strict=True):
        views = _with_coarser(views, _of_level(level, in_tiles, shape), input_size / level.side, finer, shape)
        finer += level.tiles
    return sorted((view.detection for view in views), key=lambda detection: -detection.confidence)


def _of_level(level: Level, found: Sequence[Sequence[Detection]], shape: tuple[int, int]) -> list[_View]:
    """The objects that the tiles of one level show, each once."""
    views = []
    for number, (tile, objects) in enumerate(zip(level.tiles, found, strict=True)):
        for detection in map(tile.to_image, objects):
            complete = tile.shows_entirely(_extent(detection), shape)
            if complete or not _shown_entirely(detection, level.tiles, shape):
                views.append(_View(detection, frozenset([number]), complete))
    return _without_parts(_united_across_tiles(views, level.tiles))


def _shown_entirely(detection: Detection, tiles: Sequence[Tile], shape: tuple[int, int]) -> bool:
    return any(tile.shows_entirely(_extent(detection), shape) for tile in tiles)


def _united_across_tiles(views: Sequence[_View], tiles: Sequence[Tile]) -> list[_View]:
    """The views of one object united. Two objects of one tile are never one."""
    groups = {number: [number] for number in range(len(views))}
    group_of = list(range(len(views)))
    for _, one, other in sorted(_matches(views, tiles), reverse=True):
        first, second = sorted((group_of[one], group_of[other]))
        seen_in = frozenset[int]().union(*(views[number].tiles for number in groups[first]))
        if first == second or any(views[number].tiles & seen_in for number in groups[second]):
            continue
        for number in groups[second]:
            group_of[number] = first
        groups[first] += groups.pop(second)
    return [_united([views[number] for number in group]) for group in groups.values()]


def _matches(views: Sequence[_View], tiles: Sequence[Tile]) -> list[tuple[float, int, int]]:
    """Pairs of views that may be of one object: how much they agree, and their numbers."""
    extents = np.array([_extent(view.detection) for view in views]).reshape(-1, 4)
    pairs = []
    for number, view in enumerate(views):
        first, later = extents[number], extents[number + 1 :]
        near = (np.maximum(later[:, :2], first[:2]) < np.minimum(later[:, 2:], first[2:])).all(axis=1)
        for other in (np.flatnonzero(near) + number + 1).tolist():
            agreement = 0.0 if view.tiles & views[other].tiles else _agreement(view, views[other], tiles)
            if agreement > 0:
                pairs.append((agreement, number, other))
    return pairs


def _agreement(one: _View, other: _View, tiles: Sequence[Tile]) -> float:
    """How much the views of two tiles agree, as one object; 0 where they are none."""
    both = _shared_pixels(one.detection, other.detection)
    if not both:
        return 0.0
    [first], [second] = (tuple(tiles[number] for number in view.tiles) for view in (one, other))
    zone = (
        max(first.top, second.top),
        max(first.left, second.left),
        min(first.bottom, second.bottom),
        min(first.right, second.right),
    )
    pixels = [int(np.count_nonzero(_part(view.detection, zone))) for view in (one, other)]
    agreement = both / (sum(pixels) - both)
    if one.detection.label != other.detection.label:
        return agreement / 2 if agreement >= SAME_PLACE else 0.0  # less than any agreement about the class
    contained = both / min(one.detection.pixels, other.detection.pixels)
    return agreement if agreement >= SAME_OBJECT or contained >= CONTAINED else 0.0


def _united(views: Sequence[_View]) -> _View:
    """One object of several views: the label and confidence of the most confident one, and the pixels of all."""
    if len(views) == 1:
        return views[0]
    best, *others = sorted(views, key=lambda view: -view.detection.confidence)
    return _View(
        _union(best.detection, [view.detection for view in others]),
        frozenset[int]().union(*(view.tiles for view in views)),
        any(view.complete for view in views),
    )


def _without_parts(views: Sequence[_View]) -> list[_View]:
    """The objects of a level, with those that lie mostly in a larger one made parts of it: of its class, or cut wherever seen."""
    kept: list[_View] = []
    for view in sorted(views, key=lambda view: -view.detection.pixels):
        small = view.detection
        shares = [
            0 if view.complete and other.detection.label != small.label else _shared_pixels(small, other.detection)
            for other in kept
        ]
        best = int(np.argmax(shares)) if shares else 0
        if shares and shares[best] >= CONTAINED * small.pixels:
            kept[best] = replace(kept[best], detection=_union(kept[best].detection, [small]))
        else:
            kept.append(view)
    return kept


def _with_coarser(
    fine: Sequence[_View], coarse: Sequence[_View], scale: float, finer: Sequence[Tile], shape: tuple[int, int]
) -> list[_View]:
    """The objects of finer levels and those of the next coarser one, each once.

    Args:
        fine: of all finer levels.
        coarse: of the next level.
        scale: pixels of the network's input for a pixel of the image, at that level.
        finer: the tiles of the finer levels.
        shape: (H, W) of the image.
    """
    parts: list[list[Detection]] = [[] for _ in coarse]
    kept = []
    for view in fine:
        owner = _owner(view.detection, coarse)
        if owner is not None and _is_recognised(coarse[owner], scale):
            parts[owner].append(view.detection)
        elif view.complete or not _is_recognised(view, scale):
            kept.append(view)
    added = [
        replace(view, detection=_union(view.detection, inside))
        for view, inside in zip(coarse, parts, strict=True)
        if _is_recognised(view, scale)
    ]
    small = [view for view in coarse if not _is_recognised(view, scale)]
    for view in sorted(small, key=lambda view: -view.detection.pixels):
        entire = _shown_entirely(view.detection, finer, shape)
        if not _is_known(view.detection, kept, entire=entire):
            own = _parts(view.detection, kept)
            kept = [other for other in kept if all(other is not part for part in own)]
            added.append(replace(view, detection=_union(view.detection, [part.detection for part in own])))
    return kept + added


def _is_recognised(view: _View, scale: float) -> bool:
    x0, y0, x1, y1 = view.detection.box
    return scale * math.sqrt((x1 - x0) * (y1 - y0)) >= RECOGNISED


def _owner(detection: Detection, views: Sequence[_View]) -> int | None:
    """The number of the object of a coarser level that this one is, or is a part of; None: of none."""
    best, most = None, 0.0
    for number, view in enumerate(views):
        other = view.detection
        both = _shared_pixels(detection, other) if detection.label == other.label else 0
        agreement = both / (detection.pixels + other.pixels - both)
        if both >= SAME_OBJECT * detection.pixels and agreement > most:
            best, most = number, agreement
    return best


def _is_known(detection: Detection, views: Sequence[_View], *, entire: bool) -> bool:
    """Whether finer levels show an object that a coarser one shows small.

    Args:
        detection: the object.
        views: the objects of the finer levels.
        entire: whether a tile of a finer level shows all of it. Then that is right about what it is.
    """
    shares = [(view.detection, _shared_pixels(detection, view.detection)) for view in views]
    if entire and any(both >= SAME_OBJECT * min(one.pixels, detection.pixels) for one, both in shares):
        return True
    same = [one for one, both in shares if both and one.label == detection.label]
    return _covered(detection, same) >= SAME_OBJECT * detection.pixels


def _parts(detection: Detection, views: Sequence[_View]) -> list[_View]:
    """The objects of an object's class that lie mostly in it."""
    return [
        view
        for view in views
        if view.detection.label == detection.label
        and _shared_pixels(detection, view.detection) >= SAME_OBJECT * view.detection.pixels
    ]


def _union(detection: Detection, others: Sequence[Detection]) -> Detection:
    """An object with the pixels, the uncertain ones too, of others."""
    if not others:
        return detection
    every = [detection, *others]
    boxes = np.array([one.box for one in every])
    x0, y0 = boxes[:, :2].min(axis=0).tolist()
    x1, y1 = boxes[:, 2:].max(axis=0).tolist()
    mask = _united_regions([Region(one.mask, one.top, one.left) for one in every])
    maybe = [one.uncertain for one in every if one.uncertain is not None]
    uncertain = _united_regions(maybe) if maybe else None
    return replace(detection, box=(x0, y0, x1, y1), mask=mask.mask, top=mask.top, left=mask.left, uncertain=uncertain)


def _united_regions(regions: Sequence[Region]) -> Region:
    top, left = min(region.top for region in regions), min(region.left for region in regions)
    bottom = max(region.top + region.mask.shape[0] for region in regions)
    right = max(region.left + region.mask.shape[1] for region in regions)
    mask = np.zeros((bottom - top, right - left), np.bool_)
    for region in regions:
        height, width = region.mask.shape
        mask[region.top - top :, region.left - left :][:height, :width] |= region.mask
    return Region(mask, top, left)


def _extent(detection: Detection) -> Extent:
    """Where an object's mask lies."""
    height, width = detection.mask.shape
    return detection.top, detection.left, detection.top + height, detection.left + width


def _part(detection: Detection, extent: Extent) -> NDArray[np.bool_]:
    """The pixels of an object in some rows and columns of the image, as far as its mask reaches."""
    top, left, bottom, right = extent
    rows = slice(max(top - detection.top, 0), max(bottom - detection.top, 0))
    columns = slice(max(left - detection.left, 0), max(right - detection.left, 0))
    return detection.mask[rows, columns]


def _shared_pixels(one: Detection, other: Detection) -> int:
    """Number of pixels that two objects share."""
    first, second = _extent(one), _extent(other)
    top, left = max(first[0], second[0]), max(first[1], second[1])
    bottom, right = min(first[2], second[2]), min(first[3], second[3])
    if top >= bottom or left >= right:
        return 0
    common = (top, left, bottom, right)
    return int(np.count_nonzero(_part(one, common) & _part(other, common)))


def _covered(detection: Detection, others: Sequence[Detection]) -> int:
    """Number of an object's pixels that some others have together."""
    extent = _extent(detection)
    mask = np.zeros_like(detection.mask)
    for other in others:
        part = _part(other, extent)
        down, across = max(other.top - detection.top, 0), max(other.left - detection.left, 0)
        mask[down:, across:][: part.shape[0], : part.shape[1]] |= part
    return int(np.count_nonzero(mask & detection.mask))
