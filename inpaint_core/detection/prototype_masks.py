"""How an image is placed in a segmentation network's input, and how its masks are mapped back exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# The network halves its input five times.
STRIDE = 32
# Grey that the network was trained to see around an image.
PADDING = 114
# A box that ends this near to the image's border ends at the border: within so many pixels of the network's input, or
# within this part of its own extent on that axis, whichever is more. The network places the box of an object that the border
# cuts a little inside: up to 2.5 pixels for most, 2 % for large ones (yolov8n-seg, coco64-seg and zidane.jpg).
BORDER_REACH = 3.0
BORDER_REACH_FRACTION = 0.02
# Pixels of one object's mask that are sampled at once: bounds the memory of the float logits (4 MiB each).
PIXELS_PER_CHUNK = 2**20


@dataclass(frozen=True)
class Letterbox:
    """How an image lies in the network's input: resized to `content` pixels and padded on both sides.

    Coordinates are continuous: pixel i covers [i, i + 1). So input = image * scale + pad on each axis, exactly,
    although the content's size is rounded.
    """

    height: int
    width: int
    content_height: int
    content_width: int
    input_height: int
    input_width: int

    @classmethod
    def fit(cls, height: int, width: int, image_size: int) -> Letterbox:
        """The longer side becomes `image_size`, the shorter is padded to the next multiple of 32.

        The shape depends on the image alone, not on its neighbours in a batch, so that an image gives the same masks
        in every batch, and when it is tried again on its own.
        """
        ratio = image_size / max(height, width)
        content = [max(round(side * ratio), 1) for side in (height, width)]
        padded = [math.ceil(side / STRIDE) * STRIDE for side in content]
        return cls(height, width, *content, *padded)

    @property
    def scale(self) -> tuple[float, float]:
        """Input pixels per image pixel, (vertical, horizontal)."""
        return self.content_height / self.height, self.content_width / self.width

    @property
    def pad(self) -> tuple[int, int]:
        """Rows of padding above and columns of padding left of the content; an odd one more is below or right."""
        return (self.input_height - self.content_height) // 2, (self.input_width - self.content_width) // 2

    def apply(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The network's input of an image, (input_height, input_width, 3) uint8."""
        # Far below half the size, plain bilinear sampling would skip most pixels.
        interpolation = cv2.INTER_AREA if max(self.scale) < 0.5 else cv2.INTER_LINEAR
        content = cv2.resize(image, (self.content_width, self.content_height), interpolation=interpolation)
        padded = np.full((self.input_height, self.input_width, 3), PADDING, dtype=np.uint8)
        top, left = self.pad
        padded[top : top + self.content_height, left : left + self.content_width] = content
        return padded

    def boxes_to_image(self, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, 4) boxes (x0, y0, x1, y1) from pixels of the input to pixels of the image, cut at its borders."""
        (scale_y, scale_x), (top, left) = self.scale, self.pad
        shifted = (boxes - [left, top, left, top]) / [scale_x, scale_y, scale_x, scale_y]
        return np.clip(shifted, 0.0, [self.width, self.height, self.width, self.height])


def _covered(interval: tuple[float, float], size: int, scale: float) -> tuple[int, int]:
    """First and last + 1 of an axis's `size` pixels whose centre lies in the interval; at least one.

    An interval that nearly reaches the image's border is taken to end there: the border cuts the object, and a strip of
    it must not stay.
    """
    reach = max(BORDER_REACH, BORDER_REACH_FRACTION * scale * (interval[1] - interval[0]))
    start = 0 if interval[0] * scale <= reach else math.ceil(interval[0] - 0.5)
    stop = size if (size - interval[1]) * scale <= reach else math.ceil(interval[1] - 0.5)
    start = min(start, size - 1)
    return start, max(stop, start + 1)


@dataclass(frozen=True)
class _Axis:
    """Linear interpolation along one axis: pixel i lies `fraction[i]` of the way from cell `low[i]` to `high[i]`."""

    start: int
    low: NDArray[np.int64]
    high: NDArray[np.int64]
    fraction: NDArray[np.float32]

    @classmethod
    def of(cls, interval: tuple[float, float], size: int, content: int, pad: int, input_size: int, cells: int) -> _Axis:
        """The image pixels with their centre in `interval`, and where the centres lie among the prototype's cells.

        Cells that lie wholly or partly in the padding know nothing of the object, so the outermost cell wholly inside
        the content stands for them.
        """
        scale, cell = content / size, input_size / cells
        start, stop = _covered(interval, size, scale)
        first, last = math.ceil(pad / cell), math.floor((pad + content) / cell) - 1
        if last < first:  # the content is thinner than one cell
            first = last = int((pad + content / 2) / cell)
        centres = ((np.arange(start, stop) + 0.5) * scale + pad) / cell - 0.5
        centres = np.clip(centres, first, last)
        low = np.floor(centres).astype(np.int64)
        return cls(start, low, np.minimum(low + 1, last), (centres - low).astype(np.float32))


def masks_from_prototypes(
    prototypes: Tensor,
    coefficients: Tensor,
    boxes: NDArray[np.float64],
    letterbox: Letterbox,
    probability: float = 0.5,
) -> list[tuple[NDArray[np.bool_], int, int]]:
    """Masks of the objects of one image, at the image's own resolution, each only within its box.

    An object's logits are the sum of the prototypes weighted by its coefficients (Bolya et al., "YOLACT", ICCV 2019).
    They are interpolated bilinearly at the centres of the image's pixels and thresholded.

    Args:
        prototypes: (C, h, w) float of one image; they cover the whole network input.
        coefficients: (N, C) float.
        boxes: (N, 4) float: x0, y0, x1, y1 in pixels of the image, inside it.
        letterbox: how the image lies in the network's input.
        probability: of pixels of the object, more than which the mask's pixels have; 0 to 1, both excluded.

    Returns:
        For each object its mask (h, w) bool and the image's row and column at which the mask begins.
    """
    _, cells_y, cells_x = prototypes.shape
    pad_y, pad_x = letterbox.pad
    threshold = math.log(probability / (1 - probability))
    masks = []
    for weights, (x0, y0, x1, y1) in zip(coefficients, boxes.tolist(), strict=True):
        rows = _Axis.of((y0, y1), letterbox.height, letterbox.content_height, pad_y, letterbox.input_height, cells_y)
        columns = _Axis.of((x0, x1), letterbox.width, letterbox.content_width, pad_x, letterbox.input_width, cells_x)
        part = prototypes[:, rows.low[0] : rows.high[-1] + 1, columns.low[0] : columns.high[-1] + 1]
        logits = torch.tensordot(weights, part, dims=1)
        masks.append((_sample(logits, rows, columns, threshold), rows.start, columns.start))
    return masks


def masks_of_boxes(boxes: NDArray[np.float64], letterbox: Letterbox) -> list[tuple[NDArray[np.bool_], int, int]]:
    """Masks that are whole boxes, with the rule of `masks_from_prototypes` for boxes near the image's border.

    Args:
        boxes: (N, 4) float: x0, y0, x1, y1 in pixels of the image, inside it.
        letterbox: how the image lies in the network's input.

    Returns:
        For each box its mask (h, w) bool, all True, and the image's row and column at which the mask begins.
    """
    scale_y, scale_x = letterbox.scale
    masks = []
    for x0, y0, x1, y1 in boxes.tolist():
        top, bottom = _covered((y0, y1), letterbox.height, scale_y)
        left, right = _covered((x0, x1), letterbox.width, scale_x)
        masks.append((np.ones((bottom - top, right - left), dtype=np.bool_), top, left))
    return masks


def _sample(logits: Tensor, rows: _Axis, columns: _Axis, threshold: float) -> NDArray[np.bool_]:
    """Where the logits, given for the cells from `low[0]` to `high[-1]` of each axis, interpolate to more than a threshold."""
    device = logits.device
    top, bottom = (torch.as_tensor(index - rows.low[0], device=device) for index in (rows.low, rows.high))
    left, right = (torch.as_tensor(index - columns.low[0], device=device) for index in (columns.low, columns.high))
    down = torch.as_tensor(rows.fraction, device=device)[:, None]
    across = torch.as_tensor(columns.fraction, device=device)
    mask = np.empty((len(top), len(left)), dtype=np.bool_)
    step = max(1, PIXELS_PER_CHUNK // len(left))
    for start in range(0, len(top), step):
        chunk = slice(start, start + step)
        lines = torch.lerp(logits[top[chunk]], logits[bottom[chunk]], down[chunk])
        mask[chunk] = (torch.lerp(lines[:, left], lines[:, right], across) > threshold).cpu().numpy()
    return mask
