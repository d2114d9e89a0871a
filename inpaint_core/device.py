"""Where networks run, and when they cannot any more."""

from __future__ import annotations

from typing import Literal

import torch

from inpaint_core.errors import ConfigError, DeviceFault, ImageError

Precision = Literal["auto", "float32", "bfloat16"]
"""What networks compute in; `auto`: bfloat16 where the device computes it natively."""

_OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation, where it comes from elsewhere than torch's own allocator


def choose_device(choice: Literal["auto", "cpu", "cuda"], key: str, *, place: str = "here") -> torch.device:
    """The device that a config asks for; `auto`: the GPU where this process sees one.

    Args:
        choice: the setting.
        key: its config key, for messages.
        place: what this process is to a user, for messages: `here`, or `on this worker`.

    Raises:
        ConfigError: cuda was requested, and torch sees no GPU.
    """
    if choice == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"{key}: cuda was requested, but torch sees no GPU {place}; use cpu or auto")
    return torch.device("cuda" if choice != "cpu" and torch.cuda.is_available() else "cpu")


def in_bfloat16(precision: Precision, device: torch.device) -> bool:
    """Whether networks run in bfloat16 on a device, by the setting `precision`."""
    return precision == "bfloat16" or (precision == "auto" and has_bfloat16(device))


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device computes in bfloat16 natively; without the instructions it is several times slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # No public name says so.
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def raise_device_fault(error: Exception) -> None:
    """Raise a `DeviceFault` where an error is, or hides, one of the GPU that this process cannot recover from.

    A CUDA error is sticky: once a kernel has failed, each later call fails. torch gives it as `torch.AcceleratorError`;
    cuBLAS and cuDNN as a plain `RuntimeError`, so that the GPU itself is asked after any unforeseen error. Lack of memory
    is no fault: a smaller batch may fit.

    Raises:
        DeviceFault: with the first line of torch's message.
    """
    if isinstance(error, ImageError):
        return
    fault: Exception | None = error if _is_fault(error) else None
    if fault is None and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        try:
            torch.cuda.synchronize()
        except torch.AcceleratorError as later:
            fault = later if _is_fault(later) else None
    if fault is not None:
        raise DeviceFault(str(fault).partition("\n")[0]) from error


def _is_fault(error: Exception) -> bool:
    return isinstance(error, torch.AcceleratorError) and getattr(error, "error_code", None) != _OUT_OF_MEMORY
