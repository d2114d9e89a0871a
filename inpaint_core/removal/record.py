"""Record of one image: status, objects, measurements. One Parquet row per input object."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import pyarrow as pa

from inpaint_core.errors import Stage

Status = Literal["cleaned", "unchanged", "held", "failed"]
STATUSES: tuple[Status, ...] = ("cleaned", "unchanged", "held", "failed")

Decision = Literal["accept", "restore", "hold", "redo"]
DECISIONS: tuple[Decision, ...] = ("accept", "restore", "hold", "redo")

TIMED_STAGES = tuple(stage for stage in Stage if stage not in (Stage.LIST, Stage.WORKER))
"""Those that a record's `seconds` are of."""


NOT_CARRIED_OVER = "not carried over: "
"""What in a `note` comes before the properties of an input that its output lacks."""

RETRY_COLUMNS = ("retries", "retry_kept", "retry_seconds")
"""Columns of what further attempts cost and gave. They are known after the rules of `accept` were applied."""

SHIFTED_HOLE_COLUMNS = ("shifted_pixels", "l1", "l2", "psnr", "ssim")
"""Columns of `measure.shifted_hole`: what `inpaint_core.metrics.hole.HoleMetrics` has."""

MEASURED = ("outside_max_diff", "residual_objects", "seam", *SHIFTED_HOLE_COLUMNS, "outside_exact", "likeness")
"""Columns of what is measured of a cleaned version."""


def _column(name: str, type_: pa.DataType, doc: str, *, nullable: bool = True) -> pa.Field:
    return pa.field(name, type_, nullable=nullable, metadata={"doc": doc})


OBJECT_TYPE = pa.struct(
    [
        pa.field("label", pa.string(), nullable=False),
        pa.field("confidence", pa.float32(), nullable=False),
        pa.field("box", pa.list_(pa.float32(), 4), nullable=False),
        pa.field("pixels", pa.int64(), nullable=False),
    ]
)

SCHEMA = pa.schema(
    [
        _column(
            "key", pa.string(), "Key of the object, relative to the input; the output has the same key.", nullable=False
        ),
        _column("source_size", pa.int64(), "Size of the input object in bytes.", nullable=False),
        _column(
            "source_etag",
            pa.string(),
            "ETag of the input object (S3), or its size and modification time (files).",
            nullable=False,
        ),
        _column(
            "status",
            pa.string(),
            "`cleaned`: objects were removed. `unchanged`: nothing to remove, or a mask above `mask.max_mask_fraction`; the output is a byte-for-byte copy. `held`: objects were removed, and a person should check the result, since it breaks a rule of `accept`, or a reviewer held it; the output is set by `accept.instead`, by default the cleaned version. `failed`: no output was written, and an output of an earlier run is kept; see `stage`, `error` and `note`.",
            nullable=False,
        ),
        _column(
            "stage",
            pa.string(),
            "Stage that failed: `list`, `read`, `decode`, `detect`, `mask`, `inpaint`, `encode`, `measure`, `write`, or `worker` (the process died). Null unless failed.",
        ),
        _column("error", pa.string(), "Reason for the failure, in one sentence. Null unless failed."),
        _column(
            "note",
            pa.string(),
            "Remarks: a mask above `mask.max_mask_fraction`, objects below `mask.min_object_pixels`, an image that was scaled down more than 2 times to be searched; for a cleaned image, which parts of the file were dropped ([formats](formats.md#dropped)), and a JPEG without an end marker or re-encoded as a whole ([JPEG](formats.md#jpeg)); `not carried over`: properties of the input object that the output lacks; for a failed image, whether the output under its key is from an earlier run.",
        ),
        _column("width", pa.int32(), "Width as displayed (EXIF orientation applied), in pixels."),
        _column("height", pa.int32(), "Height as displayed, in pixels."),
        _column(
            "format",
            pa.string(),
            "File format, detected from the content: `JPEG`, `PNG`, `WEBP`, `TIFF`, `BMP`, `GIF`, `AVIF`, `HEIC`.",
        ),
        _column(
            "objects",
            pa.list_(pa.field("item", OBJECT_TYPE, nullable=False)),
            "Detected objects of the chosen classes, without those below `mask.min_object_pixels`: `label`, `confidence` (0 to 1), `box` (x0, y0, x1, y1 in pixels as displayed), `pixels` (area of the mask before dilation).",
        ),
        _column("mask_fraction", pa.float64(), "Fraction of the image that the dilated mask covers, 0 to 1."),
        _column(
            "outside_max_diff",
            pa.int32(),
            "Maximum absolute difference of any sample outside the mask between input and output, both decoded to 8-bit RGB, 0 to 255. With transparency: of the image over white, over black, and of alpha.",
        ),
        _column(
            "residual_objects",
            pa.int32(),
            "Number of objects of the chosen classes that the detector still finds in the output with at least half of their mask inside the hole.",
        ),
        _column(
            "seam",
            pa.float64(),
            "Ratio of the mean gradient across the hole's edge to the mean gradient of its surroundings (4 to 12 pixels outside); 1: no visible edge. With transparency: the larger one of the image over white and over black.",
        ),
        _column(
            "shifted_pixels",
            pa.int64(),
            "Area in pixels of the shifted hole, to which the four metrics below refer; null if no object-free area is large enough.",
        ),
        _column("l1", pa.float64(), "Shifted hole: mean absolute error, values 0 to 1."),
        _column("l2", pa.float64(), "Shifted hole: mean squared error, values 0 to 1."),
        _column("psnr", pa.float64(), "Shifted hole: 10 log10(1 / l2), in dB; null where l2 is 0."),
        _column(
            "ssim",
            pa.float64(),
            "Shifted hole: SSIM (11x11 Gaussian window, sigma 1.5), mean over the hole's pixels and channels.",
        ),
        _column("output_size", pa.int64(), "Size of the output object in bytes; null where this run wrote none."),
        _column(
            "seconds",
            pa.struct([pa.field(stage.value, pa.float32()) for stage in TIMED_STAGES]),
            "Seconds per stage; the time of a batched stage is divided evenly among its images.",
        ),
        _column("run_id", pa.string(), "Identifier of the run that wrote this record.", nullable=False),
        _column(
            "config_hash",
            pa.string(),
            "Hash of all settings and weights that can change a result.",
            nullable=False,
        ),
        _column("finished_at", pa.timestamp("us", tz="UTC"), "Time of the record.", nullable=False),
        _column(
            "outside_exact",
            pa.bool_(),
            "Whether everything outside the mask is identical in input and output, compared as stored: every sample, and in JPEG everything outside the DCT blocks that the mask touches. Null unless cleaned or held.",
        ),
        _column(
            "held_for",
            pa.list_(pa.field("item", pa.string(), nullable=False)),
            "Rules of `accept` that the result breaks, such as `seam <= 3`. Null unless held.",
        ),
        _column(
            "likeness",
            pa.float64(),
            "Similarity of the fill to its surroundings, -1 to 1: cosine of the mean features of both in the detector's network. Null without `measure.residual_objects`.",
        ),
        _column(
            "decision",
            pa.string(),
            "Decision of a reviewer that was carried out ([review](review.md)): `accept`, `restore`, `hold` or `redo`. Null where nobody decided.",
        ),
        _column("decided_by", pa.string(), "Name of the reviewer who decided."),
        _column("decided_at", pa.timestamp("us", tz="UTC"), "Time of the decision."),
        _column(
            "retries",
            pa.int32(),
            "Number of further attempts (`retry`) that were made because the result broke a rule of `accept`. Null if none was.",
        ),
        _column(
            "retry_kept",
            pa.int32(),
            "Entry of `retry` that produced the result: 0 for `retry.0`. Null: the result is that of the settings without `retry`.",
        ),
        _column(
            "retry_seconds",
            pa.float64(),
            "Seconds that the further attempts took; they are part of `seconds`, too.",
        ),
    ]
)


