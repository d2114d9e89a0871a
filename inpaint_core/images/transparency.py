"""Images with transparency over an opaque background: for viewers, detectors and measures."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

WHITE, GREY, BLACK = 255, 128, 0
"""Grey levels of backgrounds."""

FAINT = 16
"""Alpha below which a pixel counts as not visible: its colour is hardly seen and, in associated alpha, hardly stored."""

_LEAST_CONTRAST, _VANISHING = 16, 0.05
# Pixels composed at a time: the arrays in between take about 30 bytes each.
_STRIP_PIXELS = 2**18


def over(rgba: NDArray[np.uint8], background: int) -> NDArray[np.uint8]:
    """An image over a background of one grey level.

    Args:
        rgba: (H, W, 4) uint8, straight alpha.
        background: 0..255.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    height, width = rgba.shape[:2]
    seen = np.empty((height, width, 3), np.uint8)
    step = max(1, _STRIP_PIXELS // max(1, width))
    for top in range(0, height, step):
        part = rgba[top : top + step].astype(np.uint32)
        opacity = part[..., 3:]
        seen[top : top + step] = (part[..., :3] * opacity + background * (255 - opacity) + 127) // 255
    return seen


def backgrounds(rgba: NDArray[np.uint8]) -> tuple[int, ...]:
    """The backgrounds over which a detector has to see an image: white, and grey too where some of it would vanish in white.

    That is so if, of the visible pixels that touch a transparent one, 5 % or more differ from white by less than 16 levels
    of luma (ITU-R BT.601).

    Args:
        rgba: (H, W, 4) uint8, straight alpha.
    """
    visible = (rgba[..., 3] >= FAINT).view(np.uint8)
    edge = visible.view(np.bool_) & (cv2.erode(visible, np.ones((3, 3), np.uint8)) == 0)
    if not edge.any():
        return (WHITE,)
    shades = cv2.cvtColor(rgba[edge][:, None, :3], cv2.COLOR_RGB2GRAY)
    near_white = np.count_nonzero(shades > WHITE - _LEAST_CONTRAST) / shades.size
    return (WHITE, GREY) if near_white >= _VANISHING else (WHITE,)
