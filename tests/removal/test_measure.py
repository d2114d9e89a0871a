"""Measures of a cleaned image: hand-made images, and brute force for the search of a shifted hole."""

from __future__ import annotations

import time

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_dilation

import inpaint_core.images.distances
from inpaint_core.detection.detector import Detection
from inpaint_core.images.decode import Decoded, decode
from inpaint_core.images.formats.codec import saved
from inpaint_core.removal.measure import (
    CELLS,
    CLEARANCE,
    outside_exact,
    outside_max_diff,
    residual_objects,
    seam,
    shifted_hole,
)
from tests.samples import encoded

Mask = NDArray[np.bool_]


def box_mask(shape: tuple[int, int], rows: slice, columns: slice) -> Mask:
    mask = np.zeros(shape, bool)
    mask[rows, columns] = True
    return mask


def flat(shape: tuple[int, int], value: int) -> NDArray[np.uint8]:
    return np.full((*shape, 3), value, np.uint8)


# outside_max_diff


def test_outside_max_diff_sees_only_the_outside() -> None:
    before = flat((20, 30), 100)
    after = before.copy()
    mask = box_mask((20, 30), slice(5, 10), slice(5, 10))
    after[mask] = 255
    assert outside_max_diff(before, after, mask) == 0
    after[19, 29] = (100, 97, 101)  # down as well as up, in one channel
    assert outside_max_diff(before, after, mask) == 3
    after[0, 0, 2] = 0
    assert outside_max_diff(before, after, mask) == 100


def test_outside_max_diff_spans_the_whole_range() -> None:
    nothing = np.zeros((4, 4), bool)
    assert outside_max_diff(flat((4, 4), 0), flat((4, 4), 255), nothing) == 255
    assert outside_max_diff(flat((4, 4), 0), flat((4, 4), 255), ~nothing) == 0


def png(samples: np.ndarray) -> Decoded:
    return decode(encoded(samples), max_pixels=10**6)


def test_outside_exact_compares_stored_samples_outside() -> None:
    rng = np.random.default_rng(0)
    before = rng.integers(0, 255, (8, 9, 4), np.uint8)
    changed = np.zeros((8, 9), bool)
    changed[2:4, 3:7] = True
    after = before.copy()
    after[changed] = 255
    assert outside_exact(png(before), png(after), changed)
    after[7, 8, 3] ^= 1  # alpha, which is hardly seen over white
    assert not outside_exact(png(before), png(after), changed)
    assert not outside_exact(png(before), png(before[..., :3]), changed)
    assert not outside_exact(png(before), png(before[:7]), changed)


def test_outside_exact_sees_the_lowest_of_16_bits() -> None:
    before = np.arange(0, 72 * 900, 900, np.uint16).reshape(8, 9)
    after = before.copy()
    after[7, 7] += 1
    nothing = np.zeros((8, 9), bool)
    assert np.array_equal(png(before).pixels, png(after).pixels)
    assert not outside_exact(png(before), png(after), nothing)
    assert outside_exact(png(before), png(before), nothing)


def test_outside_exact_sees_another_palette() -> None:
    image = Image.new("P", (4, 4))
    palettes = [[9, 9, 9, 255, 0, 0], [9, 9, 9, 255, 0, 1]]
    files = []
    for palette in palettes:
        image.putpalette(palette)
        files.append(decode(saved(image, "PNG"), max_pixels=100))
    nothing = np.zeros((4, 4), bool)
    assert outside_exact(files[0], files[0], nothing)
    assert not outside_exact(files[0], files[1], nothing)


def test_outside_max_diff_refuses_another_size() -> None:
    with pytest.raises(ValueError, match="do not match"):
        outside_max_diff(flat((4, 4), 0), flat((4, 5), 0), np.zeros((4, 4), bool))


# seam


def ramp(shape: tuple[int, int], step: int) -> NDArray[np.uint8]:
    """Grey that rises by `step` from column to column, and back at 255."""
    columns = np.abs((np.arange(shape[1]) * step) % 510 - 255)
    return np.broadcast_to(columns[None, :, None], (*shape, 3)).astype(np.uint8)


