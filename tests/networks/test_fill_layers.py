"""Layers of the fill network: enlargement, Fourier blocks, the discriminator of patches."""

import pytest
import torch
import torch.nn.functional as F

from inpaint_core.networks.build import build_generator
from inpaint_core.networks.discriminator import PatchDiscriminator, build_discriminator
from inpaint_core.networks.enlarging import EnlargingConvolution
from inpaint_core.networks.fourier import FourierUnit
from inpaint_core.networks.generator import initialise
from inpaint_core.networks.spec import UnetSpec


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("bias", [True, False])
def test_enlarging_is_nearest_neighbours_and_a_3x3_convolution(bias: bool) -> None:
    layer = EnlargingConvolution(5, 7, bias=bias)
    maps = torch.randn(2, 5, 6, 9, generator=random())
    expected = F.conv2d(F.interpolate(maps, scale_factor=2, mode="nearest"), layer.weight, layer.bias, padding=1)
    made = layer(maps)
    assert made.shape == (2, 7, 12, 18)
    assert torch.allclose(made, expected, atol=1e-5)
    made.square().mean().backward()
    own = layer.weight.grad
    layer.weight.grad = None
    expected.square().mean().backward()
    assert own is not None
    assert layer.weight.grad is not None
    assert torch.allclose(own, layer.weight.grad, atol=1e-5)


def test_flat_maps_stay_flat_when_enlarged_which_is_what_dots_come_from() -> None:
    layer = EnlargingConvolution(3, 4, bias=False)
    inside = layer(torch.ones(1, 3, 8, 8))[..., 2:-2, 2:-2]
    assert torch.allclose(inside, inside[..., :1, :1].expand_as(inside), atol=1e-6)
    transposed = torch.nn.ConvTranspose2d(3, 4, 4, stride=2, padding=1, bias=False)
    uneven = transposed(torch.ones(1, 3, 8, 8))[..., 2:-2, 2:-2]
    assert not torch.allclose(uneven, uneven[..., :1, :1].expand_as(uneven), atol=1e-3)


@pytest.mark.parametrize("side", [8, 7, 16])
def test_a_fourier_unit_sees_the_whole_image(side: int) -> None:
    unit = FourierUnit(8)
    initialise(unit, random())
    unit.eval()
    maps = torch.randn(1, 8, side, side, generator=random(1), requires_grad=True)
    made = unit(maps)
    assert made.shape == maps.shape
    (gradient,) = torch.autograd.grad(made[0, :, 0, 0].sum(), maps)
    assert (gradient.abs().sum(1) > 0).all(), "one corner depends on every place"


def test_a_fourier_unit_that_leaves_the_spectrum_alone_adds_what_a_convolution_gives() -> None:
    """With a spectrum of zeros, the block is 1x1 convolutions: a known value for the residual's path."""
    unit = FourierUnit(4)
    initialise(unit, random())
    unit.eval()
    torch.nn.init.zeros_(unit.spectrum[0].weight)
    maps = torch.randn(2, 4, 6, 6, generator=random(2))
    assert torch.allclose(unit(maps), maps + unit.grow(unit.shrink(maps)), atol=1e-6)


def test_the_transform_is_float32_under_autocast() -> None:
    unit = FourierUnit(8)
    initialise(unit, random())
    maps = torch.randn(2, 8, 8, 8, generator=random())
    seen: list[torch.dtype] = []
    unit.spectrum.register_forward_pre_hook(lambda module, given: seen.append(given[0].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        made = unit(maps)
    assert seen == [torch.float32]
    assert torch.isfinite(made).all()


def test_every_second_block_is_fourier() -> None:
    spec = UnetSpec(width=2, blocks=5, middle="fourier", upsampling="nearest")
    network = build_generator(spec, random())
    kinds = [isinstance(block, FourierUnit) for block in network.get_submodule("middle").children()]
    assert kinds == [False, True, False, True, False]
    dilations = [layer.dilation[0] for layer in network.get_submodule("middle").modules() if hasattr(layer, "dilation")]
    assert [dilation for dilation in dilations if dilation > 1] == [2], "dilated by 1, 2, 1"
    assert not any(isinstance(layer, torch.nn.ConvTranspose2d) for layer in network.modules())


def test_a_logit_of_a_patch_is_that_of_its_place() -> None:
    network = build_discriminator(128, 2, random(), "patch")
    assert isinstance(network, PatchDiscriminator)
    network.eval()
    images = torch.randn(1, 3, 128, 128, generator=random(3), requires_grad=True)
    logits = network(images)
    assert logits.shape == (1, 1, 16, 16)
    (gradient,) = torch.autograd.grad(logits[0, 0, 8, 5], images)
    places = gradient.abs().sum(1)[0].nonzero()
    (top, left), (bottom, right) = places.min(0).values.tolist(), places.max(0).values.tolist()
    centre = ((top + bottom) / 2, (left + right) / 2)
    assert centre == (8 * 8 + 3.5, 5 * 8 + 3.5), "the middle of its 8x8 cell"
    assert bottom - top + 1 == right - left + 1 == 54


def test_maps_of_each_layer_end_with_the_logits() -> None:
    network = build_discriminator(64, 2, random(), "patch")
    assert isinstance(network, PatchDiscriminator)
    maps = network.features(torch.zeros(2, 3, 64, 64))
    assert [tuple(each.shape[1:]) for each in maps] == [(2, 32, 32), (4, 16, 16), (8, 8, 8), (16, 8, 8), (1, 8, 8)]
