"""A network's outputs before they are decoded, and a teacher's predictions for photographs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from inpaint_core.detection.checkpoint_contents import class_ids
from inpaint_core.detection.checkpoints import class_names, load_network
from inpaint_core.device import has_bfloat16
from inpaint_core.errors import ConfigError
from inpaint_core.images.tensors import to_unit
from inpaint_core.progress import PrintLine
from inpaint_core.training.detector.config import DistillationConfig
from inpaint_core.training.detector.mosaics import grid

SECONDS_BETWEEN_LINES = 20.0
_TOGETHER = 2  # photographs a side of the pictures that the teacher rates
_STRIDES = (8, 16, 32)


class Answering:
    """A network whose answers are those of its head in training mode, with the feature maps that later layers look at.

    Args:
        network: a segmentation network of ultralytics.
        name: what it is called, for messages.

    Raises:
        ConfigError: its head is of another kind.
    """

    def __init__(self, network: Any, name: str) -> None:
        self.network = network
        self._maps: dict[int, Tensor] = {}
        for layer in network.save:
            network.model[layer].register_forward_hook(self._keep(layer))
        device = next(network.parameters()).device
        self._autocast = has_bfloat16(device)
        with torch.no_grad():
            answers, maps = self(torch.zeros(2, 3, 64, 64, device=device))
        if not {"scores", "boxes", "mask_coefficient", "proto"} <= set(answers):
            raise ConfigError(f"{name} has a head without non-maximum suppression; give a YOLOv8 segmentation network")
        self.shapes = [maps_of_layer.shape for maps_of_layer in maps]

    def _keep(self, layer: int) -> Callable[[nn.Module, Any, Tensor], None]:
        def keep(module: nn.Module, given: Any, maps: Tensor) -> None:
            self._maps[layer] = maps

        return keep

    def __call__(self, pictures: Tensor) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Answers (see `losses`) and feature maps; pictures (B, 3, H, W) float32 RGB in [0, 1]."""
        with torch.autocast(pictures.device.type, dtype=torch.bfloat16, enabled=self._autocast):
            answers = self.network(pictures)
        maps = [self._maps[layer] for layer in sorted(self._maps)]
        self._maps.clear()
        return answers, maps


class Teacher(Answering):
    """A trained network, which only answers.

    Args:
        weights: content of its checkpoint.
        config: the run's.
        device: where it runs.

    Raises:
        WeightsError: not a segmentation checkpoint.
        ConfigError: it lacks a class, or its head is of another kind.
    """

    def __init__(self, weights: bytes, config: DistillationConfig, device: torch.device) -> None:
        network = load_network(weights, config.teacher.weights, "teacher.weights")
        self.classes = class_ids(class_names(network), config.classes, "classes")
        network.fuse(verbose=False)
        network = network.eval().requires_grad_(False).to(device).to(memory_format=torch.channels_last)
        network.model[-1].training = True  # the flag alone: raw answers, and BatchNorm as in evaluation
        self._device = device
        super().__init__(network, f"teacher.weights: {config.teacher.weights}")

    @torch.no_grad()
    def rate(self, photographs: NDArray[np.uint8], size: int, batch: int, print_line: PrintLine) -> NDArray[np.float64]:
        """How sure it is that a wanted object is in each photograph.

        Args:
            photographs: (n, s, s, 3) uint8 RGB.
            size: side of the pictures that it is shown, four photographs in each; a multiple of 64.
            batch: pictures at once.
            print_line: takes lines for a person.

        Returns:
            (n,) 0 to 1: its highest confidence in the photograph's quarter of the picture.
        """
        each = _TOGETHER**2
        rates = np.zeros(len(photographs))
        said = time.monotonic()
        for begin in range(0, len(photographs), each * batch):
            part = photographs[begin : begin + each * batch]
            pictures = [grid(part[at : at + each], size // _TOGETHER, _TOGETHER) for at in range(0, len(part), each)]
            pictures = [_padded(picture, size) for picture in pictures]
            answers, _ = self(to_unit(np.stack(pictures), self._device))
            confidences = answers["scores"][:, self.classes].float().sigmoid().amax(1)
            rates[begin : begin + len(part)] = _by_quarter(confidences, size).reshape(-1)[: len(part)]
            if time.monotonic() - said >= SECONDS_BETWEEN_LINES:
                said = time.monotonic()
                print_line(f"teacher predictions for {begin + len(part):,} of {len(photographs):,} photographs")
        return rates


def _padded(picture: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    height, width = picture.shape[:2]
    return np.pad(picture, ((0, size - height), (0, size - width), (0, 0)), constant_values=114)


def _by_quarter(confidences: Tensor, size: int) -> NDArray[np.float32]:
    """(B, A) to (B, 4): the highest of each quarter of the picture, row by row."""
    levels: Sequence[Tensor] = torch.split(confidences, [(size // stride) ** 2 for stride in _STRIDES], dim=1)
    found = []
    for stride, level in zip(_STRIDES, levels, strict=True):
        side = size // stride
        found.append(nn.functional.adaptive_max_pool2d(level.view(-1, 1, side, side), _TOGETHER).flatten(1))
    highest: NDArray[np.float32] = torch.stack(found).amax(0).cpu().numpy()
    return highest
