"""Settings of the detectors: one dataclass a kind, and their union."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, with_config

from inpaint_core.config import STRICT, Fraction, Sha256


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


DetectorConfig = Annotated[Yolov8Config | MaskFilesConfig, Field(discriminator="kind")]
