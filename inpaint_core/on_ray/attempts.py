"""How often the parts of a removal job were begun: an actor beside the driver, whose process loads nothing besides this."""

from __future__ import annotations

import time
import uuid


class Attempts:
    """Counts how often a block or an image was begun; lives outside the workers, so that it outlives them."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._token = uuid.uuid4().hex[:8]
        self._first: float | None = None
        self._starts = 0

    def start(self) -> int:
        """Count one more start of a worker; returns how many there were since anything was begun."""
        self._starts += 1
        return self._starts

    def begin(self, name: str) -> int:
        """Count one more beginning of `name`; returns how many there were, this one included."""
        self._first = self._first or time.monotonic()
        self._starts = 0
        self._counts[name] = self._counts.get(name, 0) + 1
        return self._counts[name]

    def token(self) -> str:
        """A name of this count: another one counts from the beginning."""
        return self._token

    def seconds(self) -> float:
        """Seconds since the first beginning of anything; 0 where nothing was begun."""
        return time.monotonic() - self._first if self._first else 0.0
