"""Progress for a person: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TypeAlias

from tqdm import tqdm

PrintLine: TypeAlias = "Callable[[str], None]"
"""Takes one line for a person, without its line break."""

_SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Counts finished images by status.

    Args:
        total: images there are to do.
        print_line: takes the lines, where standard error is no terminal.
    """

    def __init__(self, total: int, print_line: PrintLine) -> None:
        self._print_line = print_line
        self._counts: Counter[str] = Counter()
        self._total = total
        self._begun = self._said = time.monotonic()
        self._bar = tqdm(total=total, unit=" images", smoothing=0.1) if sys.stderr.isatty() else None

    def add(self, statuses: Iterable[str]) -> None:
        """Count the statuses of finished images."""
        before = self._counts.total()
        self._counts.update(statuses)
        if self._bar is not None:
            self._bar.set_postfix(self._counts, refresh=False)
            self._bar.update(self._counts.total() - before)
        elif time.monotonic() - self._said >= _SECONDS_BETWEEN_LINES:
            self._said = time.monotonic()
            self._print_line(self._line())

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.close()

    def _line(self) -> str:
        done = self._counts.total()
        rate = done / max(time.monotonic() - self._begun, 1e-9)
        counts = ", ".join(f"{count:,} {status}" for status, count in sorted(self._counts.items()))
        return f"{done:,} of {self._total:,} images ({done / self._total:.0%}), {rate:.1f} images/s including start-up: {counts}"
