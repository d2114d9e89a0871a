"""Fills by scripted and traced networks, such as LaMa's (Suvorov et al., WACV 2022) and MI-GAN's (Sargsyan et al., ICCV 2023)."""

from __future__ import annotations

import io
import warnings

import torch
from torch import Tensor

from inpaint_core.inpainting.external import ExternalNetwork, Signature, first_line
from inpaint_core.inpainting.file_kinds import not_torchscript


class TorchscriptInpainter(ExternalNetwork):
    """A TorchScript network on square windows.

    It is given float32, in the form and range of its signature. One window is run at construction, so that a network of
    another kind ends the job before its first image.

    Args:
        weights: content of a file that `torch.jit.save` wrote.
        signature: what the network takes and gives.
        window: side of the windows in pixels.
        device: where the network runs.
        autocast: whether it runs in bfloat16 autocast.

    Raises:
        WeightsError: the file is not TorchScript, or the network does not match its signature.
    """

    def __init__(
        self, weights: bytes, signature: Signature, *, window: int, device: torch.device, autocast: bool
    ) -> None:
        super().__init__(
            "scripted network",
            signature,
            window=window,
            device=device,
            failures=(RuntimeError,),
            remedy="try scaling.precision=float32" if autocast else "",
        )
        self._autocast = autocast
        try:
            with warnings.catch_warnings():
                # It is how published networks such as LaMa's are distributed: nothing that a user of one can change.
                warnings.filterwarnings("ignore", "`torch.jit.load` is deprecated", FutureWarning)
                network = torch.jit.load(io.BytesIO(weights), map_location=device)  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            raise not_torchscript(first_line(error)) from error
        self._network = network.eval()
        self.try_network()

    def run(self, inputs: tuple[Tensor, ...]) -> object:
        """See `ExternalNetwork.run`."""
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._autocast):
            return self._network(*inputs)
