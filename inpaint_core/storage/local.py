"""Objects as files below a folder."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import BinaryIO, TypeVar

from inpaint_core.errors import ObjectError, StorageError
from inpaint_core.storage.base import TEMPORARY_FOLDER, IncompleteRead, ObjectInfo, Original, Storage, quoted
from inpaint_core.storage.local_faults import OUT_OF_REACH, fault, out_of_reach
from inpaint_core.storage.local_properties import PERMISSIONS, FileProperties
from inpaint_core.storage.local_tree import FolderTree
from inpaint_core.storage.local_writing import new_file
from inpaint_core.storage.outages import Outages, Verdict
from inpaint_core.storage.s3_options import DEFAULT_S3

T = TypeVar("T")


class LocalStorage(Storage):
    """A folder."""

    def __init__(
        self, root: bytes, temporary_folder: str = TEMPORARY_FOLDER, retry_minutes: float = DEFAULT_S3.retry_minutes
    ) -> None:
        self._root = root
        self.retry_seconds = 60 * retry_minutes
        self._tree = FolderTree(root, temporary_folder)
        self.uri = self._tree.uri
        self._outages = Outages(self.uri, self.retry_seconds, answered=True)

    def list(
        self,
        under: str = "",
        *,
        skip: Callable[[str], bool] | None = None,
        forbidden: Callable[[str, str], None] | None = None,
    ) -> Iterator[ObjectInfo]:
        """See `Storage.list`. A symbolic link is followed, except to a folder that it lies in itself.

        Names that are not valid UTF-8: see `FolderTree.key_of`.
        """
        self.check_readable()
        top = self._tree.path(under.rstrip("/")) if under else self._root
        if not os.path.isdir(top):
            return
        for path in self._tree.walk(top, skip, forbidden):
            found = self._tree.describe(path)
            if found is not None:
                yield found

    def _read(self, key: str, size: int | None) -> tuple[bytes, FileProperties]:
        return self._patiently("read", lambda: self._read_now(key, size))

    def _read_now(self, key: str, size: int | None) -> tuple[bytes, FileProperties]:
        try:
            with self._open_now(key) as file:
                before = os.fstat(file.fileno())
                data = file.read()
                after = os.fstat(file.fileno())
        except OSError as error:
            raise fault(error, self._tree, key, "read") from error
        if size is not None and (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise IncompleteRead(f"{self.uri}: {quoted(key)} is being written: it changed while it was read")
        return data, FileProperties(modified=after.st_mtime_ns, mode=after.st_mode & PERMISSIONS)

    def open_read(self, key: str) -> BinaryIO:
        """See `Storage.open_read`."""
        return self._patiently("read", lambda: self._open_now(key))

    def _open_now(self, key: str) -> BinaryIO:
        path = self._tree.path(key)
        try:
            # Without O_NONBLOCK, opening a named pipe would wait for ever.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise fault(error, self._tree, key, "read") from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise ObjectError(f"{self.uri}: {quoted(key)} is not a regular file")
        return os.fdopen(descriptor, "rb")

    def write(self, key: str, data: bytes) -> None:
        """See `Storage.write`."""
        self._write(key, data, None)

    def write_like(self, key: str, data: bytes, original: Original, *, unchanged: bool = False) -> tuple[str, ...]:
        """See `Storage.write_like`. Of a file: permissions and modification time, where the file system takes them."""
        properties = original.properties
        self._write(key, data, properties if isinstance(properties, FileProperties) else None)
        return ()

    def _write(self, key: str, data: bytes, properties: FileProperties | None) -> None:
        def write_now() -> None:
            with new_file(self._tree, key, properties) as file:
                file.write(data)

        self._patiently("write", write_now)

    def open_write(self, key: str) -> AbstractContextManager[BinaryIO]:
        """See `Storage.open_write`. An outage inside its block is an error: what was written cannot be had again."""
        return new_file(self._tree, key, None)

    def delete(self, key: str) -> None:
        """See `Storage.delete`. Folders that become empty stay."""
        self._patiently("delete", lambda: self._delete_now(key))

    def _delete_now(self, key: str) -> None:
        path = self._tree.path(key)
        self._tree.check_inside(os.path.dirname(path), key)
        try:
            os.unlink(path)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            if os.path.isdir(path):  # a folder is no object: nothing to delete
                return
            raise fault(error, self._tree, key, "delete") from error

    def exists(self, key: str) -> bool:
        """See `Storage.exists`."""
        return self._patiently("read", lambda: self._exists_now(key))

    def _exists_now(self, key: str) -> bool:
        try:
            return stat.S_ISREG(os.stat(self._tree.path(key)).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise fault(error, self._tree, key, "read") from error

    def check_readable(self) -> None:
        """See `Storage.check_readable`."""
        self._patiently("list", self._check_now)

    def _check_now(self) -> None:
        try:
            with os.scandir(self._root):
                pass
        except FileNotFoundError as error:
            raise StorageError(
                f"{self.uri}: there is no such folder; check the path, and that it is mounted"
            ) from error
        except NotADirectoryError as error:
            raise StorageError(f"{self.uri}: is a file; give the folder that contains it") from error
        except OSError as error:
            raise StorageError(
                f"{self.uri}: the folder cannot be listed ({error.strerror}); check its permissions"
            ) from error

    def on_outage(self, tell: Callable[[str], None]) -> None:
        """See `Storage.on_outage`."""
        self._outages.tell = tell

    def outage_seconds(self) -> float:
        """See `Storage.outage_seconds`."""
        return self._outages.seconds()

    def contains(self, other: Storage) -> bool:
        """See `Storage.contains`. Links, `..`, bind mounts and letter case of the file system are seen through."""
        if not isinstance(other, LocalStorage):
            return False
        outer, inner = os.path.realpath(self._root), os.path.realpath(other._root)
        while True:
            if inner == outer or (os.path.exists(inner) and os.path.exists(outer) and os.path.samefile(inner, outer)):
                return True
            parent = os.path.dirname(inner)
            if parent == inner:
                return False
            inner = parent

    def remove_leftovers(self, older_than: float) -> int:
        """See `Storage.remove_leftovers`."""
        limit = time.time() - older_than
        removed = 0
        self._tree.check_inside(self._tree.temporary_folder, self._tree.temporary_name)
        try:
            with os.scandir(self._tree.temporary_folder) as entries:
                for entry in entries:
                    # Not the time of modification, which may be that of another file.
                    if entry.stat(follow_symlinks=False).st_ctime < limit:
                        os.unlink(entry.path)
                        removed += 1
        except FileNotFoundError:  # nothing was ever written, or another process tidies up as well
            return removed
        except OSError as error:
            raise fault(error, self._tree, self._tree.temporary_name, "delete") from error
        return removed

    def _patiently(self, kind: str, work: Callable[[], T]) -> T:
        """What `work` returns, which is called again while the folder itself is out of reach, as network mounts can be."""
        with self._outages.retries(kind, self.retry_seconds) as retries:
            raised: ObjectError | StorageError | None = None
            while True:
                try:
                    result = work()
                except (ObjectError, StorageError) as error:
                    cause = error.__cause__
                    if not isinstance(cause, OSError) or cause.errno not in OUT_OF_REACH:
                        raise
                    reason = out_of_reach(self._root)
                    if reason is None and raised is not None:  # it is back, or was never away: this is of the file
                        raise
                    raised = error
                    if retries.failed(reason or cause.strerror or "", silence=0) is not Verdict.AGAIN:
                        raise
                else:
                    self._outages.answered(kind)
                    return result
                retries.wait()
