"""L1 under Gaussian windows and its mixture with MS-SSIM: by its definition, and with scipy and pytorch-msssim as references."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from inpaint_core.config import load_config
from inpaint_core.training.config import LossConfig, TrainConfig
from inpaint_core.training.gaussian_window import window_sigma, window_weights
from inpaint_core.training.losses import generator_loss
from tests.training.small import photographs

ROOT = Path(__file__).resolve().parents[2]
MIXTURE = LossConfig(
    adversarial_weight=0.0, reconstruction_weight=1.0, ms_ssim=0.84, l1=0.16, l1_window="gaussian", overlap_weight=1.0
)


def pair(side: int, count: int = 2) -> tuple[Tensor, Tensor]:
    """A prediction, with a gradient, and the truth, (count, 3, side, side) in [-1, 1]."""
    truth = torch.from_numpy(photographs(count, side).copy()).permute(0, 3, 1, 2) / 127.5 - 1
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    return (0.8 * torch.roll(truth, 1, 3) + 0.1 * noise).clamp(-1, 1).requires_grad_(), truth


def by_scipy(domain: NDArray[np.bool_], sigma: float) -> NDArray[np.float64]:
    """(H, W) weights: scipy's windows add up to 1 where they are not cut off, which falls out."""

    def blurred(plane: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(gaussian_filter(plane, sigma, mode="constant", truncate=12))

    inside = domain.astype(np.float64)
    return inside * blurred(np.divide(inside, blurred(inside), where=domain, out=np.zeros_like(inside))) / domain.sum()


def test_the_window_is_that_of_the_coarsest_scale() -> None:
    assert [window_sigma(side) for side in (11, 22, 64, 128, 176, 256)] == [1.5, 3, 6, 12, 24, 24]


def test_the_weights_are_those_of_the_definition() -> None:
    domain = np.random.default_rng(0).random((12, 15)) < 0.6
    places = np.argwhere(domain)
    expected = np.zeros(domain.shape)
    for centre in places:
        window = {tuple(place): np.exp(-np.square(place - centre).sum() / (2 * 1.5**2)) for place in places}
        for place, weight in window.items():
            expected[place] += weight / sum(window.values()) / len(places)
    weights = window_weights(torch.from_numpy(domain)[None, None])
    assert weights.dtype == torch.float32
    np.testing.assert_allclose(weights[0, 0].numpy(), expected, atol=1e-8)
    np.testing.assert_allclose(by_scipy(domain, 1.5), expected, atol=1e-12)


def test_weights_of_holes_add_up_to_1_whatever_their_form() -> None:
    domain = torch.zeros(4, 1, 128, 128, dtype=torch.bool)
    domain[0, 0, 3:5, 7:120] = True
    domain[1, 0, 64, 64] = True
    domain[2] = True
    weights = window_weights(domain)
    assert weights.sum((1, 2, 3)).tolist() == pytest.approx([1, 1, 1, 0], abs=1e-5)
    assert (weights[~domain] == 0).all()
    assert weights[1, 0, 64, 64].item() == pytest.approx(1)
    for image in (0, 2):
        np.testing.assert_allclose(weights[image, 0], by_scipy(domain[image, 0].numpy(), 12.0), atol=1e-9)
    # A straight edge, far from corners: the integral of g / G from its middle on is ln 2.
    middle = weights[2, 0, 64] / weights[2, 0, 64, 64]
    assert 0.6 < middle[0].item() < 0.8


def test_equal_errors_have_their_own_mean() -> None:
    truth = torch.zeros(2, 3, 64, 64)
    only = replace(MIXTURE, ms_ssim=0.0, l1=1.0)
    assert generator_loss(only, truth + 0.3, truth, None, None).total.item() == pytest.approx(0.3)
    mask = torch.zeros(2, 1, 64, 64, dtype=torch.bool)
    mask[0, 0, 10:14, 20:60], mask[1, 0, 30:, 30:] = True, True
    prediction = torch.where(mask, torch.tensor([0.2, 0.6])[:, None, None, None], torch.tensor(0.9)).expand(
        2, 3, 64, 64
    )
    assert generator_loss(only, prediction, truth, None, mask).total.item() == pytest.approx(0.4)
    outside = replace(only, outside_weight=0.5)
    assert generator_loss(outside, prediction, truth, None, mask).total.item() == pytest.approx(0.4 + 0.5 * 0.9)


@pytest.mark.parametrize("side", [176, 192])
def test_the_mixture_is_that_of_pytorch_msssim_and_scipy(side: int) -> None:
    # From 176 pixels on there are five scales, of which pytorch-msssim takes no fewer.
    reference = pytest.importorskip("pytorch_msssim", reason="needs pytorch-msssim: install the dev group")
    prediction, truth = pair(side)
    structure = reference.ms_ssim(prediction.detach().double(), truth.double(), data_range=2.0).item()
    errors = (prediction.detach().double() - truth.double()).abs().mean(1).numpy()
    l1 = (errors * by_scipy(np.ones((side, side), bool), 24.0)).sum((1, 2)).mean()
    loss = generator_loss(MIXTURE, prediction, truth, None, None)
    assert loss.parts["l1"].item() == pytest.approx(l1, rel=1e-5)
    assert loss.parts["ms_ssim"].item() == pytest.approx(1 - structure, abs=1e-5)
    assert loss.total.item() == pytest.approx(0.84 * (1 - structure) + 0.16 * l1, abs=1e-5)


def test_the_gradient_of_l1_is_its_sign_times_the_weights() -> None:
    prediction, truth = pair(64)
    only = replace(MIXTURE, ms_ssim=0.0, l1=1.0)
    generator_loss(only, prediction, truth, None, None).total.backward()
    weights = torch.from_numpy(by_scipy(np.ones((64, 64), bool), 6.0)).float()
    assert prediction.grad is not None
    torch.testing.assert_close(
        prediction.grad, torch.sign(prediction.detach() - truth) * weights / (2 * 3), atol=1e-9, rtol=1e-4
    )


def test_the_band_of_the_square_weighs_as_it_does_in_plain_l1() -> None:
    truth = torch.zeros(1, 3, 64, 64)
    prediction = torch.full((1, 3, 64, 64), 0.5, requires_grad=True)
    only = replace(MIXTURE, ms_ssim=0.0, l1=1.0)
    slopes = [
        torch.autograd.grad(
            generator_loss(replace(only, overlap_weight=weight), prediction, truth, None, None).total, prediction
        )[0]
        for weight in (1.0, 10.0)
    ]
    ratio = slopes[1] / slopes[0]
    assert ratio[0, 0, 0, 0].item() == pytest.approx(10)
    assert ratio[0, 0, 32, 32].item() == pytest.approx(1)


def test_the_handed_out_config_is_the_papers_mixture() -> None:
    loss = load_config(TrainConfig, ROOT / "configs" / "train" / "ms_ssim_l1.yaml", []).loss
    assert (loss.ms_ssim, loss.l1, loss.l2, loss.ssim, loss.l1_window) == (0.84, 0.16, 0.0, 0.0, "gaussian")
    assert loss.normalise_overlap
