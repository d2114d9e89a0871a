"""Protocols and sharpness: hand-computed values; scikit-image, torchmetrics and `hole_metrics` as references."""

from __future__ import annotations

import math
from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage.metrics import structural_similarity
from torch import Tensor

from inpaint_core.metrics import protocols
from inpaint_core.metrics.hole import hole_metrics
from inpaint_core.metrics.names import COLUMNS
from inpaint_core.metrics.protocols import EXACT_PSNR, MetricSums, measure
from tests.samples import photograph

SIZE = 128
Images = NDArray[np.uint8]


def tensor(images: Images) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def measured(truth: Images, filled: Images, masks: NDArray[np.bool_]) -> dict[str, Tensor]:
    return measure(tensor(truth), tensor(filled), torch.from_numpy(masks)[:, None])


def photographs() -> Images:
    names = ("coffee.png", "astronaut.png", "chelsea.png")
    return np.stack([photograph((SIZE, SIZE), name, seed) for name in names for seed in range(2)])


def square(size: int = SIZE, side: int = 64) -> NDArray[np.bool_]:
    mask = np.zeros((size, size), dtype=bool)
    begin = (size - side) // 2
    mask[begin : begin + side, begin : begin + side] = True
    return mask


def masks() -> dict[str, NDArray[np.bool_]]:
    """Holes of any form: whole windows or none, at the border or not, all or next to nothing."""
    empty = np.zeros((SIZE, SIZE), dtype=np.uint8)
    line = cv2.line(empty.copy(), (3, 120), (110, 7), 1, 4)
    corner = empty.copy()
    corner[:30, 100:] = 1
    blobs = cv2.circle(cv2.circle(empty.copy(), (0, 64), 20, 1, -1), (90, 127), 25, 1, -1)
    pixel = empty.copy()
    pixel[127, 0] = 1
    found = {"line": line, "corner": corner, "blobs": blobs, "pixel": pixel, "all": empty + 1}
    return {"square": square(), **{name: mask.astype(bool) for name, mask in found.items()}}


def telea(images: Images, mask: NDArray[np.bool_]) -> Images:
    return np.stack([cv2.inpaint(image, mask.astype(np.uint8), 3, cv2.INPAINT_TELEA) for image in images])


def replaced(images: Images, mask: NDArray[np.bool_]) -> Images:
    """The hole filled with another photograph: wrong, and sharp."""
    return np.where(mask[..., None], np.roll(images, 1, axis=0), images)


def test_flat_images_by_hand() -> None:
    truth = np.full((1, 24, 24, 3), 100, np.uint8)
    mask = square(24, 12)[None]
    filled = np.where(mask[..., None], np.uint8(151), truth)
    result = {name: float(values) for name, values in measured(truth, filled, mask).items()}
    assert result["hole_fraction"] == 0.25
    assert result["hole_l1"] == pytest.approx(51 / 255)
    assert result["hole_l2"] == pytest.approx(0.2**2)
    assert result["hole_psnr"] == pytest.approx(-20 * math.log10(0.2))
    # A quarter of the pixels, on a scale of twice the length.
    assert result["table_l1"] == pytest.approx(0.25 * 2 * 0.2)
    assert result["table_l2"] == pytest.approx(0.25 * 4 * 0.2**2)
    assert result["table_psnr"] == pytest.approx(result["hole_psnr"])
    # No variance in the four windows inside: (2ab + c1) / (a^2 + b^2 + c1), c1 = (0.01 * 2)^2.
    a, b = 100 / 127.5 - 1, 151 / 127.5 - 1
    assert result["hole_ssim"] == pytest.approx((2 * a * b + 4e-4) / (a * a + b * b + 4e-4))
    assert result["sharpness_truth"] == result["sharpness_fill"] == 0


def test_sharpness_of_one_bright_pixel_by_hand() -> None:
    truth = np.full((1, 24, 24, 3), 100, np.uint8)
    truth[0, 11, 11] = 120
    mask = square(24, 12)[None]
    # |-4 * 20| where it is and |20| at its four neighbours, over the 10x10 pixels whose neighbours are in the hole.
    assert float(measured(truth, truth, mask)["sharpness_truth"]) == pytest.approx(8 * 20 / 255 / 100)


def test_the_seam_does_not_count_as_sharp() -> None:
    truth = np.full((1, 24, 24, 3), 255, np.uint8)
    mask = square(24, 12)[None]
    filled = np.where(mask[..., None], np.uint8(0), truth)
    assert float(measured(truth, filled, mask)["sharpness_fill"]) == 0


