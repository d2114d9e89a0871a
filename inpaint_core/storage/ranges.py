"""A remote object as a seekable file."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping
from typing import Any


class RangeReader(io.RawIOBase):
    """A file of `size` bytes; `get(Range="bytes=first-last")["Body"]` is that part of it."""

    def __init__(self, get: Callable[..., Mapping[str, Any]], size: int) -> None:
        self._get = get
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        """True: that is all it can do."""
        return True

    def seekable(self) -> bool:
        """True: any part can be asked for."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves without a request."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def tell(self) -> int:
        """The position that the next read starts from."""
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fills the buffer with one request, as far as the object goes."""
        last = min(self._position + len(buffer), self._size) - 1
        if last < self._position:
            return 0
        data = self._get(Range=f"bytes={self._position}-{last}")["Body"]
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
