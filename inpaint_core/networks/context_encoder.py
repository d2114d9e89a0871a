"""The generator of the Context Encoder (Pathak et al., "Context Encoders", CVPR 2016), and its checkpoints."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

import safetensors
import safetensors.torch
import torch
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from torch import Tensor, nn

from inpaint_core.errors import WeightsError

IMAGE_SIZE = 128
"""Side in pixels of the square image that the generator is given."""

HOLE_SIZE = 64
"""Side in pixels of the square, in the middle of the image, that a `center` generator predicts."""

OVERLAP = 4
"""A `center` generator is shown this many pixels of the predicted square on each side, so that it continues them."""

_BEGIN = (IMAGE_SIZE - HOLE_SIZE) // 2

PREDICTED = slice(_BEGIN, _BEGIN + HOLE_SIZE)
"""Rows, and columns, of the square that a `center` generator predicts."""

_HIDDEN = slice(PREDICTED.start + OVERLAP, PREDICTED.stop - OVERLAP)

CHANNEL_MEANS = (117 / 255, 104 / 255, 123 / 255)
"""What a hole is filled with before the generator sees it: R, G, B in [0, 1] (the constants of the paper's code)."""

_SPEC_KEY = "inpaint_core.network"


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class ContextEncoderSpec:
    """What a generator is built from; stored in its checkpoint."""

    kind: Literal["context_encoder"] = "context_encoder"
    output: Annotated[
        Literal["center", "full"],
        Field(description="`center`: the middle 64x64 square is predicted; `full`: the whole image, for any mask."),
    ] = "center"
    bottleneck: Annotated[int, Field(ge=1, description="Channels of the 1x1 bottleneck.")] = 4000
    width: Annotated[
        int, Field(ge=1, description="Channels of the widest feature maps; the others are 1, 2, 4, 8 times as many.")
    ] = 64


_SPEC = TypeAdapter(ContextEncoderSpec)


class ContextEncoder(nn.Module):
    """Generator: (B, 3, 128, 128) in [-1, 1], hole filled with `hole_fill`, to its prediction in [-1, 1].

    The prediction is (B, 3, 64, 64), the middle of the image, for `center`, and (B, 3, 128, 128) for `full`.
    Convolutions have a bias only where no BatchNorm follows, which would take it away again.

    Build one for training with `build_generator`, which draws its weights from a generator of your own.
    """

    def __init__(self, spec: ContextEncoderSpec) -> None:
        super().__init__()
        width = spec.width
        self.encoder = nn.Sequential(
            nn.Conv2d(3, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
            *_down(width, width),
            *_down(width, 2 * width),
            *_down(2 * width, 4 * width),
            *_down(4 * width, 8 * width),
            nn.Conv2d(8 * width, spec.bottleneck, 4, bias=False),
            nn.BatchNorm2d(spec.bottleneck),
            nn.LeakyReLU(0.2, inplace=True),
        )
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(spec.bottleneck, 8 * width, 4, bias=False),
            nn.BatchNorm2d(8 * width),
            nn.ReLU(inplace=True),
            *_up(8 * width, 4 * width),
            *_up(4 * width, 2 * width),
            *_up(2 * width, width),
            *(_up(width, width) if spec.output == "full" else ()),
            nn.ConvTranspose2d(width, 3, 4, stride=2, padding=1),
            nn.Tanh(),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Prediction for images whose holes are filled already. Shapes and ranges: see the class."""
        prediction: Tensor = self.decoder(self.encoder(images))
        return prediction


def _down(channels_in: int, channels_out: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(channels_in, channels_out, 4, stride=2, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(channels_out), nn.LeakyReLU(0.2, inplace=True)


def _up(channels_in: int, channels_out: int) -> tuple[nn.Module, ...]:
    convolution = nn.ConvTranspose2d(channels_in, channels_out, 4, stride=2, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True)


def hole_fill(like: Tensor) -> Tensor:
    """`CHANNEL_MEANS` on the scale [-1, 1], (1, 3, 1, 1) with the dtype and device of `like`."""
    means = torch.tensor(CHANNEL_MEANS, dtype=like.dtype, device=like.device)
    return (2 * means - 1).view(1, 3, 1, 1)


def hidden(images: Tensor, masks: Tensor | None) -> Tensor:
    """What a generator is shown: images (B, 3, 128, 128) in [-1, 1] with their holes filled by the channel means.

    Args:
        images: the photographs; not changed.
        masks: (B, 1, 128, 128) bool, True = hole, for `full`; None for `center`, which knows its hole: the square that it
            predicts less the overlap.
    """
    if masks is not None:
        return torch.where(masks, hole_fill(images), images)
    shown = images.clone()
    shown[:, :, _HIDDEN, _HIDDEN] = hole_fill(images)
    return shown


def initialise(network: nn.Module, generator: torch.Generator) -> None:
    """Draw new weights in place: convolutions N(0, 0.02), BatchNorm weights N(1, 0.02), biases 0 (Radford et al. 2016).

    Running statistics are reset. `generator` has to be on the device of the network.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            nn.init.normal_(module.weight, 1.0, 0.02, generator=generator)
            nn.init.zeros_(module.bias)


def build_generator(spec: ContextEncoderSpec, generator: torch.Generator) -> ContextEncoder:
    """A generator with new weights drawn from `generator`, on its device, in training mode."""
    # Built without memory first: the constructors of the layers would draw from the global random state.
    with torch.device("meta"):
        network = ContextEncoder(spec)
    network.to_empty(device=generator.device)
    initialise(network, generator)
    return network


def save_generator(
    path_or_file: str | os.PathLike[str] | BinaryIO,
    network: ContextEncoder,
    spec: ContextEncoderSpec,
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
    if _SPEC_KEY in extra:
        raise ValueError(f"the metadata key {_SPEC_KEY!r} is the network's own: rename it in `extra`")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    data = safetensors.torch.save(tensors, {**extra, _SPEC_KEY: json.dumps(asdict(spec))})
    if isinstance(path_or_file, str | os.PathLike):
        path = Path(path_or_file)
        partial = path.with_name(path.name + ".partial")
        partial.write_bytes(data)
        partial.replace(path)
    else:
        path_or_file.write(data)


def load_generator(data: bytes) -> tuple[ContextEncoder, ContextEncoderSpec]:
    """The network of a checkpoint that `save_generator` wrote, in float32 on the CPU, in evaluation mode, and its spec.

    Args:
        data: the content of the file. Tensors of lower precision are converted to float32.

    Raises:
        WeightsError: the file is not safetensors, is not a generator of this project, or lacks tensors.
    """
    try:
        stored = safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise _not_safetensors(str(error)) from error
    spec = _read_spec(read_metadata(data))
    tensors = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in stored.items()}
    # Without memory and without drawing weights, which would take longer than to read the file.
    with torch.device("meta"):
        network = ContextEncoder(spec)
    _check_tensors({name: tensor.shape for name, tensor in network.state_dict().items()}, tensors)
    network.load_state_dict(tensors, assign=True)
    return network.eval(), spec


def read_metadata(data: bytes) -> dict[str, str]:
    """The metadata of a safetensors file: the spec and what was passed as `extra`.

    Raises:
        WeightsError: the file is not safetensors.
    """
    # The library gives the metadata of a path only. The format: 8 bytes with the length of the JSON header, the header.
    length = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + length])
    except ValueError as error:
        raise _not_safetensors("no JSON header") from error
    if not isinstance(header, dict):
        raise _not_safetensors("no JSON header")
    metadata: dict[str, str] = header.get("__metadata__", {})
    return metadata


def _not_safetensors(reason: str) -> WeightsError:
    return WeightsError(
        f"The weights are not a whole safetensors file ({reason}): a Context Encoder needs the `.safetensors` file "
        "that this project's training wrote."
    )


def _read_spec(metadata: Mapping[str, str]) -> ContextEncoderSpec:
    if _SPEC_KEY not in metadata:
        raise WeightsError(
            f"The safetensors file has no {_SPEC_KEY!r} in its metadata, which says what network it is of: it was not "
            "written by this project's training."
        )
    try:
        return _SPEC.validate_json(metadata[_SPEC_KEY])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise WeightsError(
            f"The checkpoint is of a network that this version cannot build: its spec {metadata[_SPEC_KEY]} is wrong"
            f"{' at ' + repr(where) if where else ''} ({first['msg']})."
        ) from error


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
    raise WeightsError(f"The checkpoint {fault}: its tensors and its spec do not belong together.")


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
