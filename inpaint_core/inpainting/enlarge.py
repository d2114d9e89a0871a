"""From a network's small, soft fill to one of the photograph's own size and sharpness.

The hole is filled smoothly at full size (`push_pull`), and the network's change to the same at its own size is enlarged and
added, so that this soft fill meets what is around it without a step. Led by it, patches of the photograph take its place
(`inpaint_core.inpainting.patch_match.fill`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from inpaint_core.inpainting.config import GeneratorConfig
from inpaint_core.inpainting.model import InpainterSettings, InpaintingModel, SmallFill
from inpaint_core.inpainting.patch_match.fill import COARSEST, PatchWindow, fill_with_patches
from inpaint_core.inpainting.window_pixels import blank, resize, resize_mask, resized_maps
from inpaint_core.networks.push_pull import smooth_fill

LARGEST = 1024
"""Soft fills of windows with longer sides are made at this size. Pixels."""

_PIXELS_AT_ONCE = 2**20

Pixels = NDArray[np.uint8]
Maps = NDArray[np.float32]


class PatchEnlarger:
    """Any model of square windows, with its fills enlarged by patches of the photograph (an `EnlargingModel`).

    Args:
        model: fills windows of one size.
        detail: share of the photograph's patches in the fill, 0 to 1; the rest is the model's fill, enlarged smoothly.
        device: where patches are searched.

    Raises:
        ValueError: the model takes windows of any size, so that there is nothing to enlarge.
    """

    def __init__(self, model: InpaintingModel, detail: float, device: torch.device) -> None:
        if model.window is None:
            raise ValueError("enlarging with patches needs a model whose windows have one size")
        self._model = model
        self._detail = detail
        self._device = device

    @property
    def window(self) -> int | None:
        """That of the model."""
        return self._model.window

    @property
    def central(self) -> bool:
        """That of the model."""
        return self._model.central

    def adjusted(self, settings: InpainterSettings) -> InpaintingModel | None:
        """See `AdjustableModel`: the same network with another share of detail."""
        return (
            PatchEnlarger(self._model, settings.detail, self._device) if isinstance(settings, GeneratorConfig) else None
        )

    def fill(self, images: Sequence[Pixels], masks: Sequence[NDArray[np.bool_]]) -> list[Pixels]:
        """The fills of the model at its own size. See `InpaintingModel.fill`."""
        return self._model.fill(images, masks)

    def enlarge(self, fills: Sequence[SmallFill]) -> list[Pixels]:
        """See `EnlargingModel.enlarge`; outside the masks the results are the photographs themselves."""
        return enlarge(fills, self._detail, self._device)


def enlarge(fills: Sequence[SmallFill], detail: float, device: torch.device) -> list[Pixels]:
    """Fills at the size of their photographs.

    Args:
        fills: of windows of any sizes.
        detail: share of the photograph's patches in a fill, 0 to 1; the rest is the soft fill.
        device: where patches are searched.

    Returns:
        Each (n, n, 3) uint8: the fill in the hole, the photograph itself elsewhere.
    """
    copied: list[torch.Tensor | None] = [None] * len(fills)
    if detail > 0:
        chosen = [i for i, fill in enumerate(fills) if fill.mask.shape[0] >= COARSEST and fill.mask.any()]
        windows = [
            PatchWindow(fill.photograph, fill.mask, np.where(fill.small_mask[..., None], fill.filled, fill.small))
            for fill in (fills[i] for i in chosen)
        ]
        for i, found in zip(chosen, fill_with_patches(windows, device, rounded=detail == 1), strict=True):
            copied[i] = found
    results = []
    for fill, patches in zip(fills, copied, strict=True):
        # A window may have as many pixels as the largest photograph, or more.
        result = fill.photograph if fill.own else fill.photograph.copy()
        if patches is None:
            colours = _soft_colours(fill)
        else:
            colours = patches.cpu().numpy()
            if detail < 1:
                soft = _soft_colours(fill)
                colours = soft + detail * (colours - soft)
        _put(result, fill.mask, colours)
        results.append(result)
    return results


def _put(pixels: Pixels, mask: NDArray[np.bool_], colours: Maps | Pixels) -> None:
    """Write colours (k, 3), rounded, into the masked pixels of a picture, some rows at a time: numpy's lists of places are large."""
    start = 0
    step = max(1, _PIXELS_AT_ONCE // mask.shape[1])
    for top in range(0, len(mask), step):
        here = mask[top : top + step]
        count = int(np.count_nonzero(here))
        part = colours[start : start + count]
        pixels[top : top + step][here] = part if part.dtype == np.uint8 else np.rint(part.clip(0, 255)).astype(np.uint8)
        start += count


def _soft_colours(fill: SmallFill) -> Maps:
    """(k, 3), 0 to 255: the soft fill of the masked pixels, row by row."""
    size = fill.mask.shape[0]
    levels = np.rint(_soft_fill(fill).clip(0, 255)).astype(np.uint8)
    return resize(levels, size, size)[fill.mask].astype(np.float32)


def _soft_fill(fill: SmallFill) -> Maps:
    """(m, m, 3), m at most `LARGEST`: the network's fill, continuous with what is around the hole."""
    small, small_mask = fill.small, fill.small_mask
    side = min(fill.mask.shape[0], LARGEST)
    smooth = smooth_fill(resize(blank(fill.photograph, fill.mask), side, side), resize_mask(fill.mask, side, side))
    # At the network's size a mask of many thin parts may leave nothing known, where its own smooth fill has no colour.
    shown = resized_maps(smooth, small_mask.shape[0]) if small_mask.all() else smooth_fill(small, small_mask)
    change = np.where(small_mask[..., None], fill.filled - shown, 0).astype(np.float32)
    return np.asarray(smooth + resized_maps(change, side), np.float32)
