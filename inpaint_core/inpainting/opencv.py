"""OpenCV's classical fills, which need no weights: Telea 2004 and Navier-Stokes (Bertalmio 2001)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

import cv2
import numpy as np
from numpy.typing import NDArray

from inpaint_core.inpainting.config import OpencvConfig
from inpaint_core.inpainting.window_pixels import blank, resize, resize_mask


class OpencvInpainter:
    """`cv2.inpaint` on windows of any size; large ones are filled at `config.window` and the fill is brought back."""

    window: int | None = None
    central = False

    def __init__(self, config: OpencvConfig) -> None:
        self._config = config

    def fill(self, images: Sequence[NDArray[np.uint8]], masks: Sequence[NDArray[np.bool_]]) -> list[NDArray[np.uint8]]:
        """See `InpaintingModel.fill`; windows may differ in size."""
        return [self._fill_one(image, mask) for image, mask in zip(images, masks, strict=True)]

    def _fill_one(self, image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
        height, width = mask.shape
        scale = self._config.window / max(height, width)
        # cv2.inpaint reads masked pixels at the edge of an image.
        image = blank(image, mask)
        if scale >= 1:
            return self._inpaint(image, mask)
        small_width, small_height = max(1, round(scale * width)), max(1, round(scale * height))
        small = self._inpaint(resize(image, small_width, small_height), resize_mask(mask, small_width, small_height))
        return resize(small, width, height)

    def _inpaint(self, image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
        match self._config.method:
            case "telea":
                method = cv2.INPAINT_TELEA
            case "navier_stokes":
                method = cv2.INPAINT_NS
            case _:
                assert_never(self._config.method)
        filled = cv2.inpaint(image, np.ascontiguousarray(mask).view(np.uint8), self._config.radius, method)
        return filled.astype(np.uint8, copy=False)
