"""Interface of all storages."""

from __future__ import annotations

import errno
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import BinaryIO, Literal, Self

from inpaint_core.errors import ObjectError, StorageError

TEMPORARY_FOLDER = ".inpaint-tmp"
"""Where a local root keeps incomplete files, unless its opener names another folder; never listed, and no key may lie in it."""

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Error numbers of a disk that is full."""

Action = Literal["list", "read", "write", "delete"]

_PAUSES_OF_READING = (0.2, 0.4, 0.8)
"""Seconds before an object that did not come whole is read again."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_SECOND = 253_402_300_799  # 9999-12-31, the last day that a datetime can hold


@dataclass(frozen=True)
class ObjectInfo:
    """One object of a listing.

    `size` is in bytes; `etag` changes when the content does; `modified` is in UTC. `problem` says in a sentence why the
    object cannot be read by its key (None: nothing known against it); `key` is then for people, not for `read`.
    """

    key: str
    size: int
    etag: str
    modified: datetime
    problem: str | None = None


@dataclass(frozen=True, kw_only=True)
class Properties:
    """Properties of an object in a store besides its bytes. Each kind of store has its own, and knows no other's.

    `encoding` is the Content-Encoding, such as `gzip`, in which the bytes are stored; None: as they are.
    """

    encoding: str | None = None

    def without_time(self) -> Properties:
        """The same less the modification time."""
        return self


@dataclass(frozen=True)
class Original:
    """An object that was read: where it is, and its properties then."""

    storage: Storage
    key: str
    properties: Properties


class MissingObject(ObjectError):
    """The object is not there (any more)."""


class UnansweredRequest(ObjectError):
    """The store answers, but not what concerns this object; what was asked may have been done all the same."""


class IncompleteRead(ObjectError):
    """What was read is not the whole object."""


