"""Settings of the inpainters that run other projects' networks: any TorchScript or ONNX file, LaMa and MI-GAN."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, with_config

from inpaint_core.config import STRICT, Sha256
from inpaint_core.errors import ConfigError
from inpaint_core.inpainting.file_kinds import check_onnx, check_torchscript
from inpaint_core.inpainting.model import InpainterSettings, InpaintingModel, required_weights
from inpaint_core.networks.weights.load import WeightsReference
from inpaint_core.networks.weights.published import PUBLISHED, read_published

if TYPE_CHECKING:
    import torch

FileSha256 = Annotated[
    Sha256 | None, Field(description="Expected SHA-256 of the file, in hex; a file with another hash is refused.")
]

WindowSide = Annotated[
    int,
    Field(ge=32, le=4096, multiple_of=8, description="Input size of the network: side of the square window in pixels."),
]


class _TorchscriptFile(InpainterSettings):
    """Settings whose network is a TorchScript file."""

    kind: str
    weights: str
    sha256: str | None

    def weights_file(self) -> WeightsReference:
        """The TorchScript file; a published one is fetched."""
        fetch = partial(read_published, kind=self.kind) if self.weights in PUBLISHED else None
        return WeightsReference(self.weights, self.sha256, fetch)

    def check_weights(self, weights: bytes) -> None:
        """See `InpainterSettings.check_weights`: damage and kind."""
        check_torchscript(weights)


@with_config(STRICT)
@dataclass(frozen=True)
class TorchscriptConfig(_TorchscriptFile):
    """TorchScript network (image, mask) -> image, such as LaMa."""

    kind: Literal["torchscript"] = "torchscript"
    weights: Annotated[
        str,
        Field(
            min_length=1,
            description="TorchScript file: a path, a URI, or `lama` (see `inpainter.kind=lama`). Inputs: image (B, 3, H, W) and mask (B, 1, H, W) with 1 = fill; output: (B, 3, H, W).",
        ),
    ] = "big-lama.pt"
    sha256: FileSha256 = None
    window: WindowSide = 512
    value_range: Annotated[
        Literal["0..1", "-1..1"], Field(description="Range of the pixel values of the network's input and output.")
    ] = "0..1"

    def build(self, weights: bytes | None, *, device: torch.device, autocast: bool) -> InpaintingModel:
        """See `InpainterSettings.build`."""
        from inpaint_core.inpainting.external import ImageAndMask
        from inpaint_core.inpainting.torchscript import TorchscriptInpainter

        return TorchscriptInpainter(
            required_weights(weights, self.kind),
            ImageAndMask(self.value_range, self.value_range),
            window=self.window,
            device=device,
            autocast=autocast,
        )


@with_config(STRICT)
@dataclass(frozen=True)
class LamaConfig(_TorchscriptFile):
    """LaMa (Suvorov et al., WACV 2022), as published for IOPaint; fetched once."""

    kind: Literal["lama"] = "lama"
    weights: Annotated[
        str,
        Field(
            min_length=1,
            description="`lama`: the published `big-lama.pt` (MD5 checked), from the cache folder or, the first time, from its publisher. Or a path or URI of a TorchScript file of the same inputs and output: image (B, 3, H, W) in 0..1 and mask (B, 1, H, W) with 1 = fill; image (B, 3, H, W) in 0..1.",
        ),
    ] = "lama"
    sha256: FileSha256 = None
    window: WindowSide = 512

    def build(self, weights: bytes | None, *, device: torch.device, autocast: bool) -> InpaintingModel:
        """See `InpainterSettings.build`; runs in float32 always, since its Fourier transforms have no bfloat16."""
        from inpaint_core.inpainting.external import ImageAndMask
        from inpaint_core.inpainting.torchscript import TorchscriptInpainter

        signature = ImageAndMask("0..1", "0..1")
        return TorchscriptInpainter(
            required_weights(weights, self.kind), signature, window=self.window, device=device, autocast=False
        )


@with_config(STRICT)
@dataclass(frozen=True)
class MiganConfig(_TorchscriptFile):
    """MI-GAN (Sargsyan et al., ICCV 2023), as published for IOPaint; fetched once. Its windows have 512x512 pixels."""

    kind: Literal["migan"] = "migan"
    weights: Annotated[
        str,
        Field(
            min_length=1,
            description="`migan`: the published `migan_traced.pt` (MD5 checked), from the cache folder or, the first time, from its publisher. Or a path or URI of a TorchScript file of the same input and output: (B, 4, 512, 512), which is 0.5 - mask with 1 = fill, and the image in -1..1; image (B, 3, 512, 512) in -1..1.",
        ),
    ] = "migan"
    sha256: FileSha256 = None

    def build(self, weights: bytes | None, *, device: torch.device, autocast: bool) -> InpaintingModel:
        """See `InpainterSettings.build`; runs in float32 always, as it was traced."""
        from inpaint_core.inpainting.external import MaskAndImageChannels
        from inpaint_core.inpainting.torchscript import TorchscriptInpainter

        return TorchscriptInpainter(
            required_weights(weights, self.kind), MaskAndImageChannels(), window=512, device=device, autocast=False
        )


@with_config(STRICT)
@dataclass(frozen=True)
class OnnxConfig(InpainterSettings):
    """ONNX network (image, mask) -> image, run by ONNX Runtime (extra `onnx`)."""

    added: ClassVar[tuple[str, ...]] = ("mask_range", "masked_pixels")
    kind: Literal["onnx"] = "onnx"
    weights: Annotated[
        str,
        Field(
            min_length=1,
            description="ONNX file that contains its tensors: a path or a URI. Inputs: image (B, 3, H, W) and mask (B, 1, H, W), identified by channels, names or order; first output: (B, 3, H, W).",
        ),
    ] = "inpainter.onnx"
    sha256: FileSha256 = None
    window: Annotated[
        int | None,
        Field(
            ge=32,
            le=4096,
            description="Input size of the network: side of the square window in pixels. null: the fixed size of the network, or 512 if it accepts any.",
        ),
    ] = None
    value_range: Annotated[
        Literal["0..1", "-1..1", "0..255"], Field(description="Range of the pixel values of the network's input.")
    ] = "0..1"
    output_range: Annotated[
        Literal["0..1", "-1..1", "0..255"] | None,
        Field(description="Range of the pixel values of the network's output; null: that of its input."),
    ] = None
    mask_range: Annotated[
        Literal["0..1", "1..0", "0..255", "255..0"],
        Field(description="Values of known and of masked pixels in the network's mask; `255..0`: 0 = fill."),
    ] = "0..1"
    masked_pixels: Annotated[
        Literal["zero", "smooth"],
        Field(
            description="Values of the network's input image under the mask. `zero`: 0; `smooth`: a smooth continuation of the surroundings, for networks that blend their result with the input image and would show its outline."
        ),
    ] = "zero"

    def weights_file(self) -> WeightsReference:
        """The ONNX file."""
        return WeightsReference(self.weights, self.sha256)

    def check_weights(self, weights: bytes) -> None:
        """See `InpainterSettings.check_weights`: damage and kind."""
        check_onnx(weights)

    def build(self, weights: bytes | None, *, device: torch.device, autocast: bool) -> InpaintingModel:
        """See `InpainterSettings.build`; the precision is that of the file, whatever `autocast` says.

        Raises:
            ConfigError: ONNX Runtime is not installed.
            WeightsError: see `InpainterSettings.build`.
        """
        data = required_weights(weights, self.kind)
        try:
            from inpaint_core.inpainting.onnx import OnnxInpainter
        except ImportError as error:
            if (error.name or "").partition(".")[0] != "onnxruntime":
                raise
            raise ConfigError(
                f"inpainter.kind=onnx: onnxruntime cannot be imported ({error}); run: pip install 'inpaint-core[onnx]'"
            ) from error
        return OnnxInpainter(self, data, device=device)
