"""Random numbers that follow from keys, for many samples in one call.

A key is a uint64 that stands for a stream of its own, as a state of SplitMix64 does (Steele, Lea and Flood, "Fast
splittable pseudorandom number generators", OOPSLA 2014); number i of the stream is that generator's i-th output. It may
be used as a number, or as the key of another stream. So what a sample draws depends on its key alone, not on the samples
beside it, and numpy computes it for all of them together: a `numpy.random.Generator` for each takes longer to make than
most holes take to draw.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]

_INCREMENT = np.uint64(0x9E3779B97F4A7C15)  # 2^64 divided by the golden ratio, odd


def sample_keys(seed: tuple[int, ...], positions: NDArray[np.int64]) -> Keys:
    """The keys of samples, (n,).

    Args:
        seed: non-negative numbers that all samples share, such as seed and epoch of a run.
        positions: (n,) which samples, from 0.
    """
    root: Keys = np.asarray(np.random.SeedSequence(seed).generate_state(1, np.uint64), np.uint64)
    return child_keys(root, positions)


def child_keys(keys: Keys, numbers: NDArray[np.int64] | int) -> Keys:
    """Outputs of the keys' streams: uint64, of the shape that keys and numbers broadcast to.

    Args:
        keys: an array, not a scalar: integers of arrays wrap around.
        numbers: which output of each, from 0.
    """
    state = keys + (np.atleast_1d(numbers).astype(np.uint64) + np.uint64(1)) * _INCREMENT  # numpy warns of scalars only
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    keys_of: Keys = state ^ (state >> np.uint64(31))
    return keys_of


def integers(
    keys: Keys, numbers: NDArray[np.int64] | int, low: int, high: int | NDArray[np.int64]
) -> NDArray[np.int64]:
    """Integers from `low` up to, but without, `high`; one for each output of `child_keys`.

    The upper 32 bits are scaled to the range: no value is more than 2^-32 times the size of the range likelier than
    another.
    """
    span = np.asarray(high - low).astype(np.uint64)
    return low + (((child_keys(keys, numbers) >> np.uint64(32)) * span) >> np.uint64(32)).astype(np.int64)


def uniforms(keys: Keys, number: int) -> NDArray[np.float64]:
    """Numbers in [0, 1), of 53 bits."""
    return (child_keys(keys, number) >> np.uint64(11)).astype(np.float64) * 2.0**-53
