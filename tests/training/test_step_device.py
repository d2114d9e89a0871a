"""The step as it runs on a GPU, on a machine without one: tensors without values, of which only the operators count.

On the device `meta`, a value that the host asks for is an error, and so is an operator whose result has a size that
depends on values: nothing that would make the host wait can be missed.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from inpaint_core.hole_masks.sampler import HoleSampler, evaluation_holes
from inpaint_core.metrics import ssim, ssim_window
from inpaint_core.networks.spec import ContextEncoderSpec, UnetSpec
from inpaint_core.prefetch import THREAD_NAME
from inpaint_core.training.config import LossConfig, OptimiserConfig, TrainConfig
from inpaint_core.training.data.samples import Batch, BatchStream, ImageBlocks
from inpaint_core.training.step import AdversarialStep
from inpaint_core.training.worker_context import WorkerContext
from tests.training.small import CPU, batch_of, config, photographs

DEVICE = torch.device("meta")
FULL = ContextEncoderSpec(output="full", bottleneck=16, width=4)
UNET = UnetSpec(width=4, gated=True)
ALL = LossConfig(adversarial="lsgan", l1=0.3, l2=0.2, ssim=0.3, ms_ssim=0.2, l1_window="gaussian", outside_weight=0.1)


class Copies(TorchDispatchMode):
    """Records what is copied between host and device: the waiting copies, and tensors copied without waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.operators = 0
        self.waiting: list[str] = []
        self.passing: list[Tensor] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        self.operators += 1
        name = str(func)
        given = {leaf.device for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor) and leaf.ndim}
        made = {leaf.device for leaf in tree_leaves(result) if isinstance(leaf, Tensor)}
        if name.startswith("aten.lift_fresh"):  # `torch.tensor`: the copy itself is not seen
            self.waiting += [name] * (DEVICE in made)
        elif len(given | made) > 1:
            if name == "aten._to_copy.default" and kwargs.get("non_blocking"):
                self.passing.append(args[0])
            else:
                self.waiting.append(name)
        return result


@pytest.fixture
def meta(monkeypatch: pytest.MonkeyPatch) -> WorkerContext:
    """A worker on the device without values, for which torch has neither autocast nor, by its list, a fused Adam."""
    monkeypatch.setattr(torch, "autocast", lambda *args, **settings: nullcontext())
    optimizer = sys.modules["torch.optim.optimizer"]  # `torch.optim` deletes its attribute of this name
    monkeypatch.setattr(optimizer, "_get_fused_kernels_supported_devices", lambda: ["meta"])
    ssim_window._window_of.cache_clear()
    return WorkerContext(DEVICE)


def batch_for(settings: TrainConfig, side: int = 128) -> Batch:
    masks = evaluation_holes("box", range(4), seed=0) if settings.network.output == "full" else None
    return batch_of(photographs(4, side), masks)


@pytest.mark.parametrize(
    ("settings", "side"),
    [
        (config(), 128),
        (config(optimiser=OptimiserConfig(clip=1.0, ema=None)), 160),
        (config(network=FULL), 128),
        (config(network=UNET, loss=ALL), 160),
    ],
    ids=["center", "crops", "full", "U-Net and all losses"],
)
def test_the_host_never_waits_for_the_device(meta: WorkerContext, settings: TrainConfig, side: int) -> None:
    networks = AdversarialStep(settings, meta, steps=100)
    batch = batch_for(settings, side)
    networks(batch)  # the first step makes what is kept: Adam's moments, SSIM's windows
    with Copies() as copies:
        parts = networks(batch)
    assert copies.operators > 400
    assert copies.waiting == []
    taken = [batch.images, batch.flips]
    taken += [batch.corners] if side > 128 else []
    taken += [batch.masks] if batch.masks is not None else []
    assert {id(tensor) for tensor in copies.passing} == {id(tensor) for tensor in taken}
    assert len(copies.passing) == len(taken)
    assert {value.device for value in parts.values()} == {DEVICE}


def test_what_the_host_waits_for_is_seen() -> None:
    values = torch.ones(3, device=DEVICE)
    with Copies() as copies:
        torch.tensor([1.0, 2.0], device=DEVICE)
        torch.ones(3).to(DEVICE)
        values.copy_(torch.ones(3))
        torch.ones(3).to(DEVICE, non_blocking=True)
    assert copies.waiting == ["aten.lift_fresh.default", "aten._to_copy.default", "aten.copy_.default"]
    assert len(copies.passing) == 1
    with pytest.raises(RuntimeError, match="meta"):
        values.sum().item()


