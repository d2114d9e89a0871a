"""From photographs to the file of object shapes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from inpaint_core.detection.detector import Detection, Detector
from inpaint_core.errors import ConfigError, ImageError, Stage
from inpaint_core.hole_masks.shape_file import SCHEMA, ShapeRow, split_file
from inpaint_core.hole_masks.shapes import resized
from inpaint_core.images.collections.sources import Source, as_sources, list_photographs, read_bytes
from inpaint_core.images.decode import decode
from inpaint_core.inpainting.windows import Box
from inpaint_core.progress import PrintLine, Progress
from inpaint_core.storage import open_storage
from inpaint_core.training.object_shapes.config import ObjectShapesConfig

MIN_AREA, MAX_AREA = 0.005, 0.6
"""Parts of the photograph that an object covers at least and at most: smaller ones are a few cells of the network's
prototype masks, larger ones mostly the frame of the photograph."""

MAX_CONTACT = 1 / 3
"""An object touches a border of the photograph over at most this part of its bounding box's side there."""

MAX_SIDE = 256
"""A mask's longer side, in pixels: twice that of the images holes are drawn for."""

Verdict = Literal["kept", "too small", "too large", "cut off by the border"]

_ROWS_PER_GROUP = 1000
_PHOTOGRAPHS_PER_SOURCE = 256


@dataclass
class Extraction:
    """What became of a collection.

    Args:
        photographs: how many were read, the unreadable ones included.
        unreadable: how many could not be.
        first_unreadable: name of the first of them, and why.
        classes: shapes written, by class.
        left_out: objects that were not, by reason.
    """

    photographs: int = 0
    unreadable: int = 0
    first_unreadable: str | None = None
    classes: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        classes = ", ".join(f"{name} {count:,}" for name, count in self.classes.most_common())
        text = f"{self.classes.total():,} shapes of {self.photographs:,} photographs: {classes or 'none'}"
        if self.left_out:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.left_out.most_common())
            text += f"; objects left out: {reasons}"
        if self.unreadable:
            text += f"; {self.unreadable:,} photographs unreadable, the first {self.first_unreadable}"
        return text


def extract_shapes(config: ObjectShapesConfig, detector: Detector, print_line: PrintLine) -> Extraction:
    """Find the objects of all photographs and write their shapes, whole or not at all.

    Args:
        config: where from, where to; its `detector` section is not used here.
        detector: what finds the objects.
        print_line: takes lines of progress.

    Raises:
        ConfigError: a URI is none, there are no photographs, a tar file is damaged, or no object is kept.
        StorageError: a store cannot be used.
        ObjectError: the output cannot be a file there.
    """
    folder, name = split_file(config.output, "output")
    target = open_storage(folder, config.s3)
    print_line(f"listing {config.input}")
    storage, photographs = list_photographs(config.input, config.s3, config.extensions, config.limit, name="input")
    sources = as_sources(storage, photographs, config.max_pixels, per_block=_PHOTOGRAPHS_PER_SOURCE)
    result, progress = Extraction(), Progress(len(photographs), print_line)
    decoded = _decoded(sources, result, progress)
    try:
        with target.open_write(name) as file, pq.ParquetWriter(file, SCHEMA, compression="zstd") as writer:
            rows: list[ShapeRow] = []
            while batch := list(islice(decoded, config.batch)):
                keys, images = [key for key, _ in batch], [image for _, image in batch]
                for key, image, detections in zip(keys, images, detector.detect(images, keys), strict=True):
                    kept = _rows(key, (image.shape[0], image.shape[1]), detections, result)
                    progress.add(["with shapes" if kept else "without"])
                    rows.extend(kept)
                if len(rows) >= _ROWS_PER_GROUP:
                    writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
                    rows = []
            if rows:
                writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
            if not result.classes:
                raise ConfigError(
                    f"input: nothing to write to {config.output}: {result}; give photographs that show objects"
                )
    finally:
        progress.close()
    return result


def judge(detection: Detection, image: tuple[int, int]) -> Verdict:
    """Whether an object's mask is the shape of an object.

    A border of the photograph cuts an object off where the mask runs along it: where the mask's pixels in the outermost
    row (column) are more than a third of its bounding box's width (height). A foot or a wheel that just reaches the
    border stays; a person seen from the waist up, whose lower edge would be a straight line, does not.

    Args:
        detection: the object.
        image: (H, W) of the photograph.
    """
    fraction = detection.pixels / (image[0] * image[1])
    if fraction < MIN_AREA:
        return "too small"
    if fraction > MAX_AREA:
        return "too large"
    mask, top, left = _tight(detection)
    height, width = mask.shape
    contacts = (
        (top == 0, mask[0]),
        (top + height == image[0], mask[-1]),
        (left == 0, mask[:, 0]),
        (left + width == image[1], mask[:, -1]),
    )
    if any(touches and np.count_nonzero(edge) > MAX_CONTACT * len(edge) for touches, edge in contacts):
        return "cut off by the border"
    return "kept"


def _decoded(sources: list[Source], result: Extraction, progress: Progress) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """The photographs that can be decoded, with their keys; the others are counted."""
    for source in sources:
        for photograph, data in read_bytes(source):
            result.photographs += 1
            try:
                if isinstance(data, str):
                    raise ImageError(Stage.READ, data)
                image = decode(data, max_pixels=source.max_pixels).pixels
            except ImageError as error:
                result.unreadable += 1
                result.first_unreadable = result.first_unreadable or f"{photograph.key} ({error.reason.rstrip('.')})"
                progress.add(["unreadable"])
                continue
            yield photograph.key, image


def _rows(key: str, image: tuple[int, int], detections: list[Detection], result: Extraction) -> list[ShapeRow]:
    """The rows of one photograph; what is left out is counted."""
    rows: list[ShapeRow] = []
    for detection in detections:
        verdict = judge(detection, image)
        if verdict != "kept":
            result.left_out[verdict] += 1
            continue
        result.classes[detection.label] += 1
        mask = _shrunk(_tight(detection)[0])
        rows.append(
            {
                "key": key,
                "class": detection.label,
                "height": mask.shape[0],
                "width": mask.shape[1],
                "mask": np.packbits(mask).tobytes(),
                "image_height": image[0],
                "image_width": image[1],
                "area_fraction": detection.pixels / (image[0] * image[1]),
            }
        )
    return rows


def _tight(detection: Detection) -> tuple[NDArray[np.bool_], int, int]:
    """The mask without the empty rows and columns around it, and where it lies in the image."""
    box = Box.around(detection.mask)
    return detection.mask[box.slices], detection.top + box.y0, detection.left + box.x0


def _shrunk(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask with no side longer than `MAX_SIDE`, by nearest neighbour, without empty rows and columns around it."""
    longer = max(mask.shape)
    if longer <= MAX_SIDE:
        return mask
    height, width = (max(1, side * MAX_SIDE // longer) for side in mask.shape)
    smaller = resized(mask, height, width)
    # Thin ends may have got lost; of a mask that is thin everywhere, all.
    return smaller[Box.around(smaller).slices] if smaller.any() else smaller
