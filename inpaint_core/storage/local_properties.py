"""What of a file is kept besides its bytes."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass, replace

from inpaint_core.storage.base import Properties

PERMISSIONS = 0o777
"""The bits of a file's mode that are kept: not setuid and the like, which are for programs."""


@dataclass(frozen=True, kw_only=True)
class FileProperties(Properties):
    """Of one file as it was read: modification time in nanoseconds since 1970 (None: now), and permissions."""

    modified: int | None
    mode: int

    def without_time(self) -> FileProperties:
        """See `Properties.without_time`."""
        return replace(self, modified=None)

    def give_to(self, descriptor: int) -> None:
        """Set both on an open file; file systems that have none, or let only a file's owner set them, keep theirs."""
        with suppress(OSError):
            os.fchmod(descriptor, self.mode)
        if self.modified is not None:
            with suppress(OSError):
                os.utime(descriptor, ns=(time.time_ns(), self.modified))
