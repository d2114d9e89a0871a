"""Networks of other projects on square windows: what they take and give, and how their fills are checked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, assert_never

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inpaint_core.errors import ImageError, Stage, WeightsError
from inpaint_core.images.tensors import from_network, to_network
from inpaint_core.networks.push_pull import smooth_fill

ValueRange = Literal["0..1", "-1..1", "0..255"]
"""Values of black and white in a network's images."""

MaskRange = Literal["0..1", "1..0", "0..255", "255..0"]
"""Values of known and of masked pixels in a network's masks."""

MaskedPixels = Literal["zero", "smooth"]
"""What a network's images hold under the mask: 0, or a smooth fill (`push_pull`)."""


class Signature(Protocol):
    """What a network takes and gives."""

    @property
    def takes(self) -> str:
        """Its inputs, for messages."""
        ...

    def inputs(self, pictures: Tensor, masked: Tensor) -> tuple[Tensor, ...]:
        """The network's inputs.

        Args:
            pictures: (B, 3, S, S) float32 in [-1, 1]; what it holds under the mask must not reach the network.
            masked: (B, 1, S, S) bool, True = fill.

        Returns:
            float32 tensors on the same device.
        """
        ...

    def pictures(self, output: Tensor) -> Tensor:
        """The network's output (B, 3, S, S), float32 in its own range, as one in [-1, 1]."""
        ...


@dataclass(frozen=True)
class ImageAndMask:
    """Two inputs: the image (B, 3, S, S) and the mask (B, 1, S, S).

    Args:
        given: range of the image that the network takes.
        made: range of the image that it gives.
        mask: values of known and of masked pixels in the mask that it takes.
        under: what the image holds under the mask.
    """

    given: ValueRange
    made: ValueRange
    mask: MaskRange = "0..1"
    under: MaskedPixels = "zero"
    takes: ClassVar[str] = "(image, mask)"

    def inputs(self, pictures: Tensor, masked: Tensor) -> tuple[Tensor, ...]:
        """See `Signature.inputs`."""
        known, filled = (float(value) for value in self.mask.split(".."))
        if self.under == "smooth":
            image = to_range(_smooth(pictures, masked), self.given)
        else:
            image = torch.where(masked, 0.0, to_range(pictures, self.given))
        return image, torch.where(masked, filled, known)

    def pictures(self, output: Tensor) -> Tensor:
        """See `Signature.pictures`."""
        return from_range(output, self.made)


@dataclass(frozen=True)
class MaskAndImageChannels:
    """MI-GAN's one input of four channels, (B, 4, S, S): 0.5 - mask, and the image in [-1, 1], zero under the mask.

    The mask is 1 = fill, so the first channel is -0.5 where it fills and 0.5 elsewhere. The output is in [-1, 1].
    """

    takes: ClassVar[str] = "one input of four channels, (0.5 - mask, image)"

    def inputs(self, pictures: Tensor, masked: Tensor) -> tuple[Tensor, ...]:
        """See `Signature.inputs`."""
        return (torch.cat((0.5 - masked.float(), torch.where(masked, 0.0, pictures)), dim=1),)

    def pictures(self, output: Tensor) -> Tensor:
        """See `Signature.pictures`."""
        return output


def _smooth(pictures: Tensor, masked: Tensor) -> Tensor:
    """Pictures (B, 3, S, S) with a smooth fill under the masks (B, 1, S, S)."""
    filled = [
        smooth_fill(picture.permute(1, 2, 0).cpu().numpy(), mask[0].cpu().numpy())
        for picture, mask in zip(pictures, masked, strict=True)
    ]
    return torch.from_numpy(np.stack(filled)).permute(0, 3, 1, 2).to(pictures.device)


def to_range(pictures: Tensor, values: ValueRange) -> Tensor:
    """Pictures in [-1, 1] in another range; those of 0..255 are whole numbers."""
    match values:
        case "0..1":
            return (pictures + 1) / 2
        case "-1..1":
            return pictures
        case "0..255":
            return ((pictures + 1) * 127.5).round()
        case _:
            assert_never(values)


def from_range(pictures: Tensor, values: ValueRange) -> Tensor:
    """Pictures in some range in [-1, 1]."""
    match values:
        case "0..1":
            return 2 * pictures - 1
        case "-1..1":
            return pictures
        case "0..255":
            return pictures / 127.5 - 1
        case _:
            assert_never(values)


class ExternalNetwork(ABC):
    """A network that fills square windows whole. A subclass loads it, calls `try_network`, and runs it.

    Args:
        name: what messages call it.
        signature: what it takes and gives.
        window: side of its windows in pixels.
        device: where its inputs are made.
        failures: what `run` raises for a network that does not take its inputs.
        remedy: what to try if it fails, for messages; may be empty.
    """

    central = False

    def __init__(
        self,
        name: str,
        signature: Signature,
        *,
        window: int,
        device: torch.device,
        failures: tuple[type[Exception], ...],
        remedy: str = "",
    ) -> None:
        self.window: int | None = window
        self._name = name
        self._signature = signature
        self._device = device
        self._failures = failures
        self._remedy = remedy

    @abstractmethod
    def run(self, inputs: tuple[Tensor, ...]) -> object:
        """The network's output for some windows, as it gives it."""

    def fill(self, images: Sequence[NDArray[np.uint8]], masks: Sequence[NDArray[np.bool_]]) -> list[NDArray[np.uint8]]:
        """See `InpaintingModel.fill`; every window is `window` pixels square."""
        if not images:
            return []
        with torch.inference_mode():
            pictures = to_network(np.stack(images)).to(self._device)
            masked = torch.from_numpy(np.stack(masks)).to(self._device)[:, None]
            filled = self._predict(pictures, masked)
            if not torch.isfinite(filled).all():
                raise ImageError(Stage.INPAINT, f"the {self._name} gave values that are not finite for this image")
            return list(from_network(self._signature.pictures(filled)))

    def try_network(self) -> None:
        """Run one window, so that a network of another kind ends the job before its first image.

        Raises:
            WeightsError: the network does not match its signature.
        """
        side = self.window
        assert side is not None
        pictures = torch.full((1, 3, side, side), 0.5, device=self._device)
        masked = torch.zeros((1, 1, side, side), dtype=torch.bool, device=self._device)
        masked[:, :, side // 4 : side // 2, side // 4 : side // 2] = True
        try:
            with torch.inference_mode():
                filled = self._predict(pictures, masked)
        except torch.AcceleratorError:
            raise  # a fault of the GPU, not of the network
        except self._failures as error:
            raise WeightsError(
                f"The {self._name} failed on a {side}x{side} window ({first_line(error)}): it must accept "
                f"{self._signature.takes} of this size{self._remedy and f'; {self._remedy}'}."
            ) from error
        if not torch.isfinite(filled).all():
            raise WeightsError(f"The {self._name} returns values that are not finite: its weights are damaged.")

    def _predict(self, pictures: Tensor, masked: Tensor) -> Tensor:
        filled = self.run(self._signature.inputs(pictures, masked))
        if not isinstance(filled, Tensor) or filled.shape != pictures.shape:
            given = tuple(filled.shape) if isinstance(filled, Tensor) else type(filled).__name__
            raise WeightsError(
                f"The {self._name} returns {given} where {tuple(pictures.shape)} is needed: it must accept "
                f"{self._signature.takes} and return an image of the same size."
            )
        return filled.float()


def first_line(error: Exception) -> str:
    """The message of a library's error, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # TorchScript prints its own stack first and the reason last.
    return (lines[-1] if lines and lines[0].startswith("The following operation failed") else (lines or [""])[0])[:200]
