"""Perceptual loss: the distance of two images in the feature maps of a network that segments photographs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from inpaint_core.errors import WeightsError
from inpaint_core.images.tensors import as_unit
from inpaint_core.training.feature_weights import KEY

_STRIDES = (4, 8, 16)
_PROBE = 64  # pixels a side


class FeatureDistance:
    """Distances in the maps of the first layers of a YOLO network, frozen, in evaluation mode.

    Of the layers before the first one that takes more than the one before it, the last at 1/4, 1/8 and 1/16 of the image's
    size give the maps. The distance of a layer is the mean squared difference, as a share of the photographs' mean
    square, so that layers count alike; only what depends on the hole differs, so that it is divided by the hole's share
    of the image. Johnson et al., "Perceptual Losses for Real-Time Style Transfer and Super-Resolution", ECCV 2016; that a
    network that segments sees the structure of a scene better than one that classifies: Suvorov et al., LaMa, WACV 2022.

    Args:
        weights: content of a checkpoint of ultralytics.
        name: what it is called, for messages.
        device: where it runs.

    Raises:
        WeightsError: it is no checkpoint, or has no maps of these sizes.
    """

    def __init__(self, weights: bytes, name: str, device: torch.device) -> None:
        from inpaint_core.detection.checkpoints import load_network  # imports ultralytics, which takes seconds

        network = load_network(weights, name, KEY, boxes=True)
        layers = _first_layers(network.model)
        chosen: dict[int, int] = {}
        maps = torch.zeros(1, 3, _PROBE, _PROBE)
        layers.eval().requires_grad_(False)
        for number, layer in enumerate(layers):
            maps = layer(maps)
            chosen[_PROBE // maps.shape[-1]] = number
        if not set(_STRIDES) <= set(chosen):
            raise WeightsError(
                f"{KEY}: {name} has no feature maps at 1/4, 1/8 and 1/16 of the image; give a YOLOv8 network"
            )
        self._chosen = tuple(chosen[stride] for stride in _STRIDES)
        self._layers = layers[: self._chosen[-1] + 1].to(device).to(memory_format=torch.channels_last)

    def __call__(self, filled: Tensor, truth: Tensor, mask: Tensor | None) -> Tensor:
        """The distance, a float32 scalar whose gradient is that of `filled`.

        Args:
            filled: the composites, (B, 3, H, W) in [-1, 1]; H and W are multiples of 16.
            truth: the photographs, of the same shape.
            mask: (B, 1, H, W) bool, True = hole; None: all of it is predicted.
        """
        with torch.no_grad():
            expected = self._maps(truth)
        layers = [
            (x.float() - y.float()).square().mean((1, 2, 3)) / y.float().square().mean().clamp(min=1e-6)
            for x, y in zip(self._maps(filled), expected, strict=True)
        ]
        distances = torch.stack(layers).mean(0)
        if mask is not None:
            # An image without a hole has no difference.
            distances = distances / mask.float().mean((1, 2, 3)).clamp(min=1 / mask[0].numel())
        return distances.mean()

    def _maps(self, images: Tensor) -> list[Tensor]:
        maps, kept = as_unit(images), []
        for number, layer in enumerate(self._layers):
            maps = layer(maps)
            if number in self._chosen:
                kept.append(maps)
        return kept


def _first_layers(model: Any) -> nn.Sequential:
    """The layers up to the first that takes others than the one before it."""
    layers = []
    for layer in model:
        if layer.f != -1:
            break
        layers.append(layer)
    return nn.Sequential(*layers)
