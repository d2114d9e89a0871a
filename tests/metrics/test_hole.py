"""The `hole` protocol: hand-computed values, and scikit-image as the independent reference."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from inpaint_core.metrics import hole as metrics
from inpaint_core.metrics.hole import hole_metrics


def photograph(generator: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """Smooth shades with some grain: flat regions are where SSIM is hardest to compute exactly."""
    y, x = np.mgrid[:height, :width]
    shades = 128 + 90 * np.sin(x / 17)[..., None] * np.cos(y[..., None] / np.array([11.0, 23.0, 31.0]))
    grainy: NDArray[np.uint8] = np.clip(shades + generator.normal(0, 6, shades.shape), 0, 255).astype(np.uint8)
    return grainy


def reference_map(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of images (H, W, 3) with values 0..1."""
    _, full = structural_similarity(  # type: ignore[no-untyped-call]
        x,
        y,
        data_range=1.0,
        channel_axis=2,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    return np.asarray(full)


def test_ssim_of_two_flat_images_by_hand() -> None:
    # No variance: SSIM is (2ab + c1) / (a^2 + b^2 + c1), c1 = (0.01 * 255)^2.
    truth, filled = np.full((20, 20, 3), 100, np.uint8), np.full((20, 20, 3), 50, np.uint8)
    c1 = 2.55**2
    expected = (2 * 100 * 50 + c1) / (100**2 + 50**2 + c1)
    assert hole_metrics(truth, filled, np.ones((20, 20), bool)).ssim == pytest.approx(expected, rel=1e-12)


def test_hole_metrics_by_hand() -> None:
    truth = np.full((30, 40, 3), 100, np.uint8)
    filled = truth.copy()
    mask = np.zeros((30, 40), bool)
    mask[10, 10:14] = True
    filled[10, 10] = (151, 100, 49)  # differences 51, 0, 51: 0.2 of the range
    filled[0, 0] = 0  # outside the hole: must not count
    result = hole_metrics(truth, filled, mask)
    assert result.pixels == 4
    assert result.l1 == pytest.approx(2 * 0.2 / 12)
    assert result.l2 == pytest.approx(2 * 0.04 / 12)
    assert result.psnr == pytest.approx(10 * math.log10(150))
    assert 0 < result.ssim < 1


def test_perfect_fill_has_no_psnr() -> None:
    image = photograph(np.random.default_rng(1), 40, 40)
    mask = np.zeros((40, 40), bool)
    mask[5:20, 8:30] = True
    result = hole_metrics(image, image.copy(), mask)
    assert (result.l1, result.l2, result.psnr) == (0.0, 0.0, None)
    assert result.ssim == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("strip_pixels", [1, 2**20])
@pytest.mark.parametrize("corner", [(0, 0), (37, 51), (60, 90)])
def test_hole_metrics_agree_with_the_whole_image(
    corner: tuple[int, int], strip_pixels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crop with 5 pixels around the mask, in strips, gives what the whole image's map gives, border included."""
    monkeypatch.setattr(metrics, "STRIP_PIXELS", strip_pixels)
    generator = np.random.default_rng(2)
    truth = photograph(generator, 100, 130)
    mask = np.zeros((100, 130), bool)
    mask[corner[0] : corner[0] + 40, corner[1] : corner[1] + 40] = generator.random((40, 40)) < 0.5
    mask[95, 3:6] = True  # far below, so that strips between hold nothing
    filled = np.where(mask[..., None], photograph(generator, 100, 130)[::-1], truth)
    result = hole_metrics(truth, filled, mask)
    scaled = (truth[mask] / 255, filled[mask] / 255)
    assert result.pixels == mask.sum()
    assert result.l1 == pytest.approx(np.abs(scaled[0] - scaled[1]).mean(), rel=1e-12)
    assert result.l2 == pytest.approx(((scaled[0] - scaled[1]) ** 2).mean(), rel=1e-12)
    assert result.ssim == pytest.approx(reference_map(truth / 255, filled / 255)[mask].mean(), abs=1e-9)


def test_table_protocol_is_the_map_where_windows_lie_wholly_inside() -> None:
    """What the docstring says of the centre-square protocol."""
    generator = np.random.default_rng(3)
    truth, other = photograph(generator, 128, 128), photograph(generator, 128, 128)[::-1]
    square = (slice(32, 96), slice(32, 96))
    mask = np.zeros((128, 128), bool)
    mask[square] = True
    filled = np.where(mask[..., None], other, truth)
    table = structural_similarity(  # type: ignore[no-untyped-call]
        truth[square] / 255,
        filled[square] / 255,
        data_range=1.0,
        channel_axis=2,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    similarity = reference_map(truth / 255, filled / 255)
    assert similarity[37:91, 37:91].mean() == pytest.approx(table, abs=1e-9)
    hole = hole_metrics(truth, filled, mask).ssim
    assert hole == pytest.approx(similarity[square].mean(), abs=1e-9)
    assert abs(hole - table) < 0.1


def test_inputs_are_not_changed() -> None:
    generator = np.random.default_rng(4)
    truth, filled = photograph(generator, 30, 30), photograph(generator, 30, 30)
    mask = generator.random((30, 30)) < 0.3
    copies = truth.copy(), filled.copy(), mask.copy()
    hole_metrics(truth, filled, mask)
    np.testing.assert_array_equal(truth, copies[0])
    np.testing.assert_array_equal(filled, copies[1])
    np.testing.assert_array_equal(mask, copies[2])


def test_hole_metrics_refuse_wrong_input() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match="no hole"):
        hole_metrics(image, image, np.zeros((8, 8), bool))
    with pytest.raises(ValueError, match="`filled` is uint8"):
        hole_metrics(image, image[:7], np.ones((8, 8), bool))
    with pytest.raises(ValueError, match="`truth` is float64"):
        hole_metrics(image.astype(float), image, np.ones((8, 8), bool))
    with pytest.raises(ValueError, match="must be bool"):
        hole_metrics(image, image, np.ones((8, 8), np.uint8))
