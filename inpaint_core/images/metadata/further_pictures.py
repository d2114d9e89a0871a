"""What follows the image in a JPEG file: pictures that an MPF index lists (CIPA DC-007), videos, and other data."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from inpaint_core.images.metadata.directories import Ifd
from inpaint_core.images.metadata.jpeg_segments import APP2, ISO_GAIN_MAP, MPF
from inpaint_core.images.metadata.segments import FRAME_MARKERS, JpegSegment, walk_jpeg
from inpaint_core.images.metadata.xmp_pictures import GAIN_MAP, VIDEO, dropped

_ENTRIES = 0xB002
_PREVIEWS, _VIEWS = 0x01, 0x02
"""Kinds of MPF types (DC-007, 5.2.3.3.1): large thumbnails; panorama, disparity and multi-angle."""
_PREVIEW_NAME, _LISTED_NAME, _UNLISTED_NAME = "previews (MPF)", "further pictures (MPF)", "further pictures"
_GAIN_MAP_MARKS = (b"http://ns.adobe.com/hdr-gain-map/", b"http://ns.apple.com/HDRGainMap/", b"aux:hdrgainmap")
# An ISO media file starts so; Samsung's trailer names what it holds.
_VIDEO = re.compile(rb"ftyp(?:mp4|isom|iso\d|avc1|hvc1|qt  |3gp|M4V|MSNV)|MotionPhoto_Data")
_START = b"\xff\xd8\xff"
_NOT_ZERO = re.compile(rb"[^\x00]")
_MAX_PICTURES = 1000


@dataclass(frozen=True)
class FurtherPictures:
    """What follows the image in a file."""

    views: int
    """Pictures that are as much the image as the first one (stereo pairs, panoramas), with that one."""
    notes: tuple[str, ...]
    """For the record: what is not written again."""


@dataclass(frozen=True)
class _Picture:
    end: int
    size: tuple[int, int] | None
    is_gain_map: bool
    kind: int | None
    """Of its MPF type: 0 undefined; None where no index lists it."""


def further_pictures(
    data: bytes, segments: Sequence[JpegSegment], size: tuple[int, int], announced: frozenset[str]
) -> FurtherPictures:
    """Look at what follows the first picture of a JPEG file.

    A picture that is listed without a type is taken for another view where it has the size of the first one, unless
    it is a gain map.

    Args:
        data: the file.
        segments: of its first picture, in file order.
        size: (width, height) of that.
        announced: kinds of pictures that its metadata say to follow (see `xmp_pictures`).
    """
    pictures, others, other_bytes = _behind(data, segments[-1].end, _listed(data, segments))
    has_gain_map = any(picture.is_gain_map for picture in pictures)
    views, found = 1, set()
    for picture in pictures:
        untyped = picture.kind not in (_PREVIEWS, _VIEWS)
        if picture.is_gain_map or (GAIN_MAP in announced and not has_gain_map and untyped):
            found.add(GAIN_MAP)
            has_gain_map = True
        elif picture.kind == _VIEWS or (picture.kind is not None and untyped and picture.size == size):
            views += 1
        else:
            found.add({None: _UNLISTED_NAME, _PREVIEWS: _PREVIEW_NAME}.get(picture.kind, _LISTED_NAME))
    if any(_VIDEO.search(data, start, end) for start, end in others) or (others and VIDEO in announced):
        found.add(VIDEO)
    elif others:
        found.add(f"{other_bytes:,} bytes behind the image")
    missing = tuple(f"announcement of a missing {kind} dropped" for kind in sorted(announced - found))
    return FurtherPictures(views, dropped(found) + missing)


def _listed(data: bytes, segments: Sequence[JpegSegment]) -> dict[int, int]:
    """Where the pictures that the MPF index lists start, and the kinds of their types; without what is not there."""
    starts = {}
    for segment in segments:
        if segment.marker != APP2 or not data.startswith(MPF, segment.payload.start):
            continue
        base = segment.payload.start + len(MPF)
        try:
            index = Ifd.at_header(data[base : segment.payload.stop])
            entries = index.raw(_ENTRIES)
        except (ValueError, struct.error):
            continue
        entry = struct.Struct(index.order + "LLLHH")
        for attributes, _, offset, _, _ in entry.iter_unpack(entries[: len(entries) // entry.size * entry.size]):
            # The first picture has the offset 0.
            if offset and data.startswith(_START, base + offset):
                starts[base + offset] = attributes >> 16 & 0xFF
    return starts


def _behind(data: bytes, end: int, kinds: dict[int, int]) -> tuple[list[_Picture], list[tuple[int, int]], int]:
    """The pictures behind `end`, where else there are other bytes than zeros, and how many those are."""
    pictures: list[_Picture] = []
    others, count, position = [], 0, end
    for stop in [*sorted(start for start in kinds if start >= end), len(data)]:
        while position < stop:
            found = _NOT_ZERO.search(data, position, stop)
            if found is None:
                break
            position = found.start()
            if not data.startswith(_START, position) or len(pictures) == _MAX_PICTURES:
                others.append((position, stop))
                count += stop - position
                break
            pictures.append(_picture(data, position, kinds.get(position)))
            position = pictures[-1].end
        position = max(position, stop)
    return pictures, others, count


def _picture(data: bytes, start: int, kind: int | None) -> _Picture:
    end, size, is_gain_map = len(data), None, False
    try:
        for segment in walk_jpeg(data, start):
            end = segment.end
            if segment.marker in FRAME_MARKERS and segment.payload.stop - segment.payload.start >= 5:
                height, width = struct.unpack_from(">HH", data, segment.payload.start + 1)
                size = (width, height)
            elif 0xE1 <= segment.marker <= 0xE2:
                payload = data[segment.payload]
                is_gain_map |= payload.startswith(ISO_GAIN_MAP) or any(mark in payload for mark in _GAIN_MAP_MARKS)
    except ValueError:
        end = len(data)
    return _Picture(end, size, is_gain_map, kind)
