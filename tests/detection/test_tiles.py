"""Large images in tiles: where these lie, how their objects become one list, and a panorama with a real network."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from inpaint_core.detection.config import MaskFilesConfig, UltralyticsConfig
from inpaint_core.detection.detector import Detection, Detector, Region
from inpaint_core.detection.tile_objects import CONTAINED, joined
from inpaint_core.detection.tiles import Level, Tile, levels_of
from inpaint_core.storage import S3Options


def rectangle(
    top: int, left: int, bottom: int, right: int, *, label: str = "person", confidence: float = 0.5, beside: int = 0
) -> Detection:
    """An object that is its whole box, in an image or tile; its uncertain pixels are a ring of `beside` pixels."""
    mask = np.ones((bottom - top, right - left), np.bool_)
    around = Region(
        np.ones((bottom - top + 2 * beside, right - left + 2 * beside), np.bool_), top - beside, left - beside
    )
    box = (float(left), float(top), float(right), float(bottom))
    return Detection(label, confidence, box, mask, top, left, around if beside else None)


def place(detection: Detection) -> tuple[int, int, int, int]:
    height, width = detection.mask.shape
    return detection.top, detection.left, detection.top + height, detection.left + width


# Two tiles of 640 x 480 pixels that share 128 columns, and the whole, 1152 x 480.
PAIR = Level(640, (Tile(0, 0, 480, 640), Tile(0, 512, 480, 1152)))
SHAPE = (480, 1152)


def in_pair(left: list[Detection], right: list[Detection], whole: list[Detection]) -> list[Detection]:
    return joined([PAIR], [[left, right]], whole, SHAPE, 640)


@pytest.mark.parametrize("size", [(480, 640), (640, 480), (1280, 960), (1280, 1280), (1, 1)], ids=str)
def test_images_that_are_not_large_have_no_tiles(size: tuple[int, int]) -> None:
    assert levels_of(*size, 640, 0.2) == []


@pytest.mark.parametrize("size", [(480, 6400), (1920, 3200), (1281, 1281), (4000, 6000), (3000, 200)], ids=str)
@pytest.mark.parametrize("overlap", [0.0, 0.2, 0.5])
def test_tiles_cover_the_image_and_overlap(size: tuple[int, int], overlap: float) -> None:
    height, width = size
    levels = levels_of(height, width, 640, overlap)
    assert [level.side for level in levels] == [640 * 2**number for number in range(len(levels))]
    assert max(size) > 2 * levels[-1].side
    assert max(size) <= 4 * levels[-1].side
    for level in levels:
        for first, last, length in (("top", "bottom", height), ("left", "right", width)):
            spans = sorted({(getattr(tile, first), getattr(tile, last)) for tile in level.tiles})
            assert spans[0][0] == 0
            assert spans[-1][1] == length
            assert {end - start for start, end in spans} == {min(level.side, length)}
            for (_, end), (start, _) in pairwise(spans):
                assert end - start >= overlap * level.side - 1
        rows, columns = ({(getattr(tile, name)) for tile in level.tiles} for name in ("top", "left"))
        assert len(level.tiles) == len(rows) * len(columns)


def test_a_panorama_of_ten_photographs_has_tiles_of_three_sizes() -> None:
    levels = levels_of(480, 6400, 640, 0.2)
    assert [(level.side, len(level.tiles)) for level in levels] == [(640, 13), (1280, 6), (2560, 3)]
    assert levels[0].tiles[:2] == (Tile(0, 0, 480, 640), Tile(0, 480, 480, 1120))


def test_an_object_that_both_tiles_show_is_found_once() -> None:
    left, right = rectangle(100, 560, 140, 600, confidence=0.6), rectangle(101, 48, 141, 88, confidence=0.8)
    [found] = in_pair([left], [right], [])
    assert (found.confidence, found.label) == (0.8, "person")
    assert place(found) == (100, 560, 141, 600)
    assert found.pixels == 41 * 40  # of both


def test_the_parts_of_an_object_that_both_tiles_cut_are_united_without_a_seam() -> None:
    left, right = rectangle(100, 450, 190, 640, beside=10), rectangle(100, 0, 190, 200, beside=10)
    [found] = in_pair([left], [right], [])
    assert place(found) == (100, 450, 190, 712)
    assert found.box == (450, 100, 712, 190)
    assert found.mask.all()
    assert found.uncertain is not None
    assert (found.uncertain.top, found.uncertain.left, found.uncertain.mask.shape) == (90, 440, (110, 282))
    assert found.uncertain.mask.all()


def test_what_a_border_cuts_counts_as_the_tile_that_shows_it_entirely_sees_it() -> None:
    # The left tile sees the left half of a bicycle, and takes it for a car; and something that the right one does not see.
    half, nothing = rectangle(100, 600, 150, 640, label="car"), rectangle(300, 620, 330, 640)
    [found] = in_pair([half, nothing], [rectangle(100, 88, 150, 168, label="bicycle")], [])
    assert (found.label, place(found)) == ("bicycle", (100, 600, 150, 680))


def test_neighbours_whose_boxes_overlap_stay_two() -> None:
    first, second = rectangle(100, 520, 160, 580), rectangle(100, 570 - 512, 160, 630 - 512)
    assert len(in_pair([first], [second], [])) == 2


def test_two_objects_of_one_tile_are_one_only_where_one_lies_in_the_other() -> None:
    near, far = rectangle(100, 530, 140, 570), rectangle(100, 560, 140, 600)
    across = rectangle(100, 545 - 512, 140, 590 - 512)
    assert [found.pixels for found in in_pair([near, far], [across], [])] == [55 * 40, 40 * 40]
    inside = rectangle(110, 540, 130, 560)
    assert [found.pixels for found in in_pair([near, inside], [], [])] == [40 * 40]
    bag = rectangle(110, 540, 130, 560, label="handbag")
    assert len(in_pair([near, bag], [], [])) == 2


def test_a_class_that_one_tile_mistakes_is_that_of_the_surer() -> None:
    car, truck = rectangle(100, 530, 140, 590, label="car"), rectangle(100, 18, 140, 78, label="truck", confidence=0.7)
    assert [found.label for found in in_pair([car], [truck], [])] == ["truck"]


def test_a_small_object_of_the_whole_image_is_as_the_tiles_show_it() -> None:
    sharp = rectangle(100, 100, 140, 140)
    assert [place(found) for found in in_pair([sharp], [], [rectangle(90, 90, 150, 150)])] == [(100, 100, 140, 140)]


def test_what_only_the_whole_image_shows_is_kept() -> None:
    assert [place(found) for found in in_pair([], [], [rectangle(90, 90, 150, 150)])] == [(90, 90, 150, 150)]


def test_a_large_object_is_that_of_the_whole_image_with_the_parts_that_tiles_show() -> None:
    whole = rectangle(50, 300, 450, 900)
    arm, leg, other = rectangle(40, 400, 140, 640), rectangle(300, 0, 460, 200), rectangle(60, 0, 110, 50)
    found = in_pair([arm, other], [leg], [whole])
    assert len(found) == 2
    large = next(detection for detection in found if detection.pixels > 2500)
    assert place(large) == (40, 300, 460, 900)
    assert large.pixels == 400 * 600 + 10 * 240 + 10 * 200
    assert place(min(found, key=lambda detection: detection.pixels)) == (60, 0, 110, 50)


def test_most_confident_first() -> None:
    objects = [rectangle(10 + 50 * row, 10, 40 + 50 * row, 40, confidence=0.1 * (row + 3)) for row in range(3)]
    assert [found.confidence for found in in_pair(objects[:2], [], objects[2:])] == pytest.approx([0.5, 0.4, 0.3])


def test_how_much_an_image_is_scaled_down() -> None:
    off = UltralyticsConfig(tiles="off")
    assert off.scaled_down(480, 6400) == 10
    assert off.scaled_down(300, 200) == 1
    assert replace(off, more_sizes=(1280,)).scaled_down(480, 6400) == 5
    assert UltralyticsConfig().scaled_down(480, 6400) == 1
    assert MaskFilesConfig().scaled_down(480, 6400) == 1


# Landscapes of coco64-seg with the most labelled people and vehicles.
PHOTOGRAPHS = ("257", "357", "544", "110", "308")


def detector(shared_dir: Path, **settings: object) -> Detector:
    weights = shared_dir / "weights/yolov8n-seg.pt"
    config = replace(UltralyticsConfig(weights=str(weights)), **settings)  # type: ignore[arg-type]
    return config.build(weights.read_bytes(), s3=S3Options(), device=torch.device("cpu"), autocast=False)


def photographs(shared_dir: Path) -> list[NDArray[np.uint8]]:
    """Each 640x480."""
    files = [shared_dir / f"data/coco64-seg/images/000000000{name}.jpg" for name in PHOTOGRAPHS]
    return [np.asarray(Image.open(file).convert("RGB").resize((640, 480), Image.Resampling.LANCZOS)) for file in files]


def same(first: list[Detection], second: list[Detection]) -> bool:
    """Whether two lists of objects are equal in every byte."""
    return len(first) == len(second) and all(
        (a.label, a.confidence, a.box, a.top, a.left) == (b.label, b.confidence, b.box, b.top, b.left)
        and np.array_equal(a.mask, b.mask)
        and a.uncertain is not None
        and b.uncertain is not None
        and np.array_equal(a.uncertain.mask, b.uncertain.mask)
        for a, b in zip(first, second, strict=True)
    )


@pytest.mark.shared
@pytest.mark.usefixtures("one_thread")
def test_a_panorama_has_the_objects_of_its_parts(shared_dir: Path) -> None:
    parts = photographs(shared_dir)
    panorama = np.concatenate(parts, axis=1)
    scaled, tiled = detector(shared_dir, tiles="off"), detector(shared_dir)
    names = [*PHOTOGRAPHS, "panorama"]
    *in_parts, in_whole = scaled.detect([*parts, panorama], names)
    *with_tiles, found = tiled.detect([*parts, panorama], names)
    assert all(map(same, in_parts, with_tiles))  # photographs that are not large are not touched by one that is
    sum_of_parts = sum(map(len, in_parts))
    assert sum_of_parts >= 50
    assert len(in_whole) <= 0.5 * sum_of_parts
    assert 0.95 * sum_of_parts <= len(found) <= 1.1 * sum_of_parts
    # Nothing is counted twice: no two of a class share more than CONTAINED of the smaller, as some in the parts do.
    for index, one in enumerate(found):
        for other in found[index + 1 :]:
            shared = canvas([one], (480, 3200)) & canvas([other], (480, 3200))
            assert one.label != other.label or shared.sum() <= CONTAINED * min(one.pixels, other.pixels)
    truth = np.concatenate([canvas(objects, (480, 640)) for objects in in_parts], axis=1)
    assert (canvas(found, (480, 3200)) & truth).sum() >= 0.85 * truth.sum()


@pytest.mark.shared
@pytest.mark.usefixtures("one_thread")
def test_tiles_are_searched_with_all_passes_of_augmentation(shared_dir: Path) -> None:
    wide = np.concatenate(photographs(shared_dir)[3:5], axis=1)
    settings = {"image_size": 320, "more_sizes": (256,), "mirror": True}
    [plain] = detector(shared_dir, tiles="off", **settings).detect([wide], ["wide"])
    [tiled] = detector(shared_dir, **settings).detect([wide], ["wide"])
    assert {found.label for found in tiled} <= set(UltralyticsConfig().classes)
    assert len(tiled) > len(plain) > 0


def canvas(objects: list[Detection], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """(H, W): the pixels of all objects."""
    result = np.zeros(shape, np.bool_)
    for found in objects:
        top, left, bottom, right = place(found)
        result[top:bottom, left:right] |= found.mask
    return result
