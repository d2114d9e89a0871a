"""What is kept of an evaluation: a row per image and fill, and the table made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from inpaint_core.metrics.names import COLUMNS, Column, Mean
from inpaint_core.metrics.protocols import EXACT_PSNR, MetricSums

_DOCS: Mapping[Column, str] = {
    "table_l1": "Protocol `table`: mean absolute error of the whole image, values -1 to 1.",
    "table_l2": "Protocol `table`: mean squared error of the whole image, values -1 to 1.",
    "table_psnr": "Protocol `table`: 10 log10(1 / table_l2), in dB; infinite where nothing differs.",
    "table_ssim": "Protocol `table`: mean SSIM of the whole image, data range 2.",
    "hole_l1": "Protocol `hole`: mean absolute error of the hole's pixels, values 0 to 1.",
    "hole_l2": "Protocol `hole`: mean squared error of the hole's pixels, values 0 to 1.",
    "hole_psnr": "Protocol `hole`: 10 log10(1 / hole_l2), in dB; infinite where nothing differs.",
    "hole_ssim": "Mean SSIM of the windows wholly inside the hole, values -1 to 1; null where it has none.",
    "hole_ssim_centred": "Mean SSIM of the windows centred on a pixel of the hole, values 0 to 1.",
    "hole_fraction": "Part of the image that is hole, 0 to 1.",
    "hole_detail": "As `hole_ssim_centred`, with SSIM's structure factor s as (1 + s) / 2: detail in another place counts half.",
    "sharpness_fill": "Mean absolute Laplacian of the fill inside the hole, values 0 to 1; null where no stencil fits in.",
    "sharpness_truth": "The same of the photograph; the table's sharpness is the sum of the fills over the sum of these.",
    "grid_fill": "Share of power at periods of 8 pixels and their fractions in the hole, 0 to 1; about 0.5 without a pattern of dots.",
    "grid_truth": "The same of the photograph; the table's grid is the mean of the fills over the mean of these.",
}


def _column(name: str, type_: pa.DataType, doc: str, *, nullable: bool = True) -> pa.Field:
    return pa.field(name, type_, nullable=nullable, metadata={"doc": doc})


SCHEMA = pa.schema(
    [
        _column("key", pa.string(), "Key of the photograph below the data's root, or in its tar file.", nullable=False),
        _column(
            "index",
            pa.int64(),
            "Its place in the UTF-8 order of all keys, which its hole follows from.",
            nullable=False,
        ),
        _column(
            "row", pa.string(), "What filled it: the label of a checkpoint, or the name of a fill.", nullable=False
        ),
        _column("holes", pa.string(), "The kind of holes.", nullable=False),
        _column("seed", pa.int64(), "The seed of the holes.", nullable=False),
        *(_column(name, pa.float64(), _DOCS[name]) for name in COLUMNS),
    ]
)

HEADINGS: Mapping[Mean, str] = {
    "table_l1": "table L1",
    "table_l2": "L2",
    "table_psnr": "PSNR",
    "table_ssim": "SSIM",
    "hole_l1": "hole L1",
    "hole_l2": "L2 = MSE",
    "hole_psnr": "PSNR",
    "hole_ssim": "SSIM",
    "hole_ssim_centred": "SSIM centred",
    "hole_detail": "detail",
    "sharpness": "sharpness",
    "grid": "grid",
}
_AREA_COLUMNS: tuple[Mean, ...] = ("hole_l1", "hole_psnr", "hole_ssim_centred", "sharpness")
_AREA_STEP = 10  # per cent, as in LaMa's tables


@dataclass(frozen=True)
class Measured:
    """Some photographs and how well each row filled them: `columns[row]` is what `protocols.measure` gave."""

    keys: Sequence[str]
    indices: Sequence[int]
    columns: Mapping[str, Mapping[str, Tensor]]


def join(parts: Sequence[Measured]) -> Measured:
    """All parts (at least one, of the same rows) as one, in the order of the indices."""
    indices = np.concatenate([part.indices for part in parts])
    order = np.argsort(indices)
    keys = [key for part in parts for key in part.keys]
    columns: dict[str, dict[str, Tensor]] = {
        row: {name: torch.cat([part.columns[row][name] for part in parts])[torch.from_numpy(order)] for name in COLUMNS}
        for row in parts[0].columns
    }
    return Measured([keys[place] for place in order], indices[order].tolist(), columns)


def to_table(measured: Measured, holes: str, seed: int) -> pa.Table:
    """An Arrow table of `SCHEMA`: all images of the first row, then those of the next."""
    count = len(measured.keys)
    tables = []
    for row, columns in measured.columns.items():
        values = [pa.array(columns[name].numpy(), from_pandas=True) for name in COLUMNS]  # NaN becomes null
        facts = [measured.keys, measured.indices, [row] * count, [holes] * count, [seed] * count]
        tables.append(pa.table([*facts, *values], schema=SCHEMA))
    return pa.concat_tables(tables)


def markdown(measured: Measured, *, central: bool) -> str:
    """The results table, and, unless the holes are the middle square, one by the area of the hole."""
    # The mean over the few irregular holes that hold whole windows would be of other images for each set of holes.
    names = [name for name in HEADINGS if central or name != "hole_ssim"]
    lines = [
        f"| row | images | {' | '.join(HEADINGS[name] for name in names)} |",
        "| --- |" + " ---: |" * (1 + len(names)),
    ]
    exact = []
    for row, columns in measured.columns.items():
        sums = _sums(columns)
        means = sums.means()
        lines.append(f"| {_cell(row)} | {sums.count:,} | {' | '.join(_number(name, means[name]) for name in names)} |")
        if sums.exact:
            exact.append(f"{row} {sums.exact:,}")
    text = "\n".join(lines) + "\n"
    if exact:
        counted = f"each counts as {EXACT_PSNR:g} dB in the mean PSNR"
        text += f"\nFills that equal their photograph ({counted}): {', '.join(exact)}.\n"
    return text if central else f"{text}\n{_by_area(measured)}"


def _by_area(measured: Measured) -> str:
    lines = [
        f"| hole, % of the image | images | row | {' | '.join(HEADINGS[name] for name in _AREA_COLUMNS)} |",
        "| ---: | ---: | --- |" + " ---: |" * len(_AREA_COLUMNS),
    ]
    fractions = next(iter(measured.columns.values()))["hole_fraction"]  # the same in every row
    bins = (fractions * (100 / _AREA_STEP)).floor().clamp(max=100 // _AREA_STEP - 1)  # the last one holds 100 %, too
    for bin_ in sorted(set(bins.tolist())):
        area = f"{_AREA_STEP * bin_:.0f}-{_AREA_STEP * (bin_ + 1):.0f}"
        for row, columns in measured.columns.items():
            sums = _sums({name: column[bins == bin_] for name, column in columns.items()})
            means = sums.means()
            figures = " | ".join(_number(name, means[name]) for name in _AREA_COLUMNS)
            lines.append(f"| {area} | {sums.count:,} | {_cell(row)} | {figures} |")
    return "\n".join(lines) + "\n"


def _sums(columns: Mapping[str, Tensor]) -> MetricSums:
    sums = MetricSums()
    sums.add(columns)
    return sums


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _number(name: str, value: float) -> str:
    if np.isnan(value):
        return "-"
    return f"{value:.3f}" if name.endswith("psnr") else f"{value:.4f}"
