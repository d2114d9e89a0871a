"""Parts of the local storage: what a file has besides its bytes, files that are being written, folders."""

from __future__ import annotations

import errno
import io
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from inpaint_core.errors import ObjectError, StorageError
from inpaint_core.storage.base import Properties

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

OUT_OF_REACH = frozenset(
    {
        *(errno.ESTALE, errno.ENOTCONN, errno.EIO, errno.ETIMEDOUT),
        *(errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH),
    }
)
"""Error numbers of a network mount whose server does not answer; some are of a damaged file, too."""

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


class NewFile(io.FileIO):
    """A file that is being written; its own errors are the store's, so that those of its user are told apart."""

    def __init__(self, descriptor: int, fault: Callable[[OSError], ObjectError | StorageError]) -> None:
        super().__init__(descriptor, "wb")
        self._fault = fault

    def write(self, data: ReadableBuffer) -> int:
        """See `io.FileIO.write`; errors are those of the store."""
        try:
            return super().write(data)
        except OSError as error:
            raise self._fault(error) from error

    def close(self) -> None:
        """See `io.FileIO.close`; errors are those of the store."""
        try:
            super().close()
        except OSError as error:  # network file systems may tell only now
            raise self._fault(error) from error


def out_of_reach(root: bytes) -> str | None:
    """Why nothing in a folder can be reached at the moment, in the system's words; None: it can be listed."""
    try:
        with os.scandir(root):
            return None
    except OSError as error:
        return error.strerror if error.errno in OUT_OF_REACH else None


def is_folder(entry: os.DirEntry[bytes]) -> bool:
    """Whether an entry of a folder is one, also through a link."""
    try:
        return entry.is_dir()
    except OSError:  # a link that leads nowhere that can be seen; the listing says so
        return False


def make_folders(folder: bytes) -> None:
    """As `os.makedirs`, which needs a level of Python's stack for each level of folders."""
    absent = []
    while not os.path.isdir(folder):
        absent.append(folder)
        folder = os.path.dirname(folder)
    for folder in reversed(absent):
        try:
            os.mkdir(folder)
        except FileExistsError:
            if not os.path.isdir(folder):
                raise
