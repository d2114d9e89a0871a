"""Fill a drawn mask with the inpainter of a job."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inpaint_core.detection.detector import Detection
from inpaint_core.device import choose_device
from inpaint_core.errors import ImageError, Stage
from inpaint_core.images.formats.codec import open_image
from inpaint_core.removal.build import build_inpainter, build_remover
from inpaint_core.removal.config import RemoveConfig
from inpaint_core.removal.image_task import ImageTask
from inpaint_core.removal.job import model_weights
from inpaint_core.removal.record import Record
from inpaint_core.removal.remover import ObjectRemover


class _NoDetector:
    """Finds nothing: a drawn mask needs no detector, whose weights may be far away."""

    def detect(self, images: Sequence[NDArray[np.uint8]], keys: Sequence[str]) -> list[list[Detection]]:
        return [[] for _ in images]


class Filler:
    """The inpainter of a job, loaded with the first mask. May be used from several threads; one image is filled at a time.

    Args:
        config: of the job.
        measured: whether the job's detector looks at the result too, as it did in the job (`residual_objects`).
    """

    def __init__(self, config: RemoveConfig, *, measured: bool) -> None:
        # The machine of the reviewer is seldom that of the job.
        self._config = replace(config, scaling=replace(config.scaling, device="auto"), dry_run=False, retry=())
        self._measured = measured and config.measure.residual_objects and config.detector.looks_at_pixels
        self._remover: ObjectRemover | None = None
        self._lock = threading.Lock()

    def fill(self, data: bytes, mask: NDArray[np.bool_], key: str) -> tuple[bytes, Record]:
        """The image with the masked pixels filled, in its format, and the record with what was measured.

        Args:
            data: an encoded image.
            mask: (H, W) bool of the image as displayed, True = fill.
            key: of the image.

        Raises:
            ImageError: the image cannot be decoded, filled or encoded.
            UserError: the weights cannot be had.
        """
        with self._lock:
            remover = self._load()
            task = ImageTask(Record(key, len(data), "", "", "", datetime.now(UTC)), data=data)
            remover.decode(task)
            remover.fill_masks([task], [mask])
            remover.encode(task)
            if self._measured:
                remover.count_residuals([task])
            record = remover.finish(task)
        if task.output is None:
            raise ImageError(record.stage or Stage.INPAINT, record.error or "it cannot be filled")
        return task.output, record

    def _load(self) -> ObjectRemover:
        if self._remover is None:
            device = choose_device(self._config.scaling.device, "scaling.device")
            if self._measured:
                self._remover = build_remover(self._config, *model_weights(self._config), device=device)
            else:
                reference = self._config.inpainter.weights_file()
                weights = reference.load(self._config.s3, key="inpainter.weights") if reference else None
                inpainter = build_inpainter(self._config, weights, device=device)
                self._remover = ObjectRemover(self._config, _NoDetector(), inpainter)
        return self._remover


def mask_of(png: bytes, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask in a PNG, (H, W) bool: where it is opaque to half or more, or, without alpha, as bright.

    Args:
        png: the file.
        size: (width, height) that it must have.

    Raises:
        ImageError: no PNG, or of another size.
    """
    try:
        with open_image(png, "PNG") as image:
            if image.size != size:  # before anything is decoded
                raise ImageError(
                    Stage.MASK,
                    f"the mask has {image.width} x {image.height} pixels and the image {size[0]} x {size[1]}",
                )
            band = image.getchannel("A") if "A" in image.getbands() else image.convert("L")
            return np.asarray(band) >= 128
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ImageError(Stage.MASK, f"the mask is not a PNG that can be decoded ({error})") from error
