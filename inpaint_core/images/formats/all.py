"""The formats that are decoded and encoded: those of the table in `media_types`, each with its module of this package."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType

from inpaint_core.images.formats.format import ImageFormat
from inpaint_core.images.media_types import IMAGE_TYPES


def _format(name: str) -> ImageFormat:
    module = importlib.import_module(f"inpaint_core.images.formats.{name.lower()}")
    found: ImageFormat = module.FORMAT
    return found


FORMATS: Mapping[str, ImageFormat] = MappingProxyType({name: _format(name) for name in IMAGE_TYPES})
