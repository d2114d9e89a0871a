"""Writes the result of an image: the output under its key, its mask, and its cleaned version where that is held."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Literal, assert_never

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inpaint_core.errors import ObjectError
from inpaint_core.images.formats.codec import saved
from inpaint_core.removal.catalogue.layout import Layout
from inpaint_core.removal.config import RemoveConfig
from inpaint_core.removal.image_task import ImageTask
from inpaint_core.removal.object_mask import overlay
from inpaint_core.removal.record import NOT_CARRIED_OVER
from inpaint_core.storage import Storage

PERHAPS_WRITTEN = "the output under this key may be of this run, or of an earlier one"
"""Remark on an image whose write was not answered."""


class OutputWriter:
    """Writes images, one at a time in each thread.

    Args:
        target: where the results go.
        config: the settings of the job.
        earlier_masks: whether the output may hold masks of an earlier run; an image in which nothing is found now loses
            its own. False saves a request for each such image.
        earlier_held: the same of images that an earlier run held back.
    """

    def __init__(self, target: Storage, config: RemoveConfig, *, earlier_masks: bool, earlier_held: bool) -> None:
        self._target = target
        self._config = config
        self._layout = Layout.of(dry_run=config.dry_run)
        self._earlier_masks = earlier_masks
        self._earlier_held = earlier_held

    def write(self, task: ImageTask) -> None:
        """Put the image, then its mask, in the place of what an earlier run left there; a failed image puts nothing.

        In this order, because no store replaces two objects at once. A write of the image that does not succeed leaves
        the earlier image with the earlier mask. Between the two writes there is the new image with the earlier mask, and
        no record of either: the next run sees an image of another size than the record's, and does both again. The other
        way round an earlier image, which its record calls done, would keep a mask that is not its own.

        Raises:
            ObjectError: something cannot be written or deleted.
        """
        if task.over:
            return
        if task.output is not None and not self._config.dry_run:
            instead = self._config.accept.instead if task.record.status == "held" else "cleaned"
            if instead == "cleaned":
                self._write_image(task, task.key, task.output)
                self._delete_held(task)
            else:
                self._write_held(task, task.output, instead)
            task.written = True
        if task.target is None:
            self._delete_masks(task)
            return
        self._target.write(self._layout.mask(task.key), mask_png(task.target.mask))
        if self._config.dry_run and task.decoded is not None:
            tinted = overlay(task.decoded.pixels, task.target.core, task.target.mask)
            self._target.write(self._layout.overlay(task.key), _png(Image.fromarray(tinted)))

    def _write_held(self, task: ImageTask, cleaned: bytes, instead: Literal["original", "nothing", "blurred"]) -> None:
        """Keep a cleaned version that breaks a rule elsewhere, and write the output that the settings select."""
        self._write_image(task, self._layout.held(task.key), cleaned)
        match instead:
            case "original":
                assert task.data is not None
                self._write_image(task, task.key, task.data)
                task.record.output_size = len(task.data)
            case "blurred":
                assert task.blurred is not None
                self._write_image(task, task.key, task.blurred)
                task.record.output_size = len(task.blurred)
            case "nothing":
                self._target.delete(task.key)
                task.record.output_size = None
            case _ as never:
                assert_never(never)

    def _delete_held(self, task: ImageTask) -> None:
        """After a cleaned version was written under its key: the one of an earlier run that was kept elsewhere is out of date."""
        if self._earlier_held:
            self._target.delete(self._layout.held(task.key))

    def _write_image(self, task: ImageTask, key: str, output: bytes) -> None:
        """Write an image with the properties of the input; the record says which of them were lost."""
        assert task.original is not None
        original = task.original
        if self._config.write.times == "now":
            original = replace(original, properties=original.properties.without_time())
        lost = self._target.write_like(key, output, original, unchanged=output is task.data)
        if lost and NOT_CARRIED_OVER not in (task.record.note or ""):
            task.remark(f"{NOT_CARRIED_OVER}{', '.join(lost)}")

    def _delete_masks(self, task: ImageTask) -> None:
        """After a new version was written in which nothing was filled: the mask is of the version that it replaced."""
        if self._earlier_masks:
            self._target.delete(self._layout.mask(task.key))
            if self._config.dry_run:
                self._target.delete(self._layout.overlay(task.key))

    def remark_on_output(self, task: ImageTask) -> None:
        """Note in a failed image's record what its output is: no failure deletes an output."""
        if self._config.dry_run:
            return
        if task.written:
            task.remark("the output under this key is of this run, but its mask is not")
            return
        if task.unanswered:
            task.remark(PERHAPS_WRITTEN)
            return
        with suppress(ObjectError):  # not a key that anything could lie under, or not to be seen with these credentials
            if self._target.exists(task.key):
                task.remark("the output under this key is of an earlier run")


def mask_png(mask: NDArray[np.bool_]) -> bytes:
    """A (H, W) bool mask as a 1-bit PNG, white where pixels were filled."""
    return _png(Image.fromarray(mask))


def _png(image: Image.Image) -> bytes:
    return saved(image, "PNG", compress_level=3)
