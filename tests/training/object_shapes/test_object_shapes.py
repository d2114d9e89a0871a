"""Shapes of real objects: from photographs to a file that holes are made of."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from inpaint_core.detection.detector import Detection
from inpaint_core.errors import ConfigError, StorageError
from inpaint_core.hole_masks.sampler import evaluation_holes
from inpaint_core.hole_masks.shape_file import SCHEMA, load_object_shapes
from inpaint_core.storage import S3Options
from inpaint_core.training.object_shapes.command import main
from inpaint_core.training.object_shapes.config import ObjectShapesConfig
from inpaint_core.training.object_shapes.extraction import MAX_SIDE, Extraction, extract_shapes, judge
from tests.hole_masks.test_sampler import horse
from tests.samples import PaintDetector, encoded, painted, photograph
from tools.demo import copy_photographs

S3 = S3Options()
HORSE = horse()[0]


def extract(source: Path, output: Path, **options: object) -> tuple[Extraction, list[str]]:
    lines: list[str] = []
    config = ObjectShapesConfig(input=str(source), output=str(output), **options)  # type: ignore[arg-type]
    return extract_shapes(config, PaintDetector(), lines.append), lines


def tar_of(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def detection(mask: NDArray[np.bool_], top: int, left: int) -> Detection:
    box = (float(left), float(top), float(left + mask.shape[1]), float(top + mask.shape[0]))
    return Detection("horse", 0.9, box, mask, top, left)


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    """A folder with photographs, a tar file of photographs, a damaged photograph and a note."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    image = photograph()  # 120 rows of 160
    (folder / "a.png").write_bytes(encoded(painted(image, (20, 30, 50, 90), (100, 20, 103, 24))))
    (folder / "b.JPG").write_bytes(encoded(image, "JPEG", quality=95))
    (folder / "c.jpg").write_bytes(encoded(image, "JPEG")[:800])
    (folder / "notes.txt").write_text("no photograph")
    members = {
        "x/cut.png": encoded(painted(image, (60, 60, 120, 120))),
        "x/reaches.png": encoded(painted(image, (20, 60, 80, 110), (40, 110, 55, 120))),
        "x/readme": b"no photograph",
    }
    tar_of(folder / "shard.tar", members)
    return folder


def test_a_collection_becomes_a_file_of_shapes(collection: Path, tmp_path: Path) -> None:
    output = tmp_path / "objects.parquet"
    result, _ = extract(collection, output)
    assert str(result) == (
        "2 shapes of 5 photographs: paint 2; objects left out: 1 too small, 1 cut off by the border; "
        f"1 photographs unreadable, the first {result.first_unreadable}"
    )
    assert (result.first_unreadable or "").startswith("c.jpg (")
    table = pq.read_table(output)
    assert table.schema.equals(SCHEMA)
    first, second = table.to_pylist()
    assert (first["key"], first["class"], first["height"], first["width"]) == ("a.png", "paint", 60, 30)
    assert (first["image_height"], first["image_width"]) == (120, 160)
    assert first["area_fraction"] == pytest.approx(60 * 30 / (120 * 160))
    assert second["key"] == "x/reaches.png"
    shapes = load_object_shapes(str(output), S3)
    assert len(shapes) == 2
    assert shapes[0].all()
    expected = np.ones((60, 60), dtype=bool)
    expected[50:, :20] = expected[50:, 35:] = False
    np.testing.assert_array_equal(shapes[1], expected)


def test_a_tar_file_may_be_the_input(collection: Path, tmp_path: Path) -> None:
    result, _ = extract(collection / "shard.tar", tmp_path / "objects.parquet")
    assert (result.photographs, result.classes.total()) == (2, 1)


def test_a_limit_is_spread_over_the_listing(collection: Path, tmp_path: Path) -> None:
    result, _ = extract(collection, tmp_path / "objects.parquet", limit=2, extensions=("png", "JPG"))
    assert result.photographs == 2  # a.png and c.jpg, of five
    assert result.unreadable == 1


def test_what_cannot_be_read_is_counted_whatever_the_reason(collection: Path, tmp_path: Path) -> None:
    (collection / "a0.png").symlink_to(tmp_path / "nowhere.png")
    result, _ = extract(collection, tmp_path / "objects.parquet", max_pixels=19_200)
    assert (result.photographs, result.unreadable) == (6, 2)
    assert result.first_unreadable == "a0.png (is a symbolic link to nothing)"
    (collection / "big.png").write_bytes(encoded(photograph((161, 120))))
    result, _ = extract(collection, tmp_path / "objects.parquet", max_pixels=19_200)
    assert (result.photographs, result.unreadable) == (7, 3)


