"""The config of `jobs/remove_objects.py`: every key, its default and what it means.

The descriptions are the only documentation of a key: `--help` prints them, and the README's table is made from them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field, with_config

from inpaint_core.config import STRICT
from inpaint_core.networks.weights.pretrained import INPAINTER
from inpaint_core.storage import S3Options

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

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
class Yolov8Config:
    """Objects found by a YOLOv8 segmentation network."""

    kind: Literal["yolov8"] = "yolov8"
    weights: Annotated[
        str,
        Field(
            min_length=1,
            description="A checkpoint: a name that ultralytics downloads (`yolov8n-seg.pt`), the bare name of the "
            "one that comes with this project (`people-vehicles.pt`), a path, or a URI. "
            "A `.pt` is a pickle: only ultralytics' and torch's own classes are loaded from it, but take it from a "
            "source you trust and pin `sha256`.",
        ),
    ] = "yolov8n-seg.pt"
    sha256: Annotated[Sha256 | None, Field(description="The checkpoint's SHA-256 in hex; another file is refused.")] = (
        None
    )
    classes: Annotated[
        tuple[str, ...],
        Field(min_length=1, description="What to remove, by the network's own class names."),
    ] = ("person", "bicycle", "car", "motorcycle", "bus", "truck")
    confidence: Annotated[Fraction, Field(description="Detections below this confidence are ignored.")] = 0.25
    iou: Annotated[
        Fraction, Field(description="Boxes of one class that overlap more than this are one object (NMS).")
    ] = 0.7
    image_size: Annotated[
        int,
        Field(ge=64, le=8192, multiple_of=32, description="The longer side that the network sees, in pixels."),
    ] = 640
    more_sizes: Annotated[
        tuple[Annotated[int, Field(ge=64, le=8192, multiple_of=32)], ...],
        Field(
            description="Sizes at which it looks at each image again; an object is what any of them shows of it. Finds more, close-ups "
            "and what the border cuts above all, and more that is none, for the time of each pass."
        ),
    ] = ()
    mirror: Annotated[
        bool, Field(description="Look at the mirror image as well, at each size: finds more, in twice the time.")
    ] = False


@with_config(STRICT)
@dataclass(frozen=True)
class MaskFilesConfig:
    """Masks made elsewhere, one file per image, found by key."""

    kind: Literal["masks"] = "masks"
    root: Annotated[
        str, Field(min_length=1, description="Folder or bucket of the mask files (same S3 options as the input).")
    ] = "masks"
    pattern: Annotated[
        str,
        Field(
            pattern=r"\{(key|stem)\}",
            description="Mask key for an image key: `{key}` is the whole key, `{stem}` the key without its extension. "
            "A mask has the image's size as displayed; white (>= 128) is removed.",
        ),
    ] = "{stem}.png"
    missing: Annotated[
        Literal["unchanged", "failed"],
        Field(description="What an image without a mask file becomes."),
    ] = "unchanged"


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
class OpencvConfig:
    """A classical fill that needs no weights."""

    kind: Literal["opencv"] = "opencv"
    method: Annotated[Literal["telea", "navier_stokes"], Field(description="Telea 2004, or Bertalmio 2001.")] = "telea"
    radius: Annotated[float, Field(gt=0, le=100, description="Radius of the neighbourhood of a filled pixel.")] = 3.0
    window: Annotated[
        int,
        Field(
            ge=64,
            le=8192,
            description="A window whose longer side is larger than this is filled at this size and brought back.",
        ),
    ] = 768


@with_config(STRICT)
@dataclass(frozen=True)
class GeneratorConfig:
    """A network trained by this project: `jobs/train.py`."""

    kind: Literal["generator"] = "generator"
    weights: Annotated[
        str,
        Field(
            min_length=1,
            description="A `.safetensors` checkpoint of this project: path or URI, or the bare name of the one that comes with it.",
        ),
    ] = INPAINTER
    sha256: Annotated[Sha256 | None, Field(description="The checkpoint's SHA-256 in hex; another file is refused.")] = (
        None
    )
    detail: Annotated[
        Fraction,
        Field(
            description="1: the hole is filled with patches of the photograph, led by the network, which looks best; 0: with the network's "
            "own soft fill, which is nearest to the truth on average, and fastest. Between: a mixture."
        ),
    ] = 1.0


@with_config(STRICT)
@dataclass(frozen=True)
class TorchscriptConfig:
    """Any scripted network (image, mask) -> image, such as LaMa's."""

    kind: Literal["torchscript"] = "torchscript"
    weights: Annotated[
        str,
        Field(
            min_length=1,
            description="A TorchScript file: path or URI. It takes (B, 3, H, W) and (B, 1, H, W) with 1 = fill, and gives (B, 3, H, W).",
        ),
    ] = "big-lama.pt"
    sha256: Annotated[Sha256 | None, Field(description="The file's SHA-256 in hex; another file is refused.")] = None
    window: Annotated[
        int,
        Field(
            ge=32, le=4096, multiple_of=8, description="Side of the square window that the network is given, in pixels."
        ),
    ] = 512
    value_range: Annotated[
        Literal["0..1", "-1..1"], Field(description="Range of the pixel values the network takes and gives.")
    ] = "0..1"


DetectorConfig = Annotated[Yolov8Config | MaskFilesConfig, Field(discriminator="kind")]
InpainterConfig = Annotated[GeneratorConfig | OpencvConfig | TorchscriptConfig, Field(discriminator="kind")]


@with_config(STRICT)
@dataclass(frozen=True)
class FillConfig:
    """How windows are cut around the mask and how the fill is joined to the photograph."""

    context: Annotated[
        float,
        Field(
            ge=1.0,
            le=8.0,
            description="Side of a window as a multiple of the masked part's longer side (>= 2 for `center` networks); less where it would reach beyond the image and 1.5 will do.",
        ),
    ] = 2.0
    blend: Annotated[
        Fraction,
        Field(
            description="Part of the grown ring, from its outer edge inwards, over which fill and photograph are mixed."
        ),
    ] = 0.5
    windows_per_batch: Annotated[int, Field(ge=1, le=1024, description="Windows in one forward pass.")] = 16


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
    fill: FillConfig = FillConfig()
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
    overwrite: Annotated[
        bool,
        Field(
            description="Forget the records of earlier runs, and do everything again; each output stays until its successor is written."
        ),
    ] = False
    max_failed_fraction: Annotated[Fraction, Field(description="Exit code 1 when more images than this failed.")] = 0.05
