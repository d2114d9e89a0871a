"""Whether weights are a whole file of the format that an inpainter needs, found without the library that runs it.

A job thus reports a damaged or wrong file before any process loads it. What the library itself refuses is reported later.
"""

from __future__ import annotations

import io
import zipfile
import zlib

from inpaint_core.errors import WeightsError

_GRAPH = 7  # field of ONNX's ModelProto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto)


def check_torchscript(weights: bytes) -> None:
    """Refuse what `torch.jit.save` has not written.

    Raises:
        WeightsError: it is cut off or of another kind.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(weights)) as archive:
            names = archive.namelist()
            damaged = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError) as error:
        raise not_torchscript("no archive, or cut off") from error
    if damaged is not None:  # torch does not look at the check sums
        raise not_torchscript(f"{damaged} in it is damaged")
    # The second is the form of PyTorch 1.0 and before.
    if not any(name.endswith(("/constants.pkl", "/model.json")) for name in names):
        raise not_torchscript("an archive without code")


def not_torchscript(reason: str) -> WeightsError:
    """For weights that torch cannot load as a TorchScript network."""
    return WeightsError(
        f"The inpainter's weights are not a TorchScript file ({reason}): inpainter.weights must be "
        "a file that torch.jit.save wrote, not a checkpoint of tensors."
    )


def check_onnx(weights: bytes) -> None:
    """Refuse what is no whole protocol buffer with a graph.

    Raises:
        WeightsError: it is cut off or of another kind.
    """
    fields, position = set(), 0
    try:
        while position < len(weights):
            tag, position = _varint(weights, position)
            fields.add(tag >> 3)
            match tag & 7:  # the wire type (https://protobuf.dev/programming-guides/encoding/)
                case 0:
                    _, position = _varint(weights, position)
                case 1:
                    position += 8
                case 2:
                    length, position = _varint(weights, position)
                    position += length
                case 5:
                    position += 4
                case _:
                    raise not_onnx("another format")
    except IndexError as error:
        raise not_onnx("cut off, or another format") from error
    if position > len(weights):
        raise not_onnx("cut off, or another format")
    if _GRAPH not in fields:
        raise not_onnx("without a graph")


def not_onnx(reason: str) -> WeightsError:
    """For weights that ONNX Runtime cannot load."""
    return WeightsError(
        f"The inpainter's weights are not an ONNX file that ONNX Runtime can run ({reason}): "
        "inpainter.weights must be a complete .onnx file that contains its tensors."
    )


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """A number of protocol buffers, and the position after it; `IndexError` where it is cut off or too long."""
    value = 0
    for count in range(10):
        byte = data[position + count]
        value |= (byte & 127) << (7 * count)
        if byte < 128:
            return value, position + count + 1
    raise IndexError("a number of more than 64 bits")
