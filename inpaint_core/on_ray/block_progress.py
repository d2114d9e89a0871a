"""How far the reading of photographs is: an actor beside the driver, whose process loads nothing besides this."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inpaint_core.images.collections.sources import Failure


class BlockProgress:
    """What became of the blocks; lives outside the tasks, so that it outlives them. Counts a block that ran twice once."""

    def __init__(self) -> None:
        self._begun: Counter[int] = Counter()
        self._failures: dict[int, list[Failure]] = {}
        self._enlarged: dict[int, int] = {}

    def begin(self, block: int) -> int:
        """Count one more beginning of a block; returns how many there were since it was last finished."""
        self._begun[block] += 1
        return self._begun[block]

    def finish(self, block: int, failures: list[Failure], enlarged: int) -> None:
        """Note what became of a block; when Ray needs it again, its beginnings are counted anew."""
        self._begun[block] = 0
        self._failures[block] = failures
        self._enlarged[block] = enlarged

    def enlarged(self) -> int:
        """How many photographs are smaller than they are stored."""
        return sum(self._enlarged.values())

    def failures(self) -> list[Failure]:
        """All failures, in the order of the blocks."""
        return [failure for _, failures in sorted(self._failures.items()) for failure in failures]
