"""Convolutions and products of matrices prepared for oneDNN, torch's library of kernels for CPUs.

torch brings the weights of a convolution into oneDNN's layout in each call, under autocast after a conversion to bfloat16,
and an activation is a pass of its own. Here the layout is made once, and the activation is part of the kernel. The operators
are those that torch's compiler uses; no compiler is needed to call them.
"""

from __future__ import annotations

import platform

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_NAMES: dict[type[nn.Module], str] = {nn.Identity: "none", nn.SiLU: "swish", nn.ReLU: "relu"}


def can_prepare(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a device has these kernels for float32 or bfloat16: only CPUs of the x86 family were tried."""
    if device.type != "cpu" or platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    if not torch._C._has_mkldnn or not hasattr(torch.ops.mkldnn, "_convolution_pointwise"):
        return False
    return dtype == torch.float32 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def has_kernel(convolution: nn.Module, activation: nn.Module) -> bool:
    """Whether a convolution followed by an activation can become a `PreparedConvolution`."""
    return (
        type(convolution) is nn.Conv2d
        and convolution.padding_mode == "zeros"
        and not isinstance(convolution.padding, str)
        and type(activation) in _NAMES
    )


class PreparedConvolution(nn.Module):
    """A convolution and its activation, for inference.

    Args:
        convolution: for which `has_kernel` holds, with the activation; not changed, and not kept.
        activation: what follows it.
        dtype: what it computes in, float32 or bfloat16 (with sums in float32). Inputs of another dtype are converted.
        result: dtype of its results.
    """

    def __init__(
        self, convolution: nn.Conv2d, activation: nn.Module, dtype: torch.dtype, result: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.dtype = dtype
        self.result = result or dtype
        self._geometry = (
            list(convolution.padding),
            list(convolution.stride),
            list(convolution.dilation),
            convolution.groups,
        )
        self._activation = _NAMES[type(activation)]
        with torch.no_grad():
            weight = convolution.weight.detach().to(dtype).to_mkldnn()
            # No buffers: such a tensor is of oneDNN alone, and cannot be moved or saved.
            self._weight = torch._C._nn.mkldnn_reorder_conv2d_weight(weight, *self._geometry)
            self._bias = None if convolution.bias is None else convolution.bias.detach().to(dtype)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, channels, h, w) to the same of the convolution, the channels of a pixel together in memory."""
        maps = maps.to(self.dtype).contiguous(memory_format=torch.channels_last)
        made: Tensor = torch.ops.mkldnn._convolution_pointwise(
            maps, self._weight, self._bias, *self._geometry, self._activation, [], ""
        )
        return made.to(self.result)


_ROWS, _COLUMNS = 64, 256  # of products, rounded up to multiples: oneDNN makes a kernel for each size


class PreparedMatrix:
    """A matrix that others are multiplied by. torch's own product is MKL's, which takes twice as long on CPUs of AMD.

    Args:
        right: (n, d) float32, on any device; where oneDNN cannot be used, torch's product is.
    """

    def __init__(self, right: Tensor) -> None:
        self._count = len(right)
        self._prepared = can_prepare(right.device, torch.float32)
        if self._prepared:
            self._right = torch.ops.mkldnn._reorder_linear_weight(F.pad(right, (0, 0, 0, -len(right) % _COLUMNS)))
        else:
            self._right = right.T.contiguous()

    def times(self, left: Tensor) -> Tensor:
        """(m, n): the products of rows of `left` (m, d) float32 with those of the matrix."""
        if not self._prepared:
            return torch.mm(left, self._right)
        padded = F.pad(left, (0, 0, 0, -len(left) % _ROWS))
        made: Tensor = torch.ops.mkldnn._linear_pointwise(padded, self._right, None, "none", [], "")
        return made[: len(left), : self._count]
