"""Uncompressed tar files as folders: where each member lies, so that any part of a shard is read by itself."""

from __future__ import annotations

import contextlib
import posixpath
import tarfile
from typing import NamedTuple, Self

from inpaint_core.errors import ConfigError, ObjectError, StorageError
from inpaint_core.storage import Storage
from inpaint_core.storage.base import quoted

_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")
_BLOCK = tarfile.BLOCKSIZE


class Member(NamedTuple):
    """One file of a tar: its name as a key (no `./` in front), and its bytes `start` to `start + size`."""

    name: str
    start: int
    size: int


def is_shard(key: str) -> bool:
    """Whether a key is a tar's by its ending."""
    return key.lower().endswith(".tar")


def refuse_compressed(uri: str, name: str) -> None:
    """Raise ConfigError for the URI of a compressed tar: no part of one can be read by itself."""
    if uri.lower().endswith(_COMPRESSED):
        raise ConfigError(f"{name}: {uri} is compressed; unpack it to a `.tar`, or into a folder, and give that")


def list_members(storage: Storage, key: str, name: str) -> list[Member]:
    """The regular files of a shard, in the order in which they lie there; of two with one name the later.

    Only headers are read where seeking is cheap (local files); from an object store everything passes through, in
    requests of a megabyte.

    Args:
        storage: where the shard lies.
        key: of the shard.
        name: the config key that leads to it, for messages.

    Raises:
        ConfigError: no tar, compressed, cut off or damaged.
        StorageError: it cannot be read.
    """
    try:
        with storage.open_read(key) as file:
            members: dict[str, Member] = {}
            with tarfile.open(fileobj=file, mode="r:", tarinfo=_Header) as tar:
                for item in tar:
                    path = _key_of(item.name)
                    members.pop(path, None)
                    if item.isreg() and not item.issparse():
                        members[path] = Member(path, item.offset_data, item.size)
                    elif item.islnk() and (target := members.get(_key_of(item.linkname))) is not None:
                        members[path] = target._replace(name=path)
                end = tar.offset
            # `tarfile` takes a header that it cannot read, and the end of the file, for the end of the archive too.
            file.seek(end)
            if file.read(_BLOCK) != bytes(_BLOCK):
                raise tarfile.ReadError(f"no member and no end of the archive at byte {end:,}")
    except ObjectError as error:
        raise StorageError(str(error)) from error
    except (tarfile.TarError, EOFError, ValueError, OSError) as error:
        raise ConfigError(
            f"{name}: the shard {quoted(key)} of {storage.uri} is truncated, damaged or compressed ({error}); "
            "create it again, or remove it"
        ) from error
    return sorted(members.values(), key=lambda member: member.start)


class _Header(tarfile.TarInfo):
    """A header of a tar; of a plain file's, only the name and the size are decoded: times and owners take long.

    Other fields of a plain file that are no numbers are therefore no error.
    """

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Read a block: here where it is a regular file's with an octal size and no name prefix, else as `tarfile` does.

        Fields: POSIX.1-1988, "ustar"; the checksum adds up all bytes, its own eight as blanks.
        """
        if len(buf) == _BLOCK and buf[156:157] == tarfile.REGTYPE and buf[345] == 0:
            with contextlib.suppress(ValueError):  # no octal numbers
                size, stated = (int(bytes(field).rstrip(b"\0 "), 8) for field in (buf[124:136], buf[148:156]))
                if size >= 0 and stated == sum(buf) - sum(buf[148:156]) + 8 * ord(" "):
                    header = cls(bytes(buf[:100]).partition(b"\0")[0].decode(encoding, errors))
                    header.size = size
                    return header
        return super().frombuf(buf, encoding, errors)


def _key_of(name: str) -> str:
    """A member's name as a key that can be printed and stored as text."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return posixpath.normpath(text).lstrip("/")
