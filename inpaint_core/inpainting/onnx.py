"""Fills by any ONNX network (image, mask) -> image, run by ONNX Runtime (https://onnxruntime.ai/docs/api/python)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import DTypeLike
from onnxruntime.capi import onnxruntime_pybind11_state
from torch import Tensor

from inpaint_core.errors import WeightsError
from inpaint_core.inpainting.external import ExternalNetwork, ImageAndMask, first_line
from inpaint_core.inpainting.external_config import OnnxConfig
from inpaint_core.inpainting.file_kinds import not_onnx

FREE_WINDOW = 512
"""Side in pixels of the windows of a network that takes any."""

# They have no base class of their own.
_ERRORS: tuple[type[Exception], ...] = tuple(
    value
    for value in vars(onnxruntime_pybind11_state).values()
    if isinstance(value, type) and issubclass(value, Exception)
)
_UNLOADABLE: tuple[type[Exception], ...] = (*_ERRORS, ValueError, RuntimeError)

_DTYPES: dict[str, DTypeLike] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}
_WHOLE = ("tensor(uint8)", "tensor(int32)", "tensor(int64)")


@dataclass(frozen=True)
class _Form:
    """What the file says of its network.

    Args:
        names: of the image's and the mask's input.
        dtypes: of the same.
        output: name of the output that is the filled image.
        window: side of its windows in pixels.
        single: it takes one window at a time, by what it declares or as a trial shows.
    """

    names: tuple[str, str]
    dtypes: tuple[DTypeLike, DTypeLike]
    output: str
    window: int
    single: bool


class OnnxInpainter(ExternalNetwork):
    """An ONNX network on square windows.

    It is given the image (B, 3, S, S) in `config.value_range`, with `config.masked_pixels` under the mask, and the mask
    (B, 1, S, S) in `config.mask_range`, in the dtypes that the file declares, and gives (B, 3, S, S) in `config.output_range`. One window is run at
    construction. On a GPU it runs with CUDA if the installed ONNX Runtime has it, else on the CPU.

    Args:
        config: side of the window and range of the values.
        weights: content of the ONNX file.
        device: where the network runs.

    Raises:
        WeightsError: the file is not ONNX, or the network does not have the inputs and the output above.
    """

    def __init__(self, config: OnnxConfig, weights: bytes, *, device: torch.device) -> None:
        self._session = _session(weights, device)
        self._form = _form(self._session, config)
        super().__init__(
            "ONNX network",
            ImageAndMask(
                config.value_range,
                config.output_range or config.value_range,
                config.mask_range,
                config.masked_pixels,
            ),
            window=self._form.window,
            device=torch.device("cpu"),  # ONNX Runtime copies to the GPU itself
            failures=_ERRORS,
        )
        self.try_network()
        if not self._form.single and not self._takes_two():
            self._form = replace(self._form, single=True)

    def _takes_two(self) -> bool:
        """Whether two windows at once give two fills: some exports declare any number, and compute with one."""
        side = self._form.window
        masked = torch.zeros(2, 1, side, side, dtype=torch.bool)
        masked[:, :, side // 4 : side // 2, side // 4 : side // 2] = True
        image, mask = self._arrays(self._signature.inputs(torch.zeros(2, 3, side, side), masked))
        try:
            return bool(self._run(image, mask).shape == image.shape)
        except _ERRORS:
            return False

    def run(self, inputs: tuple[Tensor, ...]) -> object:
        """See `ExternalNetwork.run`."""
        arrays = self._arrays(inputs)
        count = len(arrays[0])
        step = 1 if self._form.single else count
        made = [self._run(*(array[first : first + step] for array in arrays)) for first in range(0, count, step)]
        whole = made[0] if len(made) == 1 else np.concatenate(made)
        return torch.from_numpy(whole)

    def _arrays(self, inputs: tuple[Tensor, ...]) -> list[np.ndarray[Any, Any]]:
        return [values.numpy().astype(dtype) for values, dtype in zip(inputs, self._form.dtypes, strict=True)]

    def _run(self, image: np.ndarray[Any, Any], mask: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        feed = dict(zip(self._form.names, (image, mask), strict=True))
        (made,) = self._session.run([self._form.output], feed)
        if not isinstance(made, np.ndarray):
            raise WeightsError(f"The ONNX network returns {type(made).__name__} where an image is needed.")
        return made


def _session(weights: bytes, device: torch.device) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what is wrong comes as an exception, too
    options.intra_op_num_threads = torch.get_num_threads()  # by default it takes all CPUs, of which workers share
    options.inter_op_num_threads = 1
    providers: list[Any] = ["CPUExecutionProvider"]
    if device.type == "cuda" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": device.index or 0}))
    try:
        return onnxruntime.InferenceSession(weights, options, providers=providers)
    except _UNLOADABLE as error:
        raise not_onnx(first_line(error)) from error


def _form(session: Any, config: OnnxConfig) -> _Form:
    """What the network's inputs are.

    Raises:
        WeightsError: they are not an image and a mask, or of a size or type that cannot be given.
    """
    inputs, output = session.get_inputs(), session.get_outputs()[0]
    if len(inputs) != 2 or any(len(given.shape) != 4 for given in inputs):
        raise WeightsError(
            f"The ONNX network takes {_described(inputs)}: it must accept (image, mask), (B, 3, H, W) and (B, 1, H, W)."
        )
    image, mask = sorted(inputs, key=_is_mask)  # stable: those that nothing tells apart keep their order
    if image.shape[1] not in (3, None) and not isinstance(image.shape[1], str):
        raise _other_channels(inputs)
    if mask.shape[1] not in (1, None) and not isinstance(mask.shape[1], str):
        raise _other_channels(inputs)
    for given, values, key in (
        (image, config.value_range, "value_range"),
        (output, config.output_range or config.value_range, "output_range"),
    ):
        if given.type in _WHOLE and values != "0..255":
            raise WeightsError(f"The ONNX network's {given.name} has integers: set inpainter.{key}=0..255.")
    for given in (image, mask):
        if given.type not in _DTYPES:
            raise WeightsError(
                f"The ONNX network takes {given.name} as {given.type}, which this project does not support; "
                f"supported: {', '.join(_DTYPES)}."
            )
    batches = {given.shape[0] for given in inputs if isinstance(given.shape[0], int)}
    if batches - {1}:
        raise WeightsError(
            f"The ONNX network takes {_described(inputs)}: export it for one window at a time, or for any number."
        )
    return _Form(
        (image.name, mask.name),
        (_DTYPES[image.type], _DTYPES[mask.type]),
        output.name,
        _window((image.shape, mask.shape), config.window),
        single=bool(batches),
    )


def _is_mask(given: Any) -> bool:
    channels = given.shape[1]
    return channels == 1 if isinstance(channels, int) else "mask" in given.name.lower()


def _window(shapes: tuple[list[Any], ...], wanted: int | None) -> int:
    fixed = {side for shape in shapes for side in shape[2:] if isinstance(side, int)}
    if len(fixed) > 1:
        sizes = "x".join(str(side) for side in shapes[0][2:])
        raise WeightsError(f"The ONNX network takes windows of {sizes}: only square windows are supported.")
    side = fixed.pop() if fixed else None
    if side is not None and wanted not in (None, side):
        raise WeightsError(
            f"inpainter.window: the ONNX network takes {side}x{side} windows, not {wanted}x{wanted}; "
            f"set it to {side}, or to null."
        )
    return side or wanted or FREE_WINDOW


def _other_channels(inputs: list[Any]) -> WeightsError:
    return WeightsError(
        f"The ONNX network takes {_described(inputs)}: the image must have 3 channels and the mask 1, "
        "(B, 3, H, W) and (B, 1, H, W)."
    )


def _described(inputs: list[Any]) -> str:
    shown = [f"{given.name} ({', '.join(str(side) for side in given.shape)})" for given in inputs[:4]]
    return " and ".join(shown) or "nothing"
