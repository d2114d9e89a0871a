"""Settings of the inpainters: one dataclass a kind, their union, and how windows are cut and joined."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, with_config

from inpaint_core.config import STRICT, Fraction, Sha256
from inpaint_core.networks.weights.pretrained import INPAINTER


@with_config(STRICT)
@dataclass(frozen=True)
class GeneratorConfig:
    """A network trained by this project: `inpaint train`."""

    kind: Literal["generator"] = "generator"
    weights: Annotated[
        str,
        Field(
            min_length=1,
            description="A `.safetensors` checkpoint of this project: path or URI, or the bare name of the one that comes with it.",
        ),
    ] = INPAINTER
    sha256: Annotated[Sha256 | None, Field(description="The checkpoint's SHA-256 in hex; another file is refused.")] = (
        None
    )
    detail: Annotated[
        Fraction,
        Field(
            description="1: the hole is filled with patches of the photograph, led by the network, which looks best; 0: with the network's "
            "own soft fill, which is nearest to the truth on average, and fastest. Between: a mixture."
        ),
    ] = 1.0


@with_config(STRICT)
@dataclass(frozen=True)
class OpencvConfig:
    """A classical fill that needs no weights."""

    kind: Literal["opencv"] = "opencv"
    method: Annotated[Literal["telea", "navier_stokes"], Field(description="Telea 2004, or Bertalmio 2001.")] = "telea"
    radius: Annotated[float, Field(gt=0, le=100, description="Radius of the neighbourhood of a filled pixel.")] = 3.0
    window: Annotated[
        int,
        Field(
            ge=64,
            le=8192,
            description="A window whose longer side is larger than this is filled at this size and brought back.",
        ),
    ] = 768


@with_config(STRICT)
@dataclass(frozen=True)
class TorchscriptConfig:
    """Any scripted network (image, mask) -> image, such as LaMa's."""

    kind: Literal["torchscript"] = "torchscript"
    weights: Annotated[
        str,
        Field(
            min_length=1,
            description="A TorchScript file: path or URI. It takes (B, 3, H, W) and (B, 1, H, W) with 1 = fill, and gives (B, 3, H, W).",
        ),
    ] = "big-lama.pt"
    sha256: Annotated[Sha256 | None, Field(description="The file's SHA-256 in hex; another file is refused.")] = None
    window: Annotated[
        int,
        Field(
            ge=32, le=4096, multiple_of=8, description="Side of the square window that the network is given, in pixels."
        ),
    ] = 512
    value_range: Annotated[
        Literal["0..1", "-1..1"], Field(description="Range of the pixel values the network takes and gives.")
    ] = "0..1"


InpainterConfig = Annotated[GeneratorConfig | OpencvConfig | TorchscriptConfig, Field(discriminator="kind")]


@with_config(STRICT)
@dataclass(frozen=True)
class FillConfig:
    """How windows are cut around the mask and how the fill is joined to the photograph."""

    context: Annotated[
        float,
        Field(
            ge=1.0,
            le=8.0,
            description="Side of a window as a multiple of the masked part's longer side (>= 2 for `center` networks); less where it would reach beyond the image and 1.5 will do.",
        ),
    ] = 2.0
    blend: Annotated[
        Fraction,
        Field(
            description="Part of the grown ring, from its outer edge inwards, over which fill and photograph are mixed."
        ),
    ] = 0.5
    windows_per_batch: Annotated[int, Field(ge=1, le=1024, description="Windows in one forward pass.")] = 16
