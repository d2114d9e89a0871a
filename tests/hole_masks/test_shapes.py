"""Shapes of real objects: their file, and holes made of them."""

from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from inpaint_core.errors import ConfigError, StorageError
from inpaint_core.hole_masks.shape_file import SCHEMA, load_object_shapes
from inpaint_core.hole_masks.shapes import draw_objects, resized, scaled_to
from inpaint_core.storage import S3Options
from tests.hole_masks.test_sampler import horse

S3 = S3Options()
HORSE, SMALL_HORSE = horse()[0], horse()[1]


@pytest.mark.parametrize(("height", "width"), [(31, 47), (199, 79)])
def test_resizing_agrees_with_opencv(height: int, width: int) -> None:
    reference = cv2.resize(HORSE.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    np.testing.assert_array_equal(resized(HORSE, height, width), reference.astype(bool))


def test_scaling_keeps_area_and_form() -> None:
    for shape in (HORSE, SMALL_HORSE):
        for area in (800, 2500, 4000):
            scaled = scaled_to(shape, area, 128)
            assert scaled.sum() == pytest.approx(area, rel=0.05)
            reference = resized(HORSE, *scaled.shape)
            # The legs of the small one are 1 to 3 px wide.
            assert (scaled & reference).sum() / (scaled | reference).sum() > 0.85
    assert max(scaled_to(HORSE, 128 * 128, 128).shape) == 128
    assert scaled_to(np.ones((1, 300), dtype=bool), 3000, 128).shape == (1, 128)


def test_upscaled_outlines_have_no_steps() -> None:
    """A line at 45 degrees, four times as large: as steps of 4 it has 2 pixels of outline for each of its length."""
    triangle = np.tri(20, dtype=bool)
    scaled = scaled_to(triangle, 16 * int(triangle.sum()), 128)
    assert scaled.shape == (80, 80)
    runs = np.diff(scaled.sum(axis=1)[8:-8])
    assert runs.max() < 4


def test_object_holes_cover_5_to_40_percent_and_lie_at_least_half_inside() -> None:
    shapes = horse()
    rng = np.random.default_rng(0)
    drawn = np.stack([draw_objects(shapes, rng, 128) for _ in range(400)])
    areas = drawn.mean(axis=(1, 2))
    # Half outside, and shrunk to the image: below. Grown by up to 3 px: above.
    assert areas.min() > 0.02
    assert areas.max() < 0.6
    assert 0.1 < np.median(areas) < 0.25
    pieces = [cv2.connectedComponents(mask.astype(np.uint8))[0] - 1 for mask in drawn]
    assert 0.6 < np.mean(np.asarray(pieces) == 1) < 0.95
    border = [mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any() for mask in drawn]
    assert 0.3 < np.mean(border) < 0.8


def write_table(path: Path, changes: dict[str, pa.Array], drop: str | None = None) -> str:
    row = {
        "key": pa.array(["a.jpg"]),
        "class": pa.array(["horse"]),
        "height": pa.array([3], pa.int32()),
        "width": pa.array([3], pa.int32()),
        "mask": pa.array([b"\xff\x80"]),
        "image_height": pa.array([9], pa.int32()),
        "image_width": pa.array([9], pa.int32()),
        "area_fraction": pa.array([1 / 9]),
    }
    pq.write_table(pa.table({name: array for name, array in (row | changes).items() if name != drop}), path)
    return str(path)


def test_a_file_of_another_writer_is_read(tmp_path: Path) -> None:
    """Wider types and an additional column, as other libraries write them."""
    changes = {
        "height": pa.array([3], pa.int64()),
        "mask": pa.array([b"\xff\x80"], pa.large_binary()),
        "note": pa.array(["by hand"]),
    }
    (shape,) = load_object_shapes(write_table(tmp_path / "objects.parquet", changes), S3)
    assert shape.shape == (3, 3)
    assert shape.all()


def test_wrong_files_are_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "objects.parquet"
    wrong: list[tuple[str, str]] = [
        (str(tmp_path / "none.parquet"), "there is no file"),
        (str(tmp_path / "none" / "objects.parquet"), "the folder is gone|no such folder"),
        (f"{tmp_path}/", "names no file"),
        ("s3://bucket", "names no file"),
        (write_table(tmp_path / "columns.parquet", {}, drop="mask"), "not a Parquet file of object shapes"),
        (
            write_table(tmp_path / "types.parquet", {"height": pa.array(["three"])}),
            "not a Parquet file of object shapes",
        ),
        (
            write_table(tmp_path / "nulls.parquet", {"height": pa.array([None], pa.int32())}),
            "not a Parquet file of object shapes",
        ),
        (write_table(tmp_path / "cut.parquet", {"mask": pa.array([b"\xff"])}), "the mask of row 0 is not 3 x 3"),
        (write_table(tmp_path / "empty.parquet", {"mask": pa.array([b"\0\0"])}), "the mask of row 0 is not 3 x 3"),
        (write_table(tmp_path / "side.parquet", {"height": pa.array([-3], pa.int32())}), "the mask of row 0"),
    ]
    pq.write_table(SCHEMA.empty_table(), tmp_path / "rows.parquet")
    wrong.append((str(tmp_path / "rows.parquet"), "holds no shape"))
    path.write_bytes(b"PAR1 but no more")
    wrong.append((str(path), "not a Parquet file of object shapes"))
    for uri, message in wrong:
        with pytest.raises((ConfigError, StorageError), match=message) as caught:
            load_object_shapes(uri, S3)
        assert "\n" not in str(caught.value)
