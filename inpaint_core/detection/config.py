"""Settings of the detectors: one dataclass a kind, and their union."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, with_config

from inpaint_core.config import STRICT, Fraction
from inpaint_core.detection.detector import Detector, DetectorSettings, FilesByKey
from inpaint_core.networks.weights.load import CheckpointSha256, WeightsReference
from inpaint_core.storage import S3Options, open_storage

if TYPE_CHECKING:
    import torch


@with_config(STRICT)
@dataclass(frozen=True)
class UltralyticsConfig(DetectorSettings):
    """Segmentation network of ultralytics: YOLOv8, YOLO11, YOLO26, YOLOE with embedded classes. Earlier name: `yolov8`."""

    kind: Literal["ultralytics"] = "ultralytics"
    weights: Annotated[
        str,
        Field(
            min_length=1,
            description="Segmentation checkpoint of ultralytics: a name that it downloads (`yolov8n-seg.pt`, `yolo11n-seg.pt`, `yolo26n-seg.pt`), the name of the one shipped with this project (`people-vehicles.pt`), a path, or a URI. A `.pt` file is a pickle. Only classes of ultralytics and torch are loaded from it; still, use a trusted source and set `sha256`.",
        ),
    ] = "yolov8n-seg.pt"
    sha256: CheckpointSha256 = None
    classes: Annotated[
        tuple[str, ...],
        Field(min_length=1, description="Classes to remove, by the class names of the network."),
    ] = ("person", "bicycle", "car", "motorcycle", "bus", "truck")
    confidence: Annotated[Fraction, Field(description="Confidence threshold; detections below it are dropped.")] = 0.25
    iou: Annotated[
        Fraction,
        Field(
            description="IoU threshold of non-maximum suppression: of boxes of one class that overlap more, one is kept. Networks that are stored without this step (`end2end`) ignore it."
        ),
    ] = 0.7
    image_size: Annotated[
        int,
        Field(ge=64, le=8192, multiple_of=32, description="Input size of the network: longer side in pixels."),
    ] = 640
    more_sizes: Annotated[
        tuple[Annotated[int, Field(ge=64, le=8192, multiple_of=32)], ...],
        Field(
            description="Test-time augmentation: additional input sizes in pixels; each costs one pass, finds more objects (above all close-ups and objects cut by the border) and more false positives. The mask of an object contains the pixels that at least half of the passes detect."
        ),
    ] = ()
    mirror: Annotated[
        bool,
        Field(
            description="Test-time augmentation: an additional pass over the mirrored image at each size; finds more objects in twice the time."
        ),
    ] = False
    whole_boxes: Annotated[
        bool,
        Field(
            description="Whole boxes as masks. Detection checkpoints (`yolo11n.pt`, YOLO-World), which have no masks, need it, and are refused otherwise."
        ),
    ] = False
    uncertain: Annotated[
        float,
        Field(
            gt=0,
            le=0.5,
            description="Minimum probability of pixels at the edge of an object that are masked too, as far as 0.15 times the square root of its area away; covers shoes, hair and bags. 0.5: none.",
        ),
    ] = 0.25
    tiles: Annotated[
        Literal["auto", "off"],
        Field(
            description="`auto`: an image whose longer side is more than twice `image_size` is also searched in overlapping tiles of `image_size` pixels, unscaled, and in larger ones; each costs one pass. `off`: it is only searched as a whole, scaled down; small objects are missed, and the record's `note` says so."
        ),
    ] = "auto"
    tile_overlap: Annotated[
        float,
        Field(ge=0, le=0.75, description="Minimum overlap of neighbouring tiles, as a fraction of their side."),
    ] = 0.2

    unordered: ClassVar[tuple[str, ...]] = ("classes",)
    former_kinds: ClassVar[tuple[str, ...]] = ("yolov8",)
    added: ClassVar[tuple[str, ...]] = ("whole_boxes", "tiles", "tile_overlap")

    def weights_file(self) -> WeightsReference:
        """The checkpoint; a bare name may be one that ultralytics publishes."""
        return WeightsReference(self.weights, self.sha256, _download)

    def check_weights(self, weights: bytes) -> None:
        """See `DetectorSettings.check_weights`: damage, task and classes."""
        from inpaint_core.detection.checkpoint_contents import check_contents

        check_contents(weights, self.weights, key="detector.weights", classes=self.classes, boxes=self.whole_boxes)

    def scaled_down(self, height: int, width: int) -> float:
        """See `DetectorSettings.scaled_down`."""
        if self.tiles == "auto":
            return 1.0
        return max(1.0, max(height, width) / max((self.image_size, *self.more_sizes)))

    def build(self, weights: bytes | None, *, s3: S3Options, device: torch.device, autocast: bool) -> Detector:
        """See `DetectorSettings.build`."""
        if weights is None:
            raise ValueError("The detector `ultralytics` needs the content of its checkpoint.")
        # Here, so that a job that brings its own masks never waits for ultralytics.
        from inpaint_core.detection.ultralytics import UltralyticsDetector

        return UltralyticsDetector(self, weights, device=device, autocast=autocast)


def _download(name: str) -> bytes:
    # Here, since ultralytics takes seconds to import, and most jobs name a file.
    from inpaint_core.detection.checkpoints import download

    return download(name)


@with_config(STRICT)
@dataclass(frozen=True)
class MaskFilesConfig(DetectorSettings):
    """Mask files made by other tools, one per image, found by key."""

    kind: Literal["masks"] = "masks"
    root: Annotated[
        str,
        Field(
            min_length=1, description="Folder or `s3://bucket/prefix` of the mask files (same S3 options as the input)."
        ),
    ] = "masks"
    pattern: Annotated[
        str,
        Field(
            pattern=r"\{(key|stem)\}",
            description="Key of the mask file for an image key: `{key}` is the whole key, `{stem}` the key without its extension. The mask has the size of the image as displayed; values of 128 and more are removed.",
        ),
    ] = "{stem}.png"
    missing: Annotated[
        Literal["unchanged", "failed"],
        Field(description="Status of an image without a mask file."),
    ] = "unchanged"

    looks_at_pixels: ClassVar[bool] = False

    def files_by_key(self) -> FilesByKey:
        """The mask files."""
        return FilesByKey(self.root, self.pattern)

    def build(self, weights: bytes | None, *, s3: S3Options, device: torch.device, autocast: bool) -> Detector:
        """See `DetectorSettings.build`; only `s3` is used."""
        from inpaint_core.detection.mask_files import MaskFilesDetector

        return MaskFilesDetector(self, open_storage(self.root, s3))


DetectorConfig = Annotated[UltralyticsConfig | MaskFilesConfig, Field(discriminator="kind")]
