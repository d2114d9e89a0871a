"""Settings of the inpainters: one dataclass a kind, their union, and how windows are cut and joined."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, with_config

from inpaint_core.config import STRICT, Fraction, Sha256
from inpaint_core.errors import WeightsError
from inpaint_core.inpainting.model import InpainterSettings, InpaintingModel
from inpaint_core.networks.weights.load import WeightsReference
from inpaint_core.networks.weights.pretrained import INPAINTER

if TYPE_CHECKING:
    import torch


@with_config(STRICT)
@dataclass(frozen=True)
class GeneratorConfig(InpainterSettings):
    """Generator network trained by this project (`inpaint train`)."""

    kind: Literal["generator"] = "generator"
    weights: Annotated[
        str,
        Field(
            min_length=1,
            description="`.safetensors` checkpoint of this project: a path, a URI, or the name of the one shipped with it.",
        ),
    ] = INPAINTER
    sha256: Annotated[
        Sha256 | None,
        Field(description="Expected SHA-256 of the checkpoint, in hex; a file with another hash is refused."),
    ] = None
    detail: Annotated[
        Fraction,
        Field(
            description="Share of patch-based detail. 1: patches of the photograph, guided by the network's prediction; looks best. 0: the network's smooth prediction alone; lowest mean error and fastest. Values between blend the two."
        ),
    ] = 1.0

    def weights_file(self) -> WeightsReference:
        """The checkpoint."""
        return WeightsReference(self.weights, self.sha256)

    def build(self, weights: bytes | None, *, device: torch.device, autocast: bool) -> InpaintingModel:
        """See `InpainterSettings.build`; its fills are enlarged with patches of the photograph."""
        from inpaint_core.inpainting.enlarge import PatchEnlarger
        from inpaint_core.inpainting.generator import GeneratorInpainter

        network = GeneratorInpainter(_required(weights, self.kind), device=device, autocast=autocast)
        return PatchEnlarger(network, self.detail, device)


@with_config(STRICT)
@dataclass(frozen=True)
class OpencvConfig(InpainterSettings):
    """Classical fill of OpenCV, without weights."""

    kind: Literal["opencv"] = "opencv"
    method: Annotated[
        Literal["telea", "navier_stokes"],
        Field(description="`telea`: fast marching (Telea 2004); `navier_stokes`: Bertalmio et al. 2001."),
    ] = "telea"
    radius: Annotated[
        float,
        Field(gt=0, le=100, description="Radius in pixels of the neighbourhood that a filled pixel is computed from."),
    ] = 3.0
    window: Annotated[
        int,
        Field(
            ge=64,
            le=8192,
            description="Largest side of a window in pixels; a larger window is filled at this size and resized back.",
        ),
    ] = 768

    def build(self, weights: bytes | None, *, device: torch.device, autocast: bool) -> InpaintingModel:
        """See `InpainterSettings.build`; no argument makes a difference."""
        from inpaint_core.inpainting.opencv import OpencvInpainter

        return OpencvInpainter(self)


@with_config(STRICT)
@dataclass(frozen=True)
class TorchscriptConfig(InpainterSettings):
    """TorchScript network (image, mask) -> image, such as LaMa."""

    kind: Literal["torchscript"] = "torchscript"
    weights: Annotated[
        str,
        Field(
            min_length=1,
            description="TorchScript file: a path or a URI. Inputs: image (B, 3, H, W) and mask (B, 1, H, W) with 1 = fill; output: (B, 3, H, W).",
        ),
    ] = "big-lama.pt"
    sha256: Annotated[
        Sha256 | None, Field(description="Expected SHA-256 of the file, in hex; a file with another hash is refused.")
    ] = None
    window: Annotated[
        int,
        Field(
            ge=32, le=4096, multiple_of=8, description="Input size of the network: side of the square window in pixels."
        ),
    ] = 512
    value_range: Annotated[
        Literal["0..1", "-1..1"], Field(description="Range of the pixel values of the network's input and output.")
    ] = "0..1"

    def weights_file(self) -> WeightsReference:
        """The TorchScript file."""
        return WeightsReference(self.weights, self.sha256)

    def build(self, weights: bytes | None, *, device: torch.device, autocast: bool) -> InpaintingModel:
        """See `InpainterSettings.build`."""
        from inpaint_core.inpainting.torchscript import TorchscriptInpainter

        return TorchscriptInpainter(self, _required(weights, self.kind), device=device, autocast=autocast)


def _required(weights: bytes | None, kind: str) -> bytes:
    if weights is None:
        raise WeightsError(f"The {kind} inpainter needs weights: set inpainter.weights to a path or URI.")
    return weights


InpainterConfig = Annotated[GeneratorConfig | OpencvConfig | TorchscriptConfig, Field(discriminator="kind")]


@with_config(STRICT)
@dataclass(frozen=True)
class FillConfig:
    """Windows around the mask, and blending of the fill into the photograph."""

    context: Annotated[
        float,
        Field(
            ge=1.0,
            le=8.0,
            description="Side of a window as a multiple of the longer side of the masked part (at least 2 for `center` networks). Smaller, down to 1.5, where the window would extend beyond the image.",
        ),
    ] = 2.0
    blend: Annotated[
        Fraction,
        Field(
            description="Fraction of the dilated ring, from its outer edge inwards, in which fill and photograph are blended."
        ),
    ] = 0.5
    windows_per_batch: Annotated[int, Field(ge=1, le=1024, description="Windows per forward pass.")] = 16