def test_ssim_agrees_with_scikit_image() -> None:
    truth, mask = photographs(), square()
    filled = telea(truth, mask)
    result = measured(truth, filled, np.stack([mask] * len(truth)))
    for place, (x, y) in enumerate(zip(truth / 127.5 - 1, filled / 127.5 - 1, strict=True)):
        reference = {
            "table_ssim": (x, y),
            "hole_ssim": (x[32:96, 32:96], y[32:96, 32:96]),
        }
        for name, pair in reference.items():
            expected = structural_similarity(  # type: ignore[no-untyped-call]
                *pair,
                data_range=2.0,
                channel_axis=2,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
            )
            assert float(result[name][place]) == pytest.approx(expected, abs=1e-9)


def test_psnr_agrees_with_torchmetrics() -> None:
    from torchmetrics.functional.image import peak_signal_noise_ratio  # takes 2 s of CPU time

    truth, mask = photographs(), square()
    filled = telea(truth, mask)
    result = measured(truth, filled, np.stack([mask] * len(truth)))
    for place in range(len(truth)):
        x, y = tensor(truth[place : place + 1]).double(), tensor(filled[place : place + 1]).double()
        # Their data range is the MAX of the formula: 1, on a scale from -1 to 1, is the table's.
        whole = peak_signal_noise_ratio(y / 127.5 - 1, x / 127.5 - 1, data_range=1.0)
        hole = peak_signal_noise_ratio(y[..., 32:96, 32:96] / 255, x[..., 32:96, 32:96] / 255, data_range=1.0)
        assert float(result["table_psnr"][place]) == pytest.approx(float(whole))
        assert float(result["hole_psnr"][place]) == pytest.approx(float(hole))


@pytest.mark.parametrize("form", ["square", "line", "corner", "blobs", "pixel", "all"])
def test_the_hole_is_measured_as_hole_metrics_does(form: str) -> None:
    truth, mask = photographs(), masks()[form]
    filled = replaced(truth, mask)
    result = measured(truth, filled, np.stack([mask] * len(truth)))
    for place in range(len(truth)):
        expected = hole_metrics(truth[place], filled[place], mask)
        got = {name: float(values[place]) for name, values in result.items()}
        assert got["hole_l1"] == pytest.approx(expected.l1)
        assert got["hole_l2"] == pytest.approx(expected.l2)
        assert got["hole_psnr"] == pytest.approx(expected.psnr)
        assert got["hole_ssim_centred"] == pytest.approx(expected.ssim, abs=1e-9)
        assert got["hole_fraction"] == mask.mean()


def test_holes_without_a_whole_window_or_stencil() -> None:
    truth = photographs()[:1]
    forms = masks()
    line = measured(truth, replaced(photographs(), forms["line"])[:1], forms["line"][None])
    pixel = measured(truth, 255 - truth, forms["pixel"][None])
    assert math.isnan(float(line["hole_ssim"]))
    assert math.isfinite(float(line["sharpness_fill"]))
    assert math.isnan(float(pixel["sharpness_fill"]))
    sums = MetricSums()
    sums.add(pixel)
    assert math.isnan(sums.means()["hole_ssim"])
    assert math.isnan(sums.means()["sharpness"])
    assert math.isfinite(sums.means()["hole_ssim_centred"])


