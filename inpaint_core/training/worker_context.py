"""Device, rank and precision of a worker, and its agreement with the others: nothing but torch.distributed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from inpaint_core.device import in_bfloat16
from inpaint_core.errors import ConfigError, UserError
from inpaint_core.training.scaling_config import TrainScalingConfig
from inpaint_core.training.sharing import synchronised


def set_up_device(scaling: TrainScalingConfig, device: torch.device) -> None:
    """Settings of this process for training on a GPU; nothing on a CPU.

    The shapes of a run are fixed, so that cuDNN measures its algorithms once for each and takes the fastest. TF32 is set by
    `fp32_precision` alone: once that is set, `allow_tf32` and `get_float32_matmul_precision` raise.
    """
    if device.type != "cuda":
        return
    torch.backends.cudnn.benchmark = True
    if scaling.float32_precision != "default":
        torch.backends.cuda.matmul.fp32_precision = scaling.float32_precision
        torch.backends.cudnn.conv.fp32_precision = scaling.float32_precision  # type: ignore[attr-defined]


@dataclass(frozen=True)
class WorkerContext:
    """One worker of a training run.

    `rank` of `ranks` workers; `precision` is the dtype of convolutions. The rest: see `TrainScalingConfig`.
    """

    device: torch.device
    rank: int = 0
    ranks: int = 1
    precision: torch.dtype = torch.float32
    channels_last: bool = True
    compile: bool = False
    sync_batchnorm: bool = False
    gradients: torch.dtype = torch.float32
    """What workers exchange their gradients in."""

    @classmethod
    def of(cls, scaling: TrainScalingConfig, device: torch.device, *, batch: int | None = None) -> WorkerContext:
        """The context of this process, which has joined its process group if there are several.

        Args:
            scaling: the settings.
            device: of this process.
            batch: images per step, over all workers, which `sync_batchnorm=auto` goes by; None: it stays off.

        Raises:
            ConfigError: a setting that the device cannot do.
        """
        several = dist.is_available() and dist.is_initialized()
        ranks = dist.get_world_size() if several else 1
        if scaling.sync_batchnorm is True and device.type != "cuda":
            raise ConfigError("scaling.sync_batchnorm: torch supports it on GPUs only; turn it off on a CPU")
        return cls(
            device=device,
            rank=dist.get_rank() if several else 0,
            ranks=ranks,
            precision=_precision(scaling, device),
            channels_last=scaling.channels_last,
            compile=scaling.compile,
            sync_batchnorm=synchronised(scaling, batch or sys.maxsize, ranks, gpu=device.type == "cuda"),
            gradients=torch.bfloat16 if scaling.gradients == "bfloat16" else torch.float32,
        )

    def autocast(self) -> AbstractContextManager[None]:
        """Convolutions in `precision`; weights stay float32."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == torch.bfloat16)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Make floating point tensors, in place, the mean of all workers'."""
        if self.ranks == 1 or not tensors:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.ranks
        for tensor, mean in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))

    def sum(self, values: Tensor) -> Tensor:
        """The sum of all workers' values (any shape; float64 on the CPU)."""
        if self.ranks == 1:
            return values
        # NCCL knows no CPU tensors.
        there = values.to(self.device)
        dist.all_reduce(there)
        return there.to(values.device)

    def agree(self, error: UserError | None) -> None:
        """Raise the first error that any worker has on all of them, so that none waits for the others.

        Raises:
            UserError: a worker has one.
        """
        errors: list[UserError | None] = [error]
        if self.ranks > 1:
            errors = [None] * self.ranks
            dist.all_gather_object(errors, error)
        for found in errors:
            if found is not None:
                raise found


def _precision(scaling: TrainScalingConfig, device: torch.device) -> torch.dtype:
    return torch.bfloat16 if in_bfloat16(scaling.precision, device) else torch.float32