def test_what_cannot_be_read_at_all_stops_the_tool(collection: Path, tmp_path: Path) -> None:
    output = tmp_path / "objects.parquet"
    with pytest.raises(StorageError, match="no such folder"):
        extract(tmp_path / "missing", output)
    with pytest.raises(ConfigError, match=r"input: no photographs under .*\.gif"):
        extract(collection, output, extensions=("gif",))
    (collection / "broken.tar").write_bytes(b"\x1f\x8b no tar file" * 100)
    with pytest.raises(ConfigError, match=r"input: the shard 'broken\.tar' .* is truncated, damaged or compressed"):
        extract(collection, output)
    assert not output.exists()


def test_no_shape_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(encoded(photograph()))
    output = tmp_path / "objects.parquet"
    output.write_bytes(b"an earlier file")
    with pytest.raises(ConfigError, match="0 shapes of 1 photographs: none; give photographs that show objects"):
        extract(tmp_path / "in", output)
    assert output.read_bytes() == b"an earlier file"


def test_a_large_object_is_stored_smaller(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    image = painted(np.zeros((700, 900, 3), dtype=np.uint8), (100, 100, 740, 420))
    (tmp_path / "in" / "a.png").write_bytes(encoded(image))
    extract(tmp_path / "in", tmp_path / "objects.parquet")
    (shape,) = load_object_shapes(str(tmp_path / "objects.parquet"), S3)
    assert shape.shape == (128, MAX_SIDE)


def test_verdicts() -> None:
    height, width = HORSE.shape
    frame = (2 * height, 2 * width)
    assert judge(detection(HORSE, 10, 10), frame) == "kept"
    assert judge(detection(HORSE, 10, 10), (20 * height, 20 * width)) == "too small"
    assert judge(detection(np.ones((90, 90), dtype=bool), 5, 5), (100, 100)) == "too large"
    assert judge(detection(HORSE, height, 10), frame) == "kept"  # stands on the border, on four hooves
    legs_off = HORSE[: height // 2]
    assert judge(detection(legs_off, 2 * height - len(legs_off), 10), frame) == "cut off by the border"
    assert judge(detection(legs_off, 10, 10), frame) == "kept"  # cut by something in the photograph: nothing shows it
    loose = np.pad(legs_off, 5)  # a mask need not be tight
    assert judge(detection(loose, 2 * height - len(legs_off) - 5, 10), (2 * height + 5, 2 * width)) == "kept"
    assert judge(detection(loose[:-5], 2 * height - len(loose) + 5, 10), frame) == "cut off by the border"


def test_holes_follow_the_file(collection: Path, tmp_path: Path) -> None:
    extract(collection, tmp_path / "objects.parquet")
    shapes = load_object_shapes(str(tmp_path / "objects.parquet"), S3)
    assert shapes == load_object_shapes((tmp_path / "objects.parquet").as_uri(), S3)
    assert evaluation_holes("objects", range(20), seed=0, objects=shapes).any(axis=(1, 2)).all()


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["input=x"]) == 2
    assert capsys.readouterr().err == "error: output: required; give it in the config file or as output=VALUE\n"
    assert main(["input=x", "output=shapes.csv"]) == 2
    assert capsys.readouterr().err.startswith("error: output: ")
    assert main(["input=x", "output=y.parquet", "detector.weights=/no/such.pt"]) == 2
    assert "detector.weights: there is no file /no/such.pt" in capsys.readouterr().err
    assert main(["--print-config", "input=x", "output=y.parquet"]) == 0
    assert "image_size: 640" in capsys.readouterr().out


def test_shapes_of_photographs_by_the_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy_photographs(tmp_path / "photographs")
    output = tmp_path / "objects.parquet"
    code = main(
        [
            f"input={tmp_path / 'photographs' / 'street'}",
            f"output={output}",
            "detector.weights=people-vehicles.pt",
            "detector.image_size=320",
        ]
    )
    out = capsys.readouterr().out
    assert code == 0
    assert f"written: {output}" in out
    assert " shapes of 1 photographs: " in out
    shapes = load_object_shapes(str(output), S3)
    assert len(shapes) >= 2
    assert 40 < max(max(shape.shape) for shape in shapes) <= MAX_SIDE
    for shape in shapes:
        assert shape[0].any()
        assert shape[-1].any()
        assert shape[:, 0].any()
        assert shape[:, -1].any()