def test_seam_by_hand() -> None:
    # One row of pixels, 3 grey levels a step. The hole of 4 pixels is 12 levels brighter: at its left edge the image
    # rises by 3 + 12, at its right edge by 3 - 12; the mean of 15 and 9 over 3 is 4.
    image = ramp((1, 60), 3)[:, ::-1]
    assert image[0, 1, 0] - image[0, 0, 0] == 3
    mask = box_mask((1, 60), slice(0, 1), slice(28, 32))
    image = np.where(mask[..., None], image + 12, image).astype(np.uint8)
    assert seam(image, mask) == pytest.approx(4.0)


def test_seam_of_an_untouched_texture_is_one() -> None:
    image = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    mask = box_mask((200, 200), slice(60, 140), slice(50, 150))
    assert seam(image, mask) == pytest.approx(1.0, abs=0.1)


def test_seam_of_flat_images() -> None:
    mask = box_mask((50, 50), slice(20, 30), slice(20, 30))
    assert seam(flat((50, 50), 77), mask) == 1.0
    image = flat((50, 50), 77)
    image[mask] = 87
    assert seam(image, mask) == pytest.approx(10.0)
    image[mask] = 78  # no eye sees one level
    assert seam(image, mask) == pytest.approx(1.0)


def test_seam_of_a_blurred_fill_is_below_one() -> None:
    image = np.random.default_rng(1).integers(100, 156, (80, 80, 3), dtype=np.uint8)
    mask = box_mask((80, 80), slice(30, 50), slice(30, 50))
    image[28:52, 28:52] = 128
    value = seam(image, mask)
    assert value is not None
    assert value < 0.2


def test_seam_looks_only_around_the_hole() -> None:
    image = np.random.default_rng(2).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    mask = box_mask((300, 300), slice(100, 140), slice(100, 130))
    expected = seam(image, mask)
    image[:80], image[170:], image[:, :80], image[:, 160:] = 0, 0, 255, 255
    assert seam(image, mask) == expected


def test_seam_of_a_large_image_is_measured_by_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (400, 120, 3), dtype=np.uint8)
    mask = binary_dilation(rng.random((400, 120)) < 4e-4, iterations=5)
    mask[45:180] = False  # whole strips without a hole
    expected = seam(image, mask)
    monkeypatch.setattr(inpaint_core.images.distances, "_PIXELS_AT_ONCE", 1)
    assert seam(image, mask) == expected is not None


def test_seam_does_not_compare_with_another_hole() -> None:
    """The ring of one hole leaves out the pixels at another hole, which are filled too."""
    image = flat((60, 80), 100)
    mask = box_mask((60, 80), slice(20, 40), slice(20, 36)) | box_mask((60, 80), slice(20, 40), slice(44, 60))
    image[mask] = np.random.default_rng(3).integers(0, 256, (int(mask.sum()), 3), dtype=np.uint8)
    value = seam(image, mask)
    assert value is not None
    assert value > 10  # surroundings are flat


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (30, 30)])
def test_seam_without_edge_or_surroundings_is_none(shape: tuple[int, int]) -> None:
    nothing = np.zeros(shape, bool)
    assert seam(flat(shape, 5), nothing) is None
    assert seam(flat(shape, 5), ~nothing) is None


def test_seam_without_surroundings_is_none() -> None:
    mask = box_mask((10, 10), slice(2, 8), slice(2, 8))  # 2 pixels all around
    assert seam(flat((10, 10), 5), mask) is None


def test_seam_at_the_border_counts_only_the_edge_inside_the_image() -> None:
    image = flat((60, 60), 50)
    mask = box_mask((60, 60), slice(0, 60), slice(0, 20))
    image[mask] = 70
    assert seam(image, mask) == pytest.approx(20.0)


def test_seam_refuses_another_size() -> None:
    with pytest.raises(ValueError, match="do not match"):
        seam(flat((4, 4), 0), np.zeros((4, 5), bool))


# residual_objects


def detection(mask: Mask, top: int, left: int) -> Detection:
    height, width = mask.shape
    return Detection(
        label="person",
        confidence=0.5,
        box=(float(left), float(top), float(left + width), float(top + height)),
        mask=mask,
        top=top,
        left=left,
    )


