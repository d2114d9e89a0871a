"""Where the segments of a TIFF file's pictures lie, and how new ones take their place.

A cloud-optimised GeoTIFF has all directories before all data, and says so in front of them (GDAL, "COG -- Cloud Optimized
GeoTIFF generator", header ghost area): readers rely on it for the length that stands before each tile.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from inpaint_core.images.formats.tiff_tags import Tag, pixel_extents
from inpaint_core.images.metadata.directories import Entry, Ifd

_LONG = 4
_GHOST = re.compile(rb"GDAL_STRUCTURAL_METADATA_SIZE=(\d{6}) bytes\n")
_CLAIM = b"KNOWN_INCOMPATIBLE_EDITION="
_LEADER, _TRAILER = b"BLOCK_LEADER=SIZE_AS_UINT4\n", b"BLOCK_TRAILER=LAST_4_BYTES_REPEATED\n"
_HEADER = 8
_PADDING = 8
# EXIF, GPS, interoperability, SubIFDs, maker notes, DNG's private data: they hold offsets into the file.
_POINTERS = frozenset([34665, 34853, 40965, Tag.SUB_IFDS, 37500, 50740])

Segments = Mapping[int, bytes]
"""Number of a segment -> its new content; the others stay."""


def ghost_of(data: bytes | bytearray) -> bytes:
    """What a file says about the order of its bytes, behind its header; empty where it says nothing."""
    match = _GHOST.match(data, _HEADER)
    return bytes(data[_HEADER : match.end() + int(match[1])]) if match else b""


def is_optimised(data: bytes, directories: Sequence[Ifd]) -> bool:
    """Whether a file claims to be laid out for clouds, and all its pictures' data follow everything else."""
    if b"LAYOUT=IFDS_BEFORE_DATA\n" not in ghost_of(data) or _CLAIM + b"YES" in ghost_of(data):
        return False
    tables = [directory.entries.get(tag) for directory in directories for tag in (Tag.TILE_OFFSETS, Tag.TILE_LENGTHS)]
    if any(entry is None or entry.type != _LONG for entry in tables):
        return False  # Not of tiles, or longer ones would need longer tables.
    extents = [extent for directory in directories for extent in pixel_extents(directory) if extent[1]]
    first = min((start for start, _ in extents), default=0) - _leader_bytes(data)
    rest = [slice(directory.offset, directory.end) for directory in directories]
    rest += [value for directory in directories for tag in directory.entries if (value := directory.extent(tag))]
    return max((part.stop for part in rest), default=0) <= first


def without_claim(data: bytes) -> bytes:
    """Return the file saying that the order of the bytes is no longer what the file claims: as GDAL does, else without the claim."""
    ghost = ghost_of(data)
    end = _HEADER + len(ghost)
    if _CLAIM + b"NO\n " in ghost:
        ghost = ghost.replace(_CLAIM + b"NO\n ", _CLAIM + b"YES\n")
    elif _CLAIM + b"YES" not in ghost:
        ghost = bytes(len(ghost))
    return data[:_HEADER] + ghost + data[end:]


def placed(body: bytearray, pages: Sequence[tuple[Ifd, Segments]]) -> list[list[tuple[int, int]]]:
    """Put new segments where the old ones were as far as they fit, else behind the end; the others stay where they are.

    Args:
        body: the file with zeros in place of all segments; it gets their content.
        pages: the directories with their new segments.

    Returns:
        For each page (start, length) of all its segments.
    """
    free, result = [], []
    for directory, segments in pages:
        for index, (start, length) in enumerate(pixel_extents(directory)):
            if index in segments:
                free.append((start, length))
            else:
                body[start : start + length] = directory.data[start : start + length]
    regions = merged(free)
    for directory, segments in pages:
        extents = pixel_extents(directory)
        for index in sorted(segments):
            extents[index] = (put(body, segments[index], regions), len(segments[index]))
        result.append(extents)
    return result


