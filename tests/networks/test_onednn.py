"""Prepared convolutions against torch's own in float64."""

from typing import Any

import pytest
import torch
from torch import nn

from inpaint_core.networks.onednn import PreparedConvolution, PreparedMatrix, can_prepare, has_kernel

CPU = torch.device("cpu")
GEOMETRIES: list[dict[str, Any]] = [
    {"kernel_size": 1},
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 3, "padding": 1, "stride": 2},
    {"kernel_size": 3, "padding": 2, "dilation": 2, "bias": False},
    {"kernel_size": (1, 5), "padding": (0, 2), "groups": 4},
    {"kernel_size": 3, "padding": 1, "groups": 16},
]

pytestmark = pytest.mark.skipif(not can_prepare(CPU, torch.float32), reason="not a CPU with oneDNN's kernels")


@pytest.mark.parametrize("activation", [nn.Identity(), nn.SiLU(), nn.ReLU()], ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_a_prepared_convolution_gives_what_torch_gives(geometry: dict[str, Any], activation: nn.Module) -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(16, 32, **geometry)
    maps = torch.randn(2, 16, 19, 23)
    with torch.inference_mode():
        exact = activation(convolution.double()(maps.double()))
        prepared = PreparedConvolution(convolution.float(), activation, torch.float32)
        made = prepared(maps)
    assert made.dtype == torch.float32
    assert made.shape == exact.shape
    assert (made - exact).abs().max() < 1e-5


@pytest.mark.skipif(not can_prepare(CPU, torch.bfloat16), reason="no bfloat16 in oneDNN on this CPU")
def test_bfloat16_rounds_what_goes_in_and_comes_out_alone() -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(64, 32, 3, padding=1)
    maps = torch.randn(1, 64, 16, 16)
    with torch.inference_mode():
        rounded = nn.Conv2d(64, 32, 3, padding=1).double()
        rounded.weight.copy_(convolution.weight.bfloat16())
        assert rounded.bias is not None
        assert convolution.bias is not None
        rounded.bias.copy_(convolution.bias.bfloat16())
        exact = nn.functional.silu(rounded(maps.bfloat16().double()))
        for result in (torch.bfloat16, torch.float32):
            made = PreparedConvolution(convolution, nn.SiLU(), torch.bfloat16, result)(maps)
            assert made.dtype == result
            # bfloat16 has 8 significant bits.
            assert ((made.double() - exact).abs() <= 2**-8 * exact.abs() + 1e-4).all()


def test_views_are_taken_and_nothing_is_changed() -> None:
    convolution = nn.Conv2d(8, 8, 3, padding=1)
    maps = torch.randn(1, 16, 8, 8).contiguous(memory_format=torch.channels_last)
    before = maps.clone()
    with torch.inference_mode():
        second = maps.chunk(2, 1)[1]
        made = PreparedConvolution(convolution, nn.Identity(), torch.float32)(second)
        assert torch.allclose(made, convolution(second), atol=1e-5)
    assert torch.equal(maps, before)


def test_what_has_no_kernel() -> None:
    assert has_kernel(nn.Conv2d(3, 3, 3), nn.SiLU())
    assert not has_kernel(nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect"), nn.SiLU())
    assert not has_kernel(nn.Conv2d(3, 3, 3, padding="same"), nn.SiLU())
    assert not has_kernel(nn.ConvTranspose2d(3, 3, 3), nn.SiLU())
    assert not has_kernel(nn.Conv2d(3, 3, 3), nn.Tanh())
    assert not can_prepare(torch.device("cuda"), torch.float32)


def test_products_of_matrices_are_of_float32() -> None:
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(37, 42, generator=generator) * 1000
    right = torch.randn(101, 42, generator=generator) * 1000
    exact = left.double() @ right.double().T
    prepared = PreparedMatrix(right)
    for rows in (37, 5, 1):
        made = prepared.times(left[:rows])
        assert made.shape == (rows, 101)
        # float32 has 24 significant bits, bfloat16 would have 8.
        assert (made - exact[:rows]).abs().max() < 1e-6 * 42 * 1000**2
