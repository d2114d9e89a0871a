"""Memory that was freed, given back to the system."""

from __future__ import annotations

import contextlib
import ctypes

LARGE_PIXELS = 10_000_000
"""Pixels of an image after whose steps it is worth it."""


def give_back_freed_memory() -> None:
    """Have the C library return what it keeps of freed memory for later: after large images, hundreds of megabytes.

    It keeps blocks of up to 32 MB, scattered over the heaps of all threads. Takes a few milliseconds. Does nothing where the
    C library is not glibc.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
