"""Training history: Parquet, TensorBoard, pictures."""

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from inpaint_core.errors import WeightsError
from inpaint_core.metrics.names import MEANS
from inpaint_core.training.history import (
    HISTORY,
    LOSSES,
    SCHEMA,
    History,
    best_row,
    better,
    epoch_row,
    picture_grid,
    read_history,
)
from tests.training.small import folder, photographs


def row(epoch: int) -> dict[str, Any]:
    facts = {"epoch": epoch, "step": 10 * epoch, "images": 40, "seconds": 2.0, "images_per_second": 20.0, "workers": 1}
    losses = {f"loss_{name}": (epoch / 10 if name in ("total", "l1") else None) for name in LOSSES}
    later = {"data_wait": 0.25, "loss_features": 0.5, "loss_feature_matching": None, "loss_r1": None}
    return {**facts, **losses, **{name: 0.5 + epoch for name in MEANS}, **later}


GRID = picture_grid([photographs(2), photographs(2)[::-1]])


def test_rows_come_back_with_their_columns(tmp_path: Path) -> None:
    storage = folder(tmp_path)
    assert read_history(storage) == []
    history = History(storage, epochs=0)
    for epoch in (1, 2):
        history.add(row(epoch), GRID)
    history.close()
    assert read_history(storage) == [row(1), row(2)]
    table = pq.read_table(io.BytesIO(storage.read(HISTORY)))
    assert table.schema.equals(SCHEMA, check_metadata=True)
    assert all(field.metadata[b"doc"] for field in SCHEMA)
    assert table["loss_l2"].null_count == 2


def test_losses_have_their_columns_in_an_order_that_stays() -> None:
    columns = [name.removeprefix("loss_") for name in SCHEMA.names if name.startswith("loss_")]
    first = ["total", "adversarial", "l1", "l2", "ssim", "ms_ssim", "discriminator"]
    assert columns == [*first, "features", "feature_matching", "r1"]
    metrics = dict.fromkeys(MEANS, 0.5)
    assert epoch_row(metrics, {"l1": 0.25}, epoch=1)["loss_l1"] == 0.25
    with pytest.raises(ValueError, match="no column loss_l3"):
        epoch_row(metrics, {"l1": 0.25, "l3": 0.5}, epoch=1)


def test_tensorboard_holds_scalars_and_the_picture(tmp_path: Path) -> None:
    history = History(folder(tmp_path), epochs=0)
    for epoch in (1, 2):
        history.add(row(epoch), GRID)
    history.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"images": 0}).Reload()
    assert [(event.step, event.value) for event in events.Scalars("validation/table_psnr")] == [(10, 1.5), (20, 2.5)]
    assert [event.value for event in events.Scalars("loss/l1")] == pytest.approx([0.1, 0.2])
    assert [event.value for event in events.Scalars("run/images_per_second")] == [20.0, 20.0]
    assert "loss/l2" not in events.Tags()["scalars"], "a part that is off has no curve"
    pictures = events.Images("input, output, truth")
    assert [picture.step for picture in pictures] == [10, 20]
    shown = np.asarray(Image.open(io.BytesIO(pictures[-1].encoded_image_string)).convert("RGB"))
    assert np.array_equal(shown, GRID)


def test_a_run_that_goes_on_drops_what_it_does_again(tmp_path: Path) -> None:
    storage = folder(tmp_path)
    first = History(storage, epochs=0)
    for epoch in (1, 2, 3):
        first.add(row(epoch), GRID)
    first.close()
    second = History(storage, epochs=2)  # the third was written, and died before its checkpoint
    assert [told["epoch"] for told in second.rows] == [1, 2]
    again = {**row(3), "table_psnr": 9.0}
    second.add(again, GRID)
    second.close()
    assert read_history(storage) == [row(1), row(2), again]
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("validation/table_psnr")] == [
        (10, 1.5),
        (20, 2.5),
        (30, 9.0),
    ]


def test_pictures_are_kept_for_each_epoch(tmp_path: Path) -> None:
    storage = folder(tmp_path)
    history = History(storage, epochs=0)
    history.add(row(1), GRID)
    history.close()
    picture = Image.open(io.BytesIO(storage.read("pictures/epoch-0001.jpg")))
    assert picture.size == (GRID.shape[1], GRID.shape[0])
    assert np.abs(np.asarray(picture).astype(int) - GRID).mean() < 4


def test_a_picture_grid_by_hand() -> None:
    one, other = photographs(3), photographs(6)[3:]
    grid = picture_grid([one, other])
    assert (grid.shape, grid.dtype) == ((3 * 128 + 4, 2 * 128 + 2, 3), np.uint8)
    for number in range(3):
        top = number * 130
        assert np.array_equal(grid[top : top + 128, :128], one[number])
        assert np.array_equal(grid[top : top + 128, 130:], other[number])
    assert (grid[:, 128:130] == 255).all()
    assert (grid[128:130] == 255).all()


@pytest.mark.parametrize(
    ("metric", "value", "than", "expected"),
    [
        ("table_psnr", 15.0, None, True),
        ("table_psnr", 15.0, 14.9, True),
        ("table_psnr", 15.0, 15.0, False),
        ("table_l1", 0.06, 0.07, True),
        ("table_l1", 0.07, 0.06, False),
        ("hole_l2", 0.06, 0.07, True),
        ("hole_ssim_centred", 0.6, 0.7, False),
        ("sharpness", 0.9, 0.5, True),
        ("sharpness", 1.2, 0.9, False),
        ("sharpness", 0.95, 1.2, True),
        ("table_psnr", math.nan, None, False),
        ("table_psnr", math.nan, 3.0, False),
    ],
)
def test_what_is_better(metric: Any, value: float, than: float | None, expected: bool) -> None:
    assert better(metric, value, than) is expected


LATER = dict.fromkeys(("data_wait", "loss_features", "loss_feature_matching", "loss_r1"))


def test_a_history_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    """Without the columns that were added later: null in its rows."""
    storage = folder(tmp_path)
    earlier = pa.schema([field for field in SCHEMA if field.name not in LATER])
    storage.write(HISTORY, parquet(pa.Table.from_pylist([row(1)], schema=earlier)))
    assert read_history(storage) == [row(1) | LATER]
    history = History(storage, epochs=1)
    history.add(row(2), GRID)
    history.close()
    assert read_history(storage) == [row(1) | LATER, row(2)]


def test_a_history_without_the_detail_of_holes_is_read(tmp_path: Path) -> None:
    storage = folder(tmp_path)
    earlier = pa.Table.from_pylist([row(1)], schema=SCHEMA).drop_columns(["hole_detail", *LATER])
    storage.write(HISTORY, parquet(earlier))
    assert read_history(storage) == [row(1) | LATER | {"hole_detail": None}]
    assert best_row("table_psnr", read_history(storage)) is not None
    assert best_row("hole_detail", read_history(storage)) is None


def parquet(table: pa.Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PAR1",
        b"no Parquet at all",
        parquet(pa.table({"epoch": [1]})),
        parquet(pa.table({"x": ["y"]})),
        parquet(pa.table({"epoch": [1], "data_wait": [0.1]})),
    ],
)
def test_a_damaged_history_is_one_clear_error(data: bytes, tmp_path: Path) -> None:
    storage = folder(tmp_path)
    storage.write(HISTORY, data)
    for read in (read_history, lambda where: History(where, epochs=1)):
        with pytest.raises(
            WeightsError, match=r"history\.parquet was not written by this version's training; give another output"
        ):
            read(storage)
