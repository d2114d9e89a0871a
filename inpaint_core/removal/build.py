"""Building the models of a worker process; apart from `job`, so that the driver never imports torch."""

from __future__ import annotations

import cv2
import torch

from inpaint_core.detection.build import build_detector
from inpaint_core.detection.config import MaskFilesConfig
from inpaint_core.device import choose_device
from inpaint_core.inpainting.inpainter import Inpainter
from inpaint_core.inpainting.model import build_inpainter
from inpaint_core.networks.weights.load import Weights
from inpaint_core.removal.config import RemoveConfig
from inpaint_core.removal.job import Job, load_config_weights
from inpaint_core.removal.remover import ObjectRemover
from inpaint_core.removal.worker import Worker
from inpaint_core.storage import open_storage


def build_worker(job: Job, *, threads: int) -> Worker:
    """The worker of this process: builds both models on its device.

    Args:
        job: the job.
        threads: CPU threads that the models may use.

    Raises:
        ConfigError, WeightsError: a class that the network does not know, weights of another kind of network.
    """
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    remover = _built(job.config, job.detector_weights, job.inpainter_weights)
    return Worker(remover, job.source, job.target, job.run, earlier_masks=job.earlier_masks)


def build_remover(config: RemoveConfig) -> ObjectRemover:
    """A remover of this process alone: reads the weights that the config names, and builds both models.

    Raises:
        ConfigError, WeightsError: as for `build_worker`, or weights cannot be had.
        StorageError: the store of the weights, or of the mask files, cannot be used.
    """
    return _built(config, *load_config_weights(config))


def _built(config: RemoveConfig, detector_weights: Weights | None, inpainter_weights: Weights | None) -> ObjectRemover:
    device = choose_device(config.scaling.device, "scaling.device", place="on this worker")
    masks = open_storage(config.detector.root, config.s3) if isinstance(config.detector, MaskFilesConfig) else None
    detector = build_detector(
        config.detector,
        detector_weights.data if detector_weights else None,
        storage=masks,
        device=device,
        autocast=config.scaling.autocast,
    )
    model = build_inpainter(
        config.inpainter,
        inpainter_weights.data if inpainter_weights else None,
        device=device,
        autocast=config.scaling.autocast,
    )
    return ObjectRemover(config, detector, Inpainter(model, config.fill))
