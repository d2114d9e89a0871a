"""Regions of an image that XMP names: those over removed pixels, and the names of who was there, go.

Schemas: MWG (Guidelines for handling image metadata 2.0, Image Regions), Microsoft (MP:RegionInfo), IPTC (Photo Metadata
Standard 2019.1, Image Region), and IPTC's lists of persons shown.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from inpaint_core.images.formats.samples import to_upright
from inpaint_core.images.metadata.region_outlines import (
    IPTC,
    REGION_PROPERTIES,
    Region,
    listed_regions,
    regions_of,
)
from inpaint_core.images.metadata.xmp import (
    Edit,
    Name,
    Property,
    XmpError,
    edited,
    fields,
    items,
    parse,
    properties,
    removal,
    text_of,
)

MIN_REMOVED = 0.2
"""Fraction of a region's area that has to be removed for the region to go: a face beside a removed one stays."""

_PERSONS, _PERSONS_WITH_DETAILS = (IPTC, "PersonInImage"), (IPTC, "PersonInImageWDetails")
_QUARTER_TURNS = (5, 6, 7, 8)
# Files may have thousands of regions: their areas are compared in a mask of at most so many pixels a side.
_MAX_SIDE = 512


def without_regions(
    packets: Sequence[bytes], mask: NDArray[np.bool_], orientation: int
) -> tuple[tuple[bytes, ...], int]:
    """Take the regions over removed pixels out of packets, and their names out of the lists of persons shown.

    A name stays in the lists where a region that stays has it as well. Keywords and captions stay. Coordinates are of the
    stored image as a rule, and of the displayed one in files of some programs: the dimensions that MWG's regions carry
    tell which; where nothing tells, a region goes that is over removed pixels in either.

    Args:
        packets: XMP packets of one image; one that is unreadable is returned as it is.
        mask: (H, W) bool in stored orientation, True = removed.
        orientation: EXIF orientation, 1 to 8.

    Returns:
        The packets, and the number of regions that went.
    """
    height, width = mask.shape
    parsed = [(packet, _properties(packet)) for packet in packets]
    regions = [
        region for _, found in parsed for name, value in found for region in regions_of(name, value, (width, height))
    ]
    if not regions:
        return tuple(packets), 0
    stored = _reduced(mask)
    gone = [region for region in regions if _is_removed(region, stored, orientation)]
    gone_parts = {id(region.part) for region in gone}
    staying = {name for region in regions if id(region.part) not in gone_parts for name in region.names}
    names = {name for region in gone for name in region.names} - staying
    clean = []
    for packet, found in parsed:
        edits = [edit for name, value in found for edit in _edits(name, value, gone_parts, names)]
        clean.append(edited(packet, edits))
    return tuple(clean), len(gone)


def _properties(packet: bytes) -> list[tuple[Name, Property]]:
    try:
        return list(properties(parse(packet))) if packet.strip(b"\x00 \t\r\n") else []
    except XmpError:
        return []


def _edits(name: Name, value: Property, gone: set[int], names: set[str]) -> list[Edit]:
    """The edits of one property; one that would be left with an empty list goes as a whole."""
    if name in REGION_PROPERTIES:
        listed = listed_regions(name, value)
        leaving = [item for item in listed if id(item) in gone]
    elif name == _PERSONS:
        listed = items(value)
        leaving = [item for item in listed if text_of(item) in names]
    elif name == _PERSONS_WITH_DETAILS:
        listed = items(value)
        leaving = [item for item in listed if text_of(fields(item).get((IPTC, "PersonName"))) in names]
    else:
        return []
    return [removal(value)] if leaving and len(leaving) == len(listed) else [removal(item) for item in leaving]


def _reduced(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The fraction of removed pixels, (H, W) in 0..1, at a side of at most `_MAX_SIDE`."""
    height, width = mask.shape
    scale = min(1.0, _MAX_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    reduced = cv2.resize(mask.astype(np.uint8) * np.uint8(255), size, interpolation=cv2.INTER_AREA)
    return reduced.astype(np.float32) / np.float32(255)


def _is_removed(region: Region, stored: NDArray[np.float32], orientation: int) -> bool:
    displayed = np.ascontiguousarray(to_upright(stored, orientation))
    masks = [stored] if orientation == 1 else [stored, displayed]
    if region.applied_to and orientation in _QUARTER_TURNS:
        height, width = stored.shape
        (applied_width, applied_height) = region.applied_to
        if height != width and applied_height != applied_width:
            masks = [stored if (applied_width > applied_height) == (width > height) else displayed]
    return any(_removed_fraction(region.outline, mask) >= MIN_REMOVED for mask in masks)


def _removed_fraction(outline: Sequence[tuple[float, float]], mask: NDArray[np.float32]) -> float:
    """The removed fraction of the pixels inside an outline (corners in 0..1) and on it."""
    height, width = mask.shape
    corners = np.array(outline) * (width, height)
    if (corners.max(0) < 0).any() or (corners.min(0) > (width, height)).any():
        return 0.0
    left, top = (int(side) for side in np.clip(np.floor(corners.min(0)), 0, (width - 1, height - 1)))
    right, bottom = (int(side) for side in np.clip(np.ceil(corners.max(0)), (left + 1, top + 1), (width, height)))
    inside = np.zeros((bottom - top, right - left), np.uint8)
    # Pixel (x, y) has its centre at (x + 0.5, y + 0.5).
    points = np.clip(np.rint(corners - (left + 0.5, top + 0.5)), -1, (right - left, bottom - top))
    cv2.fillPoly(inside, [points.astype(np.int32)], (1,))
    if not inside.any():
        inside[:] = 1
    return float(mask[top:bottom, left:right][inside > 0].mean())
