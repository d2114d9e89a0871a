"""The config of `inpaint shapes`: every key, its default and what it means."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field, with_config

from inpaint_core.config import STRICT
from inpaint_core.detection.config import Yolov8Config
from inpaint_core.images.collections.config import ReadingConfig
from inpaint_core.storage import S3Options

HoleKind = Literal["center", "box", "strokes", "thin", "medium", "thick", "objects"]


@with_config(STRICT)
@dataclass(frozen=True)
class ObjectShapesConfig:
    """From photographs to a file of object shapes."""

    input: Annotated[
        str,
        Field(
            min_length=1,
            description="Folder, bucket, or `.tar` file of photographs (a path or a URI; the last part may be a pattern such as `train-*.tar`). Required.",
        ),
    ]
    output: Annotated[
        str, Field(pattern=r"\.parquet$", description="Parquet file to write (a path or a URI). Required.")
    ]
    s3: Annotated[S3Options, Field(description="How `s3://` URIs are reached.")] = field(default_factory=S3Options)
    detector: Annotated[Yolov8Config, Field(description="What finds the objects.")] = field(
        default_factory=Yolov8Config
    )
    extensions: Annotated[
        tuple[str, ...],
        Field(
            min_length=1,
            description="File name endings of photographs, without the dot, in any case; `.tar` files of them are "
            "opened by themselves.",
        ),
    ] = ReadingConfig.extensions
    limit: Annotated[
        int | None,
        Field(ge=1, description="At most this many photographs, spread evenly over the listing; null: all of them."),
    ] = None
    max_pixels: Annotated[int, Field(gt=0, description="A photograph with more pixels counts as unreadable.")] = (
        100_000_000
    )
    batch: Annotated[int, Field(ge=1, le=256, description="Photographs in one detector pass.")] = 8
    device: Annotated[Literal["auto", "cpu", "cuda"], Field(description="`auto`: the GPU where there is one.")] = "auto"
