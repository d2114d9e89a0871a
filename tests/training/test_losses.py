"""The losses of training: values by hand, and what does not matter leaves no gradient."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import Tensor

from inpaint_core.metrics.ssim import ms_ssim, ssim, ssim_map
from inpaint_core.training.config import LossConfig
from inpaint_core.training.losses import discriminator_loss, generator_loss
from tests.samples import photograph

pytestmark = pytest.mark.usefixtures("one_thread")

OFF = LossConfig(adversarial_weight=0.0, reconstruction_weight=1.0)


def images(side: int, count: int = 2) -> tuple[Tensor, Tensor]:
    """A prediction and a truth on the scale [-1, 1]: crops of photographs, one of them faded and noisy."""
    crops = [torch.from_numpy(photograph((side, side), seed=i).copy()) for i in range(count)]
    truth = torch.stack(crops).permute(0, 3, 1, 2).float() / 127.5 - 1
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    return (0.8 * truth + 0.1 * noise).clamp(-1, 1).requires_grad_(), truth


def square(top: int, left: int, height: int, width: int, side: int = 128) -> Tensor:
    mask = torch.zeros(1, 1, side, side, dtype=torch.bool)
    mask[..., top : top + height, left : left + width] = True
    return mask


def softplus(value: float) -> float:
    return math.log1p(math.exp(value))


def test_the_discriminators_loss_by_hand() -> None:
    real, fake = torch.tensor([2.0, -1.0]), torch.tensor([0.5, 3.0])
    # -log sigmoid(x) = softplus(-x) for real images, -log(1 - sigmoid(x)) = softplus(x) for predictions.
    bce = (softplus(-2.0) + softplus(1.0)) / 2 + (softplus(0.5) + softplus(3.0)) / 2
    assert discriminator_loss("bce", real, fake).item() == pytest.approx(bce, abs=1e-6)
    # ((2 - 1)^2 + (-1 - 1)^2) / 2 + (0.5^2 + 3^2) / 2
    assert discriminator_loss("lsgan", real, fake).item() == pytest.approx(2.5 + 4.625, abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "expected"), [("bce", (softplus(-0.5) + softplus(2.0)) / 2), ("lsgan", (0.25 + 9.0) / 2)]
)
def test_the_generator_is_judged_by_the_labels_of_real_images(kind: Literal["bce", "lsgan"], expected: float) -> None:
    prediction, truth = images(64)
    config = LossConfig(adversarial=kind, adversarial_weight=0.25, reconstruction_weight=0.0)
    loss = generator_loss(config, prediction, truth, torch.tensor([0.5, -2.0]), None)
    assert loss.parts.keys() == {"adversarial"}
    assert loss.parts["adversarial"].item() == pytest.approx(expected, abs=1e-6)
    assert loss.total.item() == pytest.approx(0.25 * expected, abs=1e-6)


def test_the_ideal_discriminator_is_undecided() -> None:
    assert discriminator_loss("bce", torch.zeros(3), torch.zeros(3)).item() == pytest.approx(2 * math.log(2))
    assert discriminator_loss("lsgan", torch.full((3,), 0.5), torch.full((3,), 0.5)).item() == pytest.approx(0.5)


@pytest.mark.parametrize("kind", ["bce", "lsgan"])
def test_logits_of_any_size_have_finite_gradients(kind: Literal["bce", "lsgan"]) -> None:
    logits = torch.tensor([-1e4, 0.0, 1e4], requires_grad=True)
    loss = discriminator_loss(kind, logits, logits)
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_logits_of_lower_precision_are_taken_as_float32() -> None:
    real, fake = torch.tensor([2.0, -1.0]).bfloat16(), torch.tensor([0.5, 3.0]).bfloat16()
    expected = discriminator_loss("bce", real.float(), fake.float())
    with torch.autocast("cpu", torch.bfloat16):
        loss = discriminator_loss("bce", real, fake)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, expected)


@pytest.mark.parametrize(("term", "error"), [("l1", 0.5), ("l2", 0.25)])
def test_the_band_by_hand(term: str, error: float) -> None:
    # 64 * 64 - 56 * 56 = 960 of 4096 pixels count ten times.
    truth = torch.zeros(2, 3, 64, 64)
    prediction = torch.full((2, 3, 64, 64), 0.5, requires_grad=True)
    loss = generator_loss(replace(OFF, **{term: 1.0}), prediction, truth, None, None)
    assert loss.total.item() == pytest.approx(error * (10 * 960 + 3136) / 4096)
    loss.total.backward()
    slope = prediction.grad
    assert slope is not None
    ratio = slope / slope[0, 0, 32, 32]
    assert ratio[:, :, 4:-4, 4:-4].unique().tolist() == [1.0]
    band = torch.ones(64, 64, dtype=torch.bool)
    band[4:-4, 4:-4] = False
    torch.testing.assert_close(ratio[:, :, band], torch.full((2, 3, 960), 10.0))
    # The gradient of a plain mean times w, as in the paper's code: 1 / n and 2 e / n inside.
    assert slope[0, 0, 32, 32].item() == pytest.approx(1.0 / truth.numel())


@pytest.mark.parametrize(("term", "error"), [("l1", 0.5), ("l2", 0.25)])
def test_a_normalised_band_keeps_its_ratio_and_has_the_mean_1(term: str, error: float) -> None:
    truth = torch.zeros(2, 3, 64, 64)
    prediction = torch.full((2, 3, 64, 64), 0.5, requires_grad=True)
    plain = replace(OFF, **{term: 1.0})
    loss = generator_loss(replace(plain, normalise_overlap=True), prediction, truth, None, None)
    assert loss.total.item() == pytest.approx(error)
    (slope,) = torch.autograd.grad(loss.total, prediction)
    assert (slope[0, 0, 0, 0] / slope[0, 0, 32, 32]).item() == pytest.approx(10)
    # Without it, L1 and L2 are 3.11 times what their weights say.
    other = generator_loss(plain, prediction, truth, None, None).total
    assert other.item() == pytest.approx(3.109375 * error)
    (larger,) = torch.autograd.grad(other, prediction)
    torch.testing.assert_close(larger, slope * 3.109375)


def test_the_band_of_a_larger_patch_is_the_same_part() -> None:
    truth = torch.zeros(1, 3, 128, 128)
    prediction = torch.full((1, 3, 128, 128), 0.5, requires_grad=True)
    total = generator_loss(replace(OFF, l1=1.0), prediction, truth, None, None).total
    assert total.item() == pytest.approx(3.109375 * 0.5)
    (slope,) = torch.autograd.grad(total, prediction)
    assert int((slope[0, 0] > 5 * slope[0, 0, 64, 64]).sum()) == 128**2 - 112**2


def test_a_band_of_weight_1_is_the_plain_mean() -> None:
    prediction, truth = images(64)
    loss = generator_loss(replace(OFF, l1=1.0, l2=1.0, overlap_weight=1.0), prediction, truth, None, None)
    torch.testing.assert_close(loss.parts["l1"], torch.nn.functional.l1_loss(prediction, truth).detach())
    torch.testing.assert_close(loss.parts["l2"], torch.nn.functional.mse_loss(prediction, truth).detach())


def test_the_total_is_the_parts_times_their_weights() -> None:
    prediction, truth = images(64)
    logits = torch.tensor([0.3, -0.2])
    config = LossConfig(adversarial_weight=0.1, reconstruction_weight=0.9, l1=0.3, l2=0.2, ssim=0.4, ms_ssim=0.1)
    loss = generator_loss(config, prediction, truth, logits, None)
    parts = {name: value.item() for name, value in loss.parts.items()}
    expected = 0.1 * parts["adversarial"]
    expected += 0.9 * (0.3 * parts["l1"] + 0.2 * parts["l2"] + 0.4 * parts["ssim"] + 0.1 * parts["ms_ssim"])
    assert loss.total.item() == pytest.approx(expected, rel=1e-6)
    assert loss.total.shape == ()
    assert parts["ssim"] == pytest.approx(1 - ssim(prediction, truth, data_range=2.0).mean().item())
    assert parts["ms_ssim"] == pytest.approx(1 - ms_ssim(prediction, truth, data_range=2.0).mean().item())
    assert not any(value.requires_grad for value in loss.parts.values())
    loss.total.backward()
    assert prediction.grad is not None
    assert prediction.grad.abs().amin() > 0


@pytest.mark.parametrize(
    ("config", "terms"),
    [
        (LossConfig(l2=1.0), ["adversarial", "l2"]),
        (LossConfig(adversarial="lsgan", l1=1.0), ["adversarial", "l1"]),
        (LossConfig(l1=0.3, ssim=0.7), ["adversarial", "l1", "ssim"]),
        (replace(OFF, ms_ssim=0.84, l1=0.16), ["l1", "ms_ssim"]),
        (LossConfig(reconstruction_weight=0.0, l1=1.0, ssim=1.0), ["adversarial"]),
    ],
)
def test_only_terms_with_a_weight_are_computed(config: LossConfig, terms: list[str]) -> None:
    prediction, truth = images(64)
    assert list(generator_loss(config, prediction, truth, torch.zeros(2), None).parts) == terms


@pytest.mark.parametrize(("term", "power"), [("l1", 1), ("l2", 2)])
def test_every_image_counts_the_same_however_large_its_hole(term: str, power: int) -> None:
    truth = torch.zeros(3, 3, 128, 128)
    prediction = torch.full((3, 3, 128, 128), 0.9)
    mask = torch.cat([square(10, 10, 100, 100), square(60, 60, 2, 2), square(0, 0, 0, 0)])
    prediction[0][mask[0].expand(3, -1, -1)] = 0.5
    prediction[1, :, 60:62, 60] = 0.2  # two of the four pixels
    prediction[1, :, 60:62, 61] = -0.4
    expected = (0.5**power + (0.2**power + 0.4**power) / 2 + 0) / 3  # no hole: 0
    loss = generator_loss(replace(OFF, **{term: 1.0}), prediction, truth, None, mask)
    assert loss.total.item() == pytest.approx(expected)
    outside = replace(OFF, outside_weight=0.1, **{term: 1.0})
    loss = generator_loss(outside, prediction, truth, None, mask)
    assert loss.total.item() == pytest.approx(expected + 0.1 * 0.9**power)


def test_nothing_outside_the_hole_matters() -> None:
    prediction, truth = images(128)
    mask = torch.cat([square(20, 30, 40, 50), square(90, 5, 9, 30)])
    config = replace(OFF, l1=0.3, l2=0.1, ssim=0.5, ms_ssim=0.1)
    loss = generator_loss(config, prediction, truth, None, mask)
    loss.total.backward()
    slope = prediction.grad
    assert slope is not None
    assert (slope[~mask.expand(-1, 3, -1, -1)] == 0).all()
    assert (slope[mask.expand(-1, 3, -1, -1)] != 0).all()
    changed = torch.where(mask, prediction, -prediction)
    assert generator_loss(config, changed, truth, None, mask).total.item() == loss.total.item()
    # But with a weight outside, what is outside counts.
    weighted = replace(config, outside_weight=0.05)
    loss = generator_loss(weighted, prediction, truth, None, mask)
    (slope,) = torch.autograd.grad(loss.total, prediction)
    assert (slope[~mask.expand(-1, 3, -1, -1)] != 0).float().mean() > 0.99


def test_ssim_of_a_hole_is_of_the_composite_around_its_pixels() -> None:
    prediction, truth = images(128, 1)
    mask = square(40, 50, 20, 30)
    composite = truth.clone()
    composite[..., 40:60, 50:80] = prediction.detach()[..., 40:60, 50:80]
    # Row i of the map is of the windows around row i + 5.
    expected = 1 - ssim_map(composite, truth, data_range=2.0)[..., 35:55, 45:75].mean().item()
    loss = generator_loss(replace(OFF, ssim=1.0), prediction, truth, None, mask)
    assert loss.total.item() == pytest.approx(expected, abs=1e-6)
    loss = generator_loss(replace(OFF, ms_ssim=1.0), prediction, truth, None, mask)
    expected = 1 - ms_ssim(composite, truth, data_range=2.0, mask=mask).item()
    assert loss.total.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("side", [64, 128])
@pytest.mark.parametrize("value", [0.0, -1.0])
def test_flat_and_perfect_predictions_have_finite_gradients(side: int, value: float) -> None:
    config = replace(OFF, l1=0.25, l2=0.25, ssim=0.25, ms_ssim=0.25)
    mask = torch.cat([square(0, 0, 3, 3), square(0, 0, 0, 0), square(50, 50, 20, 20)]) if side == 128 else None
    truth = torch.full((3, 3, side, side), value)
    prediction = truth.clone().requires_grad_()
    loss = generator_loss(config, prediction, truth, None, mask)
    loss.total.backward()
    assert loss.total.item() == pytest.approx(0.0, abs=1e-5)
    assert prediction.grad is not None
    assert torch.isfinite(prediction.grad).all()
    assert prediction.grad.abs().max() < 1e-4


@pytest.mark.parametrize("masked", [False, True])
def test_everything_is_float32_under_autocast(masked: bool) -> None:
    prediction, truth = images(128 if masked else 64)
    mask = square(30, 30, 50, 60).expand(2, -1, -1, -1) if masked else None
    config = LossConfig(l1=0.3, l2=0.3, ssim=0.3, ms_ssim=0.1)
    low = prediction.detach().bfloat16()
    expected = generator_loss(config, low.float(), truth, torch.tensor([0.5, 0.25]), mask)
    with torch.autocast("cpu", torch.bfloat16):
        loss = generator_loss(config, low, truth, torch.tensor([0.5, 0.25]).bfloat16(), mask)
    assert loss.total.dtype == torch.float32
    assert torch.equal(loss.total, expected.total)
    assert all(part.dtype == torch.float32 for part in loss.parts.values())


def test_inputs_are_left_alone() -> None:
    prediction, truth = images(128)
    mask = square(30, 30, 50, 60).expand(2, -1, -1, -1).clone()
    copies = prediction.detach().clone(), truth.clone(), mask.clone()
    generator_loss(replace(OFF, l1=1.0, ssim=1.0, ms_ssim=1.0), prediction, truth, None, mask).total.backward()
    assert torch.equal(prediction, copies[0])
    assert torch.equal(truth, copies[1])
    assert torch.equal(mask, copies[2])


def test_what_does_not_belong_together_is_refused() -> None:
    prediction, truth = images(64)
    with pytest.raises(ValueError, match="needs fake_logits"):
        generator_loss(LossConfig(l1=1.0), prediction, truth, None, None)
    with pytest.raises(ValueError, match="no term"):
        generator_loss(OFF, prediction, truth, torch.zeros(2), None)
    with pytest.raises(ValueError, match=r"not \(2, 3, 64, 64\) and \(2, 3, 32, 32\)"):
        generator_loss(replace(OFF, l1=1.0), prediction, truth[..., ::2, ::2], None, None)
    with pytest.raises(ValueError, match=r"the mask is \(2, 1, 64, 64\) bool, not \(2, 64, 64\) torch.bool"):
        generator_loss(replace(OFF, l1=1.0), prediction, truth, None, torch.ones(2, 64, 64, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"not .* torch\.float32"):
        generator_loss(replace(OFF, l1=1.0), prediction, truth, None, torch.ones(2, 1, 64, 64))
