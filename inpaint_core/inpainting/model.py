"""What fills holes: one file each, chosen by a tagged union. `build_inpainter` makes one from its config."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, assert_never

import numpy as np
import torch
from numpy.typing import NDArray

from inpaint_core.errors import WeightsError
from inpaint_core.inpainting.config import GeneratorConfig, InpainterConfig, OpencvConfig, TorchscriptConfig
from inpaint_core.inpainting.generator import GeneratorInpainter
from inpaint_core.inpainting.opencv import OpencvInpainter
from inpaint_core.inpainting.torchscript import TorchscriptInpainter


class InpaintingModel(Protocol):
    """Fills masked pixels of windows, which `inpaint_core.inpainting.inpainter.Inpainter` cuts from images of any size."""

    @property
    def window(self) -> int | None:
        """Side in pixels of the square windows that the model is given; None: any width and height."""
        ...

    @property
    def central(self) -> bool:
        """Whether only the central half (`window / 2` square) is predicted, so that the part to fill lies within it."""
        ...

    @property
    def detail(self) -> float | None:
        """Share of the photograph's own patches in a fill at its size (see `inpaint_core.inpainting.enlarge`), 0 to 1; None: fills are
        enlarged as they are."""
        ...

    def fill(self, images: Sequence[NDArray[np.uint8]], masks: Sequence[NDArray[np.bool_]]) -> list[NDArray[np.uint8]]:
        """Fill windows; networks run all of them in one forward pass.

        The result does not depend on what the images hold under their masks.

        Args:
            images: each (h, w, 3) uint8 RGB.
            masks: each (h, w) bool, True = fill.

        Returns:
            Each (h, w, 3) uint8; valid where the mask is True (within the central half, for `central` models).

        Raises:
            ImageError: the fill of a window is not finite (stage `inpaint`).
        """
        ...


def build_inpainter(
    config: InpainterConfig, weights: bytes | None, *, device: torch.device, autocast: bool
) -> InpaintingModel:
    """The model of a config, ready to fill.

    Args:
        config: which model.
        weights: the content of its weights file; not looked at by `opencv`, which has none.
        device: where networks run.
        autocast: whether networks run in bfloat16 autocast.

    Raises:
        WeightsError: the weights are missing or not of this model.
    """
    match config:
        case OpencvConfig():
            return OpencvInpainter(config)
        case GeneratorConfig():
            return GeneratorInpainter(
                _required(weights, config.kind), detail=config.detail, device=device, autocast=autocast
            )
        case TorchscriptConfig():
            return TorchscriptInpainter(config, _required(weights, config.kind), device=device, autocast=autocast)
        case _:
            assert_never(config)


def _required(weights: bytes | None, kind: str) -> bytes:
    if weights is None:
        raise WeightsError(f"The {kind} inpainter needs weights: set inpainter.weights to a path or URI.")
    return weights
