"""The marker segments of JPEG streams (ITU-T T.81, annex B)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

MAX_PARTS = 100_000
"""Segments, chunks or boxes of one file: a limit on the work that a small file can cause."""
SOI, SOS, EOI = 0xD8, 0xDA, 0xD9
FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# TEM, RST0-7 and SOI have no length.
_LONE_MARKERS = frozenset([0x01, *range(0xD0, 0xD9)])
# Anything but a stuffed zero, a restart or a fill byte ends entropy-coded data.
_SCAN_END = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)


@dataclass(frozen=True)
class JpegSegment:
    """One marker segment: where it starts (at 0xFF), its marker byte, and the payload's range."""

    start: int
    marker: int
    payload: slice
    end: int
    """One past its last byte; entropy-coded data that follow SOS are part of it."""


def walk_jpeg(data: bytes | bytearray, start: int = 0, *, skip_junk: bool = False) -> Iterator[JpegSegment]:
    """Yield the segments of the JPEG stream that begins at `start`, from after SOI to EOI.

    With `skip_junk`, bytes between segments that belong to none are passed over, as libjpeg does.

    Raises:
        ValueError: the stream is no JPEG, is cut off before its end marker, holds a second start, or has more than
            `MAX_PARTS` segments.
    """
    if data[start : start + 3] != b"\xff\xd8\xff":
        raise ValueError("it does not start as a JPEG file")
    position, count = start + 2, 0
    while True:
        while data[position : position + 2] == b"\xff\xff":
            position += 1
        end = position + 2
        if end > len(data):
            raise ValueError("it is cut off before its end marker")
        if data[position] != 0xFF:
            marker_found = _SCAN_END.search(data, position) if skip_junk else None
            if marker_found is None:
                raise ValueError(f"there is no marker at byte {position}")
            position = marker_found.start()
            continue
        marker = data[position + 1]
        if marker == SOI:
            raise ValueError(f"there is a second start at byte {position}")
        count += 1
        if count > MAX_PARTS:
            raise ValueError(f"it has more than {MAX_PARTS:,} segments")
        payload = slice(end, end)
        if marker != EOI and marker not in _LONE_MARKERS:
            length = int.from_bytes(data[end : end + 2], "big")
            payload = slice(end + 2, end + length)
            end += length
            if length < 2 or end > len(data):
                raise ValueError("it is cut off before its end marker")
        if marker == SOS:
            found = _SCAN_END.search(data, end)
            end = found.start() if found else len(data)
        yield JpegSegment(position, marker, payload, end)
        if marker == EOI:
            return
        position = end
