"""The config of the removal job (`inpaint remove`): every key, its default and what it means.

The descriptions are the only documentation of a key: `--help` prints them, and the pages in `docs/reference` are generated from them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Annotated, ClassVar, Literal

from pydantic import Field, with_config

from inpaint_core.config import STRICT, Fraction
from inpaint_core.detection.config import DetectorConfig, UltralyticsConfig
from inpaint_core.errors import ConfigError
from inpaint_core.inpainting.config import FillConfig, GeneratorConfig, InpainterConfig
from inpaint_core.removal.acceptance import AcceptConfig
from inpaint_core.removal.attempts import AttemptConfig, with_changes
from inpaint_core.removal.catalogue.config import ListingConfig
from inpaint_core.storage import S3Options


@with_config(STRICT)
@dataclass(frozen=True)
class MaskConfig:
    """Mask of the pixels to fill, from the detected objects."""

    added: ClassVar[tuple[str, ...]] = ("shadows",)
    """As in `DetectorSettings`: with their defaults these settings are not part of the hash of a job's settings."""

    grow: Annotated[
        float,
        Field(
            ge=0.0, le=1.0, description="Dilation of each object's mask, as a fraction of the square root of its area."
        ),
    ] = 0.04
    grow_min: Annotated[int, Field(ge=0, description="Minimum dilation in pixels.")] = 4
    grow_max: Annotated[int, Field(ge=0, description="Maximum dilation in pixels.")] = 40
    min_object_pixels: Annotated[
        int,
        Field(
            ge=0,
            description="Minimum area of an object in pixels; smaller ones are ignored and counted in the record's `note`.",
        ),
    ] = 64
    max_mask_fraction: Annotated[
        Fraction,
        Field(
            description="Maximum fraction of the image that the mask may cover; above it the image is left `unchanged`, and the record's `note` says so."
        ),
    ] = 0.6
    shadows: Annotated[
        bool,
        Field(
            description="Remove hard shadows that objects cast on the ground, too. Only the clearest are found, with some false positives; check a `dry_run` first."
        ),
    ] = False


@with_config(STRICT)
@dataclass(frozen=True)
class WriteConfig:
    """Encoding of cleaned images, and what outputs keep. JPEG keeps its own tables, in JPEG files and in TIFF."""

    lossy_quality: Annotated[
        Annotated[int, Field(ge=1, le=100)] | Literal["auto"],
        Field(
            description="Encoder quality of lossy WebP, AVIF and HEIC, 1 to 100. `auto`: the file's own, estimated from its quantiser or bytes; lower where the file would grow by more than a fifth."
        ),
    ] = "auto"
    names: Annotated[
        Literal["drop", "keep"],
        Field(
            description="Regions in XMP (MWG, Microsoft, IPTC) of which a fifth or more was removed, and the names of these regions in `PersonInImage`: `drop` or `keep`. Keywords and captions are always kept."
        ),
    ] = "drop"
    times: Annotated[
        Literal["keep", "now"],
        Field(
            description="Modification time of outputs, from a folder to a folder. `keep`: that of the input file; `now`: the time of writing. In S3 it is always the time of writing."
        ),
    ] = "keep"

    added: ClassVar[tuple[str, ...]] = ("names", "times")
    """Settings that were added later: with their defaults they do not change `config_hash`."""

    @property
    def quality(self) -> int | None:
        """`lossy_quality`; None: about the one that a file was coded with."""
        return None if self.lossy_quality == "auto" else self.lossy_quality


@with_config(STRICT)
@dataclass(frozen=True)
class MeasureConfig:
    """Measurements of every cleaned image. Each costs time; `docs/performance.md` has figures."""

    residual_objects: Annotated[
        bool, Field(description="Second detection on the output: counts the objects still found inside the mask.")
    ] = True
    shifted_hole: Annotated[
        bool,
        Field(
            description="Second fill of a hole of the same shape in an object-free area, compared with the true pixels there."
        ),
    ] = True


