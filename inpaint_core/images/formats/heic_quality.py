"""The quality of x265 that gives a picture about as many bytes as its HEIC file has."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from inpaint_core.images.formats.heif_items import HeifItems, heif_items, whole_boxes
from inpaint_core.images.formats.heif_picture import auxiliary
from inpaint_core.images.formats.samples import Samples

_FIRST = 60
_TRIES = 4
_CROPS = 4
_CROP = 512
# A step of quality is half a step of the quantiser's exponent, and 6 of these halve the bytes of a photograph at least.
_STEPS_PER_E_FOLD = 12 / math.log(2)

Encode = Callable[[Samples, int], bytes]


@dataclass(frozen=True)
class CodedBytes:
    """Bytes of a file's picture."""

    file: int
    """With metadata."""
    picture: int
    """With its alpha."""
    tiles: tuple[int, ...]
    """Of each tile, row by row; none: the picture is in one piece."""


def coded_bytes(items: HeifItems, metadata_bytes: int) -> CodedBytes:
    """Count the bytes of the primary picture of a file."""

    def length(item: int) -> int:
        return sum(length for _, length in items.items[item].extents) if item in items.items else 0

    tiles = tuple(length(part) for part in items.parts(items.primary))
    alphas = [number for number, name in auxiliary(items).items() if not name]
    picture = sum(map(length, [items.primary, *alphas])) + sum(tiles)
    return CodedBytes(picture + metadata_bytes, picture, tiles)


def quality_like(coded: CodedBytes, samples: Samples, tile: int, encode: Encode) -> int:
    """Search the quality, 1 to 100, that gives the picture about the bytes of its file.

    Four tiles are coded with several qualities, and compared with the same tiles of the file. A picture in one piece is coded
    once, and then pieces of it, for the quality that changes their bytes in the proportion in which the whole's must change.

    Args:
        coded: the bytes of the file's picture.
        samples: (H, W, C) of the source.
        tile: side of the tiles; 0: in one piece.
        encode: samples and quality to a file.
    """

    def size(parts: Sequence[Samples], quality: int) -> int:
        return sum(_picture_bytes(encode(part, quality)) for part in parts)

    height, width = samples.shape[:2]
    columns = -(-width // tile) if tile else 0
    places = [(row, column) for row in range(height // tile) for column in range(width // tile)] if tile else []
    if places and len(coded.tiles) == columns * -(-height // tile):
        chosen = [places[index] for index in _spread(len(places))]
        parts = [samples[row * tile :, column * tile :][:tile, :tile] for row, column in chosen]
        wanted = float(sum(coded.tiles[row * columns + column] for row, column in chosen))
        return _search(lambda quality: size(parts, quality), wanted, {})
    if height * width <= _CROPS * _CROP**2:
        return _search(lambda quality: size([samples], quality), coded.picture, {})
    places = [(row, column) for row in range(0, height, _CROP) for column in range(0, width, _CROP)]
    parts = [samples[row:, column:][:_CROP, :_CROP] for row, column in (places[at] for at in _spread(len(places)))]
    first = size(parts, _FIRST)
    wanted = first * coded.picture / max(1, size([samples], _FIRST))
    return _search(lambda quality: size(parts, quality), wanted, {_FIRST: first})


def _spread(count: int) -> list[int]:
    """Up to `_CROPS` of so many indices, evenly spread."""
    return sorted({int(at) for at in np.linspace(0, count - 1, min(count, _CROPS) + 2)[1:-1].round()})


def _search(size: Callable[[int], int], wanted: float, sizes: dict[int, int]) -> int:
    """The quality, of at most `_TRIES` tried, whose size is nearest to the wanted one."""
    quality = _FIRST
    for _ in range(_TRIES):
        if quality not in sizes:
            sizes[quality] = size(quality)
        step = round(_STEPS_PER_E_FOLD * math.log(max(wanted, 1) / max(sizes[quality], 1)))
        following = min(max(quality + step, 1), 100)
        if following in sizes:
            break
        quality = following
    return min(sizes, key=lambda tried: abs(math.log(max(sizes[tried], 1) / max(wanted, 1))))


def _picture_bytes(data: bytes) -> int:
    meta = next(content for kind, content in whole_boxes(data)[0] if kind == b"meta")
    return coded_bytes(heif_items(meta), 0).picture
