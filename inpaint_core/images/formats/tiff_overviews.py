"""Smaller copies of a TIFF picture (overviews, pyramids) and masks: which are kept, and how they follow the picture."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from inpaint_core.errors import ImageError
from inpaint_core.images.formats.codec import check_frames, damaged
from inpaint_core.images.formats.samples import Raster, Samples
from inpaint_core.images.formats.tiff_layout import parts_of
from inpaint_core.images.formats.tiff_segments import Page, can_code
from inpaint_core.images.formats.tiff_tags import TRANSPARENCY_MASK, Tag, number, pixel_extents
from inpaint_core.images.metadata.directories import Ifd

PREVIEW = 1
"""Bit of `Tag.SUBFILE_TYPE`: a smaller copy of another picture."""
_MASK = 4
_MAX_PAGES = 10_000
_WITHOUT_MEANS = ("1", "P")
# Pixels of an overview around the mask that its writer may have computed from pixels under it (Lanczos: 3).
_FILTER_REACH = 3


def further_directories(directory: Ifd) -> tuple[list[Ifd], list[Ifd]]:
    """Directories below the first (SubIFDs), and those of smaller copies of the image and of masks behind it.

    Raises:
        ImageError: there are further pages, or a directory below the first is unreadable.
    """
    chain = _chain(directory, directory.next_offset, {directory.offset})
    behind = [page for page in chain if number(page, Tag.SUBFILE_TYPE, 0) & PREVIEW or _is_mask(page)]
    check_frames("TIFF", 1 + len(chain) - len(behind))
    below: list[Ifd] = []
    try:
        for offset in directory.numbers(Tag.SUB_IFDS):
            below += _chain(directory, offset, {page.offset for page in below})
    except (ValueError, struct.error) as error:
        raise damaged("TIFF", "a preview in it is unreadable") from error
    return below, behind


def _chain(directory: Ifd, offset: int, seen: set[int]) -> list[Ifd]:
    pages: list[Ifd] = []
    while offset and offset not in seen and len(seen) < _MAX_PAGES:
        seen.add(offset)
        pages.append(Ifd.read(directory.data, directory.order, offset))
        offset = pages[-1].next_offset
    return pages


def _is_mask(page: Ifd) -> bool:
    return bool(number(page, Tag.SUBFILE_TYPE, 0) & _MASK) and number(page, Tag.PHOTOMETRIC, 0) == TRANSPARENCY_MASK


def kept_directories(
    directory: Ifd, raster: Raster, below: Sequence[Ifd], behind: Sequence[Ifd], read: Callable[[Ifd], Raster]
) -> tuple[list[Page], list[Ifd]]:
    """Of the further directories the overviews that can be changed as the picture is, and the masks.

    Of those in SubIFDs all or none: only whole lists are written again.

    Args:
        directory: of the picture.
        raster: its samples.
        below, behind: see `further_directories`.
        read: decodes the picture of a directory.
    """
    budget = raster.samples.shape[0] * raster.samples.shape[1]
    overviews: list[Page] = []
    for pages in (below, [page for page in behind if not _is_mask(page)]):
        found = []
        for page in pages:
            height, width = _size(page)
            budget -= height * width
            overview = _overview(page, raster, read) if budget > 0 else None
            found += [overview] if overview else []
        if pages is not below or len(found) == len(below):
            overviews += found
    sizes = [raster.samples.shape[:2], *(overview.raster.samples.shape[:2] for overview in overviews)]
    masks = [page for page in behind if _is_mask(page) and _size(page) in sizes and pixel_extents(page)]
    if not _lie_apart([directory, *(overview.directory for overview in overviews), *masks]):
        return [], []
    return overviews, masks


def _overview(page: Ifd, raster: Raster, read: Callable[[Ifd], Raster]) -> Page | None:
    """The directory with its samples; None where these are not the picture's at a smaller size, or cannot be coded."""
    try:
        if not has_shape_of(_size(page), raster.samples.shape[:2]) or not can_code(page):
            return None
        found = read(page)
    except (ImageError, OSError, ValueError, struct.error, SyntaxError):
        return None
    same = found.mode == raster.mode and found.premultiplied == raster.premultiplied
    if found.palette is not None and raster.palette is not None:
        same = same and np.array_equal(found.palette, raster.palette)
    return Page(page, found) if same else None


def _size(page: Ifd) -> tuple[int, int]:
    return number(page, Tag.HEIGHT, 0), number(page, Tag.WIDTH, 0)


def _lie_apart(directories: Sequence[Ifd]) -> bool:
    """Whether all pixel data lie in the file, and over no other data of the directories."""
    try:
        extents = [extent for directory in directories for extent in pixel_extents(directory) if extent[1]]
        others = [part for directory in directories for part in parts_of(directory)]
    except ValueError:
        return False
    parts = sorted([(start, start + length, True) for start, length in extents] + [(*part, False) for part in others])
    end = pixels_end = 0
    for start, stop, is_pixels in parts:
        if start < (end if is_pixels else pixels_end):
            return False
        end = max(end, stop)
        pixels_end = max(pixels_end, stop) if is_pixels else pixels_end
    return pixels_end <= len(directories[0].data)


def has_shape_of(size: tuple[int, int], whole: tuple[int, int]) -> bool:
    """Whether a (height, width) is smaller than the whole picture's and has its proportions, to a pixel."""
    (height, width), (whole_height, whole_width) = size, whole
    if not (0 < height <= whole_height and 0 < width <= whole_width) or size == whole:
        return False
    return abs(height * whole_width - width * whole_height) <= max(whole)


def repainted(overview: Raster, samples: Samples, mask: NDArray[np.bool_]) -> tuple[Samples, NDArray[np.bool_]]:
    """New samples of an overview, and where they are new: means of the picture's, the nearest ones of indices and bits.

    Args:
        overview: the old samples, (h, w, C).
        samples: of the whole picture, (H, W, C), already filled.
        mask: (H, W) bool, True = filled.

    Returns:
        (h, w, C) samples, the old ones outside the returned mask; (h, w) bool, True within reach of the fill.
    """
    (height, width), (whole_height, whole_width) = overview.samples.shape[:2], mask.shape
    rows, columns = np.arange(height) * whole_height // height, np.arange(width) * whole_width // width
    where = np.logical_or.reduceat(np.logical_or.reduceat(mask, rows, axis=0), columns, axis=1)
    reach = np.ones((2 * _FILTER_REACH + 1,) * 2, np.uint8)
    where = cv2.dilate(where.astype(np.uint8), reach).astype(np.bool_)
    if overview.mode in _WITHOUT_MEANS:
        middle_rows = (2 * np.arange(height) + 1) * whole_height // (2 * height)
        middle_columns = (2 * np.arange(width) + 1) * whole_width // (2 * width)
        smaller = samples[middle_rows[:, None], middle_columns]
    else:
        smaller = cv2.resize(samples, (width, height), interpolation=cv2.INTER_AREA).reshape(height, width, -1)
    new = overview.samples.copy()
    new[where] = smaller[where]
    return new, where
