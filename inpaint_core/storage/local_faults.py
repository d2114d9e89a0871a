"""What an error of the file system says: about one file, about the folder, or about a mount that is out of reach."""

from __future__ import annotations

import errno
import os

from inpaint_core.errors import ObjectError, StorageError
from inpaint_core.storage.base import NO_ROOM, Action, missing, quoted
from inpaint_core.storage.local_tree import FolderTree

OUT_OF_REACH = frozenset(
    {
        *(errno.ESTALE, errno.ENOTCONN, errno.EIO, errno.ETIMEDOUT),
        *(errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH),
    }
)
"""Error numbers of a network mount whose server does not answer; some are of a damaged file, too."""

# What no other object would fare better with.
_STORE_FAULTS = frozenset(
    {errno.ESTALE, errno.ENODEV, errno.ENOTCONN, errno.EHOSTDOWN, errno.ENETDOWN, errno.EMFILE, errno.ENFILE}
)
_STORE_FAULTS_ON_WRITE = frozenset({errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM, errno.EXDEV})


def out_of_reach(root: bytes) -> str | None:
    """Why nothing in a folder can be reached at the moment, in the system's words; None: it can be listed."""
    try:
        with os.scandir(root):
            return None
    except OSError as error:
        return error.strerror if error.errno in OUT_OF_REACH else None


def fault(error: OSError, tree: FolderTree, key: str, action: Action) -> ObjectError | StorageError:
    """The error to raise where something cannot be done with a key: of the object, or of the whole store."""
    code, reason = error.errno, error.strerror
    writing = action in ("write", "delete")
    if code in NO_ROOM:
        return StorageError(f"{tree.uri}: there is no space left ({reason}); free some, then run the job again")
    if code in _STORE_FAULTS or (writing and code in _STORE_FAULTS_ON_WRITE):
        return StorageError(
            f"{tree.uri}: cannot {action} {quoted(key)} ({reason}); check the folder and its permissions"
        )
    if code in (errno.ENOENT, errno.ENOTDIR):
        if not os.path.isdir(tree.root):
            return StorageError(f"{tree.uri}: the folder is gone; check that it is still mounted")
        return missing(tree.uri, key)
    return ObjectError(f"{tree.uri}: cannot {action} {quoted(key)}: {reason}")
