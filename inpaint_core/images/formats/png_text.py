"""Metadata in text chunks of PNG: XMP, and the raw profiles of ImageMagick and exiv2.

A raw profile is the text `"\\n" name "\\n" length "\\n" hexadecimal digits` behind the keyword `Raw profile type NAME`
(ImageMagick, coders/png.c, `Magick_png_write_raw_profile`): EXIF, Photoshop's resources with IPTC, or XMP.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable

from inpaint_core.images.metadata import previews as metadata
from inpaint_core.images.metadata.png_xmp import Chunk, is_xmp, packet_of, with_packet

_TEXT_KINDS = (b"tEXt", b"zTXt", b"iTXt")
_RAW_PROFILE = b"Raw profile type "
_COLOUR_PROFILES = (b"icc", b"icm")
_EXIF_PREFIX = b"Exif\x00\x00"
_XMP_PREFIX = b"http://ns.adobe.com/xap/1.0/\x00"
_HEXADECIMAL = re.compile(rb"(\s*[^\s]+\s+)(\d+)(\s)([0-9a-fA-F\s]*)")
_LINE_DIGITS = 72
_MAX_TEXT = 64 * 2**20


def cleaned_text(kind: bytes, content: bytes) -> Chunk | None:
    """The text chunk without previews of the old picture, but for those in XMP; None where it cannot be told what it shows.

    Raises:
        zlib.error: its text cannot be inflated.
    """
    if is_xmp((kind, content)):
        return None if packet_of((kind, content)) is None else (kind, content)
    name = raw_profile_name(kind, content)
    if not name or name.encode("latin-1") in _COLOUR_PROFILES:
        return kind, content
    profile = _raw_profile(kind, content)
    clean = None if profile is None else _cleaned_profile(name, profile)
    if clean is None or clean == profile:
        return None if clean is None else (kind, content)
    return _with_raw_profile(kind, content, clean) if clean else None


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


def xmp_packet(chunk: Chunk) -> bytes | None:
    """The XMP packet in a text chunk, as such or as a raw profile; None where it holds none."""
    if is_xmp(chunk):
        return packet_of(chunk)
    name = raw_profile_name(*chunk)
    profile = _raw_profile(*chunk) if name in ("xmp", "app1") else None
    if profile is None or (name == "app1" and not profile.startswith(_XMP_PREFIX)):
        return None
    return profile.removeprefix(_XMP_PREFIX)


def with_xmp_packet(chunk: Chunk, packet: bytes) -> Chunk:
    """The chunk, which holds a packet, with another one in its place; the chunk itself where it is the same."""
    if is_xmp(chunk):
        return with_packet(chunk, packet)
    profile = _raw_profile(*chunk) or b""
    prefix = _XMP_PREFIX if profile.startswith(_XMP_PREFIX) else b""
    return chunk if profile == prefix + packet else _with_raw_profile(*chunk, prefix + packet)


def _cleaned_profile(name: str, profile: bytes) -> bytes | None:
    if name == "xmp" or (name == "app1" and profile.startswith(_XMP_PREFIX)):
        return profile
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


def _with_raw_profile(kind: bytes, content: bytes, profile: bytes) -> Chunk:
    """The chunk, which holds a raw profile, with another one in the form that its writer gave it."""
    parts = _text(kind, content)
    match = _HEXADECIMAL.fullmatch(parts[1]) if parts else None
    assert parts
    assert match
    digits = profile.hex().encode("ascii")
    lines = b"\n".join(digits[at : at + _LINE_DIGITS] for at in range(0, len(digits), _LINE_DIGITS))
    text = match[1] + str(len(profile)).encode("ascii").rjust(len(match[2])) + match[3] + lines + b"\n"
    return kind, parts[0] + (text if kind == b"tEXt" else zlib.compress(text))
