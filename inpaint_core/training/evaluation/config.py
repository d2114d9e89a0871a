"""The config of an evaluation (`inpaint evaluate`): every key, its default and what it means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field, with_config

from inpaint_core.config import STRICT
from inpaint_core.errors import ConfigError
from inpaint_core.hole_masks.kinds import HoleKind
from inpaint_core.images.collections.config import PhotographLimit
from inpaint_core.networks.spec import OneSize
from inpaint_core.storage import S3Options

FillName = Literal["mean", "telea", "navier_stokes", "push_pull"]

CENTER_HOLE = 64
"""Side in pixels, of 128, of the hole of the published table: the square that a `center` network predicts."""

CHECKPOINT_ENDING = ".safetensors"
RUN_CHECKPOINT = "best.safetensors"
"""Checkpoint of a training run that is evaluated."""


@with_config(STRICT)
@dataclass(frozen=True)
class EvaluateConfig:
    """One results table."""

    data: Annotated[
        str,
        Field(min_length=1, description="Photographs: a folder, bucket or `.tar` file (a path or a URI). Required."),
    ]
    checkpoints: Annotated[
        tuple[str, ...],
        Field(
            description="Networks to evaluate: `.safetensors` files, or output folders of training runs, of which `best.safetensors` is used (paths or URIs)."
        ),
    ] = ()
    names: Annotated[
        tuple[str, ...] | None,
        Field(description="Label of each checkpoint; null: the name of its run folder."),
    ] = None
    fills: Annotated[
        tuple[FillName, ...],
        Field(
            description="Baseline fills without training: `mean` (mean colour of the rest of the image), `telea`, `navier_stokes` (OpenCV, radius 3), `push_pull` (the smooth input of the U-Net)."
        ),
    ] = ("mean", "telea", "navier_stokes")
    holes: Annotated[
        HoleKind,
        Field(
            description="Kind of holes: `center` (as in the published table), `box`, `strokes`, LaMa's `thin`, `medium`, `thick`, or `objects` (shapes of real objects). A network with `output: center` fills `center` only."
        ),
    ] = "center"
    size: Annotated[
        OneSize | None,
        Field(
            description="Side in pixels of the square that photographs are resized to; smaller ones are enlarged, and counted. null: the `network.size` of the checkpoints, or 128 without any. U-Nets accept any size."
        ),
    ] = None
    hole_size: Annotated[
        int,
        Field(
            ge=56,
            le=CENTER_HOLE,
            multiple_of=2,
            description="`center` only: side of the hole at 128 pixels, scaled for other sizes. 64: `center` networks also see the outer 4 pixels of the hole; 56: all fills see the same.",
        ),
    ] = CENTER_HOLE
    objects: Annotated[
        str | None,
        Field(description="`objects` only: Parquet file of shapes, made by `inpaint shapes`."),
    ] = None
    seed: Annotated[
        int,
        Field(
            ge=0,
            lt=2**63,
            description="Random seed of the holes; the hole of an image depends on the seed and the position of the image.",
        ),
    ] = 0
    limit: PhotographLimit = None
    output: Annotated[
        str,
        Field(
            min_length=1,
            description="Folder or bucket prefix of the results: `table.md`, `per_image.parquet` and `sheet.png`.",
        ),
    ] = "evaluation"
    pictures: Annotated[
        int, Field(ge=0, le=64, description="Number of images in the sheet, spread evenly; 0: no sheet.")
    ] = 8
    batch: Annotated[int, Field(ge=1, le=1024, description="Images per batch.")] = 32
    threads: Annotated[
        int | None, Field(ge=1, description="Batches processed concurrently; null: one per CPU core.")
    ] = None
    device: Annotated[
        Literal["auto", "cpu", "cuda"], Field(description="Device of the networks; `auto`: the GPU if there is one.")
    ] = "auto"
    s3: Annotated[S3Options, Field(description="Access to `s3://` URIs.")] = field(default_factory=S3Options)


def check_config(config: EvaluateConfig) -> None:
    """Refuse settings that do not go together.

    Raises:
        ConfigError: names them.
    """
    if config.holes != "center" and config.hole_size != CENTER_HOLE:
        raise ConfigError(f"hole_size: applies to holes=center only, not to holes={config.holes}; leave it out")
    if config.holes == "objects" and config.objects is None:
        raise ConfigError("objects: holes=objects needs a file of shapes; make one with `inpaint shapes`")
    if config.names is not None and len(config.names) != len(config.checkpoints):
        raise ConfigError(
            f"names: {len(config.names)} labels for {len(config.checkpoints)} checkpoints; give one for each"
        )
    if not config.checkpoints and not config.fills:
        raise ConfigError("checkpoints: nothing to evaluate; give checkpoints or fills")
    _check_distinct([*_labels(config), *config.fills])


def checkpoint_files(config: EvaluateConfig) -> list[tuple[str, str]]:
    """The label and the URI of each checkpoint's file, of a config that `check_config` lets pass."""
    return list(zip(_labels(config), map(_file, config.checkpoints), strict=True))


def _labels(config: EvaluateConfig) -> list[str]:
    return list(config.names) if config.names is not None else [_label(uri) for uri in config.checkpoints]


def _check_distinct(labels: Sequence[str]) -> None:
    for label in labels:
        if not label.strip() or not label.isprintable():
            raise ConfigError(f"names: {label!r} is not a valid label; give each checkpoint one with names=[...]")
        if labels.count(label) > 1:
            raise ConfigError(
                f"names: two rows would have the label {label!r}; give each checkpoint its own label with names=[...]"
            )


def _file(uri: str) -> str:
    return uri if uri.endswith(CHECKPOINT_ENDING) else f"{uri.rstrip('/')}/{RUN_CHECKPOINT}"


def _label(uri: str) -> str:
    """The run folder's name; for a file that is not the run's best one, with the file's name after it."""
    folder, _, name = _file(uri).rpartition("/")
    run = folder.rpartition("/")[2]
    if name == RUN_CHECKPOINT and run not in ("", ".", ".."):
        return run
    return f"{run}/{name.removesuffix(CHECKPOINT_ENDING)}".lstrip("./")
