"""How a hole is filled with a generator: the hole is hidden, the network predicts, the prediction is composited.

Inpainting, training and evaluation all go through `hide`, `predict` and `composite`; inpainting and evaluation, whose images are
uint8, use `fill_images`, which composites for `center` generators only. All tensors are (B, 3, H, W) floating point in [-1, 1]; `images` are (B, 3, S, S), S the
size of the network, and no argument is changed. `masks` is (B, 1, S, S) bool, True = hole, for `full` generators. It is None for
`center` generators, which know their hole: the middle square of half the side is predicted, and of it all but the outer `overlap`
pixels are hidden. Of 128 pixels that is 64x64, and 56x56.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from inpaint_core.images.tensors import from_network, to_network
from inpaint_core.networks.spec import hole_size, overlap

CHANNEL_MEANS = (117 / 255, 104 / 255, 123 / 255)
"""What a hole is filled with before the generator sees it: R, G, B in [0, 1] (the constants of the paper's code)."""


def hole_fill(like: Tensor) -> Tensor:
    """`CHANNEL_MEANS` on the scale [-1, 1], (1, 3, 1, 1) with the dtype and device of `like`."""
    # Not by `torch.tensor`: it copies from the host, which makes a GPU and its host wait for each other.
    means = torch.stack([like.new_full((), mean) for mean in CHANNEL_MEANS])
    return (2 * means - 1).view(1, 3, 1, 1)


def hide(images: Tensor, masks: Tensor | None) -> Tensor:
    """What a generator is shown: the images with their holes filled by the channel means, (B, 3, S, S)."""
    if masks is not None:
        return torch.where(masks, hole_fill(images), images)
    shown = images.clone()
    hidden = _middle(images, overlap(images.shape[-1]))
    shown[:, :, hidden, hidden] = hole_fill(images)
    return shown


def predict(network: nn.Module, images: Tensor, masks: Tensor | None) -> Tensor:
    """What a generator predicts for images whose holes are hidden from it.

    Args:
        network: a `Generator`, or a wrapper that is called like one (DistributedDataParallel).
        images: the photographs, holes included.
        masks: see the module.

    Returns:
        float32, also under autocast: (B, 3, S, S), or (B, 3, S / 2, S / 2), the middle, where `masks` is None.
    """
    prediction: Tensor = network(hide(images, masks), masks)
    return prediction.float()


def predicted_part(images: Tensor, masks: Tensor | None) -> Tensor:
    """The part of images that a generator predicts, to compare with its prediction: a view, of the prediction's shape."""
    if masks is not None:
        return images
    predicted = _middle(images)
    return images[:, :, predicted, predicted]


def composite(prediction: Tensor, images: Tensor, masks: Tensor | None) -> Tensor:
    """The images with their holes filled by a prediction, (B, 3, S, S).

    `full`: the prediction in the holes only. `center`: all that is predicted, the overlap included.
    """
    if masks is not None:
        return torch.where(masks, prediction, images)
    filled = images.clone()
    predicted = _middle(images)
    filled[:, :, predicted, predicted] = prediction
    return filled


def fill_images(
    network: nn.Module,
    images: NDArray[np.uint8],
    masks: NDArray[np.bool_] | None,
    device: torch.device,
    *,
    autocast: bool = False,
) -> NDArray[np.uint8]:
    """Photographs with their holes filled by a generator.

    Args:
        network: a `Generator` in evaluation mode, on `device`.
        images: (B, S, S, 3) uint8 RGB, holes included.
        masks: (B, S, S) bool for `full` generators, None for `center` ones.
        device: where the network runs.
        autocast: whether it runs in bfloat16 autocast.

    Returns:
        (B, S, S, 3) uint8 RGB. Outside the holes it is the prediction, too, for `full`, and for `center` the photograph.

    Raises:
        FloatingPointError: the prediction has values that are not finite.
    """
    pictures = to_network(images).to(device)
    given = None if masks is None else torch.from_numpy(masks).to(device)[:, None]
    with torch.inference_mode():
        with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
            prediction = predict(network, pictures, given)
        if not torch.isfinite(prediction).all():
            raise FloatingPointError("the network predicts values that are not finite")
        return from_network(composite(prediction, pictures, None) if given is None else prediction)


def _middle(images: Tensor, inset: int = 0) -> slice:
    """Rows, and columns, of the square that `center` generators predict, less `inset` pixels on each side."""
    side = images.shape[-1]
    begin = (side - hole_size(side)) // 2 + inset
    return slice(begin, side - begin)
