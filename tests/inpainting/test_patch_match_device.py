"""The patch search as it runs on a GPU, on a machine without one: tensors without values, of which only the operators count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from inpaint_core.inpainting.patch_match import descriptors, exhaustive
from inpaint_core.inpainting.patch_match.fill import PatchWindow, fill_with_patches

CUDA = torch.device("cuda")


class Operators(TorchDispatchMode):
    """Counts operators, and apart those that the host has to wait for: values, and tensors, that come from the device."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.waits: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = str(func)
        self.counts[name] += 1
        given = [each.device.type for each in args if isinstance(each, Tensor)]
        if "cuda" in given and ("_local_scalar_dense" in name or "nonzero" in name):
            self.waits.append(name)
        result = func(*args, **(kwargs or {}))
        if "cuda" in given and isinstance(result, Tensor) and result.device.type == "cpu":
            self.waits.append(name)
        return result


@pytest.fixture
def on_fake_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTensorMode]:
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    from_numpy = torch.from_numpy
    monkeypatch.setattr(torch, "from_numpy", lambda array: mode.from_tensor(from_numpy(array)))
    caches = (exhaustive._gaussian, descriptors._kernels)
    for cache in caches:
        cache.cache_clear()
    yield mode
    for cache in caches:
        cache.cache_clear()  # what they hold now has no values


def window(size: int) -> PatchWindow:
    mask = np.zeros((size, size), bool)
    mask[size // 3 : size // 2, size // 4 : size // 2] = True
    pixels: NDArray[np.uint8] = np.random.default_rng(size).integers(0, 256, (size, size, 3), np.uint8)
    return PatchWindow(pixels, mask, pixels[::2, ::2])


def test_the_search_leaves_nothing_on_the_host(on_fake_gpu: FakeTensorMode) -> None:
    """From the windows to the colours, levels of all sizes, no step waits for a value of the device."""
    windows = [window(512), window(512), window(300)]
    with on_fake_gpu, Operators() as operators:
        found = fill_with_patches(windows, CUDA)
    assert operators.counts.total() > 1000
    assert operators.waits == []
    for each, colours in zip(windows, found, strict=True):
        assert colours is not None
        assert (colours.device.type, tuple(colours.shape)) == ("cuda", (np.count_nonzero(each.mask), 3))


def test_what_the_host_waits_for_is_seen(on_fake_gpu: FakeTensorMode) -> None:
    with on_fake_gpu, Operators() as operators:
        torch.zeros(3, device=CUDA).cpu()
    assert operators.waits == ["aten._to_copy.default"]