class Storage(ABC):
    """One root: a folder, or a bucket with a prefix.

    May be used from many threads at once, pickled, and used in a forked or spawned process. Methods raise `ObjectError`
    for a fault of one object and `StorageError` when the store as a whole cannot be used.
    """

    uri: str
    """The root, normalised and without anything secret."""

    retry_seconds: float = 600.0
    """How long a request that fails for a passing reason (5xx, throttling, network) is sent again, in seconds."""

    request_timeout: float = 20.0
    """Silence after which one request counts as failed, in seconds."""

    @abstractmethod
    def list(
        self,
        under: str = "",
        *,
        skip: Callable[[str], bool] | None = None,
        forbidden: Callable[[str, str], None] | None = None,
    ) -> Iterator[ObjectInfo]:
        """Every object of the root, or those below the folder `under`; nothing where that folder does not exist.

        Args:
            under: a folder, relative to the root.
            skip: whether a folder (without `/` at its end) need not be listed. Stores without folders list it all the same.
            forbidden: gets each folder below the root that may not be read, and the reason; the listing goes on. None: such a
                folder is an error.

        Streams: a listing of any length takes the memory of one page (S3) or of the folders on the way (others). In
        UTF-8 order of the keys on local folders and AWS; other stores keep an order of their own.

        Raises:
            StorageError: the root, or a folder in it, cannot be listed.
        """

    def read(self, key: str, size: int | None = None) -> bytes:
        """The whole object; arguments and errors as of `read_original`."""
        return self.read_original(key, size)[0]

    def read_original(self, key: str, size: int | None = None) -> tuple[bytes, Original]:
        """The whole object, and what another object needs to have its properties too (`write_like`).

        Args:
            key: of the object.
            size: bytes that the listing said. An answer of another length is not the whole object, or not the object
                that was listed: it is read again, a few times. None: any length will do.

        Raises:
            MissingObject: no longer there.
            IncompleteRead: another length than `size`, also when read again.
            ObjectError: this one cannot be read.
            StorageError: the store cannot be used.
        """
        for pause in _PAUSES_OF_READING:
            try:
                return self._read_whole(key, size)
            except IncompleteRead:
                time.sleep(pause)
        return self._read_whole(key, size)

    def _read_whole(self, key: str, size: int | None) -> tuple[bytes, Original]:
        """One attempt of `read_original`."""
        data, properties = self._read(key, size)
        if size is None or len(data) == size:
            return data, Original(self, key, properties)
        raise IncompleteRead(
            f"{self.place}: {quoted(key)} came with {len(data):,} bytes where the listing said {size:,}: it has changed "
            "since, or the answer was cut"
        )

    @abstractmethod
    def _read(self, key: str, size: int | None) -> tuple[bytes, Properties]:
        """What the store answers in one attempt; `size` is what the listing said."""

    @abstractmethod
    def open_read(self, key: str) -> BinaryIO:
        """The object as a seekable binary file; errors as in `read`."""

    @abstractmethod
    def write(self, key: str, data: bytes) -> None:
        """Stores the object whole or not at all, whatever happens to this process.

        Raises:
            ObjectError: this key cannot be stored here.
            StorageError: no write access, no room, or the store cannot be used.
        """

    def write_like(self, key: str, data: bytes, original: Original, *, unchanged: bool = False) -> tuple[str, ...]:
        """As `write`, with the properties of an object that was read, where this store is of the same kind.

        Args:
            key: of the new object.
            data: its bytes.
            original: the object that was read.
            unchanged: `data` are the bytes that were read: a store that can copy them itself may do so.

        Returns:
            Names of the properties that were lost.
        """
        self.write(key, data)
        return ()

    @abstractmethod
    def open_write(self, key: str) -> AbstractContextManager[BinaryIO]:
        """A binary file that becomes the object when the block ends without an exception; errors as in `write`.

        The block leaves the file open.
        """

    @abstractmethod
    def delete(self, key: str) -> None:
        """Removes the object; nothing happens where it is missing."""

    @abstractmethod
    def exists(self, key: str) -> bool:
        """Whether the object is there."""

    @abstractmethod
    def check_readable(self) -> None:
        """Send one request to the store, so that a wrong root or credential shows before the work starts.

        Raises:
            StorageError: folder or bucket missing, credentials refused, or the store not reachable.
        """

    @abstractmethod
    def contains(self, other: Storage) -> bool:
        """Whether `other`'s root is this root or lies inside it."""

    @abstractmethod
    def on_outage(self, tell: Callable[[str], None]) -> None:
        """Pass the lines on lasting outages to `tell` instead of to the log; of this process alone."""

    def outage_seconds(self) -> float:
        """Seconds so far in which requests waited for a store that answered none of their kind."""
        return 0.0

    def with_patience(self, seconds: float) -> Self:
        """The same root, where requests are sent again for so many seconds at most."""
        hasty = copy(self)
        hasty.retry_seconds = min(seconds, self.retry_seconds)
        return hasty

    def remove_leftovers(self, older_than: float) -> int:
        """Deletes what killed processes left half written, untouched for `older_than` seconds; gives the number.

        Only folders have such leftovers: object stores forget a write that does not end.
        """
        return 0

    @property
    def place(self) -> str:
        """The root, told from roots of the same URI in other services."""
        return self.uri

    def __repr__(self) -> str:
        return f"Storage({self.uri!r})"


def printable(text: str) -> str:
    """`text` on one line, with what cannot be printed escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def quoted(key: str) -> str:
    """A key as it stands in a sentence."""
    return f"'{printable(key)}'"


def utc(seconds: float) -> datetime:
    """A time stamp of a file as a datetime; times that no datetime can hold become the nearest one it can."""
    return _EPOCH + timedelta(seconds=min(max(seconds, 0.0), _LAST_SECOND))


def missing(uri: str, key: str) -> MissingObject:
    """The error of an object that is not there."""
    return MissingObject(f"{uri}: {quoted(key)} no longer exists")


def no_room_for_upload(uri: str) -> StorageError:
    """The error of an upload that waits on a local disk which is full."""
    return StorageError(
        f"{uri}: no space left in {tempfile.gettempdir()} for temporary files; free some, or set TMPDIR"
    )
