"""The picture of a HEIF file, from its items (ISO/IEC 23008-12)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from inpaint_core.images.formats.heif_items import HeifItems
from inpaint_core.images.formats.samples import to_upright
from inpaint_core.images.metadata.xmp_pictures import GAIN_MAP

_PICTURES = (b"hvc1", b"grid", b"iovl", b"iden", b"av01", b"avc1", b"jpeg", b"j2k1", b"unci", b"vvc1")
_TONE_MAP = b"tmap"
# (part of the name of an auxiliary picture's kind, what it is); the first that fits.
_AUXILIARY = (
    (b"auxiliary:alpha", ""),
    (b"auxid:1", ""),
    (b"hdrgainmap", GAIN_MAP),
    (b"auxiliary:depth", "depth map"),
    (b"auxid:2", "depth map"),
    (b"aux:depth", "depth map"),
    (b"aux:disparity", "depth map"),
    (b"matte", "matte"),
)
_AUXILIARY_PICTURE, _OTHER_METADATA = "auxiliary picture", "further metadata"
_IPTC = b"iptc"
_RDF = b"application/rdf+xml"
_NCLX = ("color_primaries", "transfer_characteristics", "matrix_coefficients")


def shown(items: HeifItems) -> list[int]:
    """The pictures of the file, without those that belong to another one: bursts have several."""
    owned = {source for kind, source, _ in items.references if kind in (b"thmb", b"auxl")}
    owned |= {part for kind, _, parts in items.references if kind == b"dimg" for part in parts}
    return [
        number
        for number, item in items.items.items()
        if number == items.primary or (item.kind in _PICTURES and not item.hidden and number not in owned)
    ]


def orientation(items: HeifItems) -> int:
    """How `irot` and `imir` turn the primary picture, as an EXIF orientation, 1 to 8."""
    stored = np.arange(6).reshape(2, 3)
    turned = stored
    for kind, content in items.items[items.primary].properties:
        if kind == b"irot" and content:
            turned = np.rot90(turned, content[0] & 3)
        elif kind == b"imir" and content:
            turned = turned[:, ::-1] if content[0] & 1 else turned[::-1]
    return next(number for number in range(1, 9) if np.array_equal(to_upright(stored, number), turned))


def tile(items: HeifItems) -> int:
    """Side in pixels of the tiles of the primary picture, the longer one; 0: it is in one piece."""
    parts = items.parts(items.primary)
    extents = items.properties(parts[0], b"ispe") if len(parts) > 1 else []
    if not extents:
        return 0
    return max(int.from_bytes(extents[0][4:8], "big"), int.from_bytes(extents[0][8:12], "big"))


def colours(items: HeifItems, parts: Mapping[str, Any]) -> dict[str, Any]:
    """ICC profile and code points (ITU-T H.273) of the primary picture, as pillow-heif takes them.

    Args:
        items: of the file.
        parts: what pillow-heif found, for tiles whose grid has neither.
    """
    found = {name: parts[name] for name in ("icc_profile", "icc_profile_type") if name in parts}
    points = parts.get("nclx_profile", {})
    found |= {name: points[name] for name in (*_NCLX, "full_range_flag") if name in points}
    for content in items.properties(items.primary, b"colr"):
        kind = content[:4]
        if kind == b"nclx" and len(content) >= 11:
            found |= {
                name: int.from_bytes(content[at : at + 2], "big") for name, at in zip(_NCLX, (4, 6, 8), strict=True)
            }
            found["full_range_flag"] = content[10] >> 7
        elif kind in (b"prof", b"rICC"):
            found |= {"icc_profile": content[4:], "icc_profile_type": kind.decode()}
    return found


def exif_block(items: HeifItems, data: bytes) -> bytes:
    """EXIF of the primary picture, with or without its `Exif` prefix; empty: none."""
    number = next((item for item in _described(items) if items.items[item].kind == b"Exif"), None)
    if number is None:
        return b""
    content = items.content(data, number)
    start = 4 + int.from_bytes(content[:4], "big")  # of the TIFF header
    return content[start if start + 8 <= len(content) else 4 :]


def xmp_packet(items: HeifItems, data: bytes) -> bytes:
    """XMP of the primary picture; empty: none."""
    number = next((item for item in _described(items) if items.items[item].content_type == _RDF), None)
    return b"" if number is None else items.content(data, number)


def iptc_records(items: HeifItems, data: bytes) -> bytes:
    """IPTC records of the primary picture; empty: none."""
    number = next((item for item in _described(items) if items.items[item].kind == _IPTC), None)
    return b"" if number is None else items.content(data, number)


def auxiliary(items: HeifItems) -> dict[int, str]:
    """The auxiliary pictures of the primary one, and what each is: empty for alpha, which is kept."""
    found = {}
    for number in items.to(b"auxl", items.primary):
        names = b"".join(items.properties(number, b"auxC")) if number in items.items else b""
        found[number] = next((name for part, name in _AUXILIARY if part in names), _AUXILIARY_PICTURE)
    return found


def others(items: HeifItems) -> set[str]:
    """What the file holds beside the picture, its metadata and its previews, each as a word for the record."""
    found = {name for name in auxiliary(items).values() if name}
    if any(item.kind == _TONE_MAP for item in items.items.values()):
        found.add(GAIN_MAP)
    described = _described(items)
    known = [
        item.kind in (b"Exif", _IPTC) or item.content_type == _RDF for item in map(items.items.get, described) if item
    ]
    if not all(known):
        found.add(_OTHER_METADATA)
    return found


def _described(items: HeifItems) -> list[int]:
    """The items that describe the primary picture."""
    return [item for item in items.to(b"cdsc", items.primary) if item in items.items]