@dataclass(frozen=True)
class FoundObject:
    """One object that a detector found. `box` is (x0, y0, x1, y1) in pixels as displayed."""

    label: str
    confidence: float
    box: tuple[float, float, float, float]
    pixels: int


@dataclass
class Record:
    """One row of `SCHEMA`, filled in stage by stage."""

    key: str
    source_size: int
    source_etag: str
    run_id: str
    config_hash: str
    finished_at: datetime
    status: Status = "failed"
    stage: Stage | None = None
    error: str | None = None
    note: str | None = None
    width: int | None = None
    height: int | None = None
    format: str | None = None
    objects: list[FoundObject] | None = None
    mask_fraction: float | None = None
    outside_max_diff: int | None = None
    residual_objects: int | None = None
    seam: float | None = None
    shifted_pixels: int | None = None
    l1: float | None = None
    l2: float | None = None
    psnr: float | None = None
    ssim: float | None = None
    output_size: int | None = None
    seconds: dict[Stage, float] = field(default_factory=dict)
    outside_exact: bool | None = None
    held_for: list[str] | None = None
    likeness: float | None = None
    decision: Decision | None = None
    decided_by: str | None = None
    decided_at: datetime | None = None
    retries: int | None = None
    retry_kept: int | None = None
    retry_seconds: float | None = None

    def as_row(self) -> dict[str, object]:
        """The row as plain Python values, in the form `pyarrow` takes for `SCHEMA`."""
        row: dict[str, object] = {name: getattr(self, name) for name in SCHEMA.names}
        if self.objects is not None:
            row["objects"] = [
                {"label": o.label, "confidence": o.confidence, "box": list(o.box), "pixels": o.pixels}
                for o in self.objects
            ]
        row["seconds"] = {stage.value: self.seconds.get(stage) for stage in TIMED_STAGES}
        return row


def to_table(records: Iterable[Record]) -> pa.Table:
    """Records as an Arrow table of `SCHEMA`."""
    return pa.Table.from_pylist([record.as_row() for record in records], schema=SCHEMA)
