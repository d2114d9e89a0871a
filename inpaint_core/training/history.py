"""Training history: one row per epoch, as Parquet and in TensorBoard, and a grid of pictures."""

from __future__ import annotations

import io
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from inpaint_core.errors import WeightsError
from inpaint_core.metrics.names import LOWER_IS_BETTER, MEANS, Metric
from inpaint_core.storage import MissingObject, Storage
from inpaint_core.training.config import Term

HISTORY = "history.parquet"
_FIRST_LOSSES = ("total", "adversarial", "l1", "l2", "ssim", "ms_ssim", "discriminator")
"""Those of the first version, in the order of their columns."""
_LATER_LOSSES = tuple(name for name in (*get_args(Term), "r1") if name not in _FIRST_LOSSES)
LOSSES = (*_FIRST_LOSSES, *_LATER_LOSSES)
"""What a step returns: the generator's loss and its terms, and the parts of the discriminator's."""
_LATER_COLUMNS = ("hole_detail", "grid", "data_wait", *(f"loss_{name}" for name in _LATER_LOSSES))
"""Columns that histories of earlier versions do not have: null there."""

NO_SCORE = -1e9
"""Less than any value of a metric scores."""

PICTURE_GAP = 2
"""White pixels between the pictures of a grid."""


def _schema() -> pa.Schema:
    def column(name: str, kind: pa.DataType, doc: str) -> pa.Field:
        return pa.field(name, kind, metadata={"doc": doc})

    return pa.schema(
        [
            column(
                "epoch",
                pa.int32(),
                "Epoch, from 1; 0 is the validation before the first step, where `validation.first` asks for it.",
            ),
            column("step", pa.int64(), "Steps since the beginning."),
            column("images", pa.int64(), "Training images seen in the epoch, by all workers."),
            column("seconds", pa.float64(), "Seconds of the epoch's training, validation left out."),
            column("images_per_second", pa.float64(), "Training images a second, all workers together."),
            column("workers", pa.int32(), "Workers at the end of the epoch."),
            *(
                column(f"loss_{name}", pa.float64(), f"Mean of {name} over the epoch, unweighted.")
                for name in _FIRST_LOSSES
            ),
            *(column(name, pa.float64(), "Validation: see inpaint_core.metrics.protocols.") for name in MEANS),
            # Columns of later versions, also in `_LATER_COLUMNS`: a run of an earlier version goes on without them.
            column(
                "data_wait",
                pa.float64(),
                "Part of `seconds` in which the step waited for its batch, mean of all workers.",
            ),
            *(
                column(f"loss_{name}", pa.float64(), f"Mean of {name} over the epoch's steps that had it, unweighted.")
                for name in _LATER_LOSSES
            ),
        ]
    )


SCHEMA = _schema()


def epoch_row(metrics: Mapping[str, float], losses: Mapping[str, float], **facts: float) -> dict[str, Any]:
    """A row of the history: all columns of `SCHEMA`; null where nothing is given.

    Args:
        metrics: of the validation.
        losses: means over the epoch, by the names of `LOSSES`.
        facts: the other columns.

    Raises:
        ValueError: there is no column for a name.
    """
    known: dict[str, float] = {f"loss_{name}": value for name, value in losses.items()}
    known |= {name: metrics[name] for name in MEANS}
    known |= facts
    if unknown := known.keys() - set(SCHEMA.names):
        raise ValueError(f"the history has no column {', '.join(sorted(unknown))}")
    return {name: known.get(name) for name in SCHEMA.names}


