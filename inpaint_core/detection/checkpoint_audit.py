"""What a checkpoint would call while it is loaded, determined without calling it.

torch's own restricted loader (`weights_only=True`) calls whatever is on its list, and ultralytics puts all of its classes there. A
file could thus have any of their constructors run with arguments of its own: some download files, some take any amount of
memory. Real checkpoints call none: their networks are put together from empty objects and saved attributes.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from dataclasses import dataclass
from typing import Any, ClassVar

_CONSTRUCTED_BY_NO_CHECKPOINT = ("ultralytics.", "torch.nn.")
_LARGEST_PICKLE = 2**26  # bytes; that of a network of 700 million parameters has 2 million


class _Stub:
    """Stands for anything that a pickle refers to or makes; `state` is what the pickle sets in it, `items_set` its items."""

    state: object = None

    def __init__(self, *args: object, **settings: object) -> None: ...

    def __setstate__(self, state: object) -> None:
        self.state = state

    def __setitem__(self, key: object, value: object) -> None:
        vars(self).setdefault("items_set", {})[key] = value

    def append(self, value: object) -> None: ...

    def extend(self, values: object) -> None: ...

    def add(self, value: object) -> None: ...


@dataclass(frozen=True)
class Storage:
    """Where the values of tensors lie.

    Args:
        kind: torch's class for their type, such as `torch.FloatStorage`.
        key: of the file in the archive, `data/KEY`.
    """

    kind: str
    key: str


@dataclass(frozen=True)
class Tensor:
    """A tensor as a pickle describes it.

    Args:
        storage: of its values.
        offset: of its first value there.
        span: values from the first to the last, both included.
    """

    storage: Storage
    offset: int
    span: int

    @classmethod
    def rebuilt(
        cls, storage: Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object
    ) -> Tensor:
        """From the arguments of `torch._utils._rebuild_tensor_v2`."""
        steps = sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))
        return cls(storage, offset, 0 if 0 in shape else steps + 1)


# The unpickler written in Python: the one in C has no methods for single instructions.
_PythonUnpickler: Any = pickle._Unpickler


class _Audit(_PythonUnpickler):  # type: ignore[misc]
    """Goes through a pickle with stubs for everything that it names."""

    def find_class(self, module: str, name: str) -> type[_Stub]:
        return type(f"{module}.{name}", (_Stub,), {})

    def persistent_load(self, identifier: object) -> Storage | _Stub:
        match identifier:
            case ("storage", type() as kind, str(key), *_):
                return Storage(kind.__name__, key)
        return _Stub()

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        called = self.stack[-1]
        name = called.__name__ if isinstance(called, type) else "something computed"
        if not isinstance(called, type) or name.startswith(_CONSTRUCTED_BY_NO_CHECKPOINT):
            raise pickle.UnpicklingError(f"it calls {name}, which no checkpoint of a network needs")
        self.stack[-1] = _made(name, arguments)

    # torch's loader knows none of the instructions that are left out either.
    dispatch: ClassVar = {
        instruction: method
        for instruction, method in _PythonUnpickler.dispatch.items()
        if bytes([instruction])
        not in (pickle.INST, pickle.OBJ, pickle.NEWOBJ_EX, pickle.EXT1, pickle.EXT2, pickle.EXT4)
    } | {pickle.REDUCE[0]: load_reduce}


def _made(name: str, arguments: Any) -> object:
    """What a call gives: tensors and parameters as such, of what else there is a stub."""
    match name, arguments:
        case "torch._utils._rebuild_tensor_v2", (Storage(), *_):
            return Tensor.rebuilt(*arguments)
        case "torch._utils._rebuild_parameter", (Tensor() as tensor, *_):
            return tensor
    return _Stub()


def refuse_constructors(weights: bytes) -> Any:
    """Refuse a checkpoint that would run a constructor of a network or layer.

    Args:
        weights: content of a `.pt` file.

    Returns:
        What it holds, with `Tensor` in place of tensors, and stubs in place of all other objects that are not Python's own: a
        type has the name of the class, `state` of an object holds its attributes, `items_set` its items.

    Raises:
        pickle.UnpicklingError: it would, or is not a file as `torch.save` has written it since version 1.6.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(weights)) as archive:
            pickles = [item for item in archive.infolist() if item.filename.endswith("data.pkl")]
            if len(pickles) != 1 or pickles[0].file_size > _LARGEST_PICKLE:
                raise pickle.UnpicklingError(f"it has {len(pickles)} descriptions of its content, or a very large one")
            content = archive.read(pickles[0])
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise pickle.UnpicklingError("it is not a file as torch.save writes it, or damaged") from error
    audit: Any = _Audit(io.BytesIO(content))
    return audit.load()