@with_config(STRICT)
@dataclass(frozen=True)
class ScalingConfig:
    """Resources of the job. `null`: chosen from the resources of the cluster, and printed before the run."""

    actors: Annotated[
        int | None,
        Field(
            ge=1,
            description="Number of worker processes; each holds both networks. null: as many as fit the cluster, and more when nodes join.",
        ),
    ] = None
    cpus_per_actor: Annotated[
        float | None, Field(gt=0, description="CPUs per worker, and its number of torch threads.")
    ] = None
    gpus_per_actor: Annotated[
        float | None, Field(ge=0, description="GPUs per worker; with a fraction several workers share one GPU.")
    ] = None
    images_per_batch: Annotated[
        int,
        Field(
            ge=1,
            le=256,
            description="Images per detector pass. The journal is written after a pass, at most once per second.",
        ),
    ] = 8
    io_threads: Annotated[
        int,
        Field(
            ge=1,
            le=256,
            description="Threads per worker for reading and decoding; as many more for encoding and writing.",
        ),
    ] = 4
    pixels_in_flight: Annotated[
        int,
        Field(
            gt=0,
            description="Maximum number of pixels of decoded images in a worker; images beyond it are decoded later, a larger image alone. Memory of a worker: about 0.9 GB and 25 bytes per pixel.",
        ),
    ] = 32_000_000
    image_timeout: Annotated[
        float,
        Field(
            gt=0,
            le=1e9,  # more than 292 years cannot be waited for
            description="Timeout in seconds for reading or writing one image; outages that `s3.retry_minutes` allows do not count.",
        ),
    ] = 300.0
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"],
        Field(description="Precision of the networks. `auto`: bfloat16 if the device supports it natively."),
    ] = "auto"
    device: Annotated[
        Literal["auto", "cpu", "cuda"], Field(description="Device of the networks; `auto`: the GPU if there is one.")
    ] = "auto"
    wait_for_nodes: Annotated[
        float,
        Field(
            ge=0,
            description="Autoscaling cluster: seconds to wait for nodes with the requested resources. 0: a job that needs more than the current nodes is refused at once.",
        ),
    ] = 0.0


@with_config(STRICT)
@dataclass(frozen=True)
class _Sections:
    """What an attempt can change of `RemoveConfig`."""

    detector: DetectorConfig
    mask: MaskConfig
    inpainter: InpainterConfig
    fill: FillConfig


@with_config(STRICT)
@dataclass(frozen=True)
class RemoveConfig:
    """Config of the removal job."""

    input: Annotated[
        str, Field(min_length=1, description="Folder or `s3://bucket/prefix` of the input images. Required.")
    ]
    output: Annotated[
        str, Field(min_length=1, description="Folder or `s3://bucket/prefix` of the output images. Required.")
    ]
    s3: Annotated[S3Options, Field(description="Access to `s3://` URIs.")] = field(default_factory=S3Options)
    output_s3: Annotated[
        S3Options | None,
        Field(description="S3 options of the output, if they differ from those of the input; null: as `s3`."),
    ] = None
    listing: ListingConfig = field(default_factory=ListingConfig)
    detector: DetectorConfig = field(default_factory=UltralyticsConfig)
    mask: MaskConfig = MaskConfig()
    inpainter: InpainterConfig = field(default_factory=GeneratorConfig)
    fill: FillConfig = field(default_factory=FillConfig)
    write: WriteConfig = WriteConfig()
    measure: MeasureConfig = MeasureConfig()
    accept: AcceptConfig = field(default_factory=AcceptConfig)
    retry: Annotated[
        tuple[AttemptConfig, ...],
        Field(
            description="Further attempts at an image that a rule of `accept` holds, in this order, each with its changes of the sections `detector`, `mask`, `inpainter` and `fill`: `[{fill: {context: 3}}, {inpainter: {kind: opencv}}]`. The first result that breaks no rule is used, otherwise the best. No attempt begins after those of an image have taken `scaling.image_timeout`."
        ),
    ] = ()
    scaling: ScalingConfig = ScalingConfig()
    limit: Annotated[
        int | None, Field(ge=1, description="Maximum number of images: the first keys of the listing; null: all.")
    ] = None
    dry_run: Annotated[
        bool,
        Field(
            description="Masks and records only, no output images; mask overlays are written to `_removal/dry_run/overlays`."
        ),
    ] = False
    retry_failed: Annotated[
        bool,
        Field(
            description="Retry all images whose record is `failed`; images that could not be read or written are retried in any case."
        ),
    ] = False
    adopt: Annotated[bool, Field(description="Accept outputs written by a job with another input.")] = False
    overwrite: Annotated[
        bool,
        Field(
            description="Process all images again, regardless of the records of earlier runs; each output is kept until its new version is written."
        ),
    ] = False
    max_failed_fraction: Annotated[
        Fraction, Field(description="Maximum fraction of failed images; above it the exit code is 1.")
    ] = 0.05

    def __post_init__(self) -> None:
        self.attempts()  # what is wrong in `retry` is told here

    def attempts(self) -> tuple[RemoveConfig, ...]:
        """The settings of each attempt of `retry`, which has no further ones.

        Raises:
            ConfigError: a key or value of `retry` is wrong.
        """
        plain = _Sections(self.detector, self.mask, self.inpainter, self.fill)
        changed, wrong = [], []
        for index, attempt in enumerate(self.retry):
            try:
                changed.append(with_changes(plain, attempt, f"retry.{index}"))
            except ConfigError as error:
                wrong.append(str(error))
        if wrong:
            raise ConfigError("\n".join(wrong))
        return tuple(
            replace(self, retry=(), **{section.name: getattr(one, section.name) for section in fields(one)})
            for one in changed
        )
