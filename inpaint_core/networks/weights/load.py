"""Weights by path, URI or published name: read once, checked once, handed on as bytes."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote

from pydantic import Field

from inpaint_core.config import Sha256
from inpaint_core.errors import ObjectError, WeightsError
from inpaint_core.networks.weights.pretrained import SHA256, read_pretrained
from inpaint_core.storage import MissingObject, S3Options, open_storage

CheckpointSha256 = Annotated[
    Sha256 | None,
    Field(description="Expected SHA-256 of the checkpoint, in hex; a file with another hash is refused."),
]
"""A setting beside the one that names a checkpoint."""


@dataclass(frozen=True)
class Weights:
    """The content of a weights file.

    Args:
        name: its file name, for messages.
        data: its content.
        sha256: SHA-256 of the content in hex.
    """

    name: str
    data: bytes
    sha256: str


@dataclass(frozen=True)
class WeightsReference:
    """Which weights file settings ask for; the arguments of `load_weights`.

    Args:
        reference: a path, a URI, or a bare name.
        sha256: what the content must hash to, in hex; None takes any.
        download: gives the content for a bare name, where names are published.
    """

    reference: str
    sha256: str | None = None
    download: Callable[[str], bytes] | None = None

    def load(self, s3: S3Options, *, key: str) -> Weights:
        """The file. See `load_weights`."""
        return load_weights(self.reference, self.sha256, s3, key=key, download=self.download)


def load_weights(
    reference: str,
    sha256: str | None,
    s3: S3Options,
    *,
    key: str,
    download: Callable[[str], bytes] | None = None,
) -> Weights:
    """Read weights and check that they are the ones that are meant.

    Args:
        reference: a path (`~` and `file://` too), a URI that `Storage` opens, or, where there is no such file, the bare
            name of weights that come with the package (`inpaint_core.networks.weights.pretrained`) or that `download` knows.
        sha256: what the content must hash to, in hex; None takes any.
        s3: how `s3://` URIs are reached.
        key: the config key that the reference comes from; messages name it, and `<parent>.sha256` beside it.
        download: gives the content for a bare name; raises `WeightsError` where it cannot.

    Raises:
        WeightsError: no such file, it cannot be read, it has another hash, or the package's own file is damaged.
        StorageError: the store of a URI cannot be used.
    """
    name, data = _read(reference, s3, key, download)
    digest = hashlib.sha256(data).hexdigest()
    if sha256 is not None and digest != sha256.lower():
        setting = f"{key.rpartition('.')[0]}.sha256".lstrip(".")
        raise WeightsError(
            f"{key}: {reference} has SHA-256 {digest}, but {setting} is {sha256}; "
            "it is not the expected file: get the right one, or correct the hash."
        )
    return Weights(name, data, digest)


def _read(reference: str, s3: S3Options, key: str, download: Callable[[str], bytes] | None) -> tuple[str, bytes]:
    """File name and content."""
    # Not `urlsplit`: it raises for some hosts, and cuts paths at `?` and `#`.
    before, is_uri, after = reference.partition("://")
    if is_uri and before.lower() != "file":
        parent, _, name = reference.rpartition("/")
        if not name or parent.endswith(":/"):
            raise WeightsError(f"{key}: {reference} names no file; give the URI of a weights file.")
        try:
            return name, open_storage(parent, s3).read(name)
        except MissingObject as error:
            raise WeightsError(f"{key}: there is no {reference}; give the path or URI of a weights file.") from error
        except ObjectError as error:
            raise WeightsError(f"{key}: {reference} cannot be read: {error}") from error
    host, _, rest = after.partition("/")
    if host not in ("", "localhost"):
        raise WeightsError(f"{key}: {reference} is not a valid URI: a file URI has three slashes, file:///folder/file.")
    path = Path(f"/{unquote(rest)}" if is_uri else reference).expanduser()
    if reference in SHA256 and not path.exists():
        return reference, read_pretrained(reference)
    # A folder of that name, such as a clone of a network's repository, is not meant.
    if download is not None and path.name == reference and not path.is_file():
        return reference, download(reference)
    try:
        return path.name, path.read_bytes()
    except FileNotFoundError as error:
        close = difflib.get_close_matches(reference, SHA256, n=1)
        hint = f" Did you mean {close[0]}, which comes with the project?" if close else ""
        raise WeightsError(f"{key}: there is no file {path}; give the path or URI of a weights file.{hint}") from error
    except OSError as error:
        raise WeightsError(f"{key}: {path} cannot be read: {error.strerror or error}.") from error
