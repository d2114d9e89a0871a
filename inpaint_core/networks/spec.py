"""Specification of a generator, as in its config and its checkpoint. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, with_config

from inpaint_core.config import STRICT

IMAGE_SIZE = 128
"""Side in pixels of the square image that a generator is given."""

HOLE_SIZE = 64
"""Side in pixels of the square, in the middle of the image, that a `center` generator predicts."""

OVERLAP = 4
"""A `center` generator is shown this many pixels of the predicted square on each side, so that it continues them."""


@with_config(STRICT)
@dataclass(frozen=True)
class ContextEncoderSpec:
    """Context Encoder: encoder and decoder around a 1x1 bottleneck (Pathak et al. 2016)."""

    kind: Literal["context_encoder"] = "context_encoder"
    output: Annotated[
        Literal["center", "full"],
        Field(
            description="Predicted area. `center`: the central 64x64; `full`: the whole 128x128 image, for any mask."
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
    width: Annotated[
        int, Field(ge=1, description="Channels of the largest feature maps; the others have 2, 4 or 8 times as many.")
    ] = 64
    blocks: Annotated[
        int,
        Field(ge=0, le=16, description="Number of residual blocks with dilated convolutions at the 8x8 bottleneck."),
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
