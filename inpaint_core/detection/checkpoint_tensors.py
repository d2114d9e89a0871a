"""The tensors of a checkpoint's network, read without torch: whether they are whole, and their values finite."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

from inpaint_core.detection.checkpoint_audit import Tensor
from inpaint_core.networks.weights.finite import all_finite

# Bytes of a value, and the name that safetensors has for its type, by torch's classes of storages.
_STORAGES = {
    "torch.DoubleStorage": (8, "F64"),
    "torch.FloatStorage": (4, "F32"),
    "torch.HalfStorage": (2, "F16"),
    "torch.BFloat16Storage": (2, "BF16"),
}


def fault_of_tensors(weights: bytes, network: object) -> str | None:
    """What is wrong with the parameters and buffers of a network: one phrase; None: nothing that can be seen.

    A detector with NaN in it finds nothing, without an error.

    Args:
        weights: content of a `.pt` file.
        network: what `checkpoint_audit.refuse_constructors` found for it.
    """
    with zipfile.ZipFile(io.BytesIO(weights)) as archive:
        names = {name.partition("/")[2]: name for name in archive.namelist()}
        if "byteorder" in names and archive.read(names["byteorder"]) != b"little":
            return None
        for name, tensor in _tensors(network):
            storage = tensor.storage
            if storage.kind not in _STORAGES:
                continue
            size, dtype = _STORAGES[storage.kind]
            entry = names.get(f"data/{storage.key}")
            first, values = size * tensor.offset, size * tensor.span
            try:
                data = archive.read(entry) if entry is not None else b""
            except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError):
                return f"the values of {name} are damaged"
            if len(data) < first + values:
                return f"{name} is cut off"
            if not all_finite(memoryview(data)[first : first + values], dtype):
                return f"{name} holds values that are not finite (NaN or infinity)"
    return None


def _tensors(network: object) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers with their names, as `torch.nn.Module.state_dict` has them."""
    left, seen = [("", network)], set[int]()
    while left:
        path, module = left.pop()
        attributes = getattr(module, "state", None)
        if not isinstance(attributes, Mapping) or id(module) in seen:
            continue
        seen.add(id(module))
        for part in ("_parameters", "_buffers"):
            for name, value in _items(attributes.get(part)):
                if isinstance(value, Tensor):
                    yield f"{path}{name}", value
        left += [(f"{path}{name}.", value) for name, value in _items(attributes.get("_modules"))]


def _items(value: Any) -> list[tuple[object, object]]:
    """Of a dictionary, or of the stub of an ordered one."""
    return list((value if isinstance(value, Mapping) else getattr(value, "items_set", {})).items())
