"""Where networks run."""

from __future__ import annotations

from typing import Literal

import torch

from inpaint_core.errors import ConfigError

Precision = Literal["auto", "float32", "bfloat16"]
"""What networks compute in; `auto`: bfloat16 where the device computes it natively."""


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
