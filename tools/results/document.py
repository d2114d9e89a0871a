"""The text of RESULTS.md between its markers: `<!-- results: begin NAME -->` and `<!-- results: end NAME -->`."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from inpaint_core.errors import ConfigError
from inpaint_core.metrics.names import COLUMNS
from inpaint_core.training.evaluation.config import FillName
from tools.results.models import MODELS, PUBLISHED, Request, config_of, times_the_epochs
from tools.results.state import State

HOLE_SIZES: Mapping[str, int] = {"center": 64, "center-56": 56}
"""The names of the tables, and the side of the hole in pixels."""

_FILLS: Mapping[str, str] = {
    "mean": "mean colour of the rest",
    "telea": "OpenCV Telea, radius 3",
    "navier_stokes": "OpenCV Navier-Stokes, radius 3",
}
FILLS: tuple[FillName, ...] = ("mean", "telea", "navier_stokes")
"""Fills without training that are in the tables (see `inpaint_core.training.evaluation.config.EvaluateConfig`)."""

_HEADINGS: Mapping[str, str] = {
    "table_l1": "table L1",
    "table_l2": "L2",
    "table_psnr": "PSNR",
    "table_ssim": "SSIM",
    "hole_l1": "hole L1",
    "hole_l2": "L2",
    "hole_psnr": "PSNR",
    "hole_ssim": "SSIM",
    "sharpness": "sharpness",
    "grid": "grid",
}


@dataclass(frozen=True)
class Trained:
    """What a finished training was: its epochs, and their seconds without validation."""

    epochs: int
    seconds: float


def check_document(path: Path) -> None:
    """Refuse a document that the tables cannot be written into.

    Raises:
        ConfigError: it cannot be read, or has no place for a table.
    """
    text = read_document(path)
    for name in HOLE_SIZES:
        with_table(text, name, "", path)


def read_document(path: Path) -> str:
    """The text of a document.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--document: {path} cannot be read: {' '.join(str(error).split())}") from error


def with_table(text: str, name: str, content: str, path: Path) -> str:
    """The text with what stands between the markers of `name` replaced; all else is as it was.

    Raises:
        ConfigError: the markers are not there once each, the beginning first.
    """
    begin, end = f"<!-- results: begin {name} -->\n", f"<!-- results: end {name} -->"
    found = re.findall(f"{re.escape(begin)}.*?{re.escape(end)}", text, re.DOTALL)
    if len(found) != 1 or text.count(begin) != 1 or text.count(end) != 1:
        raise ConfigError(f"--document: {path} needs the lines {begin.strip()} and {end} once each, in this order")
    return text.replace(found[0], f"{begin}{content}{end}")


def table(per_image: pa.Table, trained: Mapping[str, Trained], *, published: bool) -> str:
    """The Markdown table of an evaluation.

    Args:
        per_image: of `inpaint_core.training.evaluation.results.SCHEMA`.
        trained: the models, whose labels are rows of it.
        published: with a column of the published figures.
    """
    head = ["row", "epochs", "minutes", *_HEADINGS.values()]
    head += ["published, 40 epochs: table L1, L2, PSNR, SSIM"] if published else []
    lines = [head, ["---"] * len(head)]
    for row in pc.unique(per_image["row"]).to_pylist():
        means = _means(per_image.filter(pc.equal(per_image["row"], row)))
        facts = trained.get(row)
        cells = [
            _FILLS.get(row) or _label(row),
            *([f"{facts.epochs}", f"{facts.seconds / 60:.0f}"] if facts else ["", ""]),
        ]
        cells += [_number(name, means[name]) for name in _HEADINGS]
        cells += [PUBLISHED.get(config_of(row).rpartition("/")[2], "") if facts else ""] if published else []
        lines.append(cells)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def origin(request: Request, state: State, evaluated: int) -> str:
    """The sentences above a table: command, machine, budget, date.

    Args:
        request: whose command is told.
        state: when all is done.
        evaluated: photographs of the table.
    """
    settings = f"; {', '.join(f'`{setting}`' for setting in state.settings)}" if state.settings else ""
    return (
        f"`{command(request)}`\n\n"
        f"{state.budget}{settings}. {state.images:,} training photographs, {evaluated:,} evaluated. "
        f"Machine: {'; then '.join(state.machines)}. Date: {state.evaluated}. Minutes: training without validation and reading.\n\n"
    )


def command(request: Request) -> str:
    """The `make results` of a request, for a shell."""
    budget = f"EPOCHS={request.epochs}" if request.minutes is None else f"MINUTES={request.minutes:g}"
    parts = [f"DATA={request.data}", f"VAL={request.validation}", budget]
    parts += [f"MODELS={','.join(request.models)}"] if request.models != MODELS else []
    parts += [f"SETTINGS={' '.join(request.settings)}"] if request.settings else []
    return shlex.join(["make", "results", *parts])


def _label(model: str) -> str:
    times = times_the_epochs(model)
    return model if times == 1 else f"{config_of(model)}, {times} times the epochs"


def _means(rows: pa.Table) -> dict[str, float]:
    import torch

    from inpaint_core.metrics.protocols import MetricSums

    sums = MetricSums()
    sums.add({name: torch.tensor(_values(rows[name]), dtype=torch.float64) for name in COLUMNS})
    return sums.means()


def _values(column: pa.ChunkedArray) -> Sequence[float]:
    return [math.nan if value is None else value for value in column.to_pylist()]


def _number(name: str, value: float) -> str:
    if math.isnan(value):
        return "-"
    digits = 3 if name.endswith("psnr") else 2 if name in ("sharpness", "grid") else 4
    return f"{value:.{digits}f}"
