"""Settings for reading photographs of a collection in training, evaluation and shape extraction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, with_config

from inpaint_core.config import STRICT, Fraction

PhotographExtensions = Annotated[
    tuple[str, ...],
    Field(
        min_length=1,
        description="File name extensions of photographs, without the dot; case is ignored. `.tar` files are always read.",
    ),
]
PhotographLimit = Annotated[
    int | None,
    Field(ge=1, description="Maximum number of photographs, spread evenly over the listing; null: all."),
]
PhotographPixels = Annotated[
    int, Field(gt=0, description="Maximum number of pixels of a photograph; a larger one counts as unreadable.")
]


@with_config(STRICT)
@dataclass(frozen=True)
class ReadingConfig:
    """Conversion of photographs to training images."""

    extensions: PhotographExtensions = ("jpg", "jpeg", "jpe", "png", "webp", "tif", "tiff", "bmp")
    limit: PhotographLimit = None
    stored_size: Annotated[
        int,
        Field(
            ge=128,
            le=1024,
            description="Side in pixels of the stored square: each image is decoded once, resized to this shorter side, centre-cropped and kept as uint8. Training takes a random crop of `network.size` pixels in each epoch, validation all of it at that size. Smaller photographs are enlarged, and counted.",
        ),
    ] = 128
    keep: Annotated[
        Literal["auto", "pixels", "bytes"],
        Field(
            description="Form in which the object store keeps the training photographs. `pixels`: each is decoded once, before the first step. `bytes`: their files, read when they are first needed and decoded for each step by `scaling.feeders`: for collections larger than memory, of photographs not much larger than `stored_size`. `auto`: `bytes` if the pixels would take more than half of the object store, and the files take less."
        ),
    ] = "auto"
    max_pixels: PhotographPixels = 100_000_000
    max_failed: Annotated[
        Fraction,
        Field(description="Maximum fraction of unreadable images (all are counted, the first are named)."),
    ] = 0.01