def test_differences_outside_the_hole_count_in_the_table_alone() -> None:
    truth, mask = photographs()[:1], square()[None]
    filled = truth.copy()
    filled[:, 2, 3] = 255 - truth[:, 2, 3]
    result = measured(truth, filled, mask)
    assert float(result["hole_l1"]) == 0
    assert float(result["table_l1"]) > 0
    assert float(result["table_ssim"]) < 1 == float(result["hole_ssim"])
    expected = structural_similarity(  # type: ignore[no-untyped-call]
        truth[0] / 127.5 - 1,
        filled[0] / 127.5 - 1,
        data_range=2.0,
        channel_axis=2,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert float(result["table_ssim"]) == pytest.approx(expected, abs=1e-9)


def test_a_batch_measured_at_once_as_on_a_gpu_gives_the_same() -> None:
    truth = photographs()
    holes = np.stack(list(masks().values()))
    filled = np.where(holes[..., None], np.roll(truth, 1, axis=0), truth)
    one_by_one = measured(truth, filled, holes)
    at_once = protocols._measure(tensor(truth), tensor(filled), torch.from_numpy(holes)[:, None])
    for name in COLUMNS:
        torch.testing.assert_close(at_once[name], one_by_one[name], rtol=1e-9, atol=1e-12, equal_nan=True)
        assert one_by_one[name].dtype == torch.float64
        assert one_by_one[name].shape == (len(truth),)


def test_arguments_are_only_read() -> None:
    truth, mask = photographs()[:2], np.stack([square()] * 2)
    filled = telea(truth, square())
    before = [array.copy() for array in (truth, filled, mask)]
    measured(truth, filled, mask)
    for array, copy in zip((truth, filled, mask), before, strict=True):
        np.testing.assert_array_equal(array, copy)


def sharpness(truth: Images, filled: Images) -> float:
    sums = MetricSums()
    sums.add(measured(truth, filled, np.stack([square()] * len(truth))))
    return sums.means()["sharpness"]


def test_sharpness_falls_with_blur_and_rises_with_noise() -> None:
    truth = photographs()
    rng = np.random.default_rng(0)
    blurred = [
        sharpness(truth, np.stack([cv2.GaussianBlur(image, (0, 0), sigma) for image in truth]))
        for sigma in (0.5, 1.0, 2.0, 4.0)
    ]
    noisy = [
        sharpness(truth, np.clip(truth + rng.normal(0, level, truth.shape), 0, 255).astype(np.uint8))
        for level in (2, 5, 10, 20)
    ]
    ladder = [*reversed(blurred), 1.0, *noisy]
    assert ladder == sorted(ladder)
    assert min(b / a for a, b in pairwise(ladder)) > 1.02
    assert sharpness(truth, truth) == 1.0
    assert sharpness(truth, telea(truth, square())) < 0.4
    # What is sharp in the wrong place is as sharp; over all photographs, it is the same detail.
    assert sharpness(truth, np.roll(truth, 1, axis=0)) == pytest.approx(1.0)


def test_exact_fills_are_infinite_one_by_one_and_counted_in_the_mean() -> None:
    truth, mask = photographs()[:4], np.stack([square()] * 4)
    filled = telea(truth, square())
    filled[0] = truth[0]
    result = measured(truth, filled, mask)
    assert float(result["table_psnr"][0]) == float(result["hole_psnr"][0]) == math.inf
    assert float(result["table_ssim"][0]) == float(result["hole_ssim"][0]) == 1
    sums = MetricSums()
    sums.add(result)
    assert sums.exact == 1
    assert sums.means()["table_psnr"] == pytest.approx((EXACT_PSNR + float(result["table_psnr"][1:].sum())) / 4)


def test_sums_merge_in_any_order_and_as_tensors() -> None:
    truth = photographs()
    holes = np.stack(list(masks().values()))
    filled = np.where(holes[..., None], np.roll(truth, 1, axis=0), truth)
    filled[3] = truth[3]
    whole = MetricSums()
    whole.add(measured(truth, filled, holes))
    parts = []
    for part in (slice(0, 1), slice(1, 4), slice(4, 6)):
        sums = MetricSums()
        sums.add(measured(truth[part], filled[part], holes[part]))
        parts.append(sums)
    vectors = [part.to_tensor() for part in parts]
    merged = MetricSums()
    for part in reversed(parts):
        merged.merge(part)
    summed = MetricSums.from_tensor(torch.stack(vectors).sum(0))
    for other in (merged, summed):
        assert other.count == whole.count == 6
        assert other.exact == whole.exact == 1
        assert other.means() == pytest.approx(whole.means(), rel=1e-12, nan_ok=True)
    assert vectors[0].dtype == torch.float64
    # Merging changed none of the parts, nor what their tensors held.
    torch.testing.assert_close(parts[0].to_tensor(), vectors[0], rtol=0, atol=0)
    summed.merge(parts[0])
    assert summed.count == 7


def test_means_leave_out_what_has_no_value() -> None:
    truth = photographs()[:2]
    forms = masks()
    holes = np.stack([forms["square"], forms["line"]])
    filled = 255 - truth
    result = measured(truth, filled, holes)
    sums = MetricSums()
    sums.add(result)
    assert sums.means()["hole_ssim"] == pytest.approx(float(result["hole_ssim"][0]))


def test_empty_sums_have_no_means() -> None:
    with pytest.raises(ValueError, match="These sums contain no images"):
        MetricSums().means()
    assert MetricSums.from_tensor(MetricSums().to_tensor()).count == 0


def test_a_tensor_of_other_sums_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Sums are a tensor \(46,\), not \(5,\)"):
        MetricSums.from_tensor(torch.zeros(5, dtype=torch.float64))


def test_wrong_arguments_are_refused() -> None:
    images = torch.zeros((2, 3, 16, 16), dtype=torch.uint8)
    mask = torch.ones((2, 1, 16, 16), dtype=torch.bool)
    with pytest.raises(ValueError, match=r"`filled` is torch.float32"):
        measure(images, images.float(), mask)
    with pytest.raises(ValueError, match=r"`filled` is torch.uint8 \(1, 3, 16, 16\)"):
        measure(images, images[:1], mask)
    with pytest.raises(ValueError, match=r"`mask` is torch.uint8"):
        measure(images, images, mask.byte())
    with pytest.raises(ValueError, match=r"`mask` is torch.bool \(2, 16, 16\)"):
        measure(images, images, mask[:, 0])
    with pytest.raises(ValueError, match="SSIM needs 11 pixels a side"):
        measure(images[..., :10], images[..., :10], mask[..., :10])
    with pytest.raises(ValueError, match="and one image"):
        measure(images[:0], images[:0], mask[:0])


def detail_by_the_components(truth: Images, filled: Images, mask: NDArray[np.bool_]) -> float:
    """l c (1 + s) / 2 of Wang et al.'s equations 6, 9 and 10 with C3 = C2 / 2, OpenCV's blur in float64."""
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    x, y = truth.astype(np.float64), filled.astype(np.float64)

    def blurred(image: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(cv2.GaussianBlur(image, (11, 11), 1.5, borderType=cv2.BORDER_REFLECT))

    u, v = blurred(x), blurred(y)
    deviation_x = np.sqrt(np.maximum(blurred(x * x) - u * u, 0))
    deviation_y = np.sqrt(np.maximum(blurred(y * y) - v * v, 0))
    covariance = blurred(x * y) - u * v
    luminance = (2 * u * v + c1) / (u**2 + v**2 + c1)
    contrast = (2 * deviation_x * deviation_y + c2) / (deviation_x**2 + deviation_y**2 + c2)
    structure = (covariance + c2 / 2) / (deviation_x * deviation_y + c2 / 2)
    return float((luminance * contrast * (1 + structure) / 2)[mask].mean())


@pytest.mark.parametrize("name", ["square", "line", "corner", "blobs", "pixel", "all"])
def test_detail_is_ssim_with_half_the_structure(name: str) -> None:
    truth, mask = photographs(), masks()[name]
    filled = telea(truth, mask) if name != "all" else np.roll(truth, 3, axis=2)
    columns = measured(truth, filled, np.stack([mask] * len(truth)))
    expected = [detail_by_the_components(*pair, mask) for pair in zip(truth, filled, strict=True)]
    np.testing.assert_allclose(columns["hole_detail"].numpy(), expected, atol=1e-8)
    exact = measured(truth, truth, np.stack([mask] * len(truth)))
    np.testing.assert_allclose(exact["hole_detail"].numpy(), 1, atol=1e-12)


def test_detail_prefers_neither_blur_nor_noise_of_a_guess() -> None:
    # A guess: photographs whose details lie elsewhere, and a smooth part of the truth.
    truth, mask = photographs(), square()
    guess = np.stack([cv2.GaussianBlur(image, (0, 0), 4) for image in truth]).astype(np.float64)
    elsewhere = np.stack([np.roll(image, (7, 9), (0, 1)) for image in truth]).astype(np.float64)
    guess += 0.5 * (elsewhere - np.stack([cv2.GaussianBlur(image, (0, 0), 4) for image in elsewhere]))
    noise = np.random.default_rng(0).normal(0, 1, guess.shape)
    fills = {
        "guess": guess,
        "blurred": np.stack([cv2.GaussianBlur(image, (0, 0), 1.5) for image in guess]),
        "flat": np.stack([cv2.GaussianBlur(image, (0, 0), 8) for image in guess]),
        "noisy": guess + 15 * noise,
    }
    means: dict[str, dict[str, float]] = {}
    for name, fill in fills.items():
        filled = np.where(mask[None, ..., None], fill.clip(0, 255).round().astype(np.uint8), truth)
        sums = MetricSums()
        sums.add(measured(truth, filled, np.stack([mask] * len(truth))))
        means[name] = sums.means()
    assert means["guess"]["hole_detail"] > max(means[name]["hole_detail"] for name in ("blurred", "flat", "noisy"))
    assert means["blurred"]["hole_detail"] > means["flat"]["hole_detail"]
    # What it is for: PSNR has the blurred guess first, sharpness the noisy one.
    assert means["blurred"]["hole_psnr"] > means["guess"]["hole_psnr"]
    assert means["noisy"]["sharpness"] > means["guess"]["sharpness"]
