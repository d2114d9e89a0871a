"""Metadata that would still show what was removed: embedded previews, blanked without moving any other byte.

EXIF is a TIFF file inside the image (Exif 2.32, 4.5); maker notes hold offsets into it, so nothing in it may move.
"""

from __future__ import annotations

import re
import struct

from inpaint_core.images.metadata.directories import Ifd
from inpaint_core.images.metadata.segments import FRAME_MARKERS, MAX_PARTS, walk_jpeg

_ORIENTATION = 274
_THUMBNAIL_DATA = ((513, 514), (273, 279), (324, 325))  # (offset, length) of JPEG, strips, tiles

# Adobe's thumbnails in XMP, and the pictures that phones keep beside a depth map: element or attribute.
# The prefix of Adobe's is the writer's choice (xmpGImg, xapGImg). No part can match from many starts: linear time.
_XMP_PICTURE = re.compile(
    rb"(?P<start><(?:[\w.-]+:image|GImage:Data|GDepth:Data)(?=[\s>])[^<>]*(?<!/)>)(?P<element>[^<]*)(?=</)"
    rb"|(?P<equals>(?:[\w.-]:image|GImage:Data|GDepth:Data)\s*=\s*[\"'])(?P<attribute>[^\"']*)"
)
_PHOTOSHOP_THUMBNAILS = (1033, 1036)
_PHOTOSHOP_SIGNATURES = (b"8BIM", b"MeSa", b"AgHg", b"PHUT", b"DCSR")


def blank_jpegs(body: bytearray) -> None:
    """Overwrite every JPEG stream in the bytes with zeros: the previews in maker notes and thumbnail directories.

    Raises:
        ValueError: too many false JPEG headers (crafted data).
    """
    in_vain = 0
    position = body.find(b"\xff\xd8\xff")
    while position >= 0:
        end, steps = _embedded_jpeg_end(body, position)
        # What is blanked is not walked again; what is not, can be walked from many starts.
        in_vain += steps if end == position else 0
        if in_vain > MAX_PARTS:
            raise ValueError("its metadata hold too many broken JPEG streams")
        body[position:end] = bytes(end - position)
        position = body.find(b"\xff\xd8\xff", max(end, position + 3))


def _embedded_jpeg_end(body: bytearray, start: int) -> tuple[int, int]:
    """One past the last byte of a JPEG stream, `start` where the bytes only look like one; the work of finding it."""
    end, is_picture, steps = start, False, 0
    try:
        for segment in walk_jpeg(body, start):
            is_picture = is_picture or segment.marker in FRAME_MARKERS
            end = segment.end
            steps += 1 + (segment.end - segment.start) // 1024
    except ValueError:
        # A preview that is cut off, by the end of its block or by another one, still shows its upper part.
        end = end if body[end : end + 3] == b"\xff\xd8\xff" else len(body)
    # Tables alone, as JPEG-compressed TIFF files keep them, are no picture.
    return (end if is_picture else start), steps


def exif_orientation(exif: bytes) -> int:
    """Orientation (1 to 8) of an EXIF block, with or without its `Exif` prefix; 1 where it has none or is unreadable."""
    try:
        tiff = Ifd.at_header(exif.removeprefix(b"Exif\x00\x00"))
        value = tiff.numbers(_ORIENTATION)
    except (ValueError, struct.error):
        return 1
    return value[0] if value and 1 <= value[0] <= 8 else 1


def without_exif_thumbnail(exif: bytes) -> bytes:
    """Return the EXIF block, of the same length, without any preview: every other byte stays where and as it was."""
    prefix = b"Exif\x00\x00" if exif.startswith(b"Exif\x00\x00") else b""
    body = bytearray(exif[len(prefix) :])
    try:
        first = Ifd.at_header(bytes(body))
        if first.next_offset:
            blank_thumbnail_ifd(body, first.order, first.next_offset, keep=range(first.offset, first.end))
            body[first.end - 4 : first.end] = bytes(4)
    except (ValueError, struct.error):
        pass  # An unreadable block is kept as it is, less the JPEG streams found below.
    blank_jpegs(body)
    return prefix + bytes(body)


def blank_thumbnail_ifd(body: bytearray, order: str, offset: int, keep: range = range(0)) -> None:
    """Overwrite a directory of a preview, and the picture it points to, with zeros.

    What overlaps the 8 bytes of the TIFF header, or the range `keep`, is left as it is.

    Raises:
        ValueError, struct.error: there is no directory there.
    """

    def blank(start: int, stop: int) -> None:
        if start >= 8 and (stop <= keep.start or start >= keep.stop):
            body[start:stop] = bytes(max(0, stop - start))

    ifd = Ifd.read(bytes(body), order, offset)
    if offset < keep.stop and ifd.end > keep.start:
        return  # Not a directory of its own: what it points to may be part of what stays.
    for offsets_tag, lengths_tag in _THUMBNAIL_DATA:
        for start, length in zip(ifd.numbers(offsets_tag), ifd.numbers(lengths_tag), strict=False):
            blank(start, min(start + length, len(body)))
    blank(offset, ifd.end)


def without_xmp_pictures(xmp: bytes) -> bytes:
    """Return the XMP packet, of the same length, with the pictures in it replaced by spaces."""

    def spaces(match: re.Match[bytes]) -> bytes:
        if match["start"] is not None:
            return match["start"] + b" " * len(match["element"])
        return match["equals"] + b" " * len(match["attribute"])

    return _XMP_PICTURE.sub(spaces, xmp)


def without_photoshop_thumbnails(resources: bytes) -> bytes:
    """Return Photoshop's image resources (a run of `8BIM` blocks) without the thumbnails; shorter where it had any."""
    blocks, end = _photoshop_blocks(resources)
    rest = bytearray(resources[end:])
    blank_jpegs(rest)
    kept = [resources[block] for identifier, block in blocks if identifier not in _PHOTOSHOP_THUMBNAILS]
    return b"".join(kept) + bytes(rest)


def is_whole_photoshop_run(resources: bytes) -> bool:
    """Whether the bytes are whole image resources, of which none goes on behind their end."""
    _, end = _photoshop_blocks(resources)
    # The padding of the last block may be missing.
    return len(resources) <= end <= len(resources) + 1


def _photoshop_blocks(resources: bytes) -> tuple[list[tuple[int, slice]], int]:
    """(identifier, where it lies) of the blocks, and one past the last one, which may lie beyond the end."""
    blocks, position = [], 0
    while resources[position : position + 4] in _PHOTOSHOP_SIGNATURES and position + 12 <= len(resources):
        (identifier, name_length) = struct.unpack_from(">HB", resources, position + 4)
        size_at = position + 6 + (name_length // 2 + 1) * 2
        size = int.from_bytes(resources[size_at : size_at + 4], "big")
        end = size_at + 4 + size + size % 2
        blocks.append((identifier, slice(position, end)))
        position = end
    return blocks, position
