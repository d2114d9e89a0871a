"""Arrays of images to tensors and back: the only place where pixels change layout or range."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def to_network(images: NDArray[np.uint8]) -> Tensor:
    """Images (B, H, W, 3) uint8 RGB as (B, 3, H, W) float32 in [-1, 1]."""
    return scaled(channels_first(images))


def channels_first(images: NDArray[np.uint8]) -> Tensor:
    """Images (B, H, W, 3) uint8 RGB as (B, 3, H, W) uint8."""
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def to_unit(images: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Images (B, H, W, 3) uint8 RGB as (B, 3, H, W) float32 in [0, 1], the channels of a pixel together in memory.

    They go to the device as they are, a quarter of the bytes.
    """
    return torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float().div_(255)


def scaled(images: Tensor) -> Tensor:
    """Images of any shape as float32 in [-1, 1], from uint8, on their device and in their memory layout."""
    return images.float().div_(127.5).sub_(1.0)


def as_unit(images: Tensor) -> Tensor:
    """Images of any shape in [-1, 1] as the same in [0, 1]."""
    return (images + 1) / 2


def from_network(images: Tensor) -> NDArray[np.uint8]:
    """Images (B, 3, H, W) in [-1, 1], on any device, as (B, H, W, 3) uint8 RGB: rounded, and clipped at the ends."""
    levels = images.detach().float().add(1.0).mul(127.5).round().clamp(0, 255).byte()
    return np.ascontiguousarray(levels.cpu().numpy().transpose(0, 2, 3, 1))
