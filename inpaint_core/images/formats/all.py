"""The formats that are decoded and encoded: a new one is a module, its line here, and its name in `media_types`."""

from __future__ import annotations

from inpaint_core.images.formats import avif, bmp, gif, heic, jpeg, png, tiff, webp
from inpaint_core.images.formats.format import ImageFormat

FORMATS: tuple[ImageFormat, ...] = (jpeg, png, webp, tiff, bmp, gif, avif, heic)