class History:
    """The history of one run, written to its output by the first worker.

    Args:
        storage: the run's output.
        epochs: epochs that are finished; rows of later ones, of a run that died while it wrote, are dropped. None: not even
            the validation before the first step, epoch 0, is.
        step: steps that are done; None: as many as the last row has. Points of later ones in TensorBoard are dropped.
    """

    def __init__(self, storage: Storage, *, epochs: int | None, step: int | None = None) -> None:
        from torch.utils.tensorboard import SummaryWriter  # seconds to import, and only one worker needs it

        self._storage = storage
        self.rows: list[dict[str, Any]] = [
            row for row in _all_rows(storage) if epochs is not None and row["epoch"] <= epochs
        ]
        self._folder = tempfile.TemporaryDirectory(prefix="tensorboard-")
        if step is None:
            step = self.rows[-1]["step"] if self.rows else 0
        self._board = SummaryWriter(self._folder.name, purge_step=0 if epochs is None else step + 1)

    def add(self, row: Mapping[str, Any], grid: NDArray[np.uint8]) -> None:
        """Add an epoch: a row with the columns of `SCHEMA`, and its picture grid (H, W, 3) uint8."""
        self.rows.append(dict(row))
        step = row["step"]
        for name, value in row.items():
            if name not in ("epoch", "step") and value is not None:
                group = "loss" if name.startswith("loss_") else "validation" if name in MEANS else "run"
                self._board.add_scalar(f"{group}/{name.removeprefix('loss_')}", value, step)
        self._board.add_image("input, output, truth", grid, step, dataformats="HWC")
        self.store_board()
        picture = io.BytesIO()
        Image.fromarray(grid).save(picture, "JPEG", quality=92)
        self._storage.write(f"pictures/epoch-{row['epoch']:04}.jpg", picture.getvalue())
        table = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(self.rows, schema=SCHEMA), table)
        self._storage.write(HISTORY, table.getvalue())

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Points of TensorBoard's curves, which are stored with the next epoch, or by `store_board`."""
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def store_board(self) -> None:
        """Store what TensorBoard's file holds."""
        self._board.flush()
        for file in Path(self._folder.name).iterdir():
            self._storage.write(f"tensorboard/{file.name}", file.read_bytes())

    def close(self) -> None:
        """End the TensorBoard file; what it holds is stored already."""
        self._board.close()
        self._folder.cleanup()


def read_history(storage: Storage) -> list[dict[str, Any]]:
    """The rows of a run's output, one for each finished epoch; none where there is no history.

    Raises:
        ObjectError, StorageError: it cannot be read.
        WeightsError: it is damaged, or of another version.
    """
    return [row for row in _all_rows(storage) if row["epoch"]]


def _all_rows(storage: Storage) -> list[dict[str, Any]]:
    """The same with the validation before the first step, epoch 0."""
    try:
        table = pq.read_table(io.BytesIO(storage.read(HISTORY)))
    except MissingObject:
        return []
    except (pa.ArrowException, OSError) as error:
        raise _no_history(storage) from error
    kept = [field for field in SCHEMA if field.name not in _LATER_COLUMNS or field.name in table.schema.names]
    if not table.schema.equals(pa.schema(kept)):
        raise _no_history(storage)
    for name in _LATER_COLUMNS:
        if name not in table.schema.names:
            table = table.append_column(SCHEMA.field(name), pa.nulls(len(table), SCHEMA.field(name).type))
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def _no_history(storage: Storage) -> WeightsError:
    return WeightsError(
        f"{storage.uri}/{HISTORY} was not written by this version's training; give another output, or delete "
        "the run in it"
    )


def score(metric: Metric, value: float | None) -> float:
    """A number that is higher where a validation metric's value is better; `NO_SCORE` for None and NaN.

    Sharpness is best at 1: less is blurred, more is noise.
    """
    if value is None or math.isnan(value):
        return NO_SCORE
    if metric == "sharpness":
        return -abs(1 - value)
    return -value if metric in LOWER_IS_BETTER else value


def better(metric: Metric, value: float, than: float | None) -> bool:
    """Whether a value of a validation metric is better than another (None: than nothing); NaN never is."""
    return not math.isnan(value) and (than is None or score(metric, value) > score(metric, than))


def best_row(metric: Metric, rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The row with the best value of a metric, the earliest of equals; None where there is none. Epoch 0 is none."""
    best = best_rows(metric, rows, 1)
    return best[0] if best else None


def best_rows(metric: Metric, rows: Sequence[Mapping[str, Any]], count: int) -> list[Mapping[str, Any]]:
    """The rows with the best values of a metric, at most `count`, the best first, the earlier of equals first."""
    known = [row for row in rows if row["epoch"] and score(metric, row[metric]) > NO_SCORE]
    return sorted(known, key=lambda row: (-score(metric, row[metric]), row["epoch"]))[:count]


def picture_grid(columns: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Columns of images, each (n, H, W, 3) uint8, as one image with n rows; 2 white pixels between."""
    gap = PICTURE_GAP
    count, height, width, _ = columns[0].shape
    grid = np.full((count * (height + gap) - gap, len(columns) * (width + gap) - gap, 3), 255, dtype=np.uint8)
    for column, images in enumerate(columns):
        for row, image in enumerate(images):
            top, left = row * (height + gap), column * (width + gap)
            grid[top : top + height, left : left + width] = image
    return grid