def test_windows_of_ssim_are_made_once() -> None:
    ssim_window._window_of.cache_clear()
    # Not in the state of whoever asks first: what inference makes cannot be trained with.
    with torch.inference_mode():
        ssim.ms_ssim(torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64), data_range=1.0)
    made = ssim_window._window_of.cache_info().misses
    assert made == 3  # 64, 32 and 16 pixels
    prediction = torch.rand(1, 3, 64, 64).requires_grad_()
    ssim.ms_ssim(prediction, torch.rand(1, 3, 64, 64), data_range=1.0).sum().backward()
    ssim.ssim_map(prediction, torch.rand(1, 3, 64, 64), data_range=1.0).sum().backward()
    assert ssim_window._window_of.cache_info().misses == made


def test_the_thread_that_makes_batches_pins_them(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned: list[tuple[int, str]] = []

    def pin_memory(tensor: Tensor) -> Tensor:
        copy = tensor.clone()
        pinned.append((id(copy), threading.current_thread().name))
        kept.append(copy)
        return copy

    kept: list[Tensor] = []
    monkeypatch.setattr(Tensor, "pin_memory", pin_memory)
    plain, fast = (
        list(
            BatchStream(
                ImageBlocks.of(photographs(8)),
                held_out=np.zeros(0, np.int64),
                batch=4,
                rank=0,
                ranks=1,
                seed=0,
                holes=HoleSampler(("box",), None, None),
                pin=pin,
            ).epoch(0)
        )
        for pin in (False, True)
    )
    assert len(pinned) == 2 * 4
    assert all(name.startswith(THREAD_NAME) for _, name in pinned)
    for one, other in zip(plain, fast, strict=True):
        assert one.masks is not None
        assert other.masks is not None
        for before, after in (
            (one.images, other.images),
            (one.flips, other.flips),
            (one.corners, other.corners),
            (one.masks, other.masks),
        ):
            assert torch.equal(before, after)
            assert id(before) not in dict(pinned)
            assert id(after) in dict(pinned)
        assert other.images.stride() == one.images.stride()


def test_compiled_networks_are_compiled_wherever_they_are_called(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def compile_module(module: nn.Module) -> None:
        def run(*args: Any) -> Any:
            calls.append(type(module).__name__)
            return module._call_impl(*args)

        module._compiled_call_impl = run

    monkeypatch.setattr(nn.Module, "compile", compile_module)
    networks = AdversarialStep(config(), replace(CPU, compile=True), steps=10)
    calls_of_forward: list[str] = []
    for network in (networks.generator, networks.discriminator):
        network.register_forward_hook(lambda module, inputs, output: calls_of_forward.append(type(module).__name__))
    networks(batch_for(config()))
    # Real, fake, and once more in the generator's step.
    assert calls == ["ContextEncoder", "Discriminator", "Discriminator", "Discriminator"]
    assert calls_of_forward == calls


@pytest.fixture
def double_precision(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Float64 wherever a training computes in float32."""
    monkeypatch.setattr(Tensor, "float", Tensor.double)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.mark.usefixtures("double_precision")
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            config(),
            {"discriminator": 1.350604298, "adversarial": 0.852001967, "l1": 1.365844820, "ssim": 0.986719033},
        ),
        (
            config(network=FULL),
            {"discriminator": 1.220672042, "adversarial": 0.837920602, "l1": 0.458752435, "ssim": 0.984181575},
        ),
        (
            config(network=UNET),
            {"discriminator": 1.411035889, "adversarial": 0.763834213, "l1": 0.168176711, "ssim": 0.554738630},
        ),
    ],
    ids=["center", "full", "U-Net"],
)
def test_losses_after_six_steps_are_those_recorded(settings: TrainConfig, expected: dict[str, float]) -> None:
    """Recorded before constants, windows and averages were kept.

    In float64: BatchNorm over four images multiplies a difference of rounding by 10^4 in six steps, and CPUs round
    differently. With the instructions of AVX2 and of AVX-512 these values are equal in all their digits.
    """
    networks = AdversarialStep(settings, CPU, steps=100)
    masks = evaluation_holes("box", range(4), seed=0) if settings.network.output == "full" else None
    for step in range(6):
        parts = networks(batch_of(photographs(24)[4 * step : 4 * step + 4], masks))
    assert {parts[name].dtype for name in expected} == {torch.float64}
    assert {name: float(parts[name]) for name in expected} == pytest.approx(expected, rel=1e-7)
