"""Files that are written whole or not at all: under a temporary name, then moved to the key's path."""

from __future__ import annotations

import io
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO

from inpaint_core.errors import ObjectError, StorageError
from inpaint_core.storage.base import quoted
from inpaint_core.storage.local_faults import fault
from inpaint_core.storage.local_properties import FileProperties
from inpaint_core.storage.local_tree import FolderTree

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


@contextmanager
def new_file(tree: FolderTree, key: str, properties: FileProperties | None) -> Iterator[BinaryIO]:
    """A file to write, which takes the place of the key's when the block ends without an error.

    Args:
        tree: where it is written.
        key: of the object.
        properties: what the file gets beside its bytes; None: those of any new file.

    Raises:
        ObjectError, StorageError: it cannot be written; what was under the key is as it was.
    """
    target = tree.path(key)
    temporary, file = _temporary_file(tree, key, 0o666 if properties is None else properties.mode)
    try:
        try:
            yield file
            if file.closed:
                raise ValueError(f"{quoted(key)}: the file of open_write was closed inside its block")
            file.flush()
            if properties is not None:
                properties.give_to(file.fileno())
            _sync(file, tree, key)
        except BaseException:
            with suppress(ObjectError, StorageError):  # the first error is the one to tell
                file.close()
            raise
        file.close()
        _publish(temporary, target, tree, key)
    finally:
        with suppress(OSError):  # a leftover is removed later, and the first error is the one to tell
            os.unlink(temporary)


def _temporary_file(tree: FolderTree, key: str, mode: int) -> tuple[bytes, BinaryIO]:
    tree.check_inside(tree.temporary_folder, key)
    path = os.path.join(tree.temporary_folder, uuid.uuid4().hex.encode())
    # Not `tempfile`: its files can be read by their owner only, and the object would keep that.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        try:
            descriptor = os.open(path, flags, mode)
        except FileNotFoundError:
            _make_folders(tree.temporary_folder)
            descriptor = os.open(path, flags, mode)
    except (FileExistsError, NotADirectoryError) as error:
        raise StorageError(
            f"{tree.uri}: is not a folder, or its {tree.temporary_name} is not; give another folder"
        ) from error
    except OSError as error:
        raise fault(error, tree, key, "write") from error
    return path, io.BufferedWriter(_File(descriptor, tree, key))


def _sync(file: BinaryIO, tree: FolderTree, key: str) -> None:
    try:
        # 0.1 to 0.4 ms a file on ext4 over an SSD. Without it a power cut can leave an empty file under the final
        # name, with a record that says the image is done.
        os.fsync(file.fileno())
    except OSError as error:
        raise fault(error, tree, key, "write") from error


def _publish(temporary: bytes, target: bytes, tree: FolderTree, key: str) -> None:
    tree.check_inside(os.path.dirname(target), key)  # only folders: a link in place of the file itself is replaced
    try:
        try:
            os.replace(temporary, target)
        except FileNotFoundError:
            _make_folders(os.path.dirname(target))
            os.replace(temporary, target)
    except (FileExistsError, NotADirectoryError) as error:
        raise ObjectError(
            f"{tree.uri}: {quoted(key)} cannot be a file here: another object is a file where this key has a folder"
        ) from error
    except IsADirectoryError as error:
        raise ObjectError(f"{tree.uri}: {quoted(key)} cannot be a file here: there is a folder of this name") from error
    except OSError as error:
        raise fault(error, tree, key, "write") from error


class _File(io.FileIO):
    """A file that is open for writing; its own errors are the store's, so that those of its user are told apart."""

    def __init__(self, descriptor: int, tree: FolderTree, key: str) -> None:
        super().__init__(descriptor, "wb")
        self._tree, self._key = tree, key

    def write(self, data: ReadableBuffer) -> int:
        """See `io.FileIO.write`; errors are those of the store."""
        try:
            return super().write(data)
        except OSError as error:
            raise fault(error, self._tree, self._key, "write") from error

    def close(self) -> None:
        """See `io.FileIO.close`; errors are those of the store."""
        try:
            super().close()
        except OSError as error:  # network file systems may tell only now
            raise fault(error, self._tree, self._key, "write") from error


def _make_folders(folder: bytes) -> None:
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
