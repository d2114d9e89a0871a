"""Settings of the inpainters: one dataclass a kind (other projects' networks: `external_config`), their union, and how windows are
cut and joined."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, with_config

from inpaint_core.config import STRICT, Fraction
from inpaint_core.inpainting.external_config import LamaConfig, MiganConfig, OnnxConfig, TorchscriptConfig
from inpaint_core.inpainting.model import InpainterSettings, InpaintingModel, required_weights
from inpaint_core.networks.weights.load import CheckpointSha256, WeightsReference
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
    sha256: CheckpointSha256 = None
    detail: Annotated[
        Fraction,
        Field(
            description="Share of patch-based detail. 1: patches of the photograph, guided by the network's prediction; looks best. 0: the network's smooth prediction alone; lowest mean error and fastest. Values between blend the two."
        ),
    ] = 1.0

    @property
    def result_version(self) -> int:
        """See `InpainterSettings.result_version`: 1 with patches, which follow straight edges since then."""
        return 1 if self.detail > 0 else 0

    def weights_file(self) -> WeightsReference:
        """The checkpoint."""
        return WeightsReference(self.weights, self.sha256)

    def check_weights(self, weights: bytes) -> None:
        """See `InpainterSettings.check_weights`: damage, kind and specification."""
        from inpaint_core.networks.weights.generator_header import check_generator

        check_generator(weights)

    def build(self, weights: bytes | None, *, device: torch.device, autocast: bool) -> InpaintingModel:
        """See `InpainterSettings.build`; its fills are enlarged with patches of the photograph."""
        from inpaint_core.inpainting.enlarge import PatchEnlarger
        from inpaint_core.inpainting.generator import GeneratorInpainter

        network = GeneratorInpainter(required_weights(weights, self.kind), device=device, autocast=autocast)
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


InpainterConfig = Annotated[
    GeneratorConfig | OpencvConfig | TorchscriptConfig | LamaConfig | MiganConfig | OnnxConfig,
    Field(discriminator="kind"),
]


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
    windows_per_batch: Annotated[
        int,
        Field(ge=1, le=1024, description="Maximum number of windows per forward pass; on CPUs they are of one image."),
    ] = 16
