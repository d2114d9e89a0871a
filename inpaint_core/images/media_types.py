"""The table of image formats: what their files are called, without a line of what reads them.

Settings and storage read this table where loading the decoders would double the time that a command needs to start.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class ImageType(NamedTuple):
    """One image format. The module of `inpaint_core.images.formats` with its name in lower case reads and writes it."""

    name: str
    """What records and messages call it: upper case, as Pillow does where it reads the format."""
    extensions: tuple[str, ...]
    """Usual endings of file names, lower case, without the dot. Files are told apart by their content alone."""
    media_type: str
    """As registered with IANA (RFC 6838)."""
    extra: str | None = None
    """The extra of this project that the format needs."""
    package: str | None = None
    """The Python package that this extra brings."""


IMAGE_TYPES: Mapping[str, ImageType] = MappingProxyType(
    {
        entry.name: entry
        for entry in (
            ImageType("JPEG", ("jpg", "jpeg", "jpe", "jfif"), "image/jpeg"),
            ImageType("PNG", ("png",), "image/png"),
            ImageType("WEBP", ("webp",), "image/webp"),
            ImageType("TIFF", ("tif", "tiff"), "image/tiff"),
            ImageType("BMP", ("bmp",), "image/bmp"),
            ImageType("GIF", ("gif",), "image/gif"),
            ImageType("AVIF", ("avif",), "image/avif"),
            ImageType("HEIC", ("heic", "heif", "hif"), "image/heic", extra="heic", package="pillow_heif"),
        )
    }
)
"""All formats, in the order in which messages list them."""
EXTENSIONS = tuple(extension for entry in IMAGE_TYPES.values() for extension in entry.extensions)


def installed(name: str) -> bool:
    """Whether files of a format can be read here. What that needs is looked up, not imported."""
    package = IMAGE_TYPES[name].package
    return package is None or importlib.util.find_spec(package) is not None


def install_hint(name: str) -> str:
    """How to install what a format needs, as the end of a sentence."""
    return f"run: pip install 'inpaint-core[{IMAGE_TYPES[name].extra}]'"
