from __future__ import annotations

import pytest
import torch
from torch import nn

from inpaint_core.networks.discriminator import Discriminator, build_discriminator

pytestmark = pytest.mark.usefixtures("one_thread")


def small(side: int = 64, seed: int = 0) -> Discriminator:
    return build_discriminator(side, 4, torch.Generator().manual_seed(seed))


def noise(side: int, count: int = 3) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(7)) * 2 - 1


@pytest.mark.parametrize("side", [64, 128, 256])
@pytest.mark.parametrize("count", [1, 3])
def test_one_logit_for_each_image(side: int, count: int) -> None:
    network = small(side)
    logits = network(noise(side, 3))
    assert logits.shape == (3,)
    logits.sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())
    # In evaluation, an image's logit depends on that image alone.
    with torch.no_grad():
        alone = network.eval()(noise(side, 3)[:count])
        assert alone.shape == (count,)
        torch.testing.assert_close(alone, network(noise(side, 3))[:count])


def test_logits_are_not_squeezed_into_a_range() -> None:
    network = small()
    last = network.layers[-1]
    with torch.no_grad():
        assert isinstance(last, nn.Conv2d)
        last.bias.fill_(-50.0)
        assert (network(noise(64)) < -40).all()


@pytest.mark.parametrize("side", [64, 128, 256, 512])
def test_normalisation_activation_and_bias(side: int) -> None:
    modules = list(small(side).layers)
    names = [type(module).__name__ for module in modules]
    steps = {64: 3, 128: 4, 256: 5, 512: 6}[side]
    assert names == ["Conv2d", "LeakyReLU", *["Conv2d", "BatchNorm2d", "LeakyReLU"] * steps, "Conv2d"]
    assert all(m.negative_slope == 0.2 for m in modules if isinstance(m, nn.LeakyReLU))
    biases = [m.bias is not None for m in modules if isinstance(m, nn.Conv2d)]
    assert biases == [True, *[False] * steps, True]


def test_weights_come_from_the_generator_alone_and_have_the_stated_distributions() -> None:
    before = torch.random.get_rng_state()
    first, again, other = small(seed=1), small(seed=1), small(seed=2)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.layers[0].weight, other.layers[0].weight)
    assert first.training
    network = build_discriminator(64, 32, torch.Generator().manual_seed(0))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            assert abs(module.weight.mean().item()) < 0.002
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.1)
            assert module.bias is None or bool((module.bias == 0).all())
        if isinstance(module, nn.BatchNorm2d):
            assert module.weight.mean().item() == pytest.approx(1.0, abs=0.01)
            assert torch.equal(module.running_var, torch.ones(module.num_features))


def test_another_side_is_refused() -> None:
    with pytest.raises(ValueError, match="64, 128, 256 or 512 pixels a side, not 96"):
        small(96)


def test_it_learns_to_tell_flat_images_from_noise() -> None:
    network = small()
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-3, betas=(0.5, 0.999))
    real, fake = noise(64, 4), torch.zeros(4, 3, 64, 64)
    for _ in range(10):
        logits = torch.cat([network(real), network(fake)])
        labels = torch.cat([torch.ones(4), torch.zeros(4)])
        loss = nn.functional.binary_cross_entropy_with_logits(logits, labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert network(real).min() > network(fake).max()
