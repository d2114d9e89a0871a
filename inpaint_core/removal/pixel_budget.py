"""How many pixels of decoded images a worker holds at a time."""

from __future__ import annotations

import threading
from typing import Protocol


class Holder(Protocol):
    """What pixels are counted for: an image on its way. `over`: it was given up, and takes no pixels any more."""

    over: bool


class PixelBudget:
    """Counts the pixels of the images that are decoded and not yet encoded and measured. Used by several threads.

    Nobody waits here: who finds no room comes again later. Until then later ones find none either, so that small images do not
    keep a large one waiting. The next image always has room alone, however large it is; one that comes before its turn, since
    it was read faster, finds half of the room.

    Args:
        most: pixels at a time.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        # All by the identity of the holder.
        self._expected: dict[int, None] = {}
        self._refused: set[int] = set()
        self._held: dict[int, int] = {}
        self._lock = threading.Lock()

    def expect(self, holder: Holder) -> None:
        """Say that an image will come, after those that were said before."""
        with self._lock:
            self._expected[id(holder)] = None

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
            early = next(iter(self._expected), id(holder)) != id(holder)
            self._expected.pop(id(holder), None)
            room = (self._most // 2 if early else self._most) - sum(self._held.values())
            full = pixels > room and (early or bool(self._held))
            if not at_any_rate and (full or (self._refused and id(holder) not in self._refused)):
                self._refused.add(id(holder))
                return False
            self._refused.discard(id(holder))
            self._held[id(holder)] = pixels
            return True

    def give_back(self, holder: Holder) -> None:
        """Count an image no longer: neither its pixels, nor as one that will come."""
        with self._lock:
            self._expected.pop(id(holder), None)
            self._refused.discard(id(holder))
            self._held.pop(id(holder), None)
