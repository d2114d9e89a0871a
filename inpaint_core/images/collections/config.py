"""How photographs of a collection are read for training, evaluation and object shapes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, with_config

from inpaint_core.config import STRICT, Fraction


@with_config(STRICT)
@dataclass(frozen=True)
class ReadingConfig:
    """How photographs become training images."""

    extensions: Annotated[
        tuple[str, ...],
        Field(
            min_length=1,
            description="File name endings of photographs, without the dot, in any case; `.tar` shards of them are "
            "opened by themselves.",
        ),
    ] = ("jpg", "jpeg", "jpe", "png", "webp", "tif", "tiff", "bmp")
    limit: Annotated[
        int | None,
        Field(ge=1, description="At most this many images, spread evenly over the listing; null: all of them."),
    ] = None
    stored_size: Annotated[
        int,
        Field(
            ge=128,
            le=1024,
            description="Images are decoded once, their shorter side brought to this many pixels, the middle square "
            "kept as uint8; a random 128x128 crop of it is taken in each epoch. Validation takes all of it, at 128 pixels.",
        ),
    ] = 128
    max_pixels: Annotated[int, Field(gt=0, description="A photograph with more pixels counts as unreadable.")] = (
        100_000_000
    )
    max_failed: Annotated[
        Fraction,
        Field(description="Part of the images that may be unreadable (each is counted, the first are named)."),
    ] = 0.01
