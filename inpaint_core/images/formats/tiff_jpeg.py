"""JPEG-compressed strips and tiles of TIFF (TIFF Technical Note 2), coded with the file's own quantisation tables."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping

import numpy as np
from PIL import JpegImagePlugin

from inpaint_core.images.formats.codec import from_channels_last, open_image, saved
from inpaint_core.images.formats.samples import Mode, Samples
from inpaint_core.images.formats.tiff_tags import RGB, WHITE_IS_ZERO, Tag, number, pixel_extents
from inpaint_core.images.metadata.directories import Ifd
from inpaint_core.images.metadata.segments import walk_jpeg

_DQT, _DHT, _COM = 0xDB, 0xC4, 0xFE
# Factors of luma over chroma, (across, down) -> Pillow's number for them.
_SUBSAMPLINGS = {(1, 1): 0, (2, 1): 1, (2, 2): 2}
_START, _END = b"\xff\xd8", b"\xff\xd9"
_SEPARATE_PLANES = 2


def can_code_jpeg(directory: Ifd) -> bool:
    """Whether segments of the file's sampling can be written."""
    if number(directory, Tag.PLANES, 1) == _SEPARATE_PLANES:
        return False
    for start, length in pixel_extents(directory):
        try:
            _tables(directory.raw(Tag.JPEG_TABLES))
            if length:
                return (
                    _subsampling(_opened(directory.raw(Tag.JPEG_TABLES), directory.data[start : start + length])) >= -1
                )
        except (OSError, ValueError, SyntaxError):
            return False
    return False


def jpeg_quality(directory: Ifd) -> int:
    """Quality of libjpeg, 1 to 100, whose table for luma is as fine as the file's.

    Raises:
        OSError, ValueError: the file's tables are unreadable.
    """
    start, length = next((extent for extent in pixel_extents(directory) if extent[1]), (0, 0))
    source = _opened(directory.raw(Tag.JPEG_TABLES), directory.data[start : start + length])
    wanted = sum(source.quantization[source.layer[0][3]])

    def fineness(quality: int) -> int:
        example = open_image(saved(from_channels_last(np.zeros((8, 8, 1)), "L"), "JPEG", quality=quality), "JPEG")
        assert isinstance(example, JpegImagePlugin.JpegImageFile)
        return -sum(example.quantization[0])

    return min(100, 1 + bisect_left(range(1, 101), -wanted, key=fineness))


def coded_jpegs(directory: Ifd, mode: Mode, parts: Mapping[int, Samples]) -> dict[int, bytes]:
    """New streams of some of the segments, by number.

    They leave out the tables that they share with the file's `JPEGTables`. Where one differs from the file's of the
    same number, decoders that keep tables from segment to segment would take it for the others: then each of the other
    segments is returned as well, with its tables in it.

    Args:
        directory: of the picture.
        mode: of its samples.
        parts: (H, W, C) samples by number of the segment.
    """
    shared = directory.raw(Tag.JPEG_TABLES)
    extents = pixel_extents(directory)
    coded = {}
    for index, samples in parts.items():
        start, length = extents[index]
        coded[index] = _coded(directory, mode, samples, shared, directory.data[start : start + length])
    known = _tables(shared)
    if all(known.get(key, table) == table for stream in coded.values() for key, table in _tables(stream).items()):
        return {index: _without_tables(stream, known) for index, stream in coded.items()}
    for index, (start, length) in enumerate(extents):
        if index not in coded and length:
            coded[index] = _joined(shared, directory.data[start : start + length])
    return coded


def _coded(directory: Ifd, mode: Mode, samples: Samples, shared: bytes, old: bytes) -> bytes:
    """The samples as a whole JPEG stream without headers, with the tables and the sampling of the old one."""
    source = _opened(shared, old)
    tables = [source.quantization[table] for _, _, _, table in source.layer]
    while len(tables) > 1 and tables[-1] == tables[-2]:
        tables.pop()
    photometric = number(directory, Tag.PHOTOMETRIC, 0)
    # Pillow shows white as 255, and writes inverted inks, as Adobe's JPEG files have them.
    inverted = photometric == WHITE_IS_ZERO or mode == "CMYK"
    stream = saved(
        from_channels_last(255 - samples if inverted else samples, mode),
        "JPEG",
        qtables=tables,
        subsampling=_subsampling(source) if mode == "RGB" else -1,
        keep_rgb=photometric == RGB,
        optimize=not any(kind == _DHT for kind, _ in _tables(shared)),
    )
    return _START + b"".join(
        stream[segment.start : segment.end]
        for segment in walk_jpeg(stream)
        if not 0xE0 <= segment.marker <= 0xEF and segment.marker != _COM
    )


def _opened(shared: bytes, stream: bytes) -> JpegImagePlugin.JpegImageFile:
    image = open_image(_joined(shared, stream), "JPEG")
    assert isinstance(image, JpegImagePlugin.JpegImageFile)
    return image


def _joined(shared: bytes, stream: bytes) -> bytes:
    """The stream with the shared tables in front of its own."""
    return _START + shared.removeprefix(_START).removesuffix(_END) + stream.removeprefix(_START)


def _subsampling(source: JpegImagePlugin.JpegImageFile) -> int:
    """Pillow's number of the sampling; -1 for pictures of other than three components, -2 where it has none."""
    if len(source.layer) != 3:
        return -1 if all(layer[1:3] == source.layer[0][1:3] for layer in source.layer) else -2
    (_, across, down, _), (_, *blue, _), (_, *red, _) = source.layer
    if blue != [1, 1] or red != [1, 1]:
        return 0 if blue == red == [across, down] else -2
    return _SUBSAMPLINGS.get((across, down), -2)


def _tables(stream: bytes) -> dict[tuple[int, int], bytes]:
    """(marker, class and number) -> content of each table of a stream; empty for an empty stream."""
    found = {}
    for segment in walk_jpeg(stream) if stream else ():
        if segment.marker in (_DQT, _DHT):
            found.update(
                {(segment.marker, key): table for key, table in _split(segment.marker, stream[segment.payload])}
            )
    return found


def _split(marker: int, payload: bytes) -> Iterator[tuple[int, bytes]]:
    """The tables that one DQT or DHT segment defines (ITU-T T.81, B.2.4.1 and B.2.4.2)."""
    position = 0
    while position < len(payload):
        key = payload[position]
        length = (128 if key >> 4 else 64) if marker == _DQT else 16 + sum(payload[position + 1 : position + 17])
        yield key, payload[position + 1 : position + 1 + length]
        position += 1 + length


def _without_tables(stream: bytes, known: Mapping[tuple[int, int], bytes]) -> bytes:
    parts = [_START]
    for segment in walk_jpeg(stream):
        keys = (
            [key for key, _ in _split(segment.marker, stream[segment.payload])]
            if segment.marker in (_DQT, _DHT)
            else []
        )
        if not keys or not all((segment.marker, key) in known for key in keys):
            parts.append(stream[segment.start : segment.end])
    return b"".join(parts)
