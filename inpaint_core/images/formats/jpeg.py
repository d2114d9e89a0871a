"""JPEG: segments known to show no picture are taken over, and so are the DCT blocks that the mask does not touch.

A file whose blocks cannot be written so is coded again as a whole, and the record's note says why.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from inpaint_core.images.formats.codec import (
    channels_last,
    check_frames,
    check_size,
    damaged,
    open_image,
    refused,
)
from inpaint_core.images.formats.format import ImageFormat, Written, XmpEdit
from inpaint_core.images.formats.jpeg_bounds import has_least_data
from inpaint_core.images.formats.jpeg_coefficients import NotByCoefficientsError, with_new_blocks
from inpaint_core.images.formats.jpeg_ending import is_whole, with_end
from inpaint_core.images.formats.jpeg_recoding import coded_again
from inpaint_core.images.formats.samples import Mode, Raster, UInt8, paint, show
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

# Each scan of a progressive file is decoded over the whole picture; encoders write about ten.
_MAX_SCANS = 200
# Baseline, extended and progressive, with Huffman or arithmetic codes; the others are lossless or hierarchical.
_DECODABLE_FRAMES = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)
_PROGRESSIVE_FRAMES = (0xC2, 0xCA)
_MODES: dict[int, Mode] = {1: "L", 3: "RGB", 4: "CMYK"}
_CUT_OFF = "it is cut off before its end marker"
_NO_END = "the JPEG file has no end marker, but all its pixels; the output has one"


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
    """Remarks for the record: what is odd about the file, and what of it is not written again."""

    def with_xmp(self, edit: XmpEdit) -> JpegFile:
        """See `FileWithXmp.with_xmp`."""
        return replace(self, headers=with_xmp(self.headers, edit))

    def pixels(self) -> UInt8:
        """See `SourceFile.pixels`."""
        return show(self.raster)

    def write(self, fill: UInt8, mask: NDArray[np.bool_], quality: int | None) -> Written:
        """See `SourceFile.write`."""
        try:
            # Only the samples under the mask are read.
            samples = fill if self.raster.mode == "RGB" else paint(self.raster, fill, mask)
            coded, changed = with_new_blocks(self.stream, samples, mask)
        except NotByCoefficientsError as error:
            coded = coded_again(
                self.stream,
                paint(self.raster, fill, mask),
                self.raster.mode,
                mask,
                progressive=self.progressive,
                coded_as_rgb=self.coded_as_rgb,
                coded_as_ycck=self.coded_as_ycck,
            )
            note = f"the JPEG file was coded again as a whole: {error}"
            return Written(_assembled(_headers_for(self, coded), coded), notes=(note,))
        return Written(_assembled(self.headers, coded), changed)


def sniff(data: bytes) -> bool:
    """See `ImageFormat.sniff`."""
    return data.startswith(b"\xff\xd8\xff")


def read(data: bytes, max_pixels: int) -> JpegFile:
    """Take a JPEG file apart; of a file with further pictures behind it (MPF) the first.

    Raises:
        ImageError: too large, cut off, of too many segments or scans, several full views (MPO), or of a kind that cannot be written again.
    """
    data, segments, notes = _walked(data)
    frame = _frame(data, segments)
    check_size(frame.width, frame.height, max_pixels)
    if not has_least_data(data, segments):
        raise damaged("JPEG", _CUT_OFF if notes else "it has too little image data")
    stream = _stream(data, segments)
    image = open_image(stream, "JPEG")
    if image.size != (frame.width, frame.height):
        raise damaged("JPEG", "it has two frame headers")
    if notes and not is_whole(stream):
        raise damaged("JPEG", _CUT_OFF)
    image.load()
    found = tuple((s.marker, data[s.payload]) for s in segments if 0xE0 <= s.marker <= 0xEF or s.marker == COM)
    clean = clean_segments(found)
    headers = clean.kept
    further = further_pictures(data, segments, image.size, clean.announced)
    check_frames("JPEG", further.views)
    coded_as_rgb, coded_as_ycck = _colours(frame, headers)
    mode = _MODES[frame.components]
    return JpegFile(
        raster=Raster(channels_last(image), mode, profile=icc_profile(headers) if mode == "CMYK" else b""),
        orientation=exif_orientation(exif_block(headers)),
        stream=stream,
        headers=headers,
        progressive=frame.marker in _PROGRESSIVE_FRAMES,
        coded_as_rgb=coded_as_rgb,
        coded_as_ycck=coded_as_ycck,
        notes=notes + further.notes + clean.notes,
    )


FORMAT = ImageFormat(sniff, read)


@dataclass(frozen=True)
class _Frame:
    marker: int
    width: int
    height: int
    components: int
    identifiers: bytes
    """One byte for each component."""


def _walked(data: bytes) -> tuple[bytes, list[JpegSegment], tuple[str, ...]]:
    """The file, with an end marker where that alone is missing; its segments; and the note about that."""
    try:
        return data, list(walk_jpeg(data, skip_junk=True)), ()
    except ValueError as error:
        ended = with_end(data)
        if ended is None:
            raise damaged("JPEG", str(error)) from error
    return ended, list(walk_jpeg(ended, skip_junk=True)), (_NO_END,)


def _frame(data: bytes, segments: list[JpegSegment]) -> _Frame:
    """The frame of a file of a kind that can be written again."""
    scans = sum(segment.marker == SOS for segment in segments)
    if scans > _MAX_SCANS:
        raise refused(f"The JPEG file has {scans} scans, and the limit is {_MAX_SCANS}.")
    segment = next((segment for segment in segments if segment.marker in FRAME_MARKERS), None)
    if segment is None:
        raise damaged("JPEG", "it has no frame header")
    header = data[segment.payload]
    precision, height, width, components = header[0], *_pair(header[1:5]), header[5]
    if segment.marker not in _DECODABLE_FRAMES or precision != 8 or components not in _MODES:
        raise refused(f"This kind of JPEG ({precision} bits, {components} components) cannot be written again.")
    return _Frame(
        segment.marker, width, height, components, bytes(header[6 + 3 * index] for index in range(components))
    )


def _colours(frame: _Frame, headers: tuple[tuple[int, bytes], ...]) -> tuple[bool, bool]:
    """Whether the samples are coded as RGB, and whether as YCCK: the rules of libjpeg's default_decompress_parms."""
    adobe = next((payload for marker, payload in headers if marker == APP14), b"")
    transform = adobe[11] if adobe.startswith(b"Adobe") and len(adobe) >= 12 else None
    if frame.components == 4:
        return False, transform == 2
    has_jfif = any(marker == APP0 and payload.startswith(b"JFIF\x00") for marker, payload in headers)
    if frame.components == 1 or has_jfif:
        return False, False
    return transform == 0 if transform is not None else frame.identifiers == b"RGB", False


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


def _headers_for(file: JpegFile, coded: bytes) -> tuple[tuple[int, bytes], ...]:
    """The source's headers for samples that Pillow has coded: Adobe's says how, of which YCCK is CMYK now."""
    adobe = next((coded[s.payload] for s in walk_jpeg(coded) if s.marker == APP14), None)
    if adobe is None:
        return file.headers
    headers = file.headers
    if file.coded_as_rgb and not any(marker == APP14 for marker, _ in headers):
        headers = ((APP14, adobe), *headers)
    return tuple((marker, adobe if marker == APP14 else payload) for marker, payload in headers)


def _assembled(headers: tuple[tuple[int, bytes], ...], coded: bytes) -> bytes:
    """The coded samples behind headers."""
    parts = [b"\xff\xd8"]
    parts += [bytes([0xFF, marker]) + (len(payload) + 2).to_bytes(2, "big") + payload for marker, payload in headers]
    for segment in walk_jpeg(coded):
        if not 0xE0 <= segment.marker <= 0xEF:
            parts.append(coded[segment.start : segment.end])
    return b"".join(parts)
