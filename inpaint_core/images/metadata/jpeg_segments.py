"""Application segments of a JPEG file: data split over several are joined, filtered and split again.

Sources: EXIF, Exif 2.32, 4.5; XMP with its extended part, ISO 16684-3 (XMP Specification part 3, 1.1.3.1); image
resources, Photoshop File Formats Specification.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from inpaint_core.images.metadata import previews
from inpaint_core.images.metadata.xmp import Edit, Property, XmpError, edited, parse, properties, removal, text_of
from inpaint_core.images.metadata.xmp_pictures import GAIN_MAP, UNREADABLE, clean_xmp, dropped

Segments = tuple[tuple[int, bytes], ...]
"""(marker, payload) of APPn and COM segments."""

APP0, APP1, APP2, APP11, APP12, APP13, APP14, COM = 0xE0, 0xE1, 0xE2, 0xEB, 0xEC, 0xED, 0xEE, 0xFE
EXIF = b"Exif\x00\x00"
XMP = b"http://ns.adobe.com/xap/1.0/\x00"
EXTENDED_XMP = b"http://ns.adobe.com/xmp/extension/\x00"
PHOTOSHOP = b"Photoshop 3.0\x00"
ICC = b"ICC_PROFILE\x00"
MPF = b"MPF\x00"
ISO_GAIN_MAP = b"urn:iso:std:iso:ts:21496:-1\x00"
_HAS_EXTENDED = ("http://ns.adobe.com/xmp/note/", "HasExtendedXMP")
_GUID_LENGTH = 32
_EXTENDED_HEADER = len(EXTENDED_XMP) + _GUID_LENGTH + 8
_MAX_PAYLOAD = 65_533
_MAX_DUCKY = 4096
# What is dropped without a remark here: previews, and what the file's further pictures are told by.
_SILENT = ((APP0, b"JFXX\x00"), (APP0, b"JFIF\x00"), (APP2, MPF), (APP2, ISO_GAIN_MAP))


@dataclass(frozen=True)
class CleanSegments:
    """The segments of a file that are written again."""

    kept: Segments
    notes: tuple[str, ...]
    announced: frozenset[str]
    """Kinds of pictures that the segments said to lie behind the image (see `xmp_pictures`)."""


@dataclass(frozen=True)
class _Xmp:
    mains: tuple[bytes, ...]
    extended: bytes
    problem: str | None
    """Why there is less of the extended part than there seems to be."""


def exif_block(segments: Sequence[tuple[int, bytes]]) -> bytes:
    """The EXIF block without its prefix, which may be spread over several segments."""
    return b"".join(payload[len(EXIF) :] for marker, payload in segments if _is(marker, payload, APP1, EXIF))


def icc_profile(segments: Sequence[tuple[int, bytes]]) -> bytes:
    """The ICC profile, which may be spread over several segments with their number and count (ICC.1, annex B.4)."""
    parts = [payload[len(ICC) :] for marker, payload in segments if _is(marker, payload, APP2, ICC)]
    return b"".join(part[2:] for part in sorted(parts, key=lambda part: part[:1]))


def clean_segments(segments: Segments) -> CleanSegments:
    """Take previews, further pictures and their announcements out of the segments of a file, in file order."""
    notes: list[str] = []
    announced: set[str] = set()
    segments = _without_exif_thumbnail(segments)
    segments = _without_photoshop_thumbnails(segments)
    xmp = _joined(segments)
    clean = clean_xmp(xmp.extended, *xmp.mains)
    segments = _with_xmp(segments, xmp, clean.packets)
    notes += dropped(clean.within)
    notes += [UNREADABLE] if not clean.readable else []
    notes += [xmp.problem] if xmp.problem else []
    announced |= clean.announced
    kept: list[tuple[int, bytes]] = []
    others: dict[str, None] = {}
    for marker, payload in segments:
        if _is(marker, payload, APP2, ISO_GAIN_MAP):
            announced.add(GAIN_MAP)
        if marker == APP0 and payload.startswith(b"JFIF\x00"):
            # Without the thumbnail that may follow.
            kept.append((marker, payload[:12] + b"\x00\x00" if len(payload) > 14 else payload))
        elif _is_known(marker, payload):
            kept.append((marker, payload))
        elif not any(_is(marker, payload, *silent) for silent in _SILENT):
            others[_called(marker, payload)] = None
    return CleanSegments(tuple(kept), (*notes, *dropped(others)), frozenset(announced))


def with_xmp(segments: Segments, edit: Callable[[tuple[bytes, ...]], tuple[bytes, ...]]) -> Segments:
    """The segments with their XMP packets (the extended one, joined, and the main one) edited.

    Args:
        segments: what `clean_segments` kept.
        edit: from packets to as many packets; empty ones stay empty.
    """
    xmp = _joined(segments)
    return _with_xmp(segments, xmp, edit((xmp.extended, *xmp.mains)))


def _is(marker: int, payload: bytes, of: int, prefix: bytes) -> bool:
    return marker == of and payload.startswith(prefix)


def _is_known(marker: int, payload: bytes) -> bool:
    """Whether the segment is of a kind that shows no picture, or whose pictures are taken out.

    Any other may hold a preview: JFXX, FlashPix, FLIR, JUMBF, maker's own.
    """
    prefixes = (EXIF, XMP, EXTENDED_XMP) if marker == APP1 else ()
    return (
        marker == COM
        or payload.startswith(prefixes)
        or _is(marker, payload, APP2, ICC)
        or _is(marker, payload, APP13, PHOTOSHOP)
        or _is(marker, payload, APP14, b"Adobe")
        or (_is(marker, payload, APP12, b"Ducky") and len(payload) <= _MAX_DUCKY and b"\xff\xd8\xff" not in payload)
    )


def _called(marker: int, payload: bytes) -> str:
    """What a note calls a segment that is dropped."""
    if marker == APP11 and b"c2pa" in payload[:200]:
        return "content credentials"
    identifier = payload[:12].split(b"\x00")[0].decode("latin-1")
    told = f" ({identifier})" if identifier.isascii() and identifier.isprintable() and identifier.strip() else ""
    return f"segment APP{marker - APP0}{told}"


def _without_exif_thumbnail(segments: Segments) -> Segments:
    # Blanking keeps the length of the EXIF block, so that it can be cut up as it was.
    block = previews.without_exif_thumbnail(exif_block(segments))
    kept, position = [], 0
    for marker, payload in segments:
        if _is(marker, payload, APP1, EXIF):
            end = position + len(payload) - len(EXIF)
            payload, position = EXIF + block[position:end], end
        kept.append((marker, payload))
    return tuple(kept)


def _without_photoshop_thumbnails(segments: Segments) -> Segments:
    """Filter the run of image resources, which goes on over segments where one is not enough."""
    parts = [payload[len(PHOTOSHOP) :] for marker, payload in segments if _is(marker, payload, APP13, PHOTOSHOP)]
    if all(previews.is_whole_photoshop_run(part) for part in parts):
        # Each stands for itself.
        clean = [previews.without_photoshop_thumbnails(part) for part in parts]
    else:
        joined = b"".join(parts)
        filtered = previews.without_photoshop_thumbnails(joined)
        clean = parts if filtered == joined else _cut(filtered, _MAX_PAYLOAD - len(PHOTOSHOP))
    return _replaced(segments, APP13, PHOTOSHOP, [PHOTOSHOP + part for part in clean])


def _joined(segments: Segments) -> _Xmp:
    """The XMP of a file: its main packet (or several, against the standard), and the extended part that it names."""
    mains = tuple(payload[len(XMP) :] for marker, payload in segments if _is(marker, payload, APP1, XMP))
    payloads = [payload for marker, payload in segments if _is(marker, payload, APP1, EXTENDED_XMP)]
    guid = next((text_of(named).encode() for main in mains if (named := _named_guid(main)) is not None), None)
    if not payloads:
        return _Xmp(mains, b"", "the extended XMP is missing" if guid else None)
    parts: dict[int, bytes] = {}
    total = -1
    for payload in payloads:
        if guid and payload[len(EXTENDED_XMP) : _EXTENDED_HEADER - 8] == guid and len(payload) > _EXTENDED_HEADER:
            total, offset = struct.unpack_from(">LL", payload, _EXTENDED_HEADER - 8)
            parts.setdefault(offset, payload[_EXTENDED_HEADER:])
    pieces, end = [], 0
    for offset, part in sorted(parts.items()):
        if offset == end:
            pieces.append(part)
            end += len(part)
    if end != total:
        return _Xmp(mains, b"", "extended XMP dropped: it is incomplete, or not the one that the XMP names")
    return _Xmp(mains, b"".join(pieces), None)


def _named_guid(main: bytes) -> Property | None:
    """The property of the main packet that names the extended one by its GUID (32 hexadecimal digits)."""
    try:
        found = list(properties(parse(main))) if main else []
    except XmpError:
        return None
    named = next((value for name, value in found if name == _HAS_EXTENDED), None)
    return named if len(text_of(named)) == _GUID_LENGTH else None


def _with_xmp(segments: Segments, xmp: _Xmp, packets: tuple[bytes, ...]) -> Segments:
    """The segments with other packets in the place of `xmp`, which is what is joined from them."""
    extended, *mains = packets
    if extended != xmp.extended or not extended:
        guid = hashlib.md5(extended, usedforsecurity=False).hexdigest().upper().encode()
        size = _MAX_PAYLOAD - _EXTENDED_HEADER
        pieces = [
            EXTENDED_XMP + guid + struct.pack(">LL", len(extended), offset) + extended[offset : offset + size]
            for offset in range(0, len(extended), size)
        ]
        segments = _replaced(segments, APP1, EXTENDED_XMP, pieces)
        for index, main in enumerate(mains):
            if (named := _named_guid(main)) is not None:
                mains[index] = edited(main, [_renamed(main, named, guid) if extended else removal(named)])
    return _replaced(segments, APP1, XMP, [XMP + main for main in mains])


def _renamed(main: bytes, named: Property, guid: bytes) -> Edit:
    at = main.index(text_of(named).encode(), named.start, named.end)
    return at, at + _GUID_LENGTH, guid


def _cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def _replaced(segments: Segments, marker: int, prefix: bytes, payloads: list[bytes]) -> Segments:
    """The segments with others in the place of those of a kind: each in its place as far as they go."""
    kept: list[tuple[int, bytes]] = []
    waiting = list(payloads)
    places = sum(_is(*segment, marker, prefix) for segment in segments)
    for segment in segments:
        if not _is(*segment, marker, prefix):
            kept.append(segment)
            continue
        places -= 1
        # The last place takes all that is left.
        count = 1 if places else len(waiting)
        kept += [(marker, payload) for payload in waiting[:count]]
        del waiting[:count]
    return tuple(kept)
