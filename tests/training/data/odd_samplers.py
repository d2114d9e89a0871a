"""Samplers of holes that misbehave, for processes that load no torch."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from inpaint_core.hole_masks.keyed_random import Keys
from inpaint_core.hole_masks.sampler import HoleSampler


class Broken(HoleSampler):
    """Draws nothing."""

    def __call__(self, keys: Keys) -> NDArray[np.bool_]:
        raise ZeroDivisionError(f"no hole for {len(keys)} keys")


class Slow(HoleSampler):
    """Takes its time."""

    def __call__(self, keys: Keys) -> NDArray[np.bool_]:
        time.sleep(60)
        return super().__call__(keys)
