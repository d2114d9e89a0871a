"""Generators as safetensors files, which hold what rebuilds them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from inpaint_core.config import to_earlier_tree
from inpaint_core.errors import WeightsError
from inpaint_core.networks.build import empty_generator
from inpaint_core.networks.generator import Generator
from inpaint_core.networks.spec import GeneratorSpec
from inpaint_core.networks.weights.generator_header import (
    SPEC_KEY,
    not_finite,
    not_safetensors,
    read_metadata,
    read_spec,
)

CONFIG_KEY = "inpaint_core.config"
"""In a checkpoint's metadata: the config of its training, as JSON."""
TRAINING_KEY = "inpaint_core.training"
"""In a checkpoint's metadata: the row of its epoch, as JSON."""

_LATER_KEYS = ("size", "middle", "upsampling")
"""Keys of a spec that were added later: left out at their defaults, so that earlier versions read the file."""


def save_generator(
    path_or_file: str | os.PathLike[str] | BinaryIO,
    network: Generator,
    spec: GeneratorSpec,
    extra: Mapping[str, str],
) -> None:
    """Write a generator and what rebuilds it as one safetensors file.

    Args:
        path_or_file: a local path (written under another name first and renamed, so that no half file is left under
            it), or a file open for writing bytes.
        network: its tensors are written with their own dtype: pass `network.half()` for a file of half the size.
        spec: what `network` was built from.
        extra: more to keep in the file's metadata, such as the resolved config of the training.

    Raises:
        ValueError: `extra` has the key that the spec is stored under.
    """
    if SPEC_KEY in extra:
        raise ValueError(f"the metadata key {SPEC_KEY!r} is reserved: rename it in `extra`")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    described = to_earlier_tree(spec, _LATER_KEYS)
    data = safetensors.torch.save(tensors, {**extra, SPEC_KEY: json.dumps(described)})
    if isinstance(path_or_file, str | os.PathLike):
        path = Path(path_or_file)
        partial = path.with_name(path.name + ".partial")
        partial.write_bytes(data)
        partial.replace(path)
    else:
        path_or_file.write(data)


def load_generator(data: bytes) -> tuple[Generator, GeneratorSpec]:
    """The network of a checkpoint that `save_generator` wrote, in float32 on the CPU, in evaluation mode, and its spec.

    Args:
        data: the content of the file. Tensors of lower precision are converted to float32.

    Raises:
        WeightsError: the file is not safetensors, is not a generator of this project, lacks tensors, or holds values that are not
            finite.
    """
    try:
        stored = safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise not_safetensors(str(error)) from error
    spec = read_spec(read_metadata(data))
    tensors = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in stored.items()}
    network = empty_generator(spec)
    _check_tensors({name: tensor.shape for name, tensor in network.state_dict().items()}, tensors)
    for name, tensor in stored.items():
        if not torch.isfinite(tensor).all():
            raise not_finite(name)
    network.load_state_dict(tensors, assign=True)
    return network.eval(), spec


def _check_tensors(expected: Mapping[str, torch.Size], tensors: Mapping[str, Tensor]) -> None:
    missing = sorted(expected.keys() - tensors.keys())
    unknown = sorted(tensors.keys() - expected.keys())
    misshapen = [name for name in expected if name in tensors and tensors[name].shape != expected[name]]
    if missing:
        fault = f"lacks {_some(missing)}"
    elif unknown:
        fault = f"has tensors that its network does not know: {_some(unknown)}"
    elif misshapen:
        name = misshapen[0]
        fault = f"has {name} of shape {tuple(tensors[name].shape)} where its spec says {tuple(expected[name])}"
    else:
        return
    raise WeightsError(f"The checkpoint {fault}: its tensors do not match its spec.")


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
