"""Masks made elsewhere: an image file per image, found by the image's key."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import UnidentifiedImageError

from inpaint_core.detection.config import MaskFilesConfig
from inpaint_core.detection.detector import Detection
from inpaint_core.errors import ImageError, ObjectError, Stage
from inpaint_core.images.decode import CODEC_ERRORS
from inpaint_core.images.formats.codec import open_image
from inpaint_core.storage import MissingObject, Storage

WHITE = 128
LABEL = "mask"
# Mask files read at the same time: they wait for the store, not for the processor.
READERS = 8
# Not those that Pillow reads by starting other programs (EPS), nor formats that no mask is saved in.
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")
# A mask with more is noise, or a photograph: each region would become an object with a window and a record of its own.
MAX_REGIONS = 10_000


class MaskFilesDetector:
    """Reads mask files; each connected white region is one object."""

    def __init__(self, config: MaskFilesConfig, storage: Storage) -> None:
        """Take the settings, and the store that `config.root` is."""
        self._config = config
        self._files = config.files_by_key()
        self._storage = storage

    def detect(self, images: Sequence[NDArray[np.uint8]], keys: Sequence[str]) -> list[list[Detection]]:
        """Read the masks of the images. See `Detector.detect`.

        Raises:
            ImageError: a mask is missing (with `missing: failed`), cannot be read, or has another size.
            StorageError: the store cannot be used.
        """
        with ThreadPoolExecutor(max_workers=READERS) as pool:
            return list(pool.map(self._detect_one, images, keys))

    def _detect_one(self, image: NDArray[np.uint8], key: str) -> list[Detection]:
        mask_key = self._files.key_of(key)
        try:
            data = self._storage.read(mask_key)
        except MissingObject as error:
            if self._config.missing == "unchanged":
                return []
            raise ImageError(Stage.DETECT, f"there is no mask {mask_key} in {self._config.root}") from error
        except ObjectError as error:
            # `read`: it says nothing about the image, and the next run takes it again.
            raise ImageError(Stage.READ, f"the mask {mask_key} cannot be read: {error}") from error
        mask = decode_mask(data, mask_key, (image.shape[0], image.shape[1]))
        return connected_objects(mask, mask_key)


def decode_mask(data: bytes, mask_key: str, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Decode a mask file: (H, W) bool, True where the grey value is at least half of white; alpha is ignored.

    Args:
        data: content of the file, of one of `FORMATS`, in any mode that Pillow reads except floating point.
        mask_key: names the mask in messages.
        shape: (H, W) of the image as displayed.

    Raises:
        ImageError: not an image, or of another size than the image.
    """
    height, width = shape
    try:
        with open_image(data, *FORMATS) as picture:
            # Before the pixels are decoded: a mask of the image's size is no decompression bomb.
            if picture.size != (width, height):
                raise ImageError(Stage.DETECT, _wrong_size(mask_key, picture.size, (width, height)))
            if picture.mode == "F":
                raise ImageError(
                    Stage.DETECT, f"the mask {mask_key} has floating-point pixels; save it with 8 bits per pixel"
                )
            if picture.mode.startswith("I"):  # 16 bits per pixel; Pillow's conversion would cut at 255, not scale
                return np.asarray(picture) >= WHITE * 256
            return np.asarray(picture.convert("L")) >= WHITE
    except UnidentifiedImageError as error:
        raise ImageError(
            Stage.DETECT,
            f"the mask {mask_key} is not an image that can be decoded: its format is not one of {', '.join(FORMATS)}",
        ) from error
    except CODEC_ERRORS as error:
        raise ImageError(Stage.DETECT, f"the mask {mask_key} is not an image that can be decoded: {error}") from error


def _wrong_size(mask_key: str, found: tuple[int, int], wanted: tuple[int, int]) -> str:
    (width, height), (image_width, image_height) = found, wanted
    if found == (image_height, image_width):
        advice = (
            "it seems to be made for the image as stored, before its EXIF orientation is applied; "
            "make masks for images as displayed"
        )
    else:
        advice = "a mask must have the size of its image"
    return (
        f"the mask {mask_key} is {width} x {height} pixels, but its image is "
        f"{image_width} x {image_height} as displayed: {advice}"
    )


def connected_objects(mask: NDArray[np.bool_], mask_key: str) -> list[Detection]:
    """One detection per connected region (pixels that touch at a corner are connected), with confidence 1.

    Args:
        mask: (H, W) bool.
        mask_key: names the mask in messages.

    Raises:
        ImageError: more than `MAX_REGIONS` regions.
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if count - 1 > MAX_REGIONS:
        raise ImageError(
            Stage.DETECT,
            f"the mask {mask_key} has {count - 1:,} separate regions, more than {MAX_REGIONS:,}; "
            "it seems to be noise or a photograph: give a mask that is white on the objects and black elsewhere",
        )
    objects = []
    for index in range(1, count):
        left, top, width, height = (int(value) for value in stats[index, :4])
        region = labels[top : top + height, left : left + width] == index
        box = (float(left), float(top), float(left + width), float(top + height))
        objects.append(Detection(LABEL, 1.0, box, region, top, left))
    return objects