def merged(free: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Extents (start, length) as regions [start, end], those that meet as one."""
    regions: list[list[int]] = []
    for start, length in sorted(free):
        if regions and start <= regions[-1][1]:
            regions[-1][1] = max(regions[-1][1], start + length)
        else:
            regions.append([start, start + length])
    return regions


def put(body: bytearray, content: bytes, regions: list[list[int]]) -> int:
    """Put bytes into the first region that has room for them, which shrinks, else behind the end; return where."""
    region = next((region for region in regions if region[1] - region[0] >= len(content)), None)
    if region is None:
        body += bytes(len(body) % 2)
        body += content
        return len(body) - len(content)
    start = region[0]
    body[start : start + len(content)] = content
    region[0] += len(content)
    return start


def is_sequential(data: bytes, directories: Sequence[Ifd]) -> bool:
    """Whether `laid_out` can move a file's segments: nothing else lies between them, and what is behind them can move too.

    That is the case of directories without pointers to other places, and of their values.
    """
    extents = sorted((start, start + length) for page in directories for start, length in pixel_extents(page) if length)
    if not extents or any(not 0 <= start - end <= _PADDING for (_, end), (start, _) in pairwise(extents)):
        return False
    first, last = extents[0][0], extents[-1][1]
    try:
        parts = sorted(part for directory in directories for part in parts_of(directory))
    except ValueError:
        return False
    if any(start < last and stop > first for start, stop in parts):
        return False
    has_trailer = _TRAILER in ghost_of(data) and data[last : last + 4] == data[last - 4 : last]
    end = position = last + 4 * has_trailer
    for start, stop in [(start, stop) for start, stop in parts if start >= last] + [(len(data), len(data))]:
        if any(data[position:start]):
            return False
        position = max(position, stop)
    movable = position == end or not any(_POINTERS & set(directory.entries) for directory in directories)
    return movable and position == len(data)


def parts_of(directory: Ifd) -> Iterator[tuple[int, int]]:
    """(start, end) of a directory and of the values outside it.

    Raises:
        ValueError: a value lies beyond the end.
    """
    yield directory.offset, directory.end
    for tag in directory.entries:
        if extent := directory.extent(tag):
            yield extent.start, extent.stop


def laid_out(
    body: bytearray, pages: Sequence[tuple[Ifd, Segments]], optimised: bool
) -> tuple[list[list[tuple[int, int]]], tuple[int, int]]:
    """The same as `placed` for a file that `is_sequential`: all segments one after another, in the order that they had.

    Args:
        body, pages: see `placed`.
        optimised: each segment has its length before it and its last bytes again behind it, as far as the file says so.

    Returns:
        The result of `placed`; (end of the old segments, by how many bytes what was behind them has moved).
    """
    leader, trailer = _leader_bytes(body) * optimised, optimised and _TRAILER in ghost_of(body)
    order = sorted(
        (start, page, index, length)
        for page, (directory, _) in enumerate(pages)
        for index, (start, length) in enumerate(pixel_extents(directory))
        if length
    )
    last = order[-1][0] + order[-1][3]
    rest = body[last + 4 * trailer :]
    del body[order[0][0] - leader :]
    result = [pixel_extents(directory) for directory, _ in pages]
    for start, page, index, length in order:
        directory, segments = pages[page]
        content = segments[index] if index in segments else directory.data[start : start + length]
        if leader:
            body += struct.pack("<L", len(content))
        elif not optimised:
            body += bytes(len(body) % 2)
        result[page][index] = (len(body), len(content))
        body += content
        if trailer:
            body += content[-4:]
    # The words of what follows stay at even places.
    body += bytes((last - len(body)) % 2 if rest else 0)
    moved = len(body) - last
    body += rest
    return result, (last, moved)


def moved(directory: Ifd, body: bytes, last: int, distance: int) -> Ifd:
    """The directory, and the values outside it, where they are after what began at `last` has moved."""
    if not distance:
        return directory
    entries = moved_entries(directory, directory.entries, last, distance)
    offset, following = (at + distance * (at >= last) for at in (directory.offset, directory.next_offset))
    return replace(directory, data=body, offset=offset, entries=entries, next_offset=following)


def moved_entries(directory: Ifd, entries: Mapping[int, Entry], last: int, distance: int) -> dict[int, Entry]:
    """Some of the directory's entries, with the new places of their values."""
    result = dict(entries)
    for tag, entry in entries.items() if distance else ():
        extent = directory.extent(tag)
        if extent and extent.start >= last:
            result[tag] = replace(entry, value=struct.pack(directory.order + "L", extent.start + distance))
    return result


def _leader_bytes(data: bytes | bytearray) -> int:
    return 4 if _LEADER in ghost_of(data) else 0
