"""Checks that every format shares, and Pillow as the decoder and encoder of samples."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from inpaint_core.errors import ImageError, Stage

# What Pillow shows a plugin to ask whether a file is of its format.
_SIGNATURE_BYTES = 16
# Pixels of an image that are copied from Pillow at a time.
_PIXELS_AT_ONCE = 2**20


def refused(reason: str) -> ImageError:
    """The error of an image that is not decoded, for one sentence `reason`."""
    return ImageError(Stage.DECODE, reason)


def damaged(format_: str, what: str) -> ImageError:
    """The error of a file that is not what its format demands."""
    return refused(f"The {format_} file is damaged: {what}.")


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Raise ImageError for an image without pixels, or with more than `max_pixels` of them."""
    if width <= 0 or height <= 0:
        raise refused(f"The image has no pixels: its header says {width} x {height}.")
    if width * height > max_pixels:
        raise refused(
            f"The image is too large: {width} x {height} = {width * height:,} pixels, and the limit is {max_pixels:,}."
        )


def check_frames(format_: str, frames: int) -> None:
    """Raise ImageError for more than one frame or page: writing one would lose the others."""
    if frames != 1:
        raise refused(f"The {format_} file has {frames} frames; only still images with one frame are processed.")


def open_image(data: bytes, *formats: str) -> ImageFile.ImageFile:
    """Open a file with the first of the named Pillow plugins that takes it, and decode nothing yet.

    Not with `Image.open`, which libraries replace for the whole process: ultralytics by a function that, for a file
    that is no image, installs a package and raises ModuleNotFoundError.

    Raises:
        UnidentifiedImageError: no plugin accepts the file.
        OSError, ValueError and others that `inpaint_core.images.decode` turns into ImageError.
    """
    # Callers check the size in the header against their own limit; Pillow's fixed one would warn about what is allowed.
    Image.MAX_IMAGE_PIXELS = None
    Image.preinit()
    for format_ in formats:
        if format_ not in Image.OPEN:
            Image.init()
        plugin, accepts = Image.OPEN[format_]
        try:
            accepted = accepts is None or accepts(data[:_SIGNATURE_BYTES])
            if accepted and not isinstance(accepted, str):  # a text: the plugin's codec is not installed
                return plugin(io.BytesIO(data), "")
        except (SyntaxError, IndexError, TypeError, struct.error):  # what plugins raise for a file of another format
            continue
    raise UnidentifiedImageError(f"none of the decoders {', '.join(formats)} accepts the file")


def saved(image: Image.Image, format_: str, **options: Any) -> bytes:
    """Encode with Pillow into bytes."""
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def channels_last(image: Image.Image) -> NDArray[np.uint8]:
    """The 8-bit samples of a Pillow image as an array (H, W, C); 0 and 255 for mode `1`."""
    if image.mode == "1":
        image = image.convert("L")
    samples = np.empty((image.height, image.width, len(image.getbands())), np.uint8)
    # By rows: as a whole, Pillow's copies would take several times the memory of the samples.
    step = max(1, _PIXELS_AT_ONCE // max(1, image.width))
    for top in range(0, image.height, step):
        rows = image.crop((0, top, image.width, min(top + step, image.height)))
        samples[top : top + step] = np.asarray(rows).reshape(rows.height, rows.width, -1)
    return samples


def from_channels_last(samples: NDArray[Any], mode: str) -> Image.Image:
    """A Pillow image of an 8-bit array (H, W, C), C = 1 or the number of bands of `mode`."""
    height, width = samples.shape[:2]
    return Image.frombytes(mode, (width, height), np.ascontiguousarray(samples, dtype=np.uint8).tobytes())
