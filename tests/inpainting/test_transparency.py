import cv2
import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg

from inpaint_core.images.formats.alpha import nearest_by_looks, straight
from inpaint_core.images.transparency import over
from inpaint_core.inpainting.config import FillConfig, OpencvConfig
from inpaint_core.inpainting.inpainter import Hole, Inpainter
from inpaint_core.inpainting.opencv import OpencvInpainter
from inpaint_core.inpainting.transparency import fill_alpha, transparent_hole


def ellipse(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return ((columns - width / 2) / (0.4 * width)) ** 2 + ((rows - height / 2) / (0.42 * height)) ** 2 < 1


@pytest.mark.parametrize("level", [0, 77, 255])
def test_equal_surroundings_give_their_value(level: int) -> None:
    mask = ellipse(40, 50)
    alpha = np.where(mask, 255 - level, level).astype(np.uint8)
    assert (fill_alpha(alpha, mask) == level).all()


def test_parts_are_filled_each_from_its_own_surroundings_and_nothing_else_changes() -> None:
    rng = np.random.default_rng(0)
    alpha = np.zeros((30, 90), np.uint8)
    alpha[:, 45:] = 255
    alpha[0, 40:50] = rng.integers(0, 256, 10)
    mask = np.zeros_like(alpha, bool)
    mask[10:20, 10:20] = mask[10:30, 60:70] = True  # the second reaches the border of the image
    before = alpha.copy()
    alpha[mask] = 99
    result = fill_alpha(alpha, mask)
    assert np.array_equal(result, before)
    assert (alpha[mask] == 99).all()


def test_a_mask_without_surroundings_becomes_opaque() -> None:
    assert (fill_alpha(np.zeros((5, 7), np.uint8), np.ones((5, 7), bool)) == 255).all()


@pytest.mark.parametrize("size", [50, 130, 400])
@pytest.mark.parametrize("slope", [0.0, 0.4])
@pytest.mark.parametrize("offset", [-0.2, 0.0])
def test_an_outline_is_continued_straight(size: int, slope: float, offset: float) -> None:
    rows, columns = np.mgrid[:size, :size]
    truth = np.where(rows > size * (0.5 + offset) + slope * (columns - size / 2), 255, 0).astype(np.uint8)
    mask = ellipse(size, size)
    result = fill_alpha(np.where(mask, 128, truth).astype(np.uint8), mask)
    assert set(np.unique(result)) == {0, 255}
    assert (result != truth).sum(0).max() <= max(2, 0.03 * size)


def test_a_soft_outline_is_continued_softly() -> None:
    truth = cv2.GaussianBlur(np.where(np.arange(80)[:, None] >= 40, 255, 0).repeat(80, 1).astype(np.uint8), (0, 0), 0.7)
    mask = ellipse(80, 80)
    result = fill_alpha(np.where(mask, 128, truth).astype(np.uint8), mask)
    assert np.abs(result.astype(int) - truth).max() <= 60
    assert np.abs(result.astype(int) - truth).mean() <= 1


def test_a_gradient_is_interpolated_by_the_harmonic_function() -> None:
    rows, columns = np.mgrid[:40, :50]
    alpha = (4 * columns + 60 * np.sin(rows / 6) + 30).clip(0, 255).astype(np.uint8)
    mask = ellipse(40, 50)
    result = fill_alpha(np.where(mask, 255, alpha).astype(np.uint8), mask)
    inside = np.argwhere(mask)
    number = {(y, x): index for index, (y, x) in enumerate(map(tuple, inside))}
    matrix, right = scipy.sparse.lil_matrix((len(inside), len(inside))), np.zeros(len(inside))
    for (y, x), index in number.items():
        matrix[index, index] = 4
        for neighbour in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
            if neighbour in number:
                matrix[index, number[neighbour]] = -1
            else:
                right[index] += alpha[neighbour]
    expected = scipy.sparse.linalg.spsolve(matrix.tocsr(), right)
    assert np.abs(result[mask] - expected).max() <= 0.51


def test_colours_come_from_what_is_seen() -> None:
    rgba = np.zeros((20, 60, 4), np.uint8)
    rgba[..., :3] = (255, 0, 0)
    rgba[:, 40:] = (0, 200, 0, 255)
    mask = np.zeros((20, 60), bool)
    mask[5:15, 5:15] = True  # in transparency
    mask[5:15, 35:45] = True
    core = np.zeros_like(mask)
    core[7:13, 7:13] = core[7:13, 37:43] = True
    alpha = fill_alpha(rgba[..., 3], mask)
    hole = transparent_hole(rgba, alpha, core, mask)
    assert np.array_equal(hole.mask, mask & (np.arange(60) > 30))
    assert hole.hidden is not None
    assert np.array_equal(hole.hidden, rgba[..., 3] == 0)
    assert (hole.image == (0, 200, 0)).all()
    (result,) = Inpainter(OpencvInpainter(OpencvConfig()), FillConfig()).inpaint([hole])
    assert np.abs(result.astype(int) - (0, 200, 0)).max() <= 5


class Noting:
    """Fills with one colour, and notes what it is shown."""

    window: int | None = None
    central = False

    def __init__(self) -> None:
        self.masks: list[np.ndarray] = []

    def fill(self, images: list[np.ndarray], masks: list[np.ndarray]) -> list[np.ndarray]:
        self.masks += masks
        return [np.full_like(image, 50) for image in images]


def test_hidden_pixels_are_masked_for_the_model_but_not_filled() -> None:
    image = np.full((60, 60, 3), 200, np.uint8)
    mask, core, hidden = (np.zeros((60, 60), bool) for _ in range(3))
    mask[20:40, 20:40], core[25:35, 25:35], hidden[:, :30] = True, True, True
    model = Noting()
    (result,) = Inpainter(model, FillConfig()).inpaint([Hole(image, core, mask, hidden)])
    side = model.masks[0].shape[0]
    window = slice(30 - side // 2, 30 - side // 2 + side)
    assert np.array_equal(model.masks[0], (mask | hidden)[window, window])
    assert (result[~mask] == 200).all()
    assert (result[mask & hidden] == 50).all()  # no photograph is mixed in
    assert (result[20, 31:39] > 50).all()
    with pytest.raises(ValueError, match="hidden is"):
        Hole(image, core, mask, hidden[1:])


def test_an_image_of_which_nothing_is_seen() -> None:
    rgba = np.zeros((20, 20, 4), np.uint8)
    rgba[..., 0] = 70
    mask = np.zeros((20, 20), bool)
    mask[5:9, 5:9] = True
    rgba[mask, 0] = 250
    hole = transparent_hole(rgba, fill_alpha(rgba[..., 3], mask), mask, mask)
    assert not hole.mask.any()
    assert (hole.image == (70, 0, 0)).all()


def test_associated_alpha() -> None:
    alpha = np.array([[0], [1], [100], [255]], np.uint8)
    colour = np.array([[0], [1], [50], [17]], np.uint8)
    assert straight(colour, alpha).ravel().tolist() == [0, 255, 128, 17]
    assert straight(np.array([[200]], np.uint8), np.array([[100]], np.uint8)).item() == 255


def test_palette_entries_are_compared_over_black_and_white() -> None:
    palette = np.array([[0, 0, 0, 255], [255, 255, 255, 255], [255, 255, 255, 128], [3, 3, 3, 0]], np.uint8)
    wanted = np.array([[250, 250, 250, 255], [200, 255, 255, 120], [90, 80, 200, 0], [20, 0, 0, 255]], np.uint8)
    assert nearest_by_looks(palette, wanted).tolist() == [1, 2, 3, 0]


def test_an_image_over_a_page() -> None:
    rgba = np.array([[[100, 50, 0, 255], [100, 50, 0, 51], [9, 9, 9, 0]]], np.uint8)
    assert over(rgba, 255).tolist() == [[[100, 50, 0], [224, 214, 204], [255, 255, 255]]]
    assert over(rgba, 0).tolist() == [[[100, 50, 0], [20, 10, 0], [0, 0, 0]]]
    large = np.random.default_rng(0).integers(0, 256, (700, 900, 4), dtype=np.uint8)
    assert np.array_equal(over(large, 128)[500:], over(large[500:], 128))
