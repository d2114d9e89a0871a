"""The U-Net: its layers, what it sees, and its checkpoint."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from inpaint_core.networks.build import build_generator, empty_generator
from inpaint_core.networks.compositing import hide
from inpaint_core.networks.generator import Generator
from inpaint_core.networks.push_pull import push_pull
from inpaint_core.networks.spec import UnetSpec
from inpaint_core.networks.weights.generator_file import load_generator, save_generator

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = UnetSpec(width=4)

# Of each convolution: channels in and out, side of its output, weights of its kernel.
LAYERS = [
    (4, 64, 64, 4),
    (64, 128, 32, 4),
    (128, 256, 16, 4),
    (256, 512, 8, 4),
    (512, 512, 8, 3),
    (512, 512, 8, 3),
    (512, 256, 16, 4),
    (512, 128, 32, 4),
    (256, 64, 64, 4),
    (128, 3, 128, 4),
]


def unet(spec: UnetSpec = SMALL, seed: int = 0) -> Generator:
    return build_generator(spec, torch.Generator().manual_seed(seed))


def pictures(seed: int = 0) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    images = torch.rand(2, 3, 128, 128, generator=random) * 2 - 1
    masks = torch.zeros(2, 1, 128, 128, dtype=torch.bool)
    masks[0, :, 10:70, 40:90] = True
    masks[1, :, 90:, :50] = True
    return images, masks


def test_every_layer_has_its_shape() -> None:
    network = unet(UnetSpec())
    shapes: list[tuple[int, int, int, int]] = []

    def note(module: nn.Module, _: object, output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
        assert output.shape[2] == output.shape[3]
        shapes.append((module.in_channels, module.out_channels, output.shape[2], module.kernel_size[0]))

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.register_forward_hook(note)
    with torch.no_grad():
        output = network(*pictures())
    assert shapes == LAYERS
    assert output.shape == (2, 3, 128, 128)


def test_parameters_are_those_of_the_layers() -> None:
    convolutions = sum(inside * outside * side * side for inside, outside, _, side in LAYERS)
    norms = sum(2 * outside for _, outside, _, _ in LAYERS[:-1])
    assert sum(p.numel() for p in empty_generator(UnetSpec()).parameters()) == convolutions + norms + 3
    gates = sum(inside * side * side + 1 for inside, _, _, side in LAYERS[:-1])
    gated = sum(p.numel() for p in empty_generator(UnetSpec(gated=True)).parameters())
    assert gated == convolutions + norms + 3 + gates
    blocks = sum(p.numel() for p in empty_generator(UnetSpec(blocks=5)).parameters())
    assert blocks == convolutions + norms + 3 + 3 * (512 * 512 * 9 + 2 * 512)


@pytest.mark.parametrize("spec", [SMALL, replace(SMALL, gated=True), replace(SMALL, blocks=0)])
def test_every_parameter_learns_and_the_output_is_in_range(spec: UnetSpec) -> None:
    network = unet(spec)
    images, masks = pictures()
    output = network(hide(images, masks), masks)
    assert output.shape == (2, 3, 128, 128)
    assert output.abs().max() <= 1
    output.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("size", [256, 512])
def test_larger_photographs_of_the_same_weights(size: int) -> None:
    network = unet(replace(SMALL, size=size)).eval()
    images = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    masks = torch.zeros(1, 1, size, size, dtype=torch.bool)
    masks[..., 20:70, 40:90] = True
    with torch.no_grad():
        output = network(hide(images, masks), masks)
        assert output.shape == (1, 3, size, size)
        again = unet().eval()(hide(images, masks), masks)
    assert torch.equal(again, output)


def test_a_hole_is_filled_from_afar_and_by_its_mask() -> None:
    network = unet().eval()
    images, masks = pictures()
    with torch.no_grad():
        first = network(hide(images, masks), masks)
        other = images.clone()
        other[0, :, 120:, 120:] = -other[0, :, 120:, 120:]  # far from the hole
        there = network(hide(other, masks), masks)
        assert (there - first)[0, :, 30:40, 60:70].abs().max() > 0
        torch.testing.assert_close(there[1], first[1])
        # The same picture, with another mask on what looks the same.
        more = masks.clone()
        more[0, :, :8, :8] = True
        assert (network(hide(images, masks), more) - first)[0, :, :8, :8].abs().max() > 0


def test_a_closed_gate_lets_nothing_through() -> None:
    network = unet(replace(SMALL, gated=True)).eval()
    images, masks = pictures()
    gate = network.get_submodule("encoder.0.gate")
    assert isinstance(gate, nn.Conv2d)
    assert gate.out_channels == 1
    with torch.no_grad():
        layer = network.get_submodule("encoder.0")
        seen = torch.cat([hide(images, masks), masks.float()], dim=1)
        half = layer(seen)
        gate.weight.zero_()
        assert gate.bias is not None
        gate.bias.fill_(-200.0)
        assert layer(seen).abs().max() == 0
        gate.bias.fill_(200.0)
        assert layer(seen).abs().mean() > half.abs().mean()


def test_it_begins_with_the_smooth_fill_and_changes_it() -> None:
    network = unet().eval()
    images, masks = pictures()
    change = network.get_submodule("change")
    assert isinstance(change, nn.ConvTranspose2d)
    with torch.no_grad():
        smooth = push_pull(images, masks)
        assert not torch.equal(network(hide(images, masks), masks), smooth)
        change.weight.zero_()
        torch.testing.assert_close(network(hide(images, masks), masks), smooth)
        assert change.bias is not None
        change.bias.fill_(0.25)
        torch.testing.assert_close(network(images, masks), (smooth + 0.25).clamp(max=1.0))


def test_it_has_to_be_told_where_the_holes_are() -> None:
    with pytest.raises(ValueError, match="pass masks"):
        unet()(pictures()[0])


@pytest.mark.parametrize("gated", [False, True])
def test_a_checkpoint_rebuilds_the_network(gated: bool) -> None:
    spec = replace(SMALL, gated=gated, blocks=3)
    network = unet(spec, seed=3).eval()
    file = io.BytesIO()
    save_generator(file, network, spec, {})
    again, its_spec = load_generator(file.getvalue())
    assert its_spec == spec
    images, masks = pictures()
    with torch.no_grad():
        torch.testing.assert_close(again(images, masks), network(images, masks), rtol=0, atol=0)


def test_the_same_seed_draws_the_same_weights() -> None:
    first, second, other = unet(seed=1).state_dict(), unet(seed=1).state_dict(), unet(seed=2).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["change.weight"], other["change.weight"])
