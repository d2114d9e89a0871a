"""A network of ultralytics made ready for CPUs and for images without objects."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from inpaint_core.detection.checkpoints import Conv, DWConv, Proto
from inpaint_core.networks.onednn import PreparedConvolution, has_kernel


def prepare_convolutions(network: Any, dtype: torch.dtype) -> None:
    """Replace the convolutions of a fused network by prepared ones (`networks.onednn`).

    In bfloat16, backbone and neck pass bfloat16 on. The head, which runs outside of autocast, passes float32 on, and its
    last layers compute in it: those give box edges in input pixels, confidences, mask coefficients and prototypes. Only the
    layers before them compute in bfloat16.

    Args:
        network: on the CPU, in evaluation mode; changed.
        dtype: float32 or bfloat16.
    """
    *layers, head = network.model
    for layer in layers:
        _replace(layer, dtype, dtype)
    # A layer of the network itself carries where its input comes from.
    for index, layer in enumerate(layers):
        if (prepared := _prepared(layer, dtype, dtype)) is not None:
            for name in ("i", "f", "type", "np"):
                setattr(prepared, name, getattr(layer, name))
            network.model[index] = prepared
    _replace(head, dtype, torch.float32)
    if dtype == torch.float32:
        return
    for sequence in [module for module in head.modules() if isinstance(module, nn.Sequential)]:
        _end_in_float32(sequence)
    for module in head.modules():
        if isinstance(module, Proto):
            _prototypes_in_bfloat16(module)


def _replace(module: nn.Module, dtype: torch.dtype, result: torch.dtype) -> None:
    for name, child in module.named_children():
        prepared = _prepared(child, dtype, result)
        if prepared is None:
            _replace(child, dtype, result)
        else:
            setattr(module, name, prepared)


def _prepared(module: Any, dtype: torch.dtype, result: torch.dtype) -> PreparedConvolution | None:
    if type(module) in (Conv, DWConv) and not hasattr(module, "bn") and has_kernel(module.conv, module.act):
        return PreparedConvolution(module.conv, module.act, dtype, result)
    return None


def _end_in_float32(sequence: nn.Sequential) -> None:
    """Pass bfloat16 on within a branch of the head, whose last convolution computes in float32."""
    layers: list[Any] = list(sequence)
    identity = nn.Identity()
    if len(layers) > 1 and has_kernel(layers[-1], identity) and isinstance(layers[-2], PreparedConvolution):
        layers[-1] = sequence[-1] = PreparedConvolution(layers[-1], identity, torch.float32)
    for layer, following in pairwise(layers):
        if isinstance(layer, PreparedConvolution) and isinstance(following, PreparedConvolution):
            layer.result = layer.dtype


def _prototypes_in_bfloat16(prototypes: Any) -> None:
    if isinstance(prototypes.cv1, PreparedConvolution) and isinstance(prototypes.cv2, PreparedConvolution):
        prototypes.cv1.result = torch.bfloat16
        prototypes.upsample.to(torch.bfloat16)


class LaterPrototypes(nn.Module):
    """Stands for the prototypes in a head, and passes their features on: most images need no prototypes.

    Args:
        prototypes: the head's own layers, called by `of`.
    """

    def __init__(self, prototypes: nn.Module) -> None:
        super().__init__()
        self._prototypes = prototypes

    def forward(self, features: Tensor) -> Tensor:
        """The features (B, channels, h, w) themselves."""
        return features

    def of(self, features: Tensor) -> Tensor:
        """Prototypes (B, masks, 2 h, 2 w) of features."""
        made: Tensor = self._prototypes(features)
        return made


def prototypes_later(head: Any) -> LaterPrototypes | None:
    """Put prototypes off in a head that makes them of one map of features; None where it does not."""
    if type(getattr(head, "proto", None)) is not Proto:
        return None
    head.proto = later = LaterPrototypes(head.proto)
    return later
