"""JPEG files whose end marker is missing, or zeros in its place: which of them have all their pixels.

Phones write such panoramas, and cameras on a network such frames; every viewer opens them.
"""

from __future__ import annotations

import re

import numpy as np

from inpaint_core.images.formats.codec import open_image
from inpaint_core.images.metadata.segments import FRAME_MARKERS, SOS, JpegSegment, walk_jpeg

_END = b"\xff\xd9"
_DRI, _RST0 = 0xDD, 0xD0
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_FILLERS = (b"\xaa", b"\x55")
_FILLER_BYTES = 64
_COEFFICIENTS = 64


def with_end(data: bytes) -> bytes | None:
    """The file with an end marker behind its last scan; None where more is missing than that, as far as headers tell."""
    body = data.rstrip(b"\x00")
    # One zero can be of the data: with more a decoder would make blocks of nothing. Behind 0xFF it always is (stuffing).
    if len(data) - len(body) == 1 or body.endswith(b"\xff"):
        body = data[: len(body) + 1]
    ended = body + _END
    try:
        segments = list(walk_jpeg(ended, skip_junk=True))
    except ValueError:
        return None
    if len(segments) < 2 or segments[-2].marker != SOS or segments[-1].end != len(ended):
        return None
    return ended if _has_all_scans(ended, segments) else None


def is_whole(stream: bytes) -> bool:
    """Whether the last scan of a file that ends with EOI holds the data of every block.

    A decoder that runs out of data takes zeros in its place and says so to nobody. With other bytes behind the data it
    would take those: a file is whole if it decodes to the same pixels whatever follows.
    """
    segments = list(walk_jpeg(stream))
    restarts = _RESTART.findall(stream, segments[-2].payload.stop)
    following = (restarts[-1][1] + 1 if restarts else 0) % 8
    streams = [stream]
    for filler in _FILLERS:
        tail = filler * _FILLER_BYTES
        if any(segment.marker == _DRI for segment in segments):
            # A decoder that waits for the next of these markers takes nothing before it.
            for number in range(following, following + 8):
                tail += bytes([0xFF, _RST0 + number % 8]) + filler * _FILLER_BYTES
        streams.append(stream.removesuffix(_END) + tail + _END)
    try:
        pixels, *others = (np.asarray(open_image(each, "JPEG")) for each in streams)
    except OSError:
        return False
    return all(np.array_equal(pixels, other) for other in others)


def _has_all_scans(data: bytes, segments: list[JpegSegment]) -> bool:
    """Whether the scans hold every coefficient of every component to its last bit (T.81, B.2.3 and G.1.1)."""
    frame = next((data[segment.payload] for segment in segments if segment.marker in FRAME_MARKERS), b"")
    if len(frame) < 6 or len(frame) < 6 + 3 * frame[5]:
        return False
    missing = {frame[6 + 3 * index]: [True] * _COEFFICIENTS for index in range(frame[5])}
    for segment in segments:
        if segment.marker != SOS:
            continue
        scan = data[segment.payload]
        count = scan[0] if scan else 0
        if len(scan) < 4 + 2 * count:
            return False
        first, last, bits = scan[1 + 2 * count : 4 + 2 * count]
        for index in range(count):
            below = missing.get(scan[1 + 2 * index], [])
            below[first : last + 1] = [bits & 15 > 0] * len(below[first : last + 1])
    return not any(any(below) for below in missing.values())
