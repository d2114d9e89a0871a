"""Straight edges that a hole interrupts: which are found, and how they go on."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage import data

from inpaint_core.inpainting.patch_match import fill
from inpaint_core.inpainting.patch_match.fill import PatchWindow, fill_with_patches
from inpaint_core.inpainting.patch_match.levels import Hidden
from inpaint_core.inpainting.patch_match.lines import LINES_AT, Line, find_lines, steps_along
from inpaint_core.networks.push_pull import smooth_fill

pytestmark = pytest.mark.usefixtures("one_thread")

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
CPU = torch.device("cpu")
SIZE = LINES_AT


def lawn(seed: int = 0) -> Pixels:
    noise = np.random.default_rng(seed).normal(0, 4, (SIZE, SIZE, 1))
    return (np.array([70, 110, 50]) + noise).clip(0, 255).astype(np.uint8)


def marked(*lines: tuple[tuple[int, int], tuple[int, int]], colour: tuple[int, int, int] = (230, 230, 225)) -> Pixels:
    """A lawn with lines of 9 pixels width."""
    picture = np.ascontiguousarray(lawn())
    for start, end in lines:
        cv2.line(picture, start, end, colour, 9, cv2.LINE_AA)
    return picture


def middle(half: int = 40) -> Mask:
    mask = np.zeros((SIZE, SIZE), bool)
    mask[SIZE // 2 - half : SIZE // 2 + half, SIZE // 2 - half : SIZE // 2 + half] = True
    return mask


def found(picture: Pixels, mask: Mask) -> list[Line]:
    return find_lines(picture, mask)


def smoothed(picture: Pixels, mask: Mask) -> Pixels:
    return np.rint(smooth_fill(picture, mask)).astype(np.uint8)


def distance(point: NDArray[np.float64], start: tuple[int, int], end: tuple[int, int]) -> float:
    """Of a point, in shares of the side, to a line, in pixels."""
    way = np.subtract(end, start) / np.hypot(*np.subtract(end, start))
    return float(abs((point * SIZE - np.array(start)) @ np.array([-way[1], way[0]])))


def test_both_edges_of_a_line_are_found_from_one_side_of_the_hole_to_the_other() -> None:
    start, end = (0, 70), (255, 190)
    mask = middle()
    lines = found(marked((start, end)), mask)
    assert len(lines) == 2
    for line in lines:
        for point in (line.start, line.end):
            assert abs(distance(point, start, end) - 4.5) < 2
            assert mask[tuple(np.rint(point[::-1] * SIZE).astype(int))] or np.abs(point - 0.5).max() * SIZE < 42
        assert np.hypot(*(line.end - line.start)) * SIZE > 80
        assert min(line.before, line.after) * SIZE > 9


@pytest.mark.parametrize(
    ("what", "picture"),
    [
        ("nothing", lawn()),
        ("one side", marked(((0, 128), (100, 128)))),
        ("not in line", marked(((0, 100), (100, 100)), ((156, 150), (255, 150)))),
        ("other direction", marked(((0, 128), (100, 128)), ((156, 128), (255, 220)))),
    ],
)
def test_edges_that_do_not_fit_are_not_joined(what: str, picture: Pixels) -> None:
    assert found(picture, middle()) == [], what


def test_edges_of_other_colours_are_not_joined() -> None:
    """A white line, and a black one that goes on from it."""
    picture = marked(((0, 128), (110, 128)))
    cv2.line(picture, (146, 128), (255, 128), (10, 10, 10), 9, cv2.LINE_AA)
    assert found(picture, middle()) == []


def test_what_is_under_the_mask_makes_no_difference() -> None:
    picture, mask = marked(((0, 70), (255, 190))), middle()
    other = picture.copy()
    other[mask] = np.random.default_rng(1).integers(0, 256, (int(mask.sum()), 3), dtype=np.uint8)
    for one, two in zip(found(picture, mask), found(other, mask), strict=True):
        assert np.array_equal(one.start, two.start)
        assert np.array_equal(one.end, two.end)
        assert (one.before, one.after, one.share) == (two.before, two.after, two.share)


@pytest.mark.parametrize("size", [64, 256, 512])
def test_what_is_taken_lies_along_the_line_where_the_photograph_is_known(size: int) -> None:
    lines = found(marked(((0, 70), (255, 190))), middle())
    mask = cv2.resize(middle().view(np.uint8), (size, size), interpolation=cv2.INTER_NEAREST).astype(bool)
    sources = Hidden(size, mask[None]).sources[0]
    numbers, down, across = steps_along(lines, mask, sources)
    assert len(numbers) > 0.05 * mask.sum()
    rows, columns = np.nonzero(mask)
    assert sources[rows[numbers] + down, columns[numbers] + across].all()
    way = (lines[0].end - lines[0].start) / np.hypot(*(lines[0].end - lines[0].start))
    beside = np.abs(-way[1] * across + way[0] * down)
    assert beside.max() <= 1.5 + 0.02 * np.hypot(down, across).max()


def filled(photograph: Pixels, mask: Mask) -> Pixels:
    """With a guess that knows nothing of a line."""
    guess = cv2.GaussianBlur(smoothed(photograph, mask), (0, 0), 15).astype(np.float32)
    (colours,) = fill_with_patches([PatchWindow(photograph, mask, guess)], CPU)
    assert colours is not None
    result = photograph.copy()
    result[mask] = np.rint(colours.numpy().clip(0, 255)).astype(np.uint8)
    return result


def no_lines(photograph: Pixels, mask: Mask) -> list[Line]:
    return []


def test_a_line_goes_on_through_the_hole(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = marked(((0, 70), (255, 190)))
    mask = middle()
    line = mask & (truth.min(axis=2) > 200)
    assert line.sum() > 500
    errors = []
    for search in (find_lines, no_lines):
        monkeypatch.setattr(fill, "find_lines", search)
        errors.append(float(np.abs(filled(truth, mask)[line].astype(float) - truth[line]).mean()))
    assert errors[0] < 8
    assert errors[1] > 5 * errors[0]


def test_courses_of_a_photographed_wall_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    wall = np.repeat(data.brick()[:, :, None], 3, axis=2)
    mask = np.zeros(wall.shape[:2], bool)
    mask[180:330, 190:340] = True
    errors = []
    for search in (find_lines, no_lines):
        monkeypatch.setattr(fill, "find_lines", search)
        errors.append(float(np.abs(filled(wall, mask)[mask].astype(float) - wall[mask]).mean()))
    assert errors[0] < 0.97 * errors[1]


def test_small_windows_and_holes_at_the_border() -> None:
    picture = cv2.resize(marked(((0, 70), (255, 190))), (32, 32), interpolation=cv2.INTER_AREA)
    for rows, columns in ((slice(0, 4), slice(0, 4)), (slice(0, 32), slice(0, 20)), (slice(31, 32), slice(0, 1))):
        mask = np.zeros((32, 32), bool)
        mask[rows, columns] = True
        assert isinstance(found(picture, mask), list)
