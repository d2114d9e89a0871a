"""Profiles of RGB and grey: the fill is computed and stored in the file's own colours, which are then its profile's."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from inpaint_core.images.encode import encode
from tests.colour_profiles import ADOBE_RGB, DISPLAY_P3, grey_profile, rgb_profile, seen
from tests.encoding import load, opened
from tests.odd_files import picture, saved

PROFILES = {
    "Adobe RGB": ("RGB", rgb_profile(ADOBE_RGB)),
    "Display P3": ("RGB", rgb_profile(DISPLAY_P3)),
    "grey of gamma 1.8": ("L", grey_profile(1.8)),
}
FORMATS = {
    "PNG": {},
    "TIFF": {},
    "WEBP": {"lossless": True},
    "JPEG": {"quality": 95, "subsampling": 0},
    "AVIF": {"quality": 100, "subsampling": "4:4:4"},
}


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("name", PROFILES)
def test_fill_has_the_colours_of_the_profile_and_the_profile_stays(format_: str, name: str) -> None:
    mode, profile = PROFILES[name]
    if mode == "L" and format_ in ("WEBP", "AVIF"):
        pytest.skip("the format has no grey")
    samples = np.asarray(picture(96, 64).convert(mode)).copy()
    colour = (40, 190, 90)[: len(mode)] if mode == "RGB" else 140
    samples[16:56, 24:72] = colour
    field = samples.copy()
    field[28:44, 40:56] = 250
    mask = np.zeros((64, 96), bool)
    mask[24:48, 36:60] = True
    source = load(saved(Image.fromarray(field), format_, icc_profile=profile, **FORMATS[format_]))
    fill = source.pixels.copy()
    fill[mask] = source.pixels[18, 26]
    data = encode(source, fill, mask, lossy_quality=98).data
    assert opened(data).info["icc_profile"] == profile
    result = np.asarray(opened(data))
    assert result.dtype == np.uint8
    tolerance = 0 if format_ in ("PNG", "TIFF", "WEBP") else 3
    assert np.abs(result[mask].astype(int) - colour).max() <= tolerance
    lab = seen(result, mode, profile)
    assert np.abs(lab[mask] - lab[18, 26]).max() <= 2 * tolerance
