"""The Python interface: remove objects from one image, or from those of a pipeline of one's own.

    remover = load_remover({"detector.classes": ["person"], "inpainter.kind": "opencv"})
    cleaned, record = remover(Path("street.jpg").read_bytes())

In Ray Data, `map_batches` takes a class that makes a `Remover` in each of its actors: `docs/examples/ray_data.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, overload

from PIL import Image

from inpaint_core.config import tree_of, validate
from inpaint_core.images.formats.codec import open_image, saved
from inpaint_core.removal.config import RemoveConfig
from inpaint_core.removal.record import Record
from inpaint_core.removal.rule_check import check_rules

if TYPE_CHECKING:
    from inpaint_core.removal.remover import ObjectRemover

_NO_PLACE = {"input": "(none)", "output": "(none)"}


class Remover:
    """Removes objects from images, one at a time. Loads its networks at the first image, or with `load`.

    It can be pickled: the settings travel, the networks are loaded again where it is used.

    Args:
        settings: keys of the removal job's config (`inpaint remove --help`), with dots
            (`{"detector.classes": ["person"]}`) or nested (`{"detector": {"classes": ["person"]}}`), and without `input`
            and `output`. Those of listing, journal and scaling have no effect, but for `listing.max_pixels`,
            `scaling.device`, `scaling.precision` and `scaling.image_timeout` (see `retry`).

    Raises:
        ConfigError: a key does not exist, or a value is wrong.
    """

    def __init__(self, settings: Mapping[str, Any] | None = None) -> None:
        self.config = validate(RemoveConfig, _NO_PLACE | tree_of(settings or {}))
        check_rules(self.config)
        self._models: ObjectRemover | None = None
        self._lock = threading.Lock()

    @overload
    def __call__(self, image: bytes, *, key: str = "image") -> tuple[bytes | None, Record]: ...

    @overload
    def __call__(self, image: Image.Image, *, key: str = "image") -> tuple[Image.Image | None, Record]: ...

    def __call__(self, image: bytes | Image.Image, *, key: str = "image") -> tuple[bytes | Image.Image | None, Record]:
        """Remove objects from one image. May be called from several threads; one image is worked on at a time.

        Args:
            image: an encoded image of a format that the removal job reads, or a PIL image, which is taken as PNG.
            key: the image's name in its record; a detector of mask files finds the mask by it.

        Returns:
            The cleaned image, and its record. Bytes give bytes of the same format (the same bytes where there was
            nothing to remove), a PIL image gives a PIL image; None where the image failed, with the reason in the record's
            `stage` and `error`, or with `dry_run`.

        Raises:
            UserError: the networks cannot be loaded (see `load`).
            DeviceFault: the GPU failed; no later image succeeds in this process.
        """
        from inpaint_core.removal.remover import remove_objects  # torch

        models = self.load()
        data = image if isinstance(image, bytes) else saved(image, "PNG")
        with self._lock:
            output, record = remove_objects(data, models, key=key)
        if output is None or isinstance(image, bytes):
            return output, record
        cleaned = open_image(output, "PNG")
        cleaned.load()
        return cleaned, record

    def load(self) -> ObjectRemover:
        """Load the networks, which the first image does otherwise; returns what works on batches.

        Raises:
            UserError: weights cannot be had, are not the ones meant, or do not know a class.
        """
        with self._lock:
            if self._models is None:
                # Here, since they load torch: not where a remover is only made and sent.
                from inpaint_core.device import choose_device
                from inpaint_core.removal.build import build_remover
                from inpaint_core.removal.job import attempt_weights, model_weights

                device = choose_device(self.config.scaling.device, "scaling.device")
                weights = model_weights(self.config)
                further = attempt_weights(self.config, weights)
                self._models = build_remover(self.config, *weights, device=device, attempts=further)
            return self._models

    def __getstate__(self) -> dict[str, Any]:
        return {"config": self.config}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.config = state["config"]
        self._models = None
        self._lock = threading.Lock()


def load_remover(settings: Mapping[str, Any] | None = None) -> Remover:
    """A remover whose networks are loaded (see `Remover`).

    Raises:
        UserError: a key or value is wrong, or weights cannot be had.
    """
    remover = Remover(settings)
    remover.load()
    return remover
