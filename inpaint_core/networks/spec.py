"""Specification of a generator, as in its config and its checkpoint. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, with_config

from inpaint_core.config import STRICT

IMAGE_SIZE = 128
"""Side in pixels of the square image that a generator is given, where nothing else is said."""


def _number(value: object) -> object:
    """A number on a command line is text, which pydantic takes for a number, but not for a literal one."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


OneSize = Annotated[Literal[128, 256, 512], BeforeValidator(_number)]
"""Side in pixels of the square images that networks fill."""

Size = Annotated[
    OneSize,
    Field(
        description="Side in pixels of the square images that the network fills. `reading.stored_size` must not be smaller."
    ),
]


def hole_size(size: int) -> int:
    """Side in pixels of the square, in the middle of images of `size` pixels a side, that a `center` generator predicts."""
    return size // 2


def overlap(size: int) -> int:
    """A `center` generator is shown this many pixels of the predicted square on each side, so that it continues them.

    4 of 128, as in the code of Pathak et al., and the same part of larger images.
    """
    return size // 32


@with_config(STRICT)
@dataclass(frozen=True)
class ContextEncoderSpec:
    """Context Encoder: encoder and decoder around a 1x1 bottleneck (Pathak et al. 2016)."""

    kind: Literal["context_encoder"] = "context_encoder"
    size: Size = 128
    output: Annotated[
        Literal["center", "full"],
        Field(
            description="Predicted area. `center`: the central square of half the side; `full`: the whole image, for any mask."
        ),
    ] = "center"
    bottleneck: Annotated[int, Field(ge=1, description="Channels of the 1x1 bottleneck.")] = 4000
    width: Annotated[
        int,
        Field(ge=1, description="Channels of the largest feature maps; the others have 1, 2, 4 or 8 times as many."),
    ] = 64


@with_config(STRICT)
@dataclass(frozen=True)
class UnetSpec:
    """U-Net: encoder and decoder with skip connections (Ronneberger et al. 2015), for any mask."""

    kind: Literal["unet"] = "unet"
    size: Size = 128
    width: Annotated[
        int, Field(ge=1, description="Channels of the largest feature maps; the others have 2, 4 or 8 times as many.")
    ] = 64
    blocks: Annotated[
        int,
        Field(
            ge=0,
            le=16,
            description="Number of residual blocks with dilated convolutions at the bottleneck (8x8 at 128 pixels, 16x16 at 256).",
        ),
    ] = 2
    gated: Annotated[
        bool,
        Field(description="Gated convolutions (Yu et al. 2019)."),
    ] = False
    middle: Annotated[
        Literal["dilated", "fourier"],
        Field(
            description="Blocks at the bottleneck: `dilated`; `fourier`: every second one is a Fourier convolution, which sees the whole image (Chi et al. 2020)."
        ),
    ] = "dilated"
    upsampling: Annotated[
        Literal["transposed", "nearest"],
        Field(
            description="Decoder: `transposed` 4x4 convolutions, or `nearest` enlargement and 3x3 convolutions, which leave no grid of dots (Odena et al. 2016)."
        ),
    ] = "transposed"

    @property
    def output(self) -> Literal["full"]:
        """As of a Context Encoder that predicts the whole image."""
        return "full"


GeneratorSpec = Annotated[ContextEncoderSpec | UnetSpec, Field(discriminator="kind")]
