"""SSIM and MS-SSIM: hand-computed values, and scikit-image, torchmetrics and pytorch-msssim as independent references."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import structural_similarity
from torch import Tensor

from inpaint_core.metrics.ssim import FLOOR, ms_ssim, ssim, ssim_map
from tests.samples import photograph

pytestmark = pytest.mark.usefixtures("one_thread")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photographs(side: int, count: int = 3, dtype: torch.dtype = torch.float64) -> Tensor:
    """(count, 3, side, side) in 0..1: crops of photographs."""
    names = ["coffee.png", "astronaut.png", "chelsea.png"]
    images = [photograph((side, side), names[i % 3], seed=i) for i in range(count)]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).to(dtype) / 255


def spoiled(images: Tensor, amount: float = 0.1) -> Tensor:
    """Blurred a little and noisy, as a prediction is."""
    blurred = torch.nn.functional.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
    noise = torch.randn(images.shape, generator=generator(1), dtype=images.dtype)
    return (blurred + amount * noise).clamp(0, 1)


def scikit_map(x: Tensor, y: Tensor, data_range: float) -> np.ndarray:
    maps = [
        structural_similarity(
            a.numpy(),
            b.numpy(),
            data_range=data_range,
            channel_axis=0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            full=True,
        )[1]
        for a, b in zip(x, y, strict=True)
    ]
    return np.stack(maps)[..., 5:-5, 5:-5]


def gradient(function: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    at = at.detach().clone().requires_grad_()
    (result,) = torch.autograd.grad(function(at).sum(), at)
    return result


@pytest.mark.parametrize(("scale", "shift", "data_range"), [(1.0, 0.0, 1.0), (2.0, -1.0, 2.0), (255.0, 0.0, 255.0)])
def test_the_map_is_that_of_scikit_image(scale: float, shift: float, data_range: float) -> None:
    truth = photographs(72)[..., :61] * scale + shift
    prediction = spoiled(photographs(72))[..., :61] * scale + shift
    expected = scikit_map(prediction, truth, data_range)
    exact = ssim_map(prediction, truth, data_range=data_range)
    assert exact.dtype == torch.float64
    assert exact.shape == (3, 3, 62, 51)
    np.testing.assert_allclose(exact.numpy(), expected, atol=1e-9)
    single = ssim_map(prediction.float(), truth.float(), data_range=data_range)
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.numpy(), expected, atol=2e-4)
    means = expected.mean((1, 2, 3))
    np.testing.assert_allclose(ssim(prediction, truth, data_range=data_range).numpy(), means, atol=1e-12)
    result = ssim(prediction.float(), truth.float(), data_range=data_range)
    np.testing.assert_allclose(result.numpy(), means, atol=1e-5)


def test_the_mean_is_that_of_torchmetrics() -> None:
    from torchmetrics.functional.image import structural_similarity_index_measure  # takes 2 s of CPU time

    # It mirrors the border, so that its map is as large as the image: the windows wholly inside are cut out of it.
    truth, prediction = photographs(64), spoiled(photographs(64))
    _, full = structural_similarity_index_measure(
        prediction, truth, data_range=1.0, reduction="none", return_full_image=True
    )
    expected = full[..., 5:-5, 5:-5].mean((1, 2, 3))
    np.testing.assert_allclose(ssim(prediction, truth, data_range=1.0), expected, atol=1e-9)
    np.testing.assert_allclose(ssim(prediction.float(), truth.float(), data_range=1.0), expected, atol=1e-5)


def test_ms_ssim_of_grey_images_is_that_of_torchmetrics() -> None:
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

    # Of one channel: torchmetrics averages over the channels before it multiplies the scales. Its coarsest scale counts
    # the mirrored border too, whose luminance is a little different.
    truth = photographs(176, count=2, dtype=torch.float32).mean(1, keepdim=True)
    prediction = spoiled(truth)
    expected = multiscale_structural_similarity_index_measure(prediction, truth, data_range=1.0, reduction="none")
    np.testing.assert_allclose(ms_ssim(prediction, truth, data_range=1.0), expected, atol=1e-3)


@pytest.mark.parametrize("side", [176, 256])
def test_ms_ssim_is_that_of_pytorch_msssim(side: int) -> None:
    reference = pytest.importorskip("pytorch_msssim", reason="needs pytorch-msssim: install the dev group")
    truth = photographs(side)
    prediction = spoiled(truth)
    # Its own window is made in float32, which shows in the fifth digit.
    window = torch.exp(-(torch.arange(-5, 6, dtype=torch.float64) ** 2) / 4.5)
    options = {"data_range": 1.0, "size_average": False, "win": (window / window.sum()).expand(3, 1, 1, 11)}
    expected = reference.ms_ssim(prediction, truth, **options)
    np.testing.assert_allclose(ms_ssim(prediction, truth, data_range=1.0), expected, atol=1e-9)
    np.testing.assert_allclose(ms_ssim(prediction.float(), truth.float(), data_range=1.0), expected, atol=1e-5)
    expected = reference.ssim(prediction, truth, **options)
    np.testing.assert_allclose(ssim(prediction, truth, data_range=1.0), expected, atol=1e-9)


@pytest.mark.shared
def test_miniplaces_agree_with_scikit_image(shared_dir: Path) -> None:
    images = []
    with tarfile.open(shared_dir / "data" / "miniplaces" / "val.tar") as shard:
        for member in shard:
            file = shard.extractfile(member) if member.name.endswith(".jpg") else None
            if file is not None:
                images.append(np.asarray(Image.open(file).convert("RGB")))
            if len(images) == 4:
                break
    assert len(images) == 4
    truth = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).double() / 127.5 - 1
    prediction = torch.roll(truth, 1, dims=3)
    expected = scikit_map(prediction, truth, 2.0).mean((1, 2, 3))
    np.testing.assert_allclose(ssim(prediction.float(), truth.float(), data_range=2.0), expected, atol=1e-5)


def test_flat_images_by_hand() -> None:
    # No variance: SSIM is the luminance alone, (2 * 0.5 * 0.25 + 1e-4) / (0.25 + 0.0625 + 1e-4).
    x, y = torch.full((2, 3, 64, 64), 0.5).double(), torch.full((2, 3, 64, 64), 0.25).double()
    luminance = 0.2501 / 0.3126
    assert ssim(x, y, data_range=1.0).tolist() == pytest.approx([luminance] * 2, abs=1e-12)
    # Three scales at 64 pixels; contrast and structure are 1, the luminance counts at the third alone.
    exponent = 0.3001 / (0.0448 + 0.2856 + 0.3001)
    assert ms_ssim(x, y, data_range=1.0).tolist() == pytest.approx([luminance**exponent] * 2, abs=1e-12)


def test_one_window_by_hand() -> None:
    # One bright pixel in the middle, weight w; the other image has half of it there: all moments are w times powers.
    weights = np.exp(-(np.arange(-5, 6) ** 2) / 4.5)
    w = (weights[5] / weights.sum()) ** 2
    x, y = torch.zeros(1, 1, 11, 11), torch.zeros(1, 1, 11, 11)
    x[..., 5, 5], y[..., 5, 5] = 1.0, 0.5
    u, v, c1, c2 = w, 0.5 * w, 1e-4, 9e-4
    variances, covariance = (w - u * u) + (0.25 * w - v * v), 0.5 * w - u * v
    expected = (2 * u * v + c1) * (2 * covariance + c2) / ((u * u + v * v + c1) * (variances + c2))
    assert ssim(x, y, data_range=1.0).item() == pytest.approx(expected, abs=1e-6)
    assert ssim_map(x, y, data_range=1.0).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("side", "scales"), [(64, 3), (128, 4), (176, 5), (300, 5), (43, 2), (44, 3)])
def test_as_many_scales_as_hold_a_window(side: int, scales: int) -> None:
    # Flat images differ in luminance alone, which counts at the coarsest scale: the value tells which that is.
    x, y = (torch.full((1, 1, side, side), value, dtype=torch.float64) for value in (0.9, 0.1))
    luminance = (2 * 0.09 + 1e-4) / (0.82 + 1e-4)
    exponent = {2: 0.2856 / 0.3304, 3: 0.3001 / 0.6305, 4: 0.2363 / 0.8668, 5: 0.1333}[scales]
    assert ms_ssim(x, y, data_range=1.0).item() == pytest.approx(luminance**exponent, abs=1e-12)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("function", [ssim, ms_ssim])
@pytest.mark.parametrize("wants", [(True, True), (True, False), (False, True)])
def test_gradients_of_the_means(function: Callable[..., Tensor], wants: tuple[bool, bool], masked: bool) -> None:
    truth = photographs(30, count=2)[:, :2, :24]
    prediction = spoiled(truth)
    mask = torch.rand((2, 1, 24, 30), generator=generator()) < 0.1 if masked else None
    images = [image.clone().requires_grad_(want) for image, want in zip((prediction, truth), wants, strict=True)]
    # fast_mode compares along a random direction, which is as sure and a hundred times as fast.
    assert torch.autograd.gradcheck(
        lambda x, y: function(x, y, data_range=1.0, mask=mask), images, eps=1e-7, atol=1e-5, fast_mode=True
    )


def test_gradients_of_the_map() -> None:
    truth = photographs(14, count=1)[:, :1]
    images = [spoiled(truth).requires_grad_(), truth.clone().requires_grad_()]
    assert torch.autograd.gradcheck(lambda x, y: ssim_map(x, y, data_range=1.0), images, eps=1e-7, atol=1e-5)


def test_the_mean_and_its_gradient_are_those_of_the_map(monkeypatch: pytest.MonkeyPatch) -> None:
    # Two ways to the same values, one of them worked out by autograd. Three images at a time, then the last one.
    monkeypatch.setattr("inpaint_core.metrics.ssim_sums.CHUNK", 3 * 3 * 64 * 64)
    truth = photographs(64, count=7, dtype=torch.float32) * 2 - 1
    prediction = spoiled(truth * 0.5 + 0.5) * 2 - 1
    weights = torch.rand(7, generator=generator(5))

    def by_map(x: Tensor) -> Tensor:
        return ssim_map(x, truth, data_range=2.0).mean((1, 2, 3)) * weights

    def fused(x: Tensor) -> Tensor:
        return ssim(x, truth, data_range=2.0) * weights

    torch.testing.assert_close(fused(prediction), by_map(prediction), atol=1e-6, rtol=0)
    torch.testing.assert_close(gradient(fused, prediction), gradient(by_map, prediction), atol=1e-8, rtol=1e-4)


@pytest.mark.parametrize("threads", [2, 5])
def test_threads_share_the_images(threads: int) -> None:
    truth = photographs(64, count=7, dtype=torch.float32)
    prediction = spoiled(truth)
    mask = torch.rand((7, 1, 64, 64), generator=generator()) < 0.1
    expected = ms_ssim(prediction, truth, data_range=1.0, mask=mask)
    slope = gradient(lambda x: ms_ssim(x, truth, data_range=1.0, mask=mask), prediction)
    torch.set_num_threads(threads)
    torch.testing.assert_close(ms_ssim(prediction, truth, data_range=1.0, mask=mask), expected)
    result = gradient(lambda x: ms_ssim(x, truth, data_range=1.0, mask=mask), prediction)
    torch.testing.assert_close(result, slope, atol=1e-8, rtol=1e-4)
    with torch.inference_mode():
        torch.testing.assert_close(ms_ssim(prediction, truth, data_range=1.0, mask=mask), expected)
    # The setting is as it was, for this thread and for others that start now.
    with ThreadPoolExecutor(1) as pool:
        assert [torch.get_num_threads(), pool.submit(torch.get_num_threads).result()] == [threads, threads]


def test_a_mask_chooses_the_windows_around_its_pixels() -> None:
    truth, prediction = photographs(40), spoiled(photographs(40))
    mask = torch.zeros(3, 1, 40, 40, dtype=torch.bool)
    mask[0, 0, 12, 20] = mask[0, 0, 3, 20] = True  # the second one's window does not lie inside
    mask[1, 0, 10:30, 8:15] = True
    mask[2] = True
    expected = scikit_map(prediction, truth, 1.0)
    result = ssim(prediction, truth, data_range=1.0, mask=mask)
    by_hand = [expected[0, :, 7, 15].mean(), expected[1, :, 5:25, 3:10].mean(), expected[2].mean()]
    np.testing.assert_allclose(result, by_hand, atol=1e-9)


@pytest.mark.parametrize("function", [ssim, ms_ssim])
def test_a_mask_without_a_window_counts_them_all(function: Callable[..., Tensor]) -> None:
    truth = photographs(64, count=2, dtype=torch.float32)
    prediction = spoiled(truth)
    mask = torch.zeros(2, 1, 64, 64, dtype=torch.bool)
    mask[1, 0, :5], mask[1, 0, :, -2:] = True, True
    slope = gradient(lambda x: function(x, truth, data_range=1.0, mask=mask), prediction)
    assert torch.isfinite(slope).all()
    if function is ssim:
        expected = ssim(prediction, truth, data_range=1.0)
        torch.testing.assert_close(ssim(prediction, truth, data_range=1.0, mask=mask), expected)


def test_a_mask_at_coarser_scales() -> None:
    # What lies more than a window of the third scale away from the hole cannot matter: 5 pixels there are 20 here.
    truth = photographs(128, count=1, dtype=torch.float32)
    prediction = truth.clone()
    prediction[..., :20, :] = 0
    mask = torch.zeros(1, 1, 128, 128, dtype=torch.bool)
    mask[..., 80:90, 60:90] = True
    assert ms_ssim(prediction, truth, data_range=1.0, mask=mask).item() == pytest.approx(1.0, abs=1e-5)
    assert ms_ssim(prediction, truth, data_range=1.0).item() < 0.9


FLAT = torch.full((1, 3, 64, 64), 0.3)
STEP = torch.cat([torch.zeros(1, 3, 64, 32), torch.ones(1, 3, 64, 32)], 3)


@pytest.mark.parametrize("function", [ssim, ms_ssim])
@pytest.mark.parametrize(
    ("x", "y"),
    [
        (FLAT, FLAT),
        (FLAT, 1 - FLAT),
        (FLAT * 0, FLAT * 0),
        (FLAT, STEP),
        (STEP, STEP),
        (1 - STEP, STEP),
        (photographs(64, 1, torch.float32), photographs(64, 1, torch.float32)),
        (1 - photographs(64, 1, torch.float32), photographs(64, 1, torch.float32)),
    ],
    ids=[
        "flat",
        "flat apart",
        "black",
        "flat and step",
        "step",
        "step and inverse",
        "equal",
        "photograph and negative",
    ],
)
def test_gradients_are_finite_everywhere(function: Callable[..., Tensor], x: Tensor, y: Tensor) -> None:
    value = function(x, y, data_range=1.0)
    assert torch.isfinite(value).all()
    assert torch.isfinite(gradient(lambda image: function(image, y, data_range=1.0), x)).all()
    if torch.equal(x, y):
        assert value.item() == pytest.approx(1.0, abs=1e-6)


def test_ms_ssim_of_a_negative_still_shows_the_way() -> None:
    # Contrast and structure are negative: cut off at 0, as references do, there would be no gradient.
    truth = photographs(64, 1, torch.float32)
    negative = 1 - truth
    before = ms_ssim(negative, truth, data_range=1.0)
    assert 0 < before.item() < FLOOR
    slope = gradient(lambda image: ms_ssim(image, truth, data_range=1.0), negative)
    after = ms_ssim(negative + 0.01 * slope / slope.abs().max(), truth, data_range=1.0)
    assert after > before


@pytest.mark.parametrize("function", [ssim_map, ssim, ms_ssim])
def test_autocast_and_matmul_precision_change_nothing(function: Callable[..., Tensor]) -> None:
    truth = photographs(64, dtype=torch.float32)
    prediction = spoiled(truth, 0.02)
    expected = function(prediction, truth, data_range=1.0)
    slope = gradient(lambda x: function(x, truth, data_range=1.0), prediction)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(function(prediction, truth, data_range=1.0), expected)
        if function is not ssim_map:  # whose backward pass is autograd's own, and not meant to run under autocast
            assert torch.equal(gradient(lambda x: function(x, truth, data_range=1.0), prediction), slope)
    matmul = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = matmul.fp32_precision
    matmul.fp32_precision = "bf16"
    try:
        result = function(prediction, truth, data_range=1.0)
        assert matmul.fp32_precision == "bf16"
    finally:
        matmul.fp32_precision = before
    assert torch.equal(result, expected)


@pytest.mark.parametrize("function", [ssim, ms_ssim])
def test_bfloat16_images_are_computed_in_float32(function: Callable[..., Tensor]) -> None:
    truth = photographs(64, dtype=torch.bfloat16)
    prediction = (1 - (1 - truth) * 0.9).requires_grad_()
    result = function(prediction, truth, data_range=1.0)
    expected = function(prediction.float(), truth.float(), data_range=1.0)
    assert result.dtype == torch.float32
    assert torch.equal(result, expected)
    (slope,) = torch.autograd.grad(result.sum(), prediction)
    assert slope.dtype == torch.bfloat16
    # One image in float64 alone does not make the other one exact.
    assert function(truth.float(), truth.double(), data_range=1.0).dtype == torch.float32


def test_the_layout_in_memory_does_not_matter() -> None:
    truth, prediction = photographs(64, dtype=torch.float32), spoiled(photographs(64, dtype=torch.float32))
    expected = ssim(prediction, truth, data_range=1.0)
    last = prediction.to(memory_format=torch.channels_last)
    assert torch.equal(ssim(last, truth.expand(3, -1, -1, -1), data_range=1.0), expected)
    slope = gradient(lambda x: ssim(x, truth, data_range=1.0), prediction)
    assert torch.equal(gradient(lambda x: ssim(x, truth, data_range=1.0), last), slope)


def test_inputs_are_left_alone() -> None:
    truth, prediction = photographs(32), spoiled(photographs(32))
    copies = truth.clone(), prediction.clone()
    (
        ssim(prediction.requires_grad_(), truth, data_range=1.0).sum()
        + ms_ssim(prediction, truth, data_range=1.0).sum()
    ).backward()
    assert torch.equal(truth, copies[0])
    assert torch.equal(prediction, copies[1])


def test_no_gradient_is_worked_out_where_none_is_wanted() -> None:
    truth, prediction = photographs(32), spoiled(photographs(32)).requires_grad_()
    with torch.no_grad():
        assert not ssim(prediction, truth, data_range=1.0).requires_grad
    with torch.inference_mode():
        assert ssim(prediction, truth, data_range=1.0).shape == (3,)


@pytest.mark.parametrize("function", [ssim_map, ssim, ms_ssim])
@pytest.mark.parametrize(
    ("shapes", "data_range", "message"),
    [
        (((1, 3, 10, 64), (1, 3, 10, 64)), 1.0, "sides of 11 pixels or more"),
        (((1, 3, 64, 64), (1, 1, 64, 64)), 1.0, r"not \(1, 3, 64, 64\) and \(1, 1, 64, 64\)"),
        (((3, 64, 64), (3, 64, 64)), 1.0, r"\(B, C, H, W\)"),
        (((1, 3, 64, 64), (1, 3, 64, 64)), 0.0, "data_range is 0.0"),
        (((1, 3, 64, 64), (1, 3, 64, 64)), float("nan"), "data_range is nan"),
    ],
)
def test_wrong_images_are_refused(
    function: Callable[..., Tensor], shapes: tuple[tuple[int, ...], tuple[int, ...]], data_range: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        function(torch.zeros(shapes[0]), torch.zeros(shapes[1]), data_range=data_range)


@pytest.mark.parametrize("function", [ssim, ms_ssim])
def test_wrong_masks_are_refused(function: Callable[..., Tensor]) -> None:
    x = torch.zeros(2, 3, 64, 64)
    with pytest.raises(ValueError, match=r"not \(2, 64, 64\) torch.bool"):
        function(x, x, data_range=1.0, mask=torch.ones(2, 64, 64, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"bool for images .* torch.float32"):
        function(x, x, data_range=1.0, mask=torch.ones(2, 1, 64, 64))
