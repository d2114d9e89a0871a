"""The original with its objects blurred: what is left of them, what is kept around them, in every format and through a job."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from inpaint_core.images.decode import decode
from inpaint_core.removal.acceptance import AcceptConfig
from inpaint_core.removal.blur import CELLS, blurred, blurred_file
from inpaint_core.removal.config import WriteConfig
from inpaint_core.storage import open_storage
from tests import jobs
from tests.odd_files import saved
from tests.samples import PAINT, PaintDetector, decoded, encoded, painted, photograph

BOX = (60, 30, 120, 90)


def mask_of(*boxes: tuple[int, int, int, int], shape: tuple[int, int] = (120, 160)) -> NDArray[np.bool_]:
    mask = np.zeros(shape, np.bool_)
    for x0, y0, x1, y1 in boxes:
        mask[y0:y1, x0:x1] = True
    return mask


def test_nothing_finer_than_the_cells_is_left() -> None:
    image = photograph()
    mask = mask_of(BOX)
    result = blurred(image, mask)
    assert (result[~mask] == image[~mask]).all()
    part = image[30:90, 60:120].astype(float)
    side = 60 // CELLS
    means = part.reshape(CELLS, side, CELLS, side, 3).mean(axis=(1, 3))
    centres = result[30:90, 60:120][side // 2 :: side, side // 2 :: side]
    assert np.abs(centres - means).mean() < 6
    # What is finer than a cell has no effect: another picture of the same means gives the same.
    noise = np.random.default_rng(0).normal(0, 20, part.shape)
    noise -= np.kron(noise.reshape(CELLS, side, CELLS, side, 3).mean(axis=(1, 3)), np.ones((side, side, 1)))
    other = image.copy()
    other[30:90, 60:120] = np.clip(part.clip(70, 180) + noise, 0, 255)
    plain = image.copy()
    plain[30:90, 60:120] = part.clip(70, 180)
    assert np.abs(blurred(other, mask).astype(int) - blurred(plain, mask)).max() <= 2


def test_each_part_of_a_mask_is_blurred_by_its_own_size() -> None:
    image = np.zeros((120, 160, 3), np.uint8)
    image[:, ::2] = 200
    result = blurred(image, mask_of((0, 0, 12, 12), (40, 10, 150, 110)))
    assert set(np.unique(result[:12, :12])) <= set(range(95, 106))
    assert np.ptp(result[10:110, 40:150]) <= 12
    assert (blurred(image, mask_of()) == image).all()
    assert blurred(image, mask_of((5, 5, 6, 6)))[5, 5].tolist() == image[5, 5].tolist()  # one pixel has one colour


def test_transparent_surroundings_give_no_colour() -> None:
    image = np.zeros((120, 160, 4), np.uint8)
    image[..., 1] = 255  # a green that nobody sees
    image[40:80, 70:110] = (200, 0, 0, 255)
    result = blurred(image, mask_of(BOX))
    seen = result[result[..., 3] > 8]
    assert seen[:, 0].min() > 150
    assert seen[:, 1].max() < 40
    assert result[60, 90, 3] > 200
    assert result[35, 65, 3] < 200


@pytest.mark.parametrize(
    ("format_", "options"),
    [
        ("PNG", {}),
        ("JPEG", {"quality": 90, "exif": True}),
        ("TIFF", {}),
        ("WEBP", {"lossless": True}),
    ],
)
def test_format_metadata_and_surroundings_are_those_of_the_original(format_: str, options: dict[str, Any]) -> None:
    if options.pop("exif", False):
        exif = Image.Exif()
        exif[0x010E] = "A street"
        options["exif"] = exif.tobytes()
    data = saved(Image.fromarray(photograph()), format_, **options)
    source, mask = decode(data, max_pixels=10**6), mask_of(BOX)
    written = blurred_file(source, mask, WriteConfig())
    result = decode(written.data, max_pixels=10**6)
    assert result.format == source.format
    assert (result.pixels[~written.changed] == source.pixels[~written.changed]).all()
    assert written.changed.mean() < 0.4
    inside = np.abs(result.pixels[mask].astype(int) - source.pixels[mask]).mean()
    assert inside > 3
    assert (b"A street" in written.data) == (b"A street" in data) == (format_ == "JPEG")


@pytest.mark.parametrize("format_", ["PNG", "JPEG"])
def test_blurred_original_stands_under_the_key_of_a_held_image(tmp_path: Path, format_: str) -> None:
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "some.png").touch()
    (tmp_path / "in").mkdir()
    key = f"a.{format_.lower()}"
    original = encoded(painted(photograph(), BOX), format_)
    (tmp_path / "in" / key).write_bytes(original)
    plain = jobs.config(str(tmp_path / "in"), str(tmp_path / "out"), tmp_path / "masks")
    settings = replace(plain, accept=AcceptConfig(max_mask_fraction=0.01, instead="blurred"))
    row = jobs.run(settings)[key]
    output = open_storage(settings.output)
    under, held = output.read(key), output.read(f"_removal/held/{key}")
    assert (row["status"], row["output_size"]) == ("held", len(under))
    assert held not in (under, original)
    mask = np.asarray(Image.open(tmp_path / "out" / "_removal" / "masks" / f"{key}.png"))
    before, after, cleaned = decoded(original), decoded(under), decoded(held)
    far = cv2.dilate(mask.view(np.uint8), np.ones((41, 41), np.uint8)) == 0  # in JPEG, whole blocks are coded again
    outside = far if format_ == "JPEG" else ~mask
    assert far.any()
    assert (after[outside] == before[outside]).all()
    assert PaintDetector().detect([cleaned], [key]) == [[]]
    middle = after[50:70, 80:100].reshape(-1, 3)
    assert np.abs(middle.astype(int) - PAINT).max() < 60  # the object's colour, not a fill
    _, todo = jobs.start(settings)
    assert (len(todo.pending), todo.done) == (0, 1)
