"""Fills to evaluate: by networks, and baselines without training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, assert_never

import numpy as np
import torch
from numpy.typing import NDArray

from inpaint_core.errors import WeightsError
from inpaint_core.images.tensors import from_network, to_network
from inpaint_core.inpainting.config import OpencvConfig
from inpaint_core.inpainting.opencv import OpencvInpainter
from inpaint_core.networks.compositing import fill_images
from inpaint_core.networks.generator import Generator
from inpaint_core.networks.push_pull import push_pull
from inpaint_core.networks.spec import IMAGE_SIZE, GeneratorSpec
from inpaint_core.networks.weights.generator_file import load_generator
from inpaint_core.networks.weights.load import load_weights
from inpaint_core.training.evaluation.config import EvaluateConfig, FillName, checkpoint_files

Images = NDArray[np.uint8]
Masks = NDArray[np.bool_]

RADIUS = 3.0
"""Of OpenCV's fills, in pixels: that of the published baseline."""


class Fill(Protocol):
    """One row of the table. May be called from several threads at once."""

    def __call__(self, images: Images, masks: Masks) -> Images:
        """Images (n, S, S, 3) uint8 with new values where `masks` (n, S, S) bool say; arguments are only read."""
        ...


@dataclass(frozen=True)
class Fills:
    """Every row of the table by its label: the checkpoints, then the fills without training."""

    by_label: dict[str, Fill]
    size: int
    """Side of the images that they fill, in pixels."""


def build_fills(config: EvaluateConfig, device: torch.device) -> Fills:
    """Load the checkpoints, and choose the size of the images.

    Args:
        config: one that `check_config` lets pass.
        device: where the networks run.

    Raises:
        WeightsError: a checkpoint cannot be read, is not one of this project, or cannot fill holes of this kind or size.
        StorageError: the store of a checkpoint cannot be used.
    """
    networks = {label: _load(uri, config, device) for label, uri in checkpoint_files(config)}
    size = config.size or _common_size(networks)
    for network in networks.values():
        network.check_size(size)
    others: dict[str, Fill] = {name: _without_training(name, size) for name in config.fills}
    return Fills({**networks, **others}, size)


def _common_size(networks: Mapping[str, NetworkFill]) -> int:
    sizes = {label: network.spec.size for label, network in networks.items()}
    if len(set(sizes.values())) > 1:
        shown = ", ".join(f"{label}: {size}" for label, size in sizes.items())
        raise WeightsError(f"checkpoints: their networks have different sizes ({shown}); set size; U-Nets accept any")
    return next(iter(sizes.values()), IMAGE_SIZE)


def _load(uri: str, config: EvaluateConfig, device: torch.device) -> NetworkFill:
    weights = load_weights(uri, None, config.s3, key="checkpoints")
    try:
        network, spec = load_generator(weights.data)
    except WeightsError as error:
        raise WeightsError(f"checkpoints: {uri}: {error}") from error
    network = network.to(device).requires_grad_(False)
    if spec.output == "center" and config.holes != "center":
        raise WeightsError(
            f"checkpoints: {uri} fills the central square only, not holes={config.holes}; "
            "evaluate it with holes=center, or leave it out"
        )
    return NetworkFill(network, device, uri, spec)


def _without_training(name: FillName, size: int) -> Fill:
    match name:
        case "mean":
            return mean_fill
        case "telea" | "navier_stokes":
            return OpencvFill(OpencvConfig(method=name, radius=RADIUS, window=size))
        case "push_pull":
            return push_pull_fill
        case _:
            assert_never(name)


def mean_fill(images: Images, masks: Masks) -> Images:
    """The mean colour of what is not masked, channel by channel, cut to whole levels as in the published baseline."""
    seen = ~masks[..., None]
    means = np.where(seen, images, 0).sum(axis=(1, 2), dtype=np.int64) // seen.sum(axis=(1, 2))
    return np.where(masks[..., None], means[:, None, None].astype(np.uint8), images)


def push_pull_fill(images: Images, masks: Masks) -> Images:
    """What a U-Net starts from: see `inpaint_core.networks.push_pull`."""
    filled = push_pull(to_network(images), torch.from_numpy(masks)[:, None])
    return pasted(images, masks, from_network(filled))


class OpencvFill:
    """`cv2.inpaint` at the images' own size."""

    def __init__(self, config: OpencvConfig) -> None:
        self._inpainter = OpencvInpainter(config)

    def __call__(self, images: Images, masks: Masks) -> Images:
        """See `Fill`."""
        return pasted(images, masks, np.stack(self._inpainter.fill(list(images), list(masks))))


class NetworkFill:
    """The prediction of a network, rounded to uint8 as a user would get it.

    A `center` network of 128 pixels is shown the image less its middle 56x56, and predicts the middle 64x64. So it sees the 4
    pixels around what is hidden although it predicts them too: the protocol of the paper, whose table pastes all 64x64. Its
    masks lie within the middle 64x64 and hold the middle 56x56. Of larger sizes it is the same part. Nothing is pasted outside the mask.

    Args:
        network: in evaluation mode, on `device`.
        device: where it runs.
        uri: of the checkpoint, for messages.
        spec: what it is built from.
    """

    def __init__(self, network: Generator, device: torch.device, uri: str, spec: GeneratorSpec) -> None:
        self._network, self._device, self._uri, self.spec = network, device, uri, spec

    @property
    def central(self) -> bool:
        """Whether it is a `center` network, which is not given the mask."""
        return self.spec.output == "center"

    def check_size(self, size: int) -> None:
        """Refuse images that it cannot fill.

        Raises:
            WeightsError: names both sizes.
        """
        if self.spec.kind != "unet" and self.spec.size != size:
            raise WeightsError(
                f"checkpoints: {self._uri} fills images of {self.spec.size} pixels only, not size={size}; leave it out, or leave out size"
            )

    def __call__(self, images: Images, masks: Masks) -> Images:
        """See `Fill`.

        Raises:
            WeightsError: the prediction has values that are not finite; the message names the checkpoint.
        """
        try:
            filled = fill_images(self._network, images, None if self.central else masks, self._device)
        except FloatingPointError as error:
            raise WeightsError(f"checkpoints: {self._uri} predicts values that are not finite; leave it out") from error
        return pasted(images, masks, filled)


def pasted(images: Images, masks: Masks, filled: Images) -> Images:
    """`filled` where the mask is, and `images`, bit by bit, elsewhere."""
    return np.where(masks[..., None], filled, images)
