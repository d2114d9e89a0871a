"""The config of the extraction of object shapes (`inpaint shapes`): every key, its default and what it means."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field, with_config

from inpaint_core.config import STRICT
from inpaint_core.detection.config import UltralyticsConfig
from inpaint_core.images.collections.config import (
    PhotographExtensions,
    PhotographLimit,
    PhotographPixels,
    ReadingConfig,
)
from inpaint_core.storage import S3Options


@with_config(STRICT)
@dataclass(frozen=True)
class ObjectShapesConfig:
    """Extraction of object shapes from photographs."""

    input: Annotated[
        str,
        Field(
            min_length=1,
            description="Photographs: a folder, bucket or `.tar` file (a path or a URI; the last path component may be a pattern such as `train-*.tar`). Required.",
        ),
    ]
    output: Annotated[str, Field(pattern=r"\.parquet$", description="Output Parquet file (a path or a URI). Required.")]
    s3: Annotated[S3Options, Field(description="Access to `s3://` URIs.")] = field(default_factory=S3Options)
    detector: Annotated[UltralyticsConfig, Field(description="Detector of the objects.")] = field(
        default_factory=UltralyticsConfig
    )
    extensions: PhotographExtensions = ReadingConfig.extensions
    limit: PhotographLimit = None
    max_pixels: PhotographPixels = 100_000_000
    batch: Annotated[int, Field(ge=1, le=256, description="Photographs per detector pass.")] = 8
    device: Annotated[
        Literal["auto", "cpu", "cuda"], Field(description="Device of the networks; `auto`: the GPU if there is one.")
    ] = "auto"
