"""Losses beside the joint one: patches, feature matching, R1, feature maps of a detector; and when they begin."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from inpaint_core.errors import ConfigError, WeightsError
from inpaint_core.hole_masks.sampler import evaluation_holes
from inpaint_core.networks.spec import UnetSpec
from inpaint_core.networks.weights.pretrained import DETECTOR, read_pretrained
from inpaint_core.training.adversary import R1_STEPS, RealAndFake
from inpaint_core.training.config import DiscriminatorConfig, HolesConfig, LossConfig, TrainConfig
from inpaint_core.training.feature_distance import FeatureDistance
from inpaint_core.training.feature_weights import load_feature_weights
from inpaint_core.training.losses import (
    discriminator_loss,
    feature_matching_loss,
    generator_loss,
    patches_of_holes,
)
from inpaint_core.training.run_folder import check_config
from inpaint_core.training.step import AdversarialStep
from tests.training.small import CPU, batch_of, config, copied, photographs, same

CPU_DEVICE = torch.device("cpu")


def mask_at(top: int, left: int, height: int, width: int, side: int = 16) -> Tensor:
    mask = torch.zeros(1, 1, side, side, dtype=torch.bool)
    mask[..., top : top + height, left : left + width] = True
    return mask


def test_a_patch_is_of_the_hole_if_a_pixel_of_it_is() -> None:
    found = patches_of_holes(mask_at(7, 4, 2, 1), torch.zeros(1, 1, 4, 4))
    assert found[0, 0].int().tolist() == [[0, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]


def test_patches_without_a_hole_are_real_in_composites() -> None:
    mask, logits = mask_at(0, 0, 8, 8), torch.tensor([[[[2.0, 0.5], [-1.0, 3.0]]]])
    real = torch.ones(1, 1, 2, 2)
    # Fake is the first patch alone: (2 - 0)^2, and of the others the squared distances to 1.
    expected = (4.0 + 0.25 + 4.0 + 4.0) / 4
    assert discriminator_loss("lsgan", real, logits, mask).item() == pytest.approx(expected)
    assert discriminator_loss("lsgan", real, logits).item() == pytest.approx((4.0 + 0.25 + 1.0 + 9.0) / 4)


def test_the_generator_is_judged_where_the_hole_is() -> None:
    mask, logits = mask_at(0, 0, 16, 8), torch.tensor([[[[2.0, 50.0], [-1.0, 50.0]]]])
    loss_config = LossConfig(adversarial="lsgan", adversarial_weight=2.0, reconstruction_weight=0.0)
    images = torch.zeros(1, 3, 16, 16)
    loss = generator_loss(loss_config, images, images, logits, mask)
    assert loss.parts["adversarial"].item() == pytest.approx((1.0 + 4.0) / 2)
    assert loss.total.item() == pytest.approx(5.0)


def test_distances_are_added_by_their_weights() -> None:
    loss_config = LossConfig(
        adversarial_weight=0.0, reconstruction_weight=0.5, features=3.0, feature_matching=4.0, l1=1.0
    )
    truth = torch.zeros(1, 3, 64, 64)
    distances = {"features": torch.tensor(0.25), "feature_matching": torch.tensor(0.5)}
    loss = generator_loss(loss_config, truth + 0.5, truth, None, None, distances)  # type: ignore[arg-type]
    assert loss.total.item() == pytest.approx(0.5 * (0.5 * OVERLAPPED + 3.0 * 0.25) + 4.0 * 0.5)
    assert loss.parts["features"].item() == 0.25


# Of a patch of 64 pixels, the 56x56 in the middle weigh 1 and the others 10.
OVERLAPPED = (56 * 56 + (64 * 64 - 56 * 56) * 10) / 64**2


def test_feature_matching_leaves_the_logits_out() -> None:
    fake = [torch.full((1, 2, 4, 4), 3.0), torch.full((1, 4, 2, 2), 1.0), torch.full((1, 1, 2, 2), 99.0)]
    real = [torch.full((1, 2, 4, 4), 1.0), torch.full((1, 4, 2, 2), 2.0), torch.full((1, 1, 2, 2), 0.0)]
    assert feature_matching_loss(fake, real).item() == pytest.approx((2.0 + 1.0) / 2)


def test_the_r1_penalty_of_a_linear_judge_is_the_square_of_its_weights() -> None:
    linear = nn.Sequential(nn.Flatten(), nn.Linear(12, 1))
    weights = linear[1].weight
    judged = RealAndFake(linear)(torch.randn(3, 3, 2, 2), torch.randn(3, 3, 2, 2), penalised=True)
    assert judged.penalty.item() == pytest.approx(weights.square().sum().item(), rel=1e-5)
    (gradient,) = torch.autograd.grad(judged.penalty, weights)
    assert torch.allclose(gradient, 2 * weights, atol=1e-6)
    assert RealAndFake(linear)(torch.randn(3, 3, 2, 2), torch.randn(3, 3, 2, 2)).penalty.item() == 0


@pytest.fixture(scope="module")
def features() -> FeatureDistance:
    return FeatureDistance(read_pretrained(DETECTOR), DETECTOR, CPU_DEVICE)


def test_feature_maps_of_the_same_image_have_no_distance_and_of_a_worse_one_more(features: FeatureDistance) -> None:
    truth = torch.from_numpy(photographs(2).copy()).permute(0, 3, 1, 2).float() / 127.5 - 1
    mask = mask_at(32, 32, 64, 64, 128).expand(2, -1, -1, -1)
    assert features(truth, truth, mask).item() == 0

    def distance(blend: float) -> float:
        filled = torch.where(mask, blend * truth, truth)
        return features(filled, truth, mask).item()

    assert 0 < distance(0.9) < distance(0.5) < distance(0.0)
    filled = torch.where(mask, 0.5 * truth, truth)
    whole = features(filled, truth, None).item()
    assert features(filled, truth, mask).item() == pytest.approx(4 * whole, rel=1e-5), "by the hole's share, 1/4"


def test_only_the_fill_has_a_gradient(features: FeatureDistance) -> None:
    truth = torch.rand(1, 3, 64, 64, requires_grad=True)
    filled = torch.rand(1, 3, 64, 64, requires_grad=True)
    features(filled, truth, None).backward()
    assert truth.grad is None
    assert filled.grad is not None
    assert filled.grad.abs().sum() > 0


def fill_config(**changes: object) -> TrainConfig:
    loss = LossConfig(adversarial_weight=0.1, l1=1.0, feature_matching=1.0, r1=0.01, adversarial_from=0.5)
    return config(
        network=UnetSpec(width=4, blocks=2, middle="fourier", upsampling="nearest"),
        discriminator=DiscriminatorConfig(kind="patch", width=2),
        holes=HolesConfig(kinds=("box",)),
        loss=replace(loss, **changes),  # type: ignore[arg-type]
    )


def masked_batch() -> object:
    return batch_of(photographs(4), evaluation_holes("box", range(4), seed=0))


def test_adversarial_terms_begin_at_their_step() -> None:
    networks = AdversarialStep(fill_config(), CPU, steps=4)
    before = copied(networks.discriminator)
    names = [set(networks(masked_batch())) for _ in range(2)]  # type: ignore[arg-type]
    assert names == [{"l1", "total"}] * 2
    assert same(copied(networks.discriminator), before)
    later = networks(masked_batch())  # type: ignore[arg-type]
    assert set(later) == {"l1", "total", "discriminator", "adversarial", "feature_matching"}
    assert not same(copied(networks.discriminator), before)


def test_the_penalty_comes_every_few_steps() -> None:
    networks = AdversarialStep(fill_config(adversarial_from=0.0), CPU, steps=100)
    had = [step for step in range(R1_STEPS + 1) if "r1" in networks(masked_batch())]  # type: ignore[arg-type]
    assert had == [0, R1_STEPS]


def test_features_are_part_of_the_step(features: FeatureDistance) -> None:
    settings = fill_config(features=0.5)
    parts = AdversarialStep(settings, CPU, steps=4, features=features)(masked_batch())  # type: ignore[arg-type]
    assert parts["features"] > 0
    expected = parts["l1"] + 0.5 * parts["features"]
    assert parts["total"].item() == pytest.approx(settings.loss.reconstruction_weight * expected.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda settings: replace(settings, discriminator=DiscriminatorConfig(width=2)),
            "loss.feature_matching: needs discriminator.kind=patch",
        ),
        (lambda settings: replace(settings, scaling=replace(settings.scaling, compile=True)), "loss.r1: torch.compile"),
    ],
)
def test_what_does_not_go_together_is_refused(change: Callable[[TrainConfig], TrainConfig], message: str) -> None:
    check_config(fill_config())
    with pytest.raises(ConfigError, match=message):
        check_config(change(fill_config()))


def test_weights_are_read_and_checked_before_anything_starts(tmp_path: object) -> None:
    assert load_feature_weights(fill_config()) is None
    weights = load_feature_weights(fill_config(features=1.0, features_weights=DETECTOR))
    assert weights is not None
    assert weights.name == DETECTOR
    missing = fill_config(features=1.0, features_weights=f"{tmp_path}/none.pt")
    with pytest.raises(WeightsError, match=r"loss\.features_weights: .*none\.pt"):
        load_feature_weights(missing)
