"""From a URI to its storage."""

from __future__ import annotations

import os
from urllib.parse import unquote

from inpaint_core.errors import ConfigError
from inpaint_core.storage.base import TEMPORARY_FOLDER, Storage, quoted
from inpaint_core.storage.s3_options import DEFAULT_S3, S3Options
from inpaint_core.storage.uris import scheme_of

_refused: dict[str, str] = {}
"""Why relative paths are refused in a working folder whose path holds a text."""


def refuse_relative_paths(within: str, reason: str) -> None:
    """From now on, refuse relative local paths in some working folders of this process.

    Args:
        within: a text that the paths of these folders hold.
        reason: what follows "is relative, and" in the error.
    """
    _refused[within] = reason


def open_storage(uri: str, s3: S3Options = DEFAULT_S3, *, temporary_folder: str = TEMPORARY_FOLDER) -> Storage:
    """The storage of a URI. No request is made yet.

    Args:
        uri: a path, or a URI of any scheme that fsspec knows.
        s3: how `s3://` URIs are reached, and for how long an outage of any store is waited for.
        temporary_folder: key of the folder in which local storage keeps incomplete files.

    Raises:
        ConfigError: the URI is malformed, of an unknown scheme, or of one whose package is not installed.
    """
    # Imported here, so that a run over local folders never loads aiobotocore.
    scheme = scheme_of(uri)
    if scheme in ("file", "local"):
        from inpaint_core.storage.local import LocalStorage

        return LocalStorage(_folder(uri), temporary_folder, s3.retry_minutes)
    if "@" in uri.partition("://")[2].partition("/")[0]:  # `urlsplit` raises for some hosts
        raise ConfigError(
            f"A {scheme}:// URI contains a user name or password (the part before '@'): remove it; "
            "credentials come from the environment or from profile files."
        )
    if scheme in ("s3", "s3a"):
        from inpaint_core.storage.s3 import S3Storage

        return S3Storage.of(uri, s3)
    from inpaint_core.storage.other import OtherStorage

    return OtherStorage(uri)


def _folder(uri: str) -> bytes:
    """The absolute path of a local URI, as the file system has it."""
    path = uri
    if "://" in uri:
        host, slash, rest = uri.partition("://")[2].partition("/")
        if host not in ("", "localhost") or not slash or "\0" in unquote(rest):
            raise ConfigError(f"{quoted(uri)} is not a valid URI: a file URI has three slashes, file:///folder.")
        path = "/" + unquote(rest)
    path, here = os.path.expanduser(path), os.getcwd()
    for within, reason in _refused.items():
        if not os.path.isabs(path) and within in here:
            raise ConfigError(f"{quoted(uri)} is relative, and {reason}: give an absolute path, or a bucket")
    path = os.path.join(here, path)
    # `link/..` is the parent of the link's target: only the file system can resolve it.
    return os.fsencode(os.path.realpath(path) if ".." in path.split("/") else os.path.normpath(path))
