"""Where networks run."""

from __future__ import annotations

from typing import Literal

import torch

from inpaint_core.errors import ConfigError


def choose_device(choice: Literal["auto", "cpu", "cuda"], key: str) -> torch.device:
    """The device that a config asks for; `auto`: the GPU where this process sees one.

    Raises:
        ConfigError: cuda is asked for, by the config key `key`, and torch sees no GPU here.
    """
    if choice == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"{key}: cuda is asked for, but torch sees no GPU here; say cpu or auto")
    return torch.device("cuda" if choice != "cpu" and torch.cuda.is_available() else "cpu")
