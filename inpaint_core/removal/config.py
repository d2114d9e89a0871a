"""The config of `jobs/remove_objects.py`: every key, its default and what it means.

The descriptions are the only documentation of a key: `--help` prints them, and the README's table is made from them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field, with_config

from inpaint_core.config import STRICT, Fraction
from inpaint_core.detection.config import DetectorConfig, Yolov8Config
from inpaint_core.inpainting.config import FillConfig, GeneratorConfig, InpainterConfig
from inpaint_core.storage import S3Options

EXTENSIONS = ("jpg", "jpeg", "jpe", "png", "webp", "tif", "tiff", "bmp", "gif", "avif")


@with_config(STRICT)
@dataclass(frozen=True)
class ListingConfig:
    """Which objects of the input are taken."""

    extensions: Annotated[
        tuple[str, ...],
        Field(min_length=1, description="File name endings that are taken, without the dot, in any case."),
    ] = EXTENSIONS
    include: Annotated[
        str | None,
        Field(description="Only keys that match this glob (`**` crosses folders), relative to the input."),
    ] = None
    exclude: Annotated[str | None, Field(description="Not the keys that match this glob.")] = None
    max_bytes: Annotated[int, Field(gt=0, description="A larger object is not read; its record says so. Bytes.")] = (
        256 * 2**20
    )
    max_pixels: Annotated[
        int,
        Field(gt=0, description="An image with more pixels is not decoded (decompression bombs); its record says so."),
    ] = 100_000_000


@with_config(STRICT)
@dataclass(frozen=True)
class MaskConfig:
    """From objects to the mask of pixels that are filled."""

    grow: Annotated[
        float, Field(ge=0.0, le=1.0, description="Each object is grown by this part of the square root of its area ...")
    ] = 0.06
    grow_min: Annotated[int, Field(ge=0, description="... but by at least this many pixels ...")] = 4
    grow_max: Annotated[int, Field(ge=0, description="... and at most this many.")] = 40
    min_object_pixels: Annotated[
        int, Field(ge=0, description="Smaller objects are ignored (and counted in the record's note). Pixels.")
    ] = 64
    max_mask_fraction: Annotated[
        Fraction,
        Field(description="An image of which the mask would cover more is left as it is; its record's note says so."),
    ] = 0.6


@with_config(STRICT)
@dataclass(frozen=True)
class WriteConfig:
    """How cleaned images are encoded. JPEG keeps its own tables; these are for formats that do not tell theirs."""

    lossy_quality: Annotated[
        int, Field(ge=1, le=100, description="Quality of lossy WebP and AVIF, which do not tell the one they had.")
    ] = 92


@with_config(STRICT)
@dataclass(frozen=True)
class MeasureConfig:
    """What is measured of every cleaned image. Each costs time; the README says how much."""

    residual_objects: Annotated[
        bool, Field(description="Run the detector on the result and count what it still finds under the mask.")
    ] = True
    shifted_hole: Annotated[
        bool, Field(description="Fill the same hole in an object-free place and compare with the truth there.")
    ] = True


@with_config(STRICT)
@dataclass(frozen=True)
class ScalingConfig:
    """What the job takes of the cluster. `null` means: chosen from what there is, and printed before the run."""

    actors: Annotated[
        int | None,
        Field(
            ge=1,
            description="Worker processes; each holds both networks. null: as many as there is room for, and more when nodes "
            "join.",
        ),
    ] = None
    cpus_per_actor: Annotated[float | None, Field(gt=0, description="CPUs of one worker; also its torch threads.")] = (
        None
    )
    gpus_per_actor: Annotated[float | None, Field(ge=0, description="GPUs of one worker; a fraction shares a GPU.")] = (
        None
    )
    images_per_batch: Annotated[
        int,
        Field(
            ge=1,
            le=256,
            description="Images in one detector pass. The journal is written after one, at most once a second.",
        ),
    ] = 8
    io_threads: Annotated[
        int, Field(ge=1, le=256, description="Threads of one worker that read, decode, encode and write.")
    ] = 4
    image_timeout: Annotated[
        float, Field(gt=0, description="Seconds after which reading or writing one image is given up.")
    ] = 300.0
    autocast: Annotated[bool, Field(description="bfloat16 autocast in the networks (worth it on GPUs).")] = False
    device: Annotated[Literal["auto", "cpu", "cuda"], Field(description="Where the networks run.")] = "auto"
    wait_for_nodes: Annotated[
        float,
        Field(
            ge=0,
            description="On a cluster that grows by itself: seconds to wait for nodes with what is asked for. 0: what is not there "
            "is refused at once.",
        ),
    ] = 0.0


@with_config(STRICT)
@dataclass(frozen=True)
class RemoveConfig:
    """The whole config of the removal job."""

    input: Annotated[str, Field(min_length=1, description="Folder or `s3://bucket/prefix` of the images. Required.")]
    output: Annotated[str, Field(min_length=1, description="Folder or `s3://bucket/prefix` of the result. Required.")]
    s3: Annotated[S3Options, Field(description="How `s3://` URIs are reached.")] = field(default_factory=S3Options)
    output_s3: Annotated[
        S3Options | None, Field(description="The same for the output, where it differs; null: as `s3`.")
    ] = None
    listing: ListingConfig = ListingConfig()
    detector: DetectorConfig = field(default_factory=Yolov8Config)
    mask: MaskConfig = MaskConfig()
    inpainter: InpainterConfig = field(default_factory=GeneratorConfig)
    fill: FillConfig = field(default_factory=FillConfig)
    write: WriteConfig = WriteConfig()
    measure: MeasureConfig = MeasureConfig()
    scaling: ScalingConfig = ScalingConfig()
    limit: Annotated[int | None, Field(ge=1, description="Only the first N keys of the listing.")] = None
    dry_run: Annotated[
        bool,
        Field(
            description="Masks and records only: no image is written; overlays of the masks go to `_removal/dry_run/overlays`."
        ),
    ] = False
    retry_failed: Annotated[
        bool,
        Field(
            description="Run all images again whose record says `failed`; those that could not be read or written run again anyway."
        ),
    ] = False
    adopt: Annotated[bool, Field(description="Take over outputs that a job over another input wrote.")] = False
    overwrite: Annotated[
        bool,
        Field(
            description="Forget the records of earlier runs, and do everything again; each output stays until its successor is written."
        ),
    ] = False
    max_failed_fraction: Annotated[Fraction, Field(description="Exit code 1 when more images than this failed.")] = 0.05
