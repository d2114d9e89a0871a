"""The quality that a lossy WebP was coded with, from the quantisers in its VP8 frame header (RFC 6386, 9.2 to 9.6, 19.2)."""

from __future__ import annotations

import math

_FRAME_TAG = 10
_LARGEST_INDEX = 127
_SEGMENTS = 4


def webp_quality(vp8: bytes) -> int | None:
    """Quality of libwebp, 0 to 100, that gives the quantisers of a frame; None where the header is unreadable.

    libwebp codes a quality as a compression c from 0 to 1 (src/enc/quant_enc.c, `QualityToCompression`), and segment i
    with c ** (1 - a_i), whose exponents are 1 on average over the macroblocks; the index of its quantiser is
    127 (1 - c ** (1 - a_i)), rounded down. The tree of the segment map tells how many macroblocks are in each segment.

    Args:
        vp8: content of the `VP8 ` chunk.
    """
    indices, shares = _quantisers(vp8)
    if not indices:
        return None
    compressions = [
        max(0.25, _LARGEST_INDEX - index - 0.5 * (0 < index < _LARGEST_INDEX)) / _LARGEST_INDEX for index in indices
    ]
    compression = math.exp(sum(share * math.log(c) for share, c in zip(shares, compressions, strict=True)))
    linear = compression**3
    return round(100 * min(1.0, linear * 1.5 if linear < 0.5 else (linear + 1) / 2))


class _BoolDecoder:
    """The boolean entropy decoder (RFC 6386, 7.3), for literals and flags alone: all their probabilities are 1/2."""

    def __init__(self, data: bytes) -> None:
        self._data, self._position, self._range, self._bits = data, 2, 255, 0
        self._value = int.from_bytes(data[:2].ljust(2, b"\x00"), "big")

    def bit(self) -> int:
        split = 1 + ((self._range - 1) * 128 >> 8)
        large = split << 8
        bit = int(self._value >= large)
        if bit:
            self._range -= split
            self._value -= large
        else:
            self._range = split
        while self._range < 128:
            self._value <<= 1
            self._range <<= 1
            self._bits += 1
            if self._bits == 8:
                self._bits = 0
                self._value |= self._data[self._position] if self._position < len(self._data) else 0
                self._position += 1
        return bit

    def literal(self, bits: int) -> int:
        value = 0
        for _ in range(bits):
            value = value << 1 | self.bit()
        return value

    def optional(self, bits: int, absent: int = 0) -> int:
        """A literal behind a flag that says whether it is there."""
        return self.literal(bits) if self.bit() else absent

    def optional_signed(self, bits: int) -> int:
        if not self.bit():
            return 0
        value = self.literal(bits)
        return -value if self.bit() else value


def _quantisers(vp8: bytes) -> tuple[list[int], list[float]]:
    """Index of the luma AC quantiser of each segment, 0 to 127, and the share of macroblocks in it; empty: unreadable."""
    if len(vp8) <= _FRAME_TAG or vp8[0] & 1 or vp8[3:6] != b"\x9d\x01\x2a":
        return [], []
    decoder = _BoolDecoder(vp8[_FRAME_TAG:])
    decoder.literal(2)  # colour space, clamping
    segmented, absolute = decoder.bit(), 0
    segments, probabilities = [0] * _SEGMENTS, [255] * (_SEGMENTS - 1)
    if segmented:
        has_map, has_features = decoder.bit(), decoder.bit()
        if has_features:
            absolute = decoder.bit()
            segments = [decoder.optional_signed(7) for _ in range(_SEGMENTS)]
            for _ in range(_SEGMENTS):
                decoder.optional_signed(6)  # loop filter
        if has_map:
            probabilities = [decoder.optional(8, absent=255) for _ in range(_SEGMENTS - 1)]
    decoder.literal(1 + 6 + 3)  # loop filter: type, level, sharpness
    if decoder.bit() and decoder.bit():
        for _ in range(8):
            decoder.optional_signed(6)
    decoder.literal(2)  # number of partitions
    base = decoder.literal(7)
    if not segmented:
        return [base], [1.0]
    root, left, right = (probability / 256 for probability in probabilities)
    indices = [min(max(index if absolute else base + index, 0), _LARGEST_INDEX) for index in segments]
    return indices, [root * left, root * (1 - left), (1 - root) * right, (1 - root) * (1 - right)]
