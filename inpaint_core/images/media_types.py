"""Names, file name extensions and media types of the image formats, without a line of what reads them.

Settings and storage read this table where loading the decoders would double the time that a command needs to start.
"""

from __future__ import annotations

import importlib.util
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
            MediaType("HEIC", ("heic", "heif", "hif"), "image/heic"),
        )
    }
)
EXTENSIONS = tuple(extension for entry in IMAGE_TYPES.values() for extension in entry.extensions)
# Format -> the extra of this project that reads and writes it, and the Python package that this brings.
_EXTRAS = MappingProxyType({"HEIC": ("heic", "pillow_heif")})


def installed(name: str) -> bool:
    """Whether files of a format can be read here. What that needs is looked up, not imported."""
    return name not in _EXTRAS or importlib.util.find_spec(_EXTRAS[name][1]) is not None


def install_hint(name: str) -> str:
    """How to install what a format needs, as the end of a sentence."""
    return f"run: pip install 'inpaint-core[{_EXTRAS[name][0]}]'"
