"""The pictures of the report: small JPEGs of an image before, with its mask, and after."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from inpaint_core.errors import ImageError, ObjectError, StorageError
from inpaint_core.images.decode import decode
from inpaint_core.removal.catalogue.config import ListingConfig
from inpaint_core.removal.catalogue.layout import Layout
from inpaint_core.storage import Storage

LONG_SIDE = 320
QUALITY = 70
TINT = (230, 30, 60)


@dataclass(frozen=True)
class Picture:
    """One picture as a data URI, with its size in pixels; or, in `missing`, why there is none."""

    caption: str
    uri: str | None = None
    width: int = 0
    height: int = 0
    missing: str | None = None


def pictures_of(
    row: Mapping[str, Any], *, source: Storage | None, output: Storage, layout: Layout, dry_run: bool
) -> list[Picture]:
    """Before, mask and after of a cleaned image; one picture of an unchanged one; none of a failed one.

    Whatever cannot be read or decoded is told in place of the picture.

    Args:
        row: a record as plain values.
        source: the input; None: it cannot be read, and the pictures before are left out.
        output: the output.
        layout: where the masks lie in the output.
        dry_run: no images were written.
    """
    key, status = row["key"], row["status"]
    if status == "failed":
        return []
    if status == "unchanged":
        if not dry_run:  # its copy in the output is the same, and surely at hand
            return [_picture("unchanged", *_load(output, key, row["output_size"]))]
        return [_picture("unchanged", *_load(source, key, row["source_size"]))] if source else []
    before = _load(source, key, row["source_size"]) if source else (None, None)
    held = status == "held" and output.exists(layout.held(key))
    after = (
        (None, None)
        if dry_run
        else _load(output, layout.held(key) if held else key, None if held else row["output_size"])
    )
    pictures = [_picture("before", *before)] if source else []
    pictures.append(_mask(output, layout.mask(key), before[0] if before[0] is not None else after[0]))
    if not dry_run:
        pictures.append(_picture("after", *after))
    return pictures


def _load(storage: Storage, key: str, size: int | None) -> tuple[NDArray[np.uint8] | None, str | None]:
    """The image reduced to the size of a thumbnail, (h, w, 3) uint8; or why there is none."""
    try:
        data = storage.read(key)
        if size is not None and len(data) != size:
            return None, "the file is another one than when the record was made"
        pixels = decode(data, max_pixels=ListingConfig().max_pixels).pixels
    except (ImageError, ObjectError, StorageError) as error:
        return None, str(error)
    return reduced(pixels), None


def reduced(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An image (H, W, 3) uint8 at the size of a thumbnail: at most 320 pixels along its longer side."""
    height, width = pixels.shape[:2]
    scale = min(1.0, LONG_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _mask(output: Storage, mask_key: str, image: NDArray[np.uint8] | None) -> Picture:
    """The mask over the image, or over black where there is no image."""
    try:
        data = output.read(mask_key)
        mask = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE) if data else None
    except (ObjectError, StorageError, cv2.error) as error:
        return Picture("mask", missing=str(error))
    if mask is None:
        return Picture("mask", missing=f"{mask_key} is not an image that can be decoded")
    if image is None:
        image = np.zeros((*reduced(np.asarray(mask, np.uint8)).shape[:2], 3), np.uint8)
    # Any masked pixel counts, and an outline is drawn around: a hole of a few pixels would be lost in the JPEG.
    covered = cv2.resize(mask.astype(np.float32), image.shape[1::-1], interpolation=cv2.INTER_AREA) > 0
    outlined = cv2.dilate(covered.view(np.uint8), np.ones((3, 3), np.uint8)).view(np.bool_)
    tinted = image.copy()
    tinted[outlined] = TINT
    tinted[covered] = (0.4 * image[covered] + 0.6 * np.array(TINT)).astype(np.uint8)
    return _picture("mask", tinted, None)


def _picture(caption: str, pixels: NDArray[np.uint8] | None, missing: str | None) -> Picture:
    if pixels is None:
        return Picture(caption, missing=missing)
    _, data = cv2.imencode(
        ".jpg",
        cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR),
        [cv2.IMWRITE_JPEG_QUALITY, QUALITY, cv2.IMWRITE_JPEG_OPTIMIZE, 1],
    )
    uri = "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
    return Picture(caption, uri, pixels.shape[1], pixels.shape[0])
