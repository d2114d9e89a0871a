"""From a network's small, soft fill to one of the photograph's own size and sharpness.

The hole is filled smoothly at full size (`push_pull`), and the network's change to the same at its own size is enlarged and
added, so that this soft fill meets what is around it without a step. Led by it, patches of the photograph take its place
(`inpaint_core.inpainting.patch_match.fill`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from inpaint_core.inpainting.model import InpaintingModel
from inpaint_core.inpainting.patch_match.fill import COARSEST, synthesise
from inpaint_core.inpainting.patch_match.matches import LARGEST
from inpaint_core.inpainting.windows import resize, resize_mask, resized_maps
from inpaint_core.networks.push_pull import smooth_fill

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Maps = NDArray[np.float32]


class PatchEnlarger:
    """Any model of square windows, with its fills enlarged by patches of the photograph (an `EnlargingModel`).

    Args:
        model: fills windows of one size.
        detail: share of the photograph's patches in the fill, 0 to 1; the rest is the model's fill, enlarged smoothly.

    Raises:
        ValueError: the model takes windows of any size, so that there is nothing to enlarge.
    """

    def __init__(self, model: InpaintingModel, detail: float) -> None:
        if model.window is None:
            raise ValueError("enlarging with patches needs a model whose windows have one size")
        self._model = model
        self._detail = detail

    @property
    def window(self) -> int | None:
        """That of the model."""
        return self._model.window

    @property
    def central(self) -> bool:
        """That of the model."""
        return self._model.central

    def fill(self, images: Sequence[Pixels], masks: Sequence[Mask]) -> list[Pixels]:
        """The fills of the model at its own size. See `InpaintingModel.fill`."""
        return self._model.fill(images, masks)

    def enlarge(self, photograph: Pixels, mask: Mask, small: Pixels, small_mask: Mask, filled: Pixels) -> Pixels:
        """See `EnlargingModel.enlarge`; outside the mask the result is the photograph itself."""
        return enlarge(photograph, mask, small, small_mask, filled, self._detail)


def enlarge(photograph: Pixels, mask: Mask, small: Pixels, small_mask: Mask, filled: Pixels, detail: float) -> Pixels:
    """A fill at the size of the photograph.

    Args:
        photograph: (n, n, 3) uint8 RGB; what it holds under the mask has no effect.
        mask: (n, n) bool, True = hole.
        small: (s, s, 3) uint8, what the network was shown: the photograph at its size.
        small_mask: (s, s) bool.
        filled: (s, s, 3) uint8, its fill; used under `small_mask` only.
        detail: share of the photograph's patches in the fill, 0 to 1; the rest is the soft fill.

    Returns:
        (n, n, 3) uint8: the fill in the hole, the photograph itself elsewhere.
    """
    size = photograph.shape[0]
    soft = _soft_fill(photograph, mask, small, small_mask, filled)
    result = photograph.copy()
    copied = synthesise(photograph, mask, soft) if detail > 0 and size >= COARSEST and mask.any() else None
    if copied is None or detail < 1:
        levels = np.rint(soft.clip(0, 255)).astype(np.uint8)
        colours = resize(levels, size, size)[mask].astype(np.float32)
        copied = colours if copied is None else colours + detail * (copied - colours)
    result[mask] = np.rint(copied.clip(0, 255)).astype(np.uint8)
    return result


def _soft_fill(photograph: Pixels, mask: Mask, small: Pixels, small_mask: Mask, filled: Pixels) -> Maps:
    """(m, m, 3), m at most `LARGEST`: the network's fill, continuous with what is around the hole."""
    side = min(photograph.shape[0], LARGEST)
    smooth = smooth_fill(resize(photograph, side, side), resize_mask(mask, side, side))
    # At the network's size a mask of many thin parts may leave nothing known, where its own smooth fill has no colour.
    shown = resized_maps(smooth, small_mask.shape[0]) if small_mask.all() else smooth_fill(small, small_mask)
    change = np.where(small_mask[..., None], filled - shown, 0).astype(np.float32)
    return np.asarray(smooth + resized_maps(change, side), np.float32)
