"""Fills the masks of images of any size with a model of any window size.

Each connected part of a mask gets a square window with context around it (parts close together share one), windows of
several images go through the model together, and only masked pixels are taken from the result: everything outside the
mask stays as it was, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from inpaint_core.images.distances import distances_at
from inpaint_core.inpainting.config import FillConfig
from inpaint_core.inpainting.model import EnlargingModel, InpaintingModel, SmallFill
from inpaint_core.inpainting.window_pixels import blank, cut, resize, resize_mask
from inpaint_core.inpainting.windows import Box, Part, Window, choose_windows, find_parts

_PIXELS_AT_ONCE = 2**21  # of windows at their full size that are enlarged together; a larger window is enlarged alone


@dataclass(frozen=True, eq=False)
class Hole:
    """An image and what is to be filled in it.

    Args:
        image: (H, W, 3) uint8 RGB.
        core: (H, W) bool, the pixels of the objects themselves. What they hold has no effect on the result.
        mask: (H, W) bool, the core grown by a ring: all that is filled. In the ring, fill and photograph are mixed.
        hidden: (H, W) bool, pixels that are transparent: models are shown them as masked, and the ring is all fill there.
            None: there are none.

    Raises:
        ValueError: the shapes or dtypes differ from these, or the core is not within the mask.
    """

    image: NDArray[np.uint8]
    core: NDArray[np.bool_]
    mask: NDArray[np.bool_]
    hidden: NDArray[np.bool_] | None = None

    @cached_property
    def unknown(self) -> NDArray[np.bool_]:
        """(H, W) bool, the pixels that a model must not look at: masked or hidden."""
        return self.mask if self.hidden is None else self.mask | self.hidden

    def __post_init__(self) -> None:
        size = self.image.shape[:2]
        if self.image.shape != (*size, 3) or self.image.dtype != np.uint8:
            raise ValueError(f"a hole's image is (H, W, 3) uint8, not {self.image.shape} {self.image.dtype}")
        for name, mask in (("core", self.core), ("mask", self.mask), ("hidden", self.hidden)):
            if mask is None:
                continue
            if mask.shape != size or mask.dtype != np.bool_:
                raise ValueError(f"a hole's {name} is {size} bool like its image, not {mask.shape} {mask.dtype}")
        if np.any(self.core & ~self.mask):
            raise ValueError("a hole's core has pixels outside its mask: the mask is the core grown")


class Inpainter:
    """Fills holes with a model.

    What a model computes may differ in the last bits with the number of windows that it is given together: their size decides
    which kernels a library takes. Where patches are copied (`PatchEnlarger`), such a bit now and then decides which of two
    equally good places some come from. So the result for an image depends on nothing else only where `apart` is set.

    Args:
        model: what fills a window.
        fill: how windows are cut and joined. Models that take any size (`window` None) are given one at a time.
        apart: give a model windows of one image at a time.
    """

    def __init__(self, model: InpaintingModel, fill: FillConfig, *, apart: bool = False) -> None:
        self._model = model
        self._fill = fill
        self._apart = apart

    def inpaint_images(self, images: Sequence[Sequence[Hole]]) -> list[list[NDArray[np.uint8]]]:
        """As `inpaint`, for the holes of several images, of which each has one or more.

        Raises:
            ImageError: see `inpaint`.
        """
        if self._apart:
            return [self.inpaint(holes) for holes in images]
        results = iter(self.inpaint([hole for holes in images for hole in holes]))
        return [[next(results) for _ in holes] for holes in images]

    def inpaint(self, holes: Sequence[Hole]) -> list[NDArray[np.uint8]]:
        """The images with their masks filled.

        Windows are cut as the model comes to them: beside the images and results, memory holds one batch of windows
        at the model's size and up to two million pixels (or one window) at the image's own.

        Returns:
            New arrays (H, W, 3) uint8, equal to the images outside their masks.

        Raises:
            ImageError: the model could not fill a window (stage `inpaint`). It does not tell of which image: give the
                images one by one to find out.
        """
        results: list[NDArray[np.uint8] | None] = [None] * len(
            holes
        )  # copied late: windows may be as large as the images
        # Windows of different sizes cannot share a forward pass, so that holding several would cost memory for nothing.
        batch_size = 1 if self._model.window is None else self._fill.windows_per_batch
        for batch in _batched(self._windows(holes), batch_size):
            rings = [
                [_ring(part, holes[index].core, self._fill.blend) for part in window.parts] for index, window in batch
            ]
            cuts = [self._cut(holes[index], window) for index, window in batch]
            fills = self._model.fill([pixels for pixels, _ in cuts], [mask for _, mask in cuts])
            wholes = self._at_full_size(holes, batch, cuts, fills)
            for (index, window), whole, own in zip(batch, wholes, rings, strict=True):
                result = results[index]
                if result is None:
                    result = results[index] = holes[index].image.copy()
                for part, ring in zip(window.parts, own, strict=True):
                    _paste(result, whole, window.box, part, holes[index], ring)
        return [hole.image.copy() if one is None else one for one, hole in zip(results, holes, strict=True)]

    def _windows(self, holes: Sequence[Hole]) -> Iterator[tuple[int, Window]]:
        for index, hole in enumerate(holes):
            height, width = hole.mask.shape
            windows = choose_windows(
                find_parts(hole.mask),
                width,
                height,
                context=self._fill.context,
                side=self._model.window,
                central=self._model.central,
            )
            for window in windows:
                yield index, window

    def _cut(self, hole: Hole, window: Window) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        side = self._model.window
        if side is None:
            # Nothing is resized or padded here, and what is under the mask has no effect on a model's fill: blanking is
            # left to the model.
            return hole.image[window.box.slices].copy(), hole.unknown[window.box.slices].copy()
        if min(window.box.width, window.box.height) < side:
            pixels, mask = cut(hole.image, hole.unknown, window.box)
            return resize(pixels, side, side), resize_mask(mask, side, side)
        # Where it shrinks, a pixel with any share under the mask is masked: blanked afterwards, nothing of what is under the
        # mask is left, and a window as large as a large photograph needs neither the time nor the memory.
        pixels, mask = cut(hole.image, hole.unknown, window.box, blanked=False)
        small = resize_mask(mask, side, side)
        return blank(resize(pixels, side, side), small), small

    def _at_full_size(
        self,
        holes: Sequence[Hole],
        batch: Sequence[tuple[int, Window]],
        cuts: Sequence[tuple[NDArray[np.uint8], NDArray[np.bool_]]],
        fills: Sequence[NDArray[np.uint8]],
    ) -> Iterator[NDArray[np.uint8]]:
        """The fill of each window, at the size that the window has in its image."""
        if not isinstance(self._model, EnlargingModel):
            for (_, window), (pixels, mask), filled in zip(batch, cuts, fills, strict=True):
                # Outside the mask the model may give anything; resizing would carry it over the edge.
                known = np.where(mask[..., None], filled, pixels)
                yield resize(known, window.box.width, window.box.height)
            return
        group: list[SmallFill] = []
        pixels_in_group = 0
        for (index, window), (small, small_mask), filled in zip(batch, cuts, fills, strict=True):
            area = window.box.width * window.box.height
            if group and pixels_in_group + area > _PIXELS_AT_ONCE:
                enlarged = self._model.enlarge(group)
                group, pixels_in_group = [], 0
                yield from enlarged
            # Where a mask hides is not looked at by who copies patches: blanking would take longer than anything else here.
            photograph, mask = cut(holes[index].image, holes[index].unknown, window.box, blanked=False)
            own = not np.may_share_memory(photograph, holes[index].image)
            group.append(SmallFill(photograph, mask, small, small_mask, filled, own))
            del photograph, mask
            pixels_in_group += area
        # The group is let go of before its fills are used: a window may be as large as the largest image.
        enlarged = self._model.enlarge(group)
        del group
        yield from enlarged


def _batched(windows: Iterable[tuple[int, Window]], size: int) -> Iterator[list[tuple[int, Window]]]:
    iterator = iter(windows)
    while batch := list(islice(iterator, size)):
        yield batch


def _paste(
    result: NDArray[np.uint8],
    fill: NDArray[np.uint8],
    window: Box,
    part: Part,
    hole: Hole,
    weighted: tuple[NDArray[np.bool_], NDArray[np.float32]],
) -> None:
    """Write one part of a window's fill into `result`; `weighted` is its `_ring`."""
    ring, weights = weighted
    target = result[part.box.slices]
    filled = fill[part.box.relative_to(window).slices]
    hidden = None if hole.hidden is None else hole.hidden[part.box.slices]
    step = max(1, _PIXELS_AT_ONCE // ring.shape[1])
    done = 0
    for top in range(0, len(ring), step):
        rows = slice(top, top + step)
        count = int(np.count_nonzero(ring[rows]))
        mixed, weight = ring[rows], weights[done : done + count]
        done += count
        if hidden is not None:
            weight = weight[~hidden[rows][mixed]]
            mixed = mixed & ~hidden[rows]
        alone = part.pixels[rows] & ~mixed
        target[rows][alone] = filled[rows][alone]
        weight = weight[:, None]
        target[rows][mixed] = np.rint(weight * filled[rows][mixed] + (1 - weight) * target[rows][mixed]).astype(
            np.uint8
        )


def _ring(part: Part, core: NDArray[np.bool_], blend: float) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """The pixels of a part that are mixed with the image, (h, w) bool in its box, and the weights of the fill there.

    The weight rises from 0 at the part's outer edge to 1 before its core. The ring's width at a pixel is its distance to
    the nearest pixel outside the part plus that to the nearest of the core, so the ramp follows a ring that is wider in
    one place than in another. The edge of the image is no outer edge. A part without a core is all fill.

    Returns:
        The weights are float32 between 0 and 1, row by row.
    """
    height, width = core.shape
    around = part.box.grown(1).within(width, height)
    at = part.box.relative_to(around).slices
    pixels = np.zeros((around.height, around.width), np.uint8)
    pixels[at] = part.pixels
    part_core = pixels.view(np.bool_) & core[around.slices]
    if blend == 0 or pixels.all() or not part_core.any():
        return np.zeros(part.pixels.shape, np.bool_), np.zeros(0, np.float32)
    no_core = ~part_core
    del part_core
    ring = pixels.view(np.bool_) & no_core
    total = distances_at(no_core.view(np.uint8), ring)
    del no_core
    # Beyond this distance from the edge, all is fill.
    blended = float(total.max(initial=0)) * blend / (1 - blend) if blend < 1 else math.inf
    from_edge = distances_at(pixels, ring, up_to=blended + 1)
    del pixels
    total += from_edge
    total *= blend
    from_edge /= total
    mixed = from_edge < 1
    ring[ring] = mixed
    return ring[at], from_edge[mixed]
