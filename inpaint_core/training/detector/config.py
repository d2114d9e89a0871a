"""The config of the training of a detector (`inpaint detector`): every key, its default and what it means."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field, with_config

from inpaint_core.config import STRICT
from inpaint_core.images.collections.config import PhotographExtensions, PhotographLimit, ReadingConfig
from inpaint_core.networks.weights.load import CheckpointSha256
from inpaint_core.storage import S3Options


@with_config(STRICT)
@dataclass(frozen=True)
class TeacherConfig:
    """Teacher network."""

    weights: Annotated[
        str,
        Field(
            min_length=1,
            description="YOLOv8 segmentation checkpoint with all of the classes: a name that ultralytics downloads, a path, or a URI.",
        ),
    ] = "yolov8n-seg.pt"
    sha256: CheckpointSha256 = None


@with_config(STRICT)
@dataclass(frozen=True)
class DistillationConfig:
    """Distillation of a small detector from unlabelled photographs and a teacher."""

    data: Annotated[
        str,
        Field(
            min_length=1,
            description="Unlabelled photographs: a folder, bucket or `.tar` file (a path or a URI; the last path component may be a pattern such as `train-*.tar`). Required.",
        ),
    ]
    output: Annotated[
        str,
        Field(
            min_length=1,
            description="Folder of the run (a path or a URI): `detector.pt` is the network, `last.pt` the checkpoint for resuming. Required.",
        ),
    ]
    s3: Annotated[S3Options, Field(description="Access to `s3://` URIs.")] = field(default_factory=S3Options)
    extensions: PhotographExtensions = ReadingConfig.extensions
    limit: PhotographLimit = None
    stored_size: Annotated[
        int,
        Field(
            ge=64,
            le=1024,
            description="Side in pixels of the squares in which photographs are held in memory. Recommended: their own size, up to `size`. 256: 0.2 MB each.",
        ),
    ] = 256
    max_failed: Annotated[float, Field(ge=0, le=1, description="Maximum fraction of unreadable photographs.")] = (
        ReadingConfig.max_failed
    )
    teacher: Annotated[TeacherConfig, Field(description="Teacher network, which labels the photographs.")] = field(
        default_factory=TeacherConfig
    )
    architecture: Annotated[
        str, Field(min_length=1, description="Architecture file of ultralytics for the new network.")
    ] = "yolov8n-seg.yaml"
    initial: Annotated[
        str | None,
        Field(
            description="Initial weights: an earlier `detector.pt` of the same architecture and classes (a path, a URI, or the name of one shipped with the project); null: random weights. A resumed run uses its own checkpoint."
        ),
    ] = None
    classes: Annotated[
        tuple[str, ...],
        Field(min_length=1, description="Classes of the new network, by the teacher's class names."),
    ] = ("person", "bicycle", "car", "motorcycle", "bus", "truck")
    size: Annotated[
        int, Field(ge=64, le=1280, multiple_of=64, description="Side of the training images in pixels.")
    ] = 320
    smallest_tile: Annotated[
        int,
        Field(
            ge=16,
            description="Minimum side in pixels of a photograph in a training image, which is a mosaic; the maximum is 1.5 times `size`.",
        ),
    ] = 72
    batch: Annotated[int, Field(ge=1, description="Batch size: training images per step.")] = 16
    steps: Annotated[int, Field(ge=1, description="Number of training steps.")] = 6000
    rate: Annotated[float, Field(gt=0, description="Peak learning rate.")] = 2e-3
    features: Annotated[
        float,
        Field(
            ge=0,
            description="Weight of the feature-map distance to the teacher; 0: learns from the teacher's outputs alone.",
        ),
    ] = 2.0
    seed: Annotated[int, Field(ge=0, lt=2**63, description="Random seed of weights and training images.")] = 0
    save_every: Annotated[int, Field(ge=1, description="Steps between checkpoints for resuming.")] = 200
    device: Annotated[
        Literal["auto", "cpu", "cuda"], Field(description="Device of the networks; `auto`: the GPU if there is one.")
    ] = "auto"
