"""What a generator is built from: its config, and what its checkpoint says of it. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, with_config

from inpaint_core.config import STRICT

IMAGE_SIZE = 128
"""Side in pixels of the square image that a generator is given."""


@with_config(STRICT)
@dataclass(frozen=True)
class ContextEncoderSpec:
    """An encoder and a decoder around a 1x1 bottleneck (Pathak et al. 2016)."""

    kind: Literal["context_encoder"] = "context_encoder"
    output: Annotated[
        Literal["center", "full"],
        Field(description="`center`: predicts the middle 64x64; `full`: the whole 128x128 image, for any mask."),
    ] = "center"
    bottleneck: Annotated[int, Field(ge=1, description="Channels of the 1x1 bottleneck.")] = 4000
    width: Annotated[
        int, Field(ge=1, description="Channels of the widest feature maps; the others are 1, 2, 4, 8 times as many.")
    ] = 64


@with_config(STRICT)
@dataclass(frozen=True)
class UnetSpec:
    """An encoder and a decoder with connections between maps of one size (Ronneberger et al. 2015), for any mask."""

    kind: Literal["unet"] = "unet"
    width: Annotated[
        int, Field(ge=1, description="Channels of the widest feature maps; the others are 2, 4, 8 times as many.")
    ] = 64
    blocks: Annotated[
        int, Field(ge=0, le=16, description="Residual blocks of dilated convolutions on the 8x8 maps in the middle.")
    ] = 2
    gated: Annotated[
        bool,
        Field(
            description="Whether each convolution has a gate, which learns where to let it through (Yu et al. 2019)."
        ),
    ] = False

    @property
    def output(self) -> Literal["full"]:
        """As of a Context Encoder that predicts the whole image."""
        return "full"


GeneratorSpec = Annotated[ContextEncoderSpec | UnetSpec, Field(discriminator="kind")]
