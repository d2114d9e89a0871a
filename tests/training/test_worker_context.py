"""Where a worker computes; several workers are in `test_data_parallel`."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

from inpaint_core.errors import ConfigError, WeightsError
from inpaint_core.metrics.ssim_window import full_precision
from inpaint_core.training.scaling_config import TrainScalingConfig
from inpaint_core.training.worker_context import WorkerContext, set_up_device
from tests.training.small import CPU


def test_one_process_is_the_first_and_only_worker() -> None:
    context = WorkerContext.of(
        TrainScalingConfig(precision="float32", channels_last=False, compile=True), torch.device("cpu")
    )
    assert context == WorkerContext(torch.device("cpu"), 0, 1, torch.float32, channels_last=False, compile=True)


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_autocast_is_what_the_precision_says(precision: str, dtype: torch.dtype) -> None:
    context = WorkerContext.of(TrainScalingConfig(precision=precision), torch.device("cpu"))  # type: ignore[arg-type]
    layer = nn.Linear(4, 4)
    with context.autocast():
        assert layer(torch.ones(2, 4)).dtype == dtype
    assert layer.weight.dtype == torch.float32


@pytest.mark.parametrize("native", [True, False])
def test_auto_is_bfloat16_only_where_the_cpu_has_it(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    context = WorkerContext.of(TrainScalingConfig(), torch.device("cpu"))
    assert context.precision == (torch.bfloat16 if native else torch.float32)


def test_sync_batchnorm_on_a_cpu_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"scaling\.sync_batchnorm: .* turn it off"):
        WorkerContext.of(TrainScalingConfig(sync_batchnorm=True), torch.device("cpu"))


def test_sync_batchnorm_on_a_cpu_is_never_chosen() -> None:
    assert not WorkerContext.of(TrainScalingConfig(sync_batchnorm="auto"), torch.device("cpu"), batch=4).sync_batchnorm


def test_gradients_are_exchanged_in_what_is_set() -> None:
    assert WorkerContext.of(TrainScalingConfig(), torch.device("cpu")).gradients == torch.float32
    assert WorkerContext.of(TrainScalingConfig(gradients="bfloat16"), torch.device("cpu")).gradients == torch.bfloat16


def test_alone_there_is_nothing_to_average_or_to_agree_on() -> None:
    values = torch.tensor([1.0, 2.0])
    CPU.average([values])
    assert values.tolist() == [1.0, 2.0]
    assert CPU.sum(values) is values
    CPU.agree(None)
    with pytest.raises(WeightsError, match="broken"):
        CPU.agree(WeightsError("broken"))


def test_cudnn_measures_its_algorithms_on_gpus_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    set_up_device(TrainScalingConfig(), torch.device("cpu"))
    assert not torch.backends.cudnn.benchmark
    set_up_device(TrainScalingConfig(), torch.device("cuda"))
    assert torch.backends.cudnn.benchmark


@pytest.fixture
def precisions(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], tuple[str, str]]]:
    """Those of float32 products and convolutions on a GPU; set back after the test."""
    backends: tuple[Any, Any] = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)  # type: ignore[attr-defined]
    before = [backend.fp32_precision for backend in backends]
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    yield lambda: (backends[0].fp32_precision, backends[1].fp32_precision)
    for backend, precision in zip(backends, before, strict=True):
        backend.fp32_precision = precision


@pytest.mark.parametrize("precision", ["ieee", "tf32"])
def test_float32_is_what_is_set_on_gpus_alone(precision: Any, precisions: Callable[[], tuple[str, str]]) -> None:
    before = precisions()
    set_up_device(TrainScalingConfig(float32_precision=precision), torch.device("cpu"))
    set_up_device(TrainScalingConfig(), torch.device("cuda"))
    assert precisions() == before
    set_up_device(TrainScalingConfig(float32_precision=precision), torch.device("cuda"))
    assert precisions() == (precision, precision)


def test_losses_are_full_precision_whatever_is_set(precisions: Callable[[], tuple[str, str]]) -> None:
    set_up_device(TrainScalingConfig(float32_precision="tf32"), torch.device("cuda"))
    with full_precision(torch.device("cuda")):
        assert precisions() == ("ieee", "tf32")  # SSIM has products only
    assert precisions() == ("tf32", "tf32")
