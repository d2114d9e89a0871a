"""Metadata in text chunks of PNG: XMP, and the raw profiles of ImageMagick and exiv2.

A raw profile is the text `"\\n" name "\\n" length "\\n" hexadecimal digits` behind the keyword `Raw profile type NAME`
(ImageMagick, coders/png.c, `Magick_png_write_raw_profile`): EXIF, Photoshop's resources with IPTC, or XMP.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable

from inpaint_core.images.metadata import previews as metadata

_TEXT_KINDS = (b"tEXt", b"zTXt", b"iTXt")
_XMP = b"XML:com.adobe.xmp\x00"
_RAW_PROFILE = b"Raw profile type "
_COLOUR_PROFILES = (b"icc", b"icm")
_EXIF_PREFIX = b"Exif\x00\x00"
_XMP_PREFIX = b"http://ns.adobe.com/xap/1.0/\x00"
_HEXADECIMAL = re.compile(rb"(\s*[^\s]+\s+)(\d+)(\s)([0-9a-fA-F\s]*)")
_LINE_DIGITS = 72
_MAX_TEXT = 64 * 2**20

Chunk = tuple[bytes, bytes]


def cleaned_text(kind: bytes, content: bytes) -> Chunk | None:
    """The text chunk without previews of the old picture; None where it cannot be told what it shows.

    Raises:
        zlib.error: its text cannot be inflated.
    """
    if kind == b"iTXt" and content.startswith(_XMP):
        return _cleaned_xmp(content)
    name = raw_profile_name(kind, content)
    if not name or name.encode("latin-1") in _COLOUR_PROFILES:
        return kind, content
    profile = _raw_profile(kind, content)
    clean = None if profile is None else _cleaned_profile(name, profile)
    if clean is None or clean == profile:
        return None if clean is None else (kind, content)
    return _with_raw_profile(kind, content, clean)


def raw_profile_name(kind: bytes, content: bytes) -> str:
    """Name of the raw profile that a chunk holds, in lower case; empty where it holds none."""
    if kind not in _TEXT_KINDS or not content.startswith(_RAW_PROFILE):
        return ""
    return content[len(_RAW_PROFILE) : len(_RAW_PROFILE) + 79].split(b"\x00")[0].decode("latin-1").lower()


def raw_exif(chunks: Iterable[Chunk]) -> bytes:
    """The first EXIF block that is a raw profile; empty where there is none."""
    for kind, content in chunks:
        if raw_profile_name(kind, content) in ("exif", "app1"):
            profile = _raw_profile(kind, content) or b""
            if not profile.startswith(_XMP_PREFIX):
                return profile
    return b""


def _cleaned_profile(name: str, profile: bytes) -> bytes | None:
    if name in ("xmp", "app1") and (name == "xmp" or profile.startswith(_XMP_PREFIX)):
        return metadata.without_xmp_pictures(profile)
    if name == "exif" or (name == "app1" and profile.startswith(_EXIF_PREFIX)):
        return metadata.without_exif_thumbnail(profile)
    if name in ("iptc", "8bim"):
        return metadata.without_photoshop_thumbnails(profile)
    return None


def _text(kind: bytes, content: bytes) -> tuple[bytes, bytes] | None:
    """(keyword with what separates it from the text, text) of a tEXt or zTXt chunk; None where it is too long."""
    start = content.index(b"\x00") + 1
    if kind == b"tEXt":
        return content[:start], content[start:]
    inflater = zlib.decompressobj()
    text = inflater.decompress(content[start + 1 :], _MAX_TEXT)
    return None if inflater.unconsumed_tail or not inflater.eof else (content[: start + 1], text)


def _raw_profile(kind: bytes, content: bytes) -> bytes | None:
    """The bytes of a raw profile; None where they are unreadable."""
    try:
        parts = None if kind == b"iTXt" else _text(kind, content)
        match = parts and _HEXADECIMAL.fullmatch(parts[1])
        profile = bytes.fromhex(b"".join(match[4].split()).decode("ascii")) if match else None
    except (ValueError, zlib.error):
        return None
    return profile if match and profile is not None and len(profile) == int(match[2]) else None


def _with_raw_profile(kind: bytes, content: bytes, profile: bytes) -> Chunk | None:
    """The chunk with another profile, in the form that its writer gave it; None for one without content."""
    parts = _text(kind, content)
    match = parts and _HEXADECIMAL.fullmatch(parts[1])
    if not parts or not match or not profile:
        return None
    digits = profile.hex().encode("ascii")
    lines = b"\n".join(digits[at : at + _LINE_DIGITS] for at in range(0, len(digits), _LINE_DIGITS))
    text = match[1] + str(len(profile)).encode("ascii").rjust(len(match[2])) + match[3] + lines + b"\n"
    return kind, parts[0] + (text if kind == b"tEXt" else zlib.compress(text))


def _cleaned_xmp(content: bytes) -> Chunk | None:
    start = len(_XMP)
    if content[start : start + 1] != b"\x01":
        return b"iTXt", metadata.without_xmp_pictures(content)
    text_at = content.find(b"\x00", content.find(b"\x00", start + 2) + 1) + 1
    inflater = zlib.decompressobj()
    packet = inflater.decompress(content[text_at:], _MAX_TEXT)
    if inflater.unconsumed_tail:
        return None
    clean = metadata.without_xmp_pictures(packet)
    return b"iTXt", content if clean == packet else content[:text_at] + zlib.compress(clean)
