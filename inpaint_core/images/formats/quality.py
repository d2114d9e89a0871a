"""Re-encoding a picture at the quality of its file, where the file contains its quantiser but not its quality."""

from __future__ import annotations

import math
from collections.abc import Callable

_GROWTH = 1.2
_SLACK = 1024
"""Bytes by which a small file may grow: the fill of a flat picture has more to code than what it replaces."""
_ENCODINGS = 4
_LARGEST_STEP_DOWN = 20
_UNKNOWN = 75
# Photographs grow by about a quarter with 10 steps of quality (WebP and AVIF, from 20 to 85).
_STEPS_PER_E_FOLD = 10 / math.log(1.25)


def encoded_like(encode: Callable[[int], bytes], quality: int | None, size: int) -> bytes:
    """The picture encoded at the quality of its file, or at a lower one where the file would grow by more than a fifth.

    Args:
        encode: encodes at a quality from 1 to 100.
        quality: estimate of the quality that the file had; None: unknown, and searched by size.
        size: bytes of the file.

    Returns:
        Of at most four encodings the largest that is within the limit, else the smallest. The quality is at most 20 below
        an estimate: below that, what is outside the mask would pay for a fill with more detail.
    """
    limit = max(_GROWTH * size, size + _SLACK)
    known = quality is not None
    lowest = max(1, quality - _LARGEST_STEP_DOWN) if quality is not None else 1
    tried: dict[int, bytes] = {}
    current = _UNKNOWN if quality is None else max(1, quality)
    while current not in tried and len(tried) < _ENCODINGS:
        tried[current] = encode(current)
        got = len(tried[current])
        if got <= limit and (known or got >= size / _GROWTH or current == 100):
            break
        steps = _STEPS_PER_E_FOLD * math.log(size / max(got, 1))
        current = min(max(current + (math.floor(min(steps, -1)) if got > limit else math.ceil(steps)), lowest), 100)
    within = [coded for coded in tried.values() if len(coded) <= limit]
    return max(within, key=len) if within else min(tried.values(), key=len)
