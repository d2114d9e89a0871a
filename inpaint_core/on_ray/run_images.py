"""What the workers of a training run are given in the object store: images, decoded or as files, and the network to start from."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import ray
from numpy.typing import NDArray

from inpaint_core.hole_masks.shape_file import load_object_shapes
from inpaint_core.hole_masks.shapes import ObjectShapes
from inpaint_core.images.collections.config import ReadingConfig
from inpaint_core.images.collections.sources import Photograph, as_sources, list_photographs
from inpaint_core.on_ray.cluster import connect
from inpaint_core.on_ray.files import StoredFiles, held_out_sources, keep_files
from inpaint_core.on_ray.reading import StoredImages, block_pixels, images_per_block, read_blocks, read_sources
from inpaint_core.progress import PrintLine
from inpaint_core.training.config import TrainConfig
from inpaint_core.training.data.blocks import ImageBlocks, held_out

if TYPE_CHECKING:
    from inpaint_core.training.training_data import TrainingData

# Of the object store's memory, that pixels may take with `reading.keep=auto`: the rest is for what is read and decoded.
_MOST_OF_OBJECT_STORE = 0.5
# Threads that bring blocks from other machines, or back from the disk, before they are needed.
_FETCHING_THREADS = 2


@dataclass(frozen=True)
class RunImages:
    """Training and validation images of a run, and its initial weights, in the object store."""

    training: StoredImages | StoredFiles
    validation: StoredImages | None
    """None: they are those of `training` that are held out."""
    held_out: int
    """How many of the training images are kept for validation: those of `data.blocks.held_out`."""
    objects: ObjectShapes | None
    initial: ray.ObjectRef[bytes] | None = None
    """Content of the generator's file that a run without a checkpoint starts from."""


def read_images(config: TrainConfig, print_line: PrintLine, initial: bytes | None = None) -> RunImages:
    """Read what a run needs into the object store, or start what reads it when it is needed.

    Args:
        config: the run's.
        print_line: takes lines of progress.
        initial: content of the generator's file that the run starts from (`training.initial`).

    Raises:
        UserError: data or shapes cannot be used.
    """
    objects = load_object_shapes(config.holes.objects, config.s3) if config.holes.objects else None
    wanted, reading = config.validation, config.reading
    held = 0 if wanted.data is not None else wanted.images
    storage, photographs = list_photographs(config.data, config.s3, reading.extensions, reading.limit)
    per_block = images_per_block(reading.stored_size)
    training: StoredImages | StoredFiles
    validation = None
    if keep_as_files(reading, photographs):
        print_line(f"{len(photographs):,} photographs of {config.data}: read when they are needed (reading.keep=bytes)")
        training = keep_files(storage, photographs, reading)
        if held:
            sources = held_out_sources(storage, photographs, reading, held, per_block)
            validation = read_sources(sources, reading, print_line=print_line, uri=config.data)
    else:
        sources = as_sources(storage, photographs, reading.max_pixels, per_block=per_block)
        training = read_sources(sources, reading, print_line=print_line, uri=config.data)
    if wanted.data is not None:
        reading = replace(reading, limit=wanted.images, stored_size=config.network.size)
        validation = read_blocks(wanted.data, config.s3, reading, print_line=print_line, name="validation.data")
    held_initial = ray.put(initial) if initial is not None else None
    return RunImages(training, validation, held, objects, held_initial)


def keep_as_files(reading: ReadingConfig, photographs: list[Photograph]) -> bool:
    """Whether photographs stay files: as `reading.keep` says; with `auto` where their pixels are too large, and larger."""
    if reading.keep != "auto":
        return reading.keep == "bytes"
    connect()
    pixels = len(photographs) * 3 * reading.stored_size**2
    memory: float = ray.cluster_resources().get("object_store_memory", math.inf)  # type: ignore[no-untyped-call]
    return pixels > _MOST_OF_OBJECT_STORE * memory and sum(photograph.size for photograph in photographs) < pixels


def training_data(images: RunImages) -> TrainingData:
    """The images as the loop of a worker takes them."""
    from inpaint_core.training.training_data import TrainingData  # loads torch, which the driver does without

    training = images.training.blocks() if isinstance(images.training, StoredFiles) else _image_blocks(images.training)
    indices = held_out(len(training), images.held_out) if images.held_out else np.zeros(0, np.int64)
    if images.validation is None:
        assert isinstance(training, ImageBlocks)
        return TrainingData(training, indices, training, indices, images.objects)
    validation = _image_blocks(images.validation)
    return TrainingData(training, indices, validation, np.arange(len(validation)), images.objects)


def _image_blocks(images: StoredImages) -> ImageBlocks:
    def fetch(number: int) -> NDArray[np.uint8]:
        return block_pixels(ray.get(images.blocks[number]))

    return ImageBlocks(images.sizes, fetch, threads=_FETCHING_THREADS)
