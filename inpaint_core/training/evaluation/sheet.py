"""A picture of the results: one line for each chosen photograph, one labelled column for each row of the table."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from inpaint_core.networks.compositing import CHANNEL_MEANS
from inpaint_core.training.history import picture_grid

_FONT_SIZE = 13
_LINE_HEIGHT = 16
_MARGIN = 4


def with_holes(images: NDArray[np.uint8], masks: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Images (n, H, W, 3) uint8 whose masked pixels, (n, H, W) bool, have the colour that networks see there."""
    colour = np.round(255 * np.asarray(CHANNEL_MEANS)).astype(np.uint8)
    return np.where(masks[..., None], colour, images)


def sheet(labels: Sequence[str], columns: Sequence[NDArray[np.uint8]]) -> bytes:
    """A PNG of columns of images, each (n, H, W, 3) uint8, with their labels at the top."""
    grid = Image.fromarray(picture_grid(columns))
    font = ImageFont.load_default(_FONT_SIZE)
    step = (grid.width + 2) / len(columns)
    letters = max(1, int((step - _MARGIN) / font.getlength("n")))
    wrapped = [textwrap.wrap(label, letters) for label in labels]
    top = _LINE_HEIGHT * max(map(len, wrapped)) + _MARGIN
    page = Image.new("RGB", (grid.width, top + grid.height), "white")
    page.paste(grid, (0, top))
    draw = ImageDraw.Draw(page)
    for place, lines in enumerate(wrapped):
        draw.multiline_text((place * step, 0), "\n".join(lines), fill="black", font=font)
    file = io.BytesIO()
    page.save(file, "PNG", optimize=True)
    return file.getvalue()
