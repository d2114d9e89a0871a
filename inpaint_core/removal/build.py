"""Building the models of a worker process; apart from `job`, so that the driver never imports torch."""

from __future__ import annotations

import cv2
import torch

from inpaint_core.detection.build import build_detector
from inpaint_core.detection.config import MaskFilesConfig
from inpaint_core.device import choose_device
from inpaint_core.inpainting.inpainter import Inpainter
from inpaint_core.inpainting.model import build_inpainter
from inpaint_core.removal.job import Job
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
    config = job.config
    device = choose_device(config.scaling.device, "scaling.device", place="on this worker")
    masks = open_storage(config.detector.root, config.s3) if isinstance(config.detector, MaskFilesConfig) else None
    detector = build_detector(
        config.detector,
        job.detector_weights.data if job.detector_weights else None,
        storage=masks,
        device=device,
        autocast=config.scaling.autocast,
    )
    model = build_inpainter(
        config.inpainter,
        job.inpainter_weights.data if job.inpainter_weights else None,
        device=device,
        autocast=config.scaling.autocast,
    )
    remover = ObjectRemover(config, detector, Inpainter(model, config.fill))
    return Worker(remover, job.source, job.target, job.run, earlier_masks=job.earlier_masks)