def test_residual_objects_counts_from_one_half() -> None:
    hole = box_mask((40, 60), slice(0, 40), slice(0, 30))
    whole = np.ones((4, 10), bool)
    inside, half, less, outside = (detection(whole, 8, left) for left in (3, 25, 26, 45))
    assert residual_objects([inside, half, less, outside], hole) == 2
    assert residual_objects([], hole) == 0
    # Only pixels of the object count, not its box: these lie in the box's left half.
    left_half = whole.copy()
    left_half[:, 5:] = False
    assert residual_objects([detection(left_half, 8, 26)], hole) == 1
    assert residual_objects([detection(np.zeros((4, 10), bool), 8, 3)], hole) == 0


# shifted_hole


def lies_free(hole: Mask, occupied: Mask) -> bool:
    grown = binary_dilation(occupied, np.ones((2 * CLEARANCE + 1,) * 2))
    return not (hole & grown).any()


def brute_force(mask: Mask, occupied: Mask, step: int) -> int | None:
    """Smallest squared shift over multiples of `step`, by trying them all on masks of whole cells."""
    grown = binary_dilation(occupied | mask, np.ones((2 * CLEARANCE + 1,) * 2))
    height, width = mask.shape
    pad = (-height % step, -width % step)

    def cells(full: Mask) -> Mask:
        padded = np.pad(full, ((0, pad[0]), (0, pad[1])))
        return np.asarray(padded.reshape(padded.shape[0] // step, step, -1, step).any(axis=(1, 3)))

    blocked, points = cells(grown), np.argwhere(cells(mask))
    pixels = np.argwhere(mask)
    best: int | None = None
    for a in range(-blocked.shape[0], blocked.shape[0] + 1):
        for b in range(-blocked.shape[1], blocked.shape[1] + 1):
            moved = pixels + np.array([a, b]) * step
            if moved.min() < 0 or (moved.max(axis=0) >= mask.shape).any():
                continue
            at = points + np.array([a, b])
            length = (a * step) ** 2 + (b * step) ** 2
            if not blocked[at[:, 0], at[:, 1]].any() and (best is None or length < best):
                best = length
    return best


def random_scene(generator: np.random.Generator, shape: tuple[int, int], objects: int) -> tuple[Mask, Mask, Mask]:
    """A connected hole with its core, and what else is occupied."""
    height, width = shape
    rows, columns = np.mgrid[:height, :width]

    def ellipse(scale: float) -> Mask:
        y, x = generator.uniform(0, height), generator.uniform(0, width)
        b, a = generator.uniform(2, scale * height), generator.uniform(2, scale * width)
        return np.asarray(((rows - y) / b) ** 2 + ((columns - x) / a) ** 2 <= 1)

    mask = ellipse(0.2)
    while not mask.any():
        mask = ellipse(0.2)
    occupied = mask.copy()
    for _ in range(objects):
        occupied |= ellipse(0.15)
    return mask, mask & ellipse(0.5), occupied


@pytest.mark.parametrize("shape", [(40, 64), (97, 128), (64, 301)])
@pytest.mark.parametrize("seed", range(8))
def test_shifted_hole_is_valid_and_nearest(shape: tuple[int, int], seed: int) -> None:
    generator = np.random.default_rng(seed)
    mask, core, occupied = random_scene(generator, shape, objects=4 * seed)
    step = -(-max(shape) // CELLS)
    expected = brute_force(mask, occupied, step)
    result = shifted_hole(mask, core, occupied)
    if expected is None:
        assert result is None  # one connected hole: no smaller part to fall back to
        return
    assert result is not None
    assert result.dy**2 + result.dx**2 == expected
    shift = (result.dy, result.dx)
    for moved, original in ((result.mask, mask), (result.core, core & mask)):
        assert {*map(tuple, np.argwhere(moved))} == {*map(tuple, np.argwhere(original) + shift)}
    assert lies_free(result.mask, occupied | mask)


def test_scenes_with_and_without_room_were_both_tried() -> None:
    found = [
        shifted_hole(*random_scene(np.random.default_rng(seed), (40, 64), objects=4 * seed)) is not None
        for seed in range(8)
    ]
    assert any(found)
    assert not all(found)


def test_shifted_hole_takes_the_upper_of_two_equally_near_places() -> None:
    mask = box_mask((60, 60), slice(25, 35), slice(25, 35))
    result = shifted_hole(mask, mask, mask)
    assert result is not None
    assert (result.dy, result.dx) == (-14, 0)  # 10 pixels of its own and 4 between


def test_shifted_hole_at_the_image_border() -> None:
    """A hole cut by the border is moved inwards, and may come to lie at another border."""
    mask = box_mask((30, 41), slice(0, 12), slice(0, 9))
    occupied = mask | box_mask((30, 41), slice(0, 30), slice(13, 28))
    result = shifted_hole(mask, mask, occupied)
    assert result is not None
    assert (result.dy, result.dx) == (16, 0)
    occupied[20:, :13] = True
    result = shifted_hole(mask, mask, occupied)
    assert result is not None
    assert (result.dy, result.dx) == (0, 32)
    assert result.mask[:12, 32:].all()


def test_shifted_hole_moves_the_largest_part_with_room() -> None:
    shape = (100, 120)
    wide = box_mask(shape, slice(40, 50), slice(0, 120))  # cannot be moved sideways, and both sides are taken
    tall = box_mask(shape, slice(10, 30), slice(50, 70))
    small = box_mask(shape, slice(90, 97), slice(100, 105))  # 35 pixels: too few to measure
    mask = wide | tall | small
    occupied = mask | box_mask(shape, slice(60, 80), slice(0, 120)) | box_mask(shape, slice(0, 34), slice(0, 8))
    core = box_mask(shape, slice(15, 25), slice(55, 65)) | wide
    result = shifted_hole(mask, core, occupied)
    assert result is not None
    assert result.mask.sum() == tall.sum()
    assert (result.dy, result.dx) == (0, -24)
    assert result.core.sum() == 100
    assert result.core[15:25, 31:41].all()
    assert lies_free(result.mask, occupied)


def test_parts_under_64_pixels_are_not_moved_alone() -> None:
    shape = (60, 60)
    wide = box_mask(shape, slice(20, 40), slice(0, 60))
    for side, expected in ((7, None), (8, 64)):
        mask = wide | box_mask(shape, slice(2, 2 + side), slice(2, 2 + side))
        occupied = mask | box_mask(shape, slice(44, 60), slice(0, 60))
        result = shifted_hole(mask, mask, occupied)
        assert (None if result is None else result.mask.sum()) == expected


def test_a_small_hole_is_moved_whole() -> None:
    mask = box_mask((1, 20), slice(0, 1), slice(3, 4))
    result = shifted_hole(mask, mask, mask)
    assert result is not None
    assert (result.dy, result.dx) == (0, 5)


def test_no_room() -> None:
    full = np.ones((50, 70), bool)
    part = box_mask((50, 70), slice(10, 20), slice(10, 20))
    assert shifted_hole(full, part, full) is None
    assert shifted_hole(part, part, full) is None
    assert shifted_hole(np.zeros((50, 70), bool), part, part) is None
    one = np.ones((1, 1), bool)
    assert shifted_hole(one, one, one) is None
    assert shifted_hole(~one, ~one, ~one) is None


def test_hole_counts_as_occupied_even_if_the_caller_forgot() -> None:
    mask = box_mask((60, 60), slice(25, 35), slice(25, 35))
    result = shifted_hole(mask, mask, np.zeros((60, 60), bool))
    assert result is not None
    assert lies_free(result.mask, mask)


def test_inputs_are_not_changed_and_not_shared() -> None:
    mask, core, occupied = random_scene(np.random.default_rng(1), (97, 128), objects=1)
    copies = mask.copy(), core.copy(), occupied.copy()
    for array in (mask, core, occupied):
        array.flags.writeable = False
    result = shifted_hole(mask, core, occupied)
    assert result is not None
    for array, copy in zip((mask, core, occupied), copies, strict=True):
        np.testing.assert_array_equal(array, copy)
    assert not np.shares_memory(result.mask, mask)
    assert not np.shares_memory(result.core, core)


def test_shifted_hole_refuses_different_sizes() -> None:
    mask = np.zeros((4, 4), bool)
    with pytest.raises(ValueError, match="do not match"):
        shifted_hole(mask, mask, np.zeros((4, 5), bool))


def test_twelve_megapixels_are_searched_in_a_blink() -> None:
    """About 20 ms on one core; the bound leaves room for a busy machine."""
    mask, core, occupied = random_scene(np.random.default_rng(5), (3000, 4000), objects=3)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        result = shifted_hole(mask, core, occupied)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.5
    assert result is not None
    assert not (result.mask & occupied).any()
    assert result.mask.sum() == mask.sum()
