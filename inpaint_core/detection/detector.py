"""Detectors of objects: one file per detector, chosen by the config's `kind`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, assert_never

import numpy as np
from numpy.typing import NDArray

from inpaint_core.detection.config import MaskFilesConfig, Yolov8Config

if TYPE_CHECKING:
    import torch

    from inpaint_core.storage import Storage


@dataclass(frozen=True)
class Detection:
    """One object, with its mask cut out of the image, so that many objects of a large photograph stay small.

    Args:
        label: name of the class.
        confidence: 0 to 1.
        box: (x0, y0, x1, y1) in pixels of the image, inside it.
        mask: (h, w) bool, True on the object; it lies wholly inside the image.
        top: row of the image that the first row of `mask` is.
        left: column of the image that the first column of `mask` is.
    """

    label: str
    confidence: float
    box: tuple[float, float, float, float]
    mask: NDArray[np.bool_]
    top: int
    left: int

    @property
    def pixels(self) -> int:
        """Number of pixels of the object."""
        return int(np.count_nonzero(self.mask))


class Detector(Protocol):
    """Finds the objects to remove."""

    def detect(self, images: Sequence[NDArray[np.uint8]], keys: Sequence[str]) -> list[list[Detection]]:
        """Find the objects of several images at once.

        Args:
            images: each (H, W, 3) uint8 RGB; the sizes may differ.
            keys: the key of each image, relative to the input.

        Returns:
            For each image its objects, every one with at least one pixel.

        Raises:
            ImageError: an image of the batch cannot be processed; which one only a call with one image tells.
        """
        ...


def build_detector(
    config: Yolov8Config | MaskFilesConfig,
    weights: bytes | None,
    *,
    storage: Storage | None,
    device: torch.device,
    autocast: bool,
) -> Detector:
    """The detector that the config names.

    Args:
        config: which detector, and its settings.
        weights: content of the checkpoint; `yolov8` needs it.
        storage: the store of `config.root`; `masks` needs it.
        device: where a network runs.
        autocast: run a network in bfloat16 where that keeps its boxes exact.

    Raises:
        WeightsError: the weights are not a segmentation network.
        ConfigError: a class that the network does not know.
        ValueError: `weights` or `storage` is None where it is needed.
    """
    match config:
        case Yolov8Config():
            if weights is None:
                raise ValueError("The detector `yolov8` needs the content of its checkpoint.")
            # Here, so that a job that brings its own masks never waits for ultralytics.
            from inpaint_core.detection.ultralytics import Yolov8Detector

            return Yolov8Detector(config, weights, device=device, autocast=autocast)
        case MaskFilesConfig():
            if storage is None:
                raise ValueError("The detector `masks` needs the store of its mask files.")
            from inpaint_core.detection.mask_files import MaskFilesDetector

            return MaskFilesDetector(config, storage)
        case _:
            assert_never(config)
