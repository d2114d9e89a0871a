"""A detector from its settings, chosen by their `kind`."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from inpaint_core.detection.config import MaskFilesConfig, Yolov8Config
from inpaint_core.detection.detector import Detector

if TYPE_CHECKING:
    import torch

    from inpaint_core.storage import Storage


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
