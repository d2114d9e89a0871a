"""Names, file name extensions and media types of the image formats, without a line of what reads them.

Settings and storage read this table where loading the decoders would double the time that a command needs to start.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class MediaType(NamedTuple):
    """What one image format is called."""

    name: str
    extensions: tuple[str, ...]
    """Usual endings of file names, lower case, without the dot."""
    media_type: str
    """As registered with IANA (RFC 6838)."""


IMAGE_TYPES: Mapping[str, MediaType] = MappingProxyType(
    {
        entry.name: entry
        for entry in (
            MediaType("JPEG", ("jpg", "jpeg", "jpe", "jfif"), "image/jpeg"),
            MediaType("PNG", ("png",), "image/png"),
            MediaType("WEBP", ("webp",), "image/webp"),
            MediaType("TIFF", ("tif", "tiff"), "image/tiff"),
            MediaType("BMP", ("bmp",), "image/bmp"),
            MediaType("GIF", ("gif",), "image/gif"),
            MediaType("AVIF", ("avif",), "image/avif"),
        )
    }
)
EXTENSIONS = tuple(extension for entry in IMAGE_TYPES.values() for extension in entry.extensions)
