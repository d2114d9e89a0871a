"""The pictures of the page, made on request: small ones for the list, whole ones for the viewer."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inpaint_core.errors import ObjectError
from inpaint_core.images.decode import decode
from inpaint_core.images.media_types import IMAGE_TYPES
from inpaint_core.removal.catalogue.config import ListingConfig
from inpaint_core.removal.catalogue.layout import Layout
from inpaint_core.removal.report.pictures import reduced
from inpaint_core.storage import Storage

THUMBNAIL_QUALITY = 75
_DECODERS = 4
_CACHE_BYTES = 96 * 2**20
# What browsers show as this project reads it. Other formats, and CMYK, are decoded here.
_SHOWN_BY_BROWSERS = frozenset({"JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF"})
_MODES_SHOWN = frozenset({"1", "L", "LA", "P", "RGB", "RGBA"})


@dataclass(frozen=True)
class Served:
    """Bytes for a browser."""

    data: bytes
    media_type: str


class Cache:
    """The latest values, up to a number of bytes; from several threads.

    Args:
        most: bytes.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._size = 0
        self._values: OrderedDict[Hashable, Served] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, name: Hashable, make: Callable[[], Served]) -> Served:
        """The value of a name, which is made where it is not there."""
        with self._lock:
            if name in self._values:
                self._values.move_to_end(name)
                return self._values[name]
        made = make()
        with self._lock:
            if name not in self._values:
                self._values[name] = made
                self._size += len(made.data)
            while self._size > self._most:
                _, oldest = self._values.popitem(last=False)
                self._size -= len(oldest.data)
        return made


class Pictures:
    """Pictures of the images of a job.

    Args:
        output: of the job.
        source: its input; None: it cannot be read.
        layout: of real runs.
    """

    def __init__(self, output: Storage, source: Storage | None, layout: Layout) -> None:
        self._output = output
        self._source = source
        self._layout = layout
        self._thumbnails = Cache(_CACHE_BYTES)
        self._decoders = threading.Semaphore(_DECODERS)

    def original(self, row: dict[str, Any]) -> bytes:
        """The input image of a record.

        Raises:
            ObjectError: it cannot be read, or has another size than in the record.
        """
        if self._source is None:
            raise ObjectError("the input cannot be read; give it with --input")
        return self._source.read(row["key"], row["source_size"])

    def result(self, row: dict[str, Any]) -> bytes:
        """The cleaned version of an image, also where the original is under its key; of an unchanged image its copy.

        Raises:
            ObjectError: there is none.
        """
        key = row["key"]
        kept = row["status"] == "held" or row["carried_out"] in ("hold", "restore")
        if kept and self._output.exists(self._layout.held(key)):
            return self._output.read(self._layout.held(key))
        return self._output.read(key)

    def mask(self, row: dict[str, Any]) -> Served:
        """What was filled, white on black.

        Raises:
            ObjectError: there is no mask.
        """
        return Served(self._output.read(self._layout.mask(row["key"])), "image/png")

    def drawn_mask(self, mask_id: str) -> bytes:
        """The mask of a decision.

        Raises:
            ObjectError: there is no such mask.
        """
        return self._output.read(self._layout.decision_mask(mask_id))

    def thumbnail(self, row: dict[str, Any]) -> Served:
        """A small JPEG for the list: the result, or the input of a failed image.

        Raises:
            ObjectError, ImageError: it cannot be read.
        """
        return self._thumbnails.get((row["key"], row["finished_at"]), lambda: self._thumbnail(row))

    def shown(self, data: bytes) -> Served:
        """A whole image as a browser shows it: the file itself where browsers read its format, else a PNG.

        Raises:
            ImageError: it cannot be decoded.
        """
        with self._decoders:
            decoded = decode(data, max_pixels=ListingConfig().max_pixels)
            if decoded.format in _SHOWN_BY_BROWSERS and decoded.mode in _MODES_SHOWN:
                return Served(data, IMAGE_TYPES[decoded.format].media_type)
            file = BytesIO()
            pixels = decoded.pixels if decoded.rgba is None else decoded.rgba
            Image.fromarray(pixels).save(file, "PNG", compress_level=1)
            return Served(file.getvalue(), "image/png")

    def _thumbnail(self, row: dict[str, Any]) -> Served:
        with self._decoders:
            data = self.original(row) if row["status"] == "failed" else self.result(row)
            small = reduced(decode(data, max_pixels=ListingConfig().max_pixels).pixels)
            return Served(_jpeg(small), "image/jpeg")


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    _, data = cv2.imencode(
        ".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, THUMBNAIL_QUALITY]
    )
    return data.tobytes()
