"""Objects in any other store that fsspec has an implementation for: `gs://`, `az://`, `memory://`, ..."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, BinaryIO, cast

import fsspec

from inpaint_core.errors import ConfigError, ObjectError, StorageError
from inpaint_core.storage.base import (
    NO_ROOM,
    Action,
    ObjectInfo,
    Properties,
    Storage,
    missing,
    no_room_for_upload,
    printable,
    quoted,
    utc,
)
from inpaint_core.storage.uris import VALID_URIS, scheme_of

_TIME_FIELDS = ("mtime", "LastModified", "last_modified", "updated", "modified", "created")


class OtherStorage(Storage):
    """A root of an fsspec file system, with that implementation's own retries, settings and credentials.

    A write is whole or not at all where the implementation's upload is, as object stores' are.
    """

    _fs: Any
    _pid: int
    _lock: threading.Lock

    def __init__(self, uri: str) -> None:
        scheme = scheme_of(uri)
        try:
            implementation = fsspec.get_filesystem_class(scheme)
        except ValueError as error:
            raise ConfigError(f"{quoted(uri)}: '{scheme}' is not a known scheme: give {VALID_URIS}.") from error
        except ImportError as error:
            raise ConfigError(f"{quoted(uri)}: {scheme}:// needs a package that is not installed ({error}).") from error
        try:
            root: str = implementation._strip_protocol(uri).rstrip("/")
        except ValueError as error:  # implementations that take a URI apart with `urlsplit`
            raise ConfigError(f"{quoted(uri)} is not a valid URI: give {scheme}://bucket/prefix.") from error
        # The caller's URI is kept for the connection (it can name a host); `::` would chain file systems.
        if "::" in uri or "?" in uri or not root.strip("/"):
            raise ConfigError(f"{quoted(uri)} is not a valid URI here: give {scheme}://bucket/prefix.")
        self._given = uri
        self._root = root
        self._implementation = implementation
        self.uri = printable(uri.rstrip("/"))
        self._forget_connection()

    def list(
        self,
        under: str = "",
        *,
        skip: Callable[[str], bool] | None = None,
        forbidden: Callable[[str, str], None] | None = None,
    ) -> Iterator[ObjectInfo]:
        """See `Storage.list`."""
        self.check_readable()
        folders = [self._scan(self._path(under.rstrip("/")) if under else self._root)]
        while folders:
            found = next(folders[-1], None)
            if found is None:
                folders.pop()
                continue
            path, is_folder, info = found
            if is_folder:
                if skip is not None and skip(path[len(self._root) :].strip("/")):
                    continue
                folders.append(self._scan(path))
            else:
                yield self._describe(path, info)

    def _read(self, key: str, size: int | None) -> tuple[bytes, Properties]:
        path = self._path(key)
        with self._faults("read", key) as fs:
            return cast(bytes, fs.cat_file(path)), Properties()

    def open_read(self, key: str) -> BinaryIO:
        """See `Storage.open_read`."""
        path = self._path(key)
        with self._faults("read", key) as fs:
            return cast(BinaryIO, fs.open(path, "rb"))

    def write(self, key: str, data: bytes) -> None:
        """See `Storage.write`."""
        path = self._path(key)
        with self._faults("write", key) as fs:
            fs.makedirs(path.rpartition("/")[0], exist_ok=True)  # does nothing where folders are only parts of keys
            fs.pipe_file(path, data)

    @contextmanager
    def open_write(self, key: str) -> Iterator[BinaryIO]:
        """See `Storage.open_write`. The file waits on the local disk until the block has ended."""
        path = self._path(key)
        with tempfile.NamedTemporaryFile() as file:
            try:
                yield cast(BinaryIO, file)
                if file.closed:
                    raise ValueError(f"{quoted(key)}: the file of open_write was closed inside its block")
                file.flush()
            except OSError as error:
                if error.errno in NO_ROOM:
                    raise no_room_for_upload(self.uri) from error
                raise
            with self._faults("write", key) as fs:
                fs.makedirs(path.rpartition("/")[0], exist_ok=True)
                fs.put_file(file.name, path)

    def delete(self, key: str) -> None:
        """See `Storage.delete`."""
        path = self._path(key)
        with self._faults("delete", key) as fs:
            if fs.isfile(path):
                fs.rm_file(path)

    def exists(self, key: str) -> bool:
        """See `Storage.exists`."""
        path = self._path(key)
        with self._faults("read", key) as fs:
            return bool(fs.isfile(path))

    def check_readable(self) -> None:
        """See `Storage.check_readable`. Where folders are only parts of keys, a missing one is an empty one."""
        with self._faults("list") as fs:
            try:
                fs.ls(self._root, detail=True)
            except FileNotFoundError:
                fs.ls(self._root[: self._root.find("/", 1)] if "/" in self._root[1:] else self._root, detail=True)

    def on_outage(self, tell: Callable[[str], None]) -> None:
        """See `Storage.on_outage`. Nothing is told: how long a request is sent again is the implementation's own affair."""

    def contains(self, other: Storage) -> bool:
        """See `Storage.contains`."""
        return (
            isinstance(other, OtherStorage)
            and self._implementation is other._implementation
            and f"{other._root}/".startswith(f"{self._root}/")
        )

    def _path(self, key: str) -> str:
        path = f"{self._root}/{key}"
        if (
            not key
            or any(part in ("", ".", "..") for part in key.split("/"))
            or any("\ud800" <= c <= "\udfff" or c == "\0" for c in key)
            or self._implementation._strip_protocol(path) != path
        ):
            raise ObjectError(f"{self.uri}: {quoted(key)} cannot be a key here; rename the object")
        return path

    def _scan(self, folder: str) -> Iterator[tuple[str, bool, dict[str, Any]]]:
        """Paths in a folder, whether each is a folder, and what is known of it; in UTF-8 order of the keys."""
        with self._faults("list") as fs:
            try:
                entries = fs.ls(folder, detail=True)
            except FileNotFoundError:  # a folder that is only a part of keys, and has none
                entries = []
        found = [(entry["name"], entry["type"] == "directory", entry) for entry in entries]
        # Some stores list the folder's own marker object in it.
        found = [(name.rstrip("/") if is_folder else name, is_folder, entry) for name, is_folder, entry in found]
        found = [item for item in found if item[0].startswith(f"{folder}/") and not item[0].endswith("/")]
        return iter(sorted(found, key=lambda item: (item[0] + "/" if item[1] else item[0]).encode("utf-8", "replace")))

    def _describe(self, path: str, info: dict[str, Any]) -> ObjectInfo:
        stamp = next((info[name] for name in _TIME_FIELDS if info.get(name) is not None), None)
        if stamp is None:
            with self._faults("list") as fs:
                stamp = fs.modified(path)
        modified = _as_utc(stamp)
        size = int(info["size"])
        nanoseconds = int(modified.timestamp() * 1_000_000) * 1000
        return ObjectInfo(key=path[len(self._root) + 1 :], size=size, etag=f"{size}-{nanoseconds}", modified=modified)

    @contextmanager
    def _faults(self, action: Action, key: str | None = None) -> Iterator[Any]:
        """The file system; what goes wrong with it in the block becomes the user's error."""
        try:
            yield self._connected()
        except FileNotFoundError as error:
            if key is not None and action == "read":
                raise missing(self.uri, key) from error
            raise StorageError(f"{self.uri}: there is no such bucket or folder; check the URI") from error
        except PermissionError as error:
            if key is not None and action == "read":
                raise ObjectError(f"{self.uri}: {quoted(key)} may not be read with these credentials") from error
            raise StorageError(f"{self.uri}: these credentials may not {action} here; use others") from error
        except (IsADirectoryError, NotADirectoryError, FileExistsError) as error:
            if key is None:
                raise StorageError(f"{self.uri}: is not a folder; give the folder that contains it") from error
            raise ObjectError(
                f"{self.uri}: {quoted(key)} cannot be an object here: a folder and a file would have one name"
            ) from error
        # Each implementation raises its own library's exceptions, and none of those can be named here.
        except Exception as error:
            raise StorageError(
                f"{self.uri}: cannot {action} ({type(error).__name__}); check the URI, the credentials and the network"
            ) from error

    def _connected(self) -> Any:
        if self._pid != os.getpid():  # forked: the lock may be held for ever, and connections are the parent's
            self._forget_connection()
        with self._lock:
            if self._fs is None:
                self._fs, _ = fsspec.core.url_to_fs(self._given, skip_instance_cache=True, use_listings_cache=False)
            return self._fs

    def _forget_connection(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._fs = None

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_fs", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget_connection()


def _as_utc(stamp: datetime | float | str) -> datetime:
    if isinstance(stamp, str):
        stamp = datetime.fromisoformat(stamp)
    if isinstance(stamp, datetime):
        return stamp.replace(tzinfo=UTC) if stamp.tzinfo is None else stamp.astimezone(UTC)
    return utc(stamp)
