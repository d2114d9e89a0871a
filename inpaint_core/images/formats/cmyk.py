"""CMYK as a viewer shows it, through the file's ICC profile or, without one, by a formula.

The intent is relative colorimetric with black point compensation, the default of press software: its tables for the two
directions are each other's inverses within the gamut, which perceptual tables need not be to a monitor's RGB; black
point compensation keeps the differences of dark inks, which would be clipped otherwise.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ImageCms

from inpaint_core.images.formats.codec import channels_last, from_channels_last

UInt8 = NDArray[np.uint8]
# Paper without ink is lighter than full black ink by more than this, in levels of luma, in every profile of a press.
_LEAST_CONTRAST = 64
# What LittleCMS and Pillow raise on damaged profiles and on those of other colours.
_UNUSABLE = (ImageCms.PyCMSError, OSError, ValueError, TypeError)


@dataclass(frozen=True)
class Conversion:
    """Between CMYK (0 = no ink, 255 = full ink) and sRGB, both (H, W, channels) uint8."""

    to_rgb: Callable[[UInt8], UInt8]
    to_cmyk: Callable[[UInt8], UInt8]
    of_profile: bool
    """Whether an ICC profile decides over the colours, and not the formula."""


def conversion(profile: bytes) -> Conversion:
    """The conversion of a file's ICC profile.

    The formula is used where there is no profile (`profile` empty), it is damaged, or it is not a profile of CMYK. A
    profile that cannot convert to CMYK (one of a scanner) is used for the other direction alone.
    """
    formula = Conversion(_multiplied, _separated, of_profile=False)
    if not profile:
        return formula
    try:
        to_rgb = _transform(profile, "CMYK", "RGB")
        paper, black = (to_rgb(np.array([[[0, 0, 0, ink]]], np.uint8)).mean() for ink in (0, 255))
    except _UNUSABLE:
        return formula
    if paper - black < _LEAST_CONTRAST:
        return formula

    @cache
    def separation() -> Callable[[UInt8], UInt8]:
        try:
            return _transform(profile, "RGB", "CMYK")
        except _UNUSABLE:
            return _separated

    # Built when it is needed: many fills have no colour that the surroundings lack.
    return Conversion(to_rgb, lambda rgb: separation()(rgb), of_profile=True)


def _transform(profile: bytes, from_mode: str, to_mode: str) -> Callable[[UInt8], UInt8]:
    opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    if opened.profile.xcolor_space.strip() != "CMYK":
        raise ValueError("the profile is not one of CMYK")
    screen = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    source, target = (opened, screen) if from_mode == "CMYK" else (screen, opened)
    transform: Any = ImageCms.buildTransform(
        source,
        target,
        from_mode,
        to_mode,
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )

    def convert(colours: UInt8) -> UInt8:
        converted = ImageCms.applyTransform(from_channels_last(colours, from_mode), transform)
        assert converted is not None
        return channels_last(converted)

    return convert


def _multiplied(cmyk: UInt8) -> UInt8:
    """The formula that Pillow and browsers use for CMYK without a profile: R = (255 - C)(255 - K) / 255."""
    light = 255 - cmyk.astype(np.uint32)
    return ((light[..., :3] * light[..., 3:] + 127) // 255).astype(np.uint8)


def _separated(rgb: UInt8) -> UInt8:
    """The inverse of `_multiplied` with as much black as possible."""
    brightest = rgb.max(axis=-1, keepdims=True)
    light = np.where(brightest > 0, rgb / np.maximum(brightest, 1), 1.0)
    return np.concatenate([np.rint(255 * (1.0 - light)).astype(np.uint8), 255 - brightest], axis=-1)
