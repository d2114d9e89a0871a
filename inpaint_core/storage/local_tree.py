"""The files below a folder, and the keys that they have."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator

from inpaint_core.errors import ObjectError, StorageError
from inpaint_core.storage.base import ObjectInfo, printable, quoted, utc

MAX_NAME_BYTES = 255  # of one component, on every common file system of Linux and macOS

_BACKSLASH = b"\\"

_SPECIAL_FILES = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class FolderTree:
    """A folder whose files are the objects. Paths are bytes, because file names are: neither locale nor normalisation can
    change a key.
    """

    def __init__(self, root: bytes, temporary_folder: str) -> None:
        """
        Args:
            root: the folder.
            temporary_folder: name of the folder in it whose files are no objects.
        """
        self.root = root
        self.uri = printable(root.decode("utf-8", "backslashreplace"))
        self.temporary_name = temporary_folder
        self.temporary_folder = os.path.join(root, temporary_folder.encode())

    def path(self, key: str) -> bytes:
        """The file of a key, where key and file belong to each other and to no others.

        Raises:
            ObjectError: no file can have this key.
        """
        try:
            raw = key.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ObjectError(
                f"{self.uri}: {quoted(key)} is not valid Unicode, so no file can have this key"
            ) from error
        parts = raw.split(b"/")
        if b"\0" in raw:
            reason = "it has a NUL character"
        elif raw.startswith(b"/"):
            reason = "it starts with '/'"
        elif b"" in parts:
            reason = "it has an empty folder or file name ('//', or '/' at the end)"
        elif b"." in parts or b".." in parts:
            reason = "it has '.' or '..' as a folder or file name"
        elif max(len(part) for part in parts) > MAX_NAME_BYTES:
            reason = f"it has a folder or file name of more than {MAX_NAME_BYTES} bytes"
        elif f"{key}/".startswith(f"{self.temporary_name}/"):
            reason = f"{self.temporary_name}/ is for files that are not whole yet"
        else:
            return os.path.join(self.root, raw)
        raise ObjectError(f"{self.uri}: {quoted(key)} cannot be a file here: {reason}; rename the object")

    def check_inside(self, folder: bytes, key: str) -> None:
        """Refuse a folder that a link leads out of the root: what is written or deleted there is not this store's.

        An `lstat` for each folder between root and key, some microseconds; the root itself may be reached by a link.

        Raises:
            StorageError: with the link's name.
        """
        at = self.root
        for part in folder[len(self.root) :].split(b"/"):
            at = os.path.join(at, part)
            if part and os.path.islink(at):
                root, real = os.path.realpath(self.root), os.path.realpath(at)
                if os.path.commonpath([root, real]) != root:
                    link, leads_to = (printable(path.decode("utf-8", "backslashreplace")) for path in (at, real))
                    raise StorageError(
                        f"{self.uri}: {quoted(key)} would be written or deleted outside this folder, since {link} is a "
                        f"symbolic link to {leads_to}; remove the link, or choose another output"
                    )

    def walk(
        self, top: bytes, skip: Callable[[str], bool] | None, forbidden: Callable[[str, str], None] | None
    ) -> Iterator[bytes]:
        """Paths of everything below `top` that is not a folder, in UTF-8 order of the keys.

        Args:
            top: the root or a folder below it.
            skip: takes the key of a folder; whether it is left out.
            forbidden: takes key and reason of a folder that may not be listed; None: such a folder is an error.

        Raises:
            StorageError: a folder cannot be listed.
        """
        open_folders = [self._identity(top)]
        stack = [(top, self._scan(top))]
        while stack:
            folder, names = stack[-1]
            name = next(names, None)
            if name is None:
                stack.pop()
                open_folders.pop()
                continue
            path = os.path.join(folder, name)
            if not name.endswith(b"/"):
                yield path
                continue
            path = path[:-1]
            if path == self.temporary_folder or (skip is not None and skip(self.key_of(path))):
                continue
            try:
                identity = self._identity(path)
                inside = self._scan(path) if identity not in open_folders else None
            except _ForbiddenFolder as error:
                if forbidden is None:
                    raise
                forbidden(self.key_of(path), error.reason)
                continue
            if inside is not None:
                open_folders.append(identity)
                stack.append((path, inside))

    def key_of(self, path: bytes) -> str:
        """The key of a path.

        That of a name which is not valid UTF-8 begins with `./`, which no other key does; what is not valid is escaped, and so
        are backslashes.
        """
        raw = path[len(self.root) :].lstrip(b"/")
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            return f"./{raw.replace(_BACKSLASH, 2 * _BACKSLASH).decode('utf-8', 'backslashreplace')}"

    def describe(self, path: bytes) -> ObjectInfo | None:
        """The listing's entry of a path; None where it has been deleted since its folder was read."""
        key = self.key_of(path)
        problem: str | None = None
        try:
            status = os.stat(path)
        except OSError as error:
            try:
                status = os.lstat(path)
            except FileNotFoundError:
                return None
            broken = stat.S_ISLNK(status.st_mode) and error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
            problem = "is a symbolic link to nothing" if broken else f"cannot be reached: {error.strerror}"
        for is_kind, kind in _SPECIAL_FILES:
            if is_kind(status.st_mode):
                problem = f"is {kind}, not a file"
        if stat.S_ISDIR(status.st_mode):  # it took a file's place since its folder was read
            return None
        if key.startswith("./"):
            problem = "the file name is not valid UTF-8; rename the file"
        return ObjectInfo(
            key=key,
            size=status.st_size if problem is None else 0,
            etag=f"{status.st_size}-{status.st_mtime_ns}",
            modified=utc(status.st_mtime),
            problem=problem,
        )

    def _scan(self, folder: bytes) -> Iterator[bytes]:
        """Names in a folder; folders end with `/`, which also puts them where their keys belong in the order."""
        try:
            with os.scandir(folder) as entries:
                return iter(sorted(entry.name + b"/" if _is_folder(entry) else entry.name for entry in entries))
        except OSError as error:
            raise self._unlistable(folder, error) from error

    def _identity(self, folder: bytes) -> tuple[int, int]:
        try:
            status = os.stat(folder)
        except OSError as error:
            raise self._unlistable(folder, error) from error
        return status.st_dev, status.st_ino

    def _unlistable(self, folder: bytes, error: OSError) -> StorageError:
        name = printable(folder.decode("utf-8", "backslashreplace"))
        message = f"{self.uri}: the folder {name} cannot be listed ({error.strerror}); fix that or remove it"
        if error.errno in (errno.EACCES, errno.EPERM):
            return _ForbiddenFolder(message, error.strerror or "no permission")
        return StorageError(message)


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    """Whether an entry of a folder is one, also through a link."""
    try:
        return entry.is_dir()
    except OSError:  # a link that leads nowhere that can be seen; the listing says so
        return False


class _ForbiddenFolder(StorageError):
    """A folder that this user may not list.

    Args:
        message: the whole sentence.
        reason: as the system calls it.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason
