"""The config of `inpaint detector`: every key, its default and what it means."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field, with_config

from inpaint_core.config import STRICT, Sha256
from inpaint_core.images.collections.config import ReadingConfig
from inpaint_core.storage import S3Options


@with_config(STRICT)
@dataclass(frozen=True)
class TeacherConfig:
    """The network that the new one learns from."""

    weights: Annotated[
        str,
        Field(
            min_length=1,
            description="A YOLOv8 segmentation checkpoint that has all the classes: a name that ultralytics downloads, a path, or a URI.",
        ),
    ] = "yolov8n-seg.pt"
    sha256: Annotated[Sha256 | None, Field(description="Its SHA-256 in hex; another file is refused.")] = None


@with_config(STRICT)
@dataclass(frozen=True)
class DistillationConfig:
    """From photographs and a teacher to a detector of a few classes."""

    data: Annotated[
        str,
        Field(
            min_length=1,
            description="Folder, bucket, or `.tar` file of photographs without labels (a path or a URI; the last part may be a pattern such as `train-*.tar`). Required.",
        ),
    ]
    output: Annotated[
        str,
        Field(
            min_length=1,
            description="Folder (a path or a URI) of the run: `detector.pt` is the network, `last.pt` what a killed run goes on from. Required.",
        ),
    ]
    s3: Annotated[S3Options, Field(description="How `s3://` URIs are reached.")] = field(default_factory=S3Options)
    extensions: Annotated[
        tuple[str, ...],
        Field(
            min_length=1,
            description="File name endings of photographs, without the dot, in any case; `.tar` files of them are opened by themselves.",
        ),
    ] = ReadingConfig.extensions
    limit: Annotated[
        int | None,
        Field(ge=1, description="At most this many photographs, spread evenly over the listing; null: all of them."),
    ] = None
    stored_size: Annotated[
        int,
        Field(
            ge=64,
            le=1024,
            description="Photographs are held in memory as squares of this many pixels a side; as many as they have, up to `size`, is best. 256: 0.2 MB each.",
        ),
    ] = 256
    max_failed: Annotated[float, Field(ge=0, le=1, description="Part of the photographs that may be unreadable.")] = (
        ReadingConfig.max_failed
    )
    teacher: Annotated[TeacherConfig, Field(description="What is asked what is in the photographs.")] = field(
        default_factory=TeacherConfig
    )
    architecture: Annotated[
        str, Field(min_length=1, description="ultralytics' architecture file of the new network.")
    ] = "yolov8n-seg.yaml"
    initial: Annotated[
        str | None,
        Field(
            description="Weights that the new network begins with: an earlier `detector.pt` of the same architecture and classes (a path, a URI, or the name of one that comes with the project); null: random ones. A run that goes on has its own."
        ),
    ] = None
    classes: Annotated[
        tuple[str, ...],
        Field(min_length=1, description="What the new network is to find, by the teacher's class names."),
    ] = ("person", "bicycle", "car", "motorcycle", "bus", "truck")
    size: Annotated[
        int, Field(ge=64, le=1280, multiple_of=64, description="Side of the pictures that are trained on, in pixels.")
    ] = 320
    smallest_tile: Annotated[
        int,
        Field(
            ge=16,
            description="A picture is a mosaic of photographs, each between this many pixels and one and a half pictures a side.",
        ),
    ] = 72
    batch: Annotated[int, Field(ge=1, description="Pictures in one step.")] = 16
    steps: Annotated[int, Field(ge=1, description="Steps of the whole run.")] = 6000
    rate: Annotated[float, Field(gt=0, description="Learning rate at its highest.")] = 2e-3
    features: Annotated[
        float, Field(ge=0, description="Weight of the distance to the teacher's feature maps; 0: its answers alone.")
    ] = 2.0
    seed: Annotated[int, Field(ge=0, lt=2**63, description="What weights and pictures follow from.")] = 0
    save_every: Annotated[int, Field(ge=1, description="Steps between two saves, which a killed run goes on from.")] = (
        200
    )
    device: Annotated[Literal["auto", "cpu", "cuda"], Field(description="`auto`: the GPU where there is one.")] = "auto"
