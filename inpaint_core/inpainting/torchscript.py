"""Fills by any scripted network (image, mask) -> image, such as LaMa's (Suvorov et al., WACV 2022)."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inpaint_core.errors import ImageError, Stage, WeightsError
from inpaint_core.images.tensors import from_network, to_network
from inpaint_core.inpainting.config import TorchscriptConfig


class TorchscriptInpainter:
    """A TorchScript network on square windows.

    It is given (B, 3, S, S) float32 in `config.value_range`, zero under the mask, and (B, 1, S, S) float32 with
    1 = fill, and gives (B, 3, S, S) in the same range. One window is run at construction, so that a network of another
    kind ends the job before its first image.

    Args:
        config: side of the window and range of the values.
        weights: content of a file that `torch.jit.save` wrote.
        device: where the network runs.
        autocast: whether it runs in bfloat16 autocast.

    Raises:
        WeightsError: the file is not TorchScript, or the network does not take or give what is said above.
    """

    central = False

    def __init__(self, config: TorchscriptConfig, weights: bytes, *, device: torch.device, autocast: bool) -> None:
        self.window: int | None = config.window
        self._unit_range = config.value_range == "0..1"
        self._device = device
        self._autocast = autocast
        try:
            with warnings.catch_warnings():
                # It is how published networks such as LaMa's are distributed: nothing that a user of one can change.
                warnings.filterwarnings("ignore", "`torch.jit.load` is deprecated", FutureWarning)
                network = torch.jit.load(io.BytesIO(weights), map_location=device)  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            raise WeightsError(
                f"The inpainter's weights are not a TorchScript file ({_first_line(error)}): inpainter.weights has to "
                "be what torch.jit.save wrote, not a checkpoint of tensors."
            ) from error
        self._network = network.eval()
        self._try_network(config.window)

    def fill(self, images: Sequence[NDArray[np.uint8]], masks: Sequence[NDArray[np.bool_]]) -> list[NDArray[np.uint8]]:
        """See `InpaintingModel.fill`; every window is `window` pixels square."""
        if not images:
            return []
        with torch.inference_mode():
            pictures = to_network(np.stack(images)).to(self._device)
            masked = torch.from_numpy(np.stack(masks)).to(self._device)[:, None]
            if self._unit_range:
                pictures = (pictures + 1) / 2
            filled = self._predict(torch.where(masked, 0.0, pictures), masked.float())
            if not torch.isfinite(filled).all():
                raise ImageError(Stage.INPAINT, "the scripted network gave values that are not finite for this image")
            return list(from_network(2 * filled - 1 if self._unit_range else filled))

    def _predict(self, pictures: Tensor, masks: Tensor) -> Tensor:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._autocast):
            filled = self._network(pictures, masks)
        if not isinstance(filled, Tensor) or filled.shape != pictures.shape:
            given = tuple(filled.shape) if isinstance(filled, Tensor) else type(filled).__name__
            raise WeightsError(
                f"The scripted network gives {given} where {tuple(pictures.shape)} is needed: it has to take "
                "(image, mask) and give an image of the same size."
            )
        return filled.float()

    def _try_network(self, side: int) -> None:
        pictures = torch.full((1, 3, side, side), 0.5, device=self._device)
        masks = torch.zeros((1, 1, side, side), device=self._device)
        masks[:, :, side // 4 : side // 2, side // 4 : side // 2] = 1
        try:
            with torch.inference_mode():
                filled = self._predict(pictures * (1 - masks), masks)
        except torch.AcceleratorError:
            raise  # the GPU's, not the network's
        except RuntimeError as error:
            raise WeightsError(
                f"The scripted network failed on a {side}x{side} window ({_first_line(error)}): it has to take "
                "(image, mask); see inpainter.window, and scaling.autocast if it is on."
            ) from error
        if not torch.isfinite(filled).all():
            raise WeightsError("The scripted network gives values that are not finite: its weights are damaged.")


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # TorchScript prints its own stack first and the reason last.
    return (lines[-1] if lines and lines[0].startswith("The following operation failed") else (lines or [""])[0])[:200]
