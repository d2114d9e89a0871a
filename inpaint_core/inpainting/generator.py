"""Fills by a generator that this project trained."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from inpaint_core.errors import ImageError, Stage
from inpaint_core.inpainting.window_pixels import blank
from inpaint_core.networks.compositing import fill_images
from inpaint_core.networks.weights.generator_file import load_generator

_PREFILL_RADIUS = 3.0


class GeneratorInpainter:
    """A generator in evaluation mode on windows of its size.

    A `full` generator is shown the window with the channel means under the mask, as in its training with any mask.

    A `center` generator is trained with the middle 56x56 of 128x128 pixels hidden and predicts 64x64 (of larger sizes, the
    same part). Here, too, it is always shown that square hidden; what is masked outside it (the edge of the hole itself, other objects) is filled by
    `cv2.inpaint` first, so that nothing of an object is seen and the network still looks at a photograph.

    Args:
        weights: content of a checkpoint that `save_generator` wrote.
        device: where the network runs.
        autocast: whether it runs in bfloat16 autocast.

    Raises:
        WeightsError: see `load_generator`.
    """

    def __init__(self, weights: bytes, *, device: torch.device, autocast: bool) -> None:
        network, self.spec = load_generator(weights)
        self.window: int | None = self.spec.size
        # In this memory layout convolutions are faster, on CPUs and GPUs.
        self._network = network.to(device).to(memory_format=torch.channels_last)
        self._device = device
        self._autocast = autocast

    @property
    def central(self) -> bool:
        """True for `center` generators."""
        return self.spec.output == "center"

    def fill(self, images: Sequence[NDArray[np.uint8]], masks: Sequence[NDArray[np.bool_]]) -> list[NDArray[np.uint8]]:
        """See `InpaintingModel.fill`; every window has the size of the network.

        The result outside the masks is the prediction for `full`, and for `center` the prefilled photograph around the
        central square.
        """
        if not images:
            return []
        shown = np.stack(_prefilled(images, masks) if self.central else images)
        given = None if self.central else np.stack(masks)
        try:
            return list(fill_images(self._network, shown, given, self._device, autocast=self._autocast))
        except FloatingPointError as error:
            raise ImageError(
                Stage.INPAINT, "the generator gave values that are not finite: check its weights"
            ) from error


def _prefilled(images: Sequence[NDArray[np.uint8]], masks: Sequence[NDArray[np.bool_]]) -> list[NDArray[np.uint8]]:
    return [_prefill(image, mask) for image, mask in zip(images, masks, strict=True)]


def _prefill(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    masked = np.ascontiguousarray(mask).view(np.uint8)
    # Blanked first: cv2.inpaint reads masked pixels at the edge of an image.
    return cv2.inpaint(blank(image, mask), masked, _PREFILL_RADIUS, cv2.INPAINT_TELEA).astype(np.uint8, copy=False)
