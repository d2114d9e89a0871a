"""How many pixels of decoded images a worker holds at a time."""

from __future__ import annotations

import ctypes
import threading
from typing import Protocol


class Holder(Protocol):
    """What pixels are counted for: an image on its way. `over`: it was given up, and takes no pixels any more."""

    over: bool


class PixelBudget:
    """Counts the pixels of the images that are decoded and not yet encoded and measured. Used by several threads.

    Nobody waits here: who finds no room comes again later. Until then later ones find none either, so that small images do not
    keep a large one waiting. An image alone always has room, however large it is.

    Args:
        most: pixels at a time.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: dict[int, int] = {}  # by the identity of the holder
        self._refused: set[int] = set()
        self._lock = threading.Lock()

    def take(self, holder: Holder, pixels: int, *, at_any_rate: bool = False) -> bool:
        """Count the pixels of an image, if there is room for them; returns whether there is.

        Args:
            holder: the image.
            pixels: their number.
            at_any_rate: even if there is no room.
        """
        with self._lock:
            if holder.over:  # its step goes on in a thread that was left behind
                return True
            full = bool(self._held) and sum(self._held.values()) + pixels > self._most
            if not at_any_rate and (full or (self._refused and id(holder) not in self._refused)):
                self._refused.add(id(holder))
                return False
            self._refused.discard(id(holder))
            self._held[id(holder)] = pixels
            return True

    def give_back(self, holder: Holder) -> None:
        """Count the pixels of an image no longer, if they are."""
        with self._lock:
            self._held.pop(id(holder), None)
            self._refused.discard(id(holder))


def return_free_memory() -> None:
    """Give memory that was freed back to the system, where the C library can (glibc).

    It keeps blocks of up to 32 MB for itself, scattered over its heaps: after large images a gigabyte and more.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
