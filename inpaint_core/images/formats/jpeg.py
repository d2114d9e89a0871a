"""JPEG: segments known to show no picture are taken over, and untouched blocks are coded from their own samples.

A JPEG decoded to RGB and coded again changes everywhere: chroma is interpolated and averaged again, colours are
rounded twice. Here the luma and chroma planes are coded from the values that the decoder had before interpolation
and before RGB, with the tables of the source: a block that the mask does not touch gets its old coefficients again,
except where decoded samples were clipped at 0 or 255.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, JpegImagePlugin

from inpaint_core.images.formats.codec import (
    channels_last,
    check_frames,
    check_size,
    damaged,
    from_channels_last,
    open_image,
    refused,
    saved,
)
from inpaint_core.images.formats.format import XmpEdit
from inpaint_core.images.formats.samples import Mode, Raster, Samples, UInt8, paint, show
from inpaint_core.images.media_types import IMAGE_TYPES
from inpaint_core.images.metadata.further_pictures import further_pictures
from inpaint_core.images.metadata.jpeg_segments import (
    APP0,
    APP14,
    COM,
    clean_segments,
    exif_block,
    icc_profile,
    with_xmp,
)
from inpaint_core.images.metadata.previews import exif_orientation
from inpaint_core.images.metadata.segments import FRAME_MARKERS, SOS, JpegSegment, walk_jpeg

NAME, EXTENSIONS, MEDIA_TYPE = IMAGE_TYPES["JPEG"]
# Each scan of a progressive file is decoded over the whole picture; encoders write about ten.
_MAX_SCANS = 200
# Baseline, extended and progressive, with Huffman or arithmetic codes; the others are lossless or hierarchical.
_DECODABLE_FRAMES = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)
_PROGRESSIVE_FRAMES = (0xC2, 0xCA)
_MODES: dict[int, Mode] = {1: "L", 3: "RGB", 4: "CMYK"}
# (horizontal, vertical) factor of luma over chroma -> Pillow's number for it; others are written as 4:4:4.
_SUBSAMPLINGS = {(1, 1): 0, (2, 1): 1, (2, 2): 2}


@dataclass(frozen=True)
class JpegFile:
    """A JPEG file taken apart."""

    raster: Raster
    orientation: int
    stream: bytes
    """The file with no more than what decides over its samples: what Pillow decodes."""
    headers: tuple[tuple[int, bytes], ...]
    """(marker, payload) of the APPn and COM segments that are written again."""
    progressive: bool
    coded_as_rgb: bool
    coded_as_ycck: bool
    notes: tuple[str, ...] = ()
    """What of the file is not written again, for the record."""

    def with_xmp(self, edit: XmpEdit) -> JpegFile:
        """See `FileWithXmp.with_xmp`."""
        return replace(self, headers=with_xmp(self.headers, edit))

    def pixels(self) -> UInt8:
        """See `SourceFile.pixels`."""
        return show(self.raster)

    def write(self, fill: UInt8, mask: NDArray[np.bool_], quality: int | None) -> bytes:
        """See `SourceFile.write`."""
        samples = paint(self.raster, fill, mask)
        source = open_image(self.stream, "JPEG")
        assert isinstance(source, JpegImagePlugin.JpegImageFile)
        tables = [source.quantization[table] for _, _, _, table in source.layer]
        if self.coded_as_ycck:
            # Pillow writes the four inks themselves: chroma's coarse tables would be wrong for magenta and yellow.
            tables = tables[:1]
        while len(tables) > 1 and tables[-1] == tables[-2]:
            tables.pop()
        subsampling = _subsampling(source)
        if self.raster.mode == "RGB" and not self.coded_as_rgb:
            image = from_channels_last(_painted_planes(self, subsampling, samples, mask), "YCbCr")
        else:
            image = from_channels_last(samples, self.raster.mode)
        options = {
            "qtables": tables,
            "subsampling": subsampling if self.raster.mode == "RGB" else -1,
            "progressive": self.progressive,
            "keep_rgb": self.coded_as_rgb,
        }
        try:
            coded = saved(image, "JPEG", **options)
        except OSError:
            # Pillow codes a progressive file in one buffer of 2 bytes a pixel, which noise and fine tables exceed;
            # the only way to a larger one is this setting, which is no limit but a least size.
            ImageFile.MAXBLOCK = max(ImageFile.MAXBLOCK, 5 * mask.size)
            coded = saved(image, "JPEG", **options)
        return _assembled(self, coded)


def sniff(data: bytes) -> bool:
    """See `ImageFormat.sniff`."""
    return data.startswith(b"\xff\xd8\xff")


def read(data: bytes, max_pixels: int) -> JpegFile:
    """Take a JPEG file apart; of a file with further pictures behind it (MPF) the first.

    Raises:
        ImageError: too large, cut off, of too many segments or scans, several full views (MPO), or of a kind that cannot be written again.
    """
    try:
        segments = list(walk_jpeg(data, skip_junk=True))
    except ValueError as error:
        raise damaged("JPEG", str(error)) from error
    scans = sum(segment.marker == SOS for segment in segments)
    if scans > _MAX_SCANS:
        raise refused(f"The JPEG file has {scans} scans, and the limit is {_MAX_SCANS}.")
    frame = next((segment for segment in segments if segment.marker in FRAME_MARKERS), None)
    if frame is None:
        raise damaged("JPEG", "it has no frame header")
    header = data[frame.payload]
    precision, height, width, components = header[0], *_pair(header[1:5]), header[5]
    if frame.marker not in _DECODABLE_FRAMES or precision != 8 or components not in _MODES:
        raise refused(f"This kind of JPEG ({precision} bits, {components} components) cannot be written again.")
    check_size(width, height, max_pixels)
    stream = _stream(data, segments)
    image = open_image(stream, "JPEG")
    if image.size != (width, height):
        raise damaged("JPEG", "it has two frame headers")
    image.load()
    found = tuple((s.marker, data[s.payload]) for s in segments if 0xE0 <= s.marker <= 0xEF or s.marker == COM)
    clean = clean_segments(found)
    headers = clean.kept
    further = further_pictures(data, segments, (width, height), clean.announced)
    check_frames("JPEG", further.views)
    adobe = next((payload for marker, payload in headers if marker == APP14), b"")
    transform = adobe[11] if adobe.startswith(b"Adobe") and len(adobe) >= 12 else None
    has_jfif = any(marker == APP0 and payload.startswith(b"JFIF\x00") for marker, payload in headers)
    identifiers = bytes(header[6 + 3 * index] for index in range(components))
    return JpegFile(
        raster=Raster(
            channels_last(image), _MODES[components], profile=icc_profile(headers) if components == 4 else b""
        ),
        orientation=exif_orientation(exif_block(headers)),
        stream=stream,
        headers=headers,
        progressive=frame.marker in _PROGRESSIVE_FRAMES,
        # The rules of libjpeg's default_decompress_parms.
        coded_as_rgb=components == 3
        and not has_jfif
        and (transform == 0 if transform is not None else identifiers == b"RGB"),
        coded_as_ycck=components == 4 and transform == 2,
        notes=further.notes + clean.notes,
    )


def _pair(four: bytes) -> tuple[int, int]:
    return int.from_bytes(four[:2], "big"), int.from_bytes(four[2:4], "big")


def _stream(data: bytes, segments: list[JpegSegment]) -> bytes:
    """Without metadata, which Pillow would parse, and without what follows EOI (other frames, videos)."""
    parts = [b"\xff\xd8"]
    for segment in segments:
        decides = segment.marker in (APP0, APP14) and data[segment.payload][:4] in (b"JFIF", b"Adob")
        if decides or not (0xE0 <= segment.marker <= 0xEF or segment.marker == COM):
            parts.append(data[segment.start : segment.end])
    return b"".join(parts)


def _factors(source: JpegImagePlugin.JpegImageFile) -> tuple[int, int] | None:
    """How many luma samples lie along one chroma sample, (across, down); None where that is not the same for both."""
    if source.layers != 3:
        return None
    (_, across, down, _), (_, *blue, _), (_, *red, _) = source.layer
    if blue != red or across % blue[0] or down % blue[1]:
        return None
    return across // blue[0], down // blue[1]


def _subsampling(source: JpegImagePlugin.JpegImageFile) -> int:
    factors = _factors(source)
    return _SUBSAMPLINGS.get(factors, 0) if factors else 0


def _painted_planes(file: JpegFile, subsampling: int, samples: Samples, mask: NDArray[np.bool_]) -> UInt8:
    """(H, W, 3) YCbCr: the source's own, chroma repeated instead of interpolated, the fill under the mask.

    The encoder averages chroma over 2 or 4 pixels: of repeated values it gets the stored ones back.
    """
    planes = channels_last(_opened_as_ycc(file.stream))
    height, width = mask.shape
    chroma: UInt8 | None = None
    if subsampling == 1:
        chroma = _uninterpolated(planes[..., 1:])
        chroma = np.repeat(chroma, 2, axis=1)
    elif subsampling == 2 and min(height, width) >= 2:
        # At half size libjpeg decodes chroma blocks in full: the stored samples without interpolation.
        half = channels_last(_opened_as_ycc(file.stream, (width // 2, height // 2)))
        chroma = np.repeat(np.repeat(half[..., 1:], 2, axis=0), 2, axis=1)
    if chroma is not None:
        planes[..., 1:] = chroma[:height, :width]
    fill = channels_last(from_channels_last(samples, "RGB").convert("YCbCr"))
    planes[mask] = fill[mask]
    return planes


def _opened_as_ycc(stream: bytes, size: tuple[int, int] | None = None) -> Image.Image:
    image = open_image(stream, "JPEG")
    image.draft("YCbCr", size)
    return image


def _uninterpolated(chroma: UInt8) -> UInt8:
    """Chroma (H, W, C) as stored, (H, ceil(W / 2), C), from libjpeg's interpolation of 4:2:2.

    It makes of two stored neighbours p, q the two samples between their centres, (3p + q + 2) // 4 and
    (p + 3q + 1) // 4 (libjpeg, h2v1_fancy_upsample). Solving both for p and q with the mean rounding error (1/8)
    gives every stored sample once from each side; the first, and with an even width the last, are stored as such.
    """
    width = chroma.shape[1]
    if width <= 4:  # Too narrow for libjpeg to interpolate.
        return chroma[:, ::2]
    samples = chroma.astype(np.float64)
    left, right = samples[:, 1 : width - 1 : 2] - 0.125, samples[:, 2:width:2] + 0.125
    from_right, from_left = (3 * left[:, : right.shape[1]] - right) / 2, (3 * right - left[:, : right.shape[1]]) / 2
    stored = np.empty((chroma.shape[0], (width + 1) // 2, chroma.shape[2]))
    stored[:, 1:] = from_left
    stored[:, 1:-1] = (from_left[:, :-1] + from_right[:, 1:]) / 2
    stored[:, 0] = samples[:, 0]
    if width % 2 == 0:
        stored[:, -1] = samples[:, -1]
    return np.clip(np.rint(stored), 0, 255).astype(np.uint8)


def _assembled(file: JpegFile, coded: bytes) -> bytes:
    """The coded samples behind the headers of the source."""
    segments = list(walk_jpeg(coded))
    adobe = next((coded[s.payload] for s in segments if s.marker == APP14), None)
    parts = [b"\xff\xd8"]
    headers = file.headers
    if file.coded_as_rgb and adobe and not any(marker == APP14 for marker, _ in headers):
        headers = ((APP14, adobe), *headers)
    for marker, payload in headers:
        if marker == APP14 and adobe is not None:
            payload = adobe  # It says how the samples are coded now, which of YCCK is CMYK.
        parts.append(bytes([0xFF, marker]) + (len(payload) + 2).to_bytes(2, "big") + payload)
    for segment in segments:
        if not 0xE0 <= segment.marker <= 0xEF:
            parts.append(coded[segment.start : segment.end])
    return b"".join(parts)
