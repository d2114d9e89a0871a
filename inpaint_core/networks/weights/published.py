"""Networks of other projects that are known by name: fetched once, checked, kept in the user's cache folder.

Both are TorchScript files that the project IOPaint publishes (https://github.com/Sanster/models/releases):

- `lama`: LaMa (Suvorov et al., WACV 2022; https://github.com/advimman/lama, Apache-2.0).
- `migan`: MI-GAN (Sargsyan et al., ICCV 2023; https://github.com/Picsart-AI-Research/MI-GAN, MIT).
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from inpaint_core.errors import WeightsError

RELEASES = "https://github.com/Sanster/models/releases/download"
"""Where the files lie."""

STALLED_SECONDS = 60.0
"""A connection on which nothing comes for so long is given up."""

LARGEST = 2**30
"""Bytes after which a download is given up: it is not one of the files, which have up to 210 MB."""

_CHUNK = 2**20


@dataclass(frozen=True)
class PublishedFile:
    """A file of weights that somebody else publishes.

    Args:
        file: its name.
        path: where it lies below `RELEASES`.
        md5: MD5 of its content in hex, as its publisher gives it.
        kinds: the values of `inpainter.kind` whose network has this signature.
    """

    file: str
    path: str
    md5: str
    kinds: tuple[str, ...]


_LAMA = PublishedFile(
    "big-lama.pt", "add_big_lama/big-lama.pt", "e3aa4aaa15225a33ec84f9f4bc47e500", ("lama", "torchscript")
)
_MIGAN = PublishedFile("migan_traced.pt", "migan/migan_traced.pt", "76eb3b1a71c400ee3290524f7a11b89c", ("migan",))

PUBLISHED = {"lama": _LAMA, _LAMA.file: _LAMA, "migan": _MIGAN, _MIGAN.file: _MIGAN}
"""The files by the names that `inpainter.weights` takes."""


def cache_folder() -> Path:
    """Where downloaded weights are kept: `$INPAINT_CACHE`, else `$XDG_CACHE_HOME/inpaint-core`, else
    `~/.cache/inpaint-core`. It need not exist."""
    own = os.environ.get("INPAINT_CACHE")
    if own:
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "inpaint-core"


def read_published(name: str, kind: str, key: str = "inpainter.weights") -> bytes:
    """The content of a published file, from the cache folder, or from its publisher, and then kept there.

    The content is returned only if it has the MD5 of the table, wherever it comes from.

    Args:
        name: one of `PUBLISHED`.
        kind: the `inpainter.kind` that asks for it.
        key: the config key that the name comes from, for messages.

    Raises:
        WeightsError: the network has another signature than that of the kind, the file cannot be fetched, is not kept,
            or is another than the published one.
    """
    published = PUBLISHED[name]
    if kind not in published.kinds:
        raise WeightsError(
            f"{key}: {name} is a network that inpainter.kind={kind} cannot run; set inpainter.kind={published.kinds[0]}."
        )
    path = cache_folder() / published.file
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        _fetch(published, path, key)
        data = _read_again(path, key)
    except OSError as error:
        raise _unreadable(path, error, key) from error
    digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if digest != published.md5:
        raise WeightsError(
            f"{key}: {path} has MD5 {digest}, but {published.file} as published has {published.md5}: the file is "
            f"truncated, damaged or a different one; delete it to download it again, or replace it with the right file."
        )
    return data


def _read_again(path: Path, key: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error, key) from error


def _unreadable(path: Path, error: OSError, key: str) -> WeightsError:
    return WeightsError(
        f"{key}: {path} cannot be read ({error.strerror or error}); make it readable, or set {key} to the path of "
        "another file."
    )


def _fetch(published: PublishedFile, path: Path, key: str) -> None:
    """Download a file to the path, where it appears whole and checked, or not at all."""
    digest = hashlib.md5(usedforsecurity=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # In a folder of its own: two jobs may fetch at the same time, and the last to finish replaces an equal file.
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=path.parent) as folder:
            part = Path(folder, published.file)
            with part.open("wb") as file:
                for chunk in _received(published, path, key):
                    file.write(chunk)
                    digest.update(chunk)
            if digest.hexdigest() != published.md5:
                reason = f"the downloaded file has MD5 {digest.hexdigest()}, the published one {published.md5}"
                raise _not_fetched(published, path, key, reason)
            part.replace(path)
    except OSError as error:
        raise WeightsError(
            f"{key}: {published.file} cannot be stored in {path.parent} ({error.strerror or error}); set INPAINT_CACHE to "
            "a writable folder with enough space."
        ) from error


def _received(published: PublishedFile, path: Path, key: str) -> Iterator[bytes]:
    """The content of a published file, as it comes over the network; all of it, if no error is raised."""
    # Here, since settings are read before any job needs the network.
    from http.client import HTTPException, InvalidURL
    from urllib.error import HTTPError, URLError
    from urllib.request import build_opener

    url = f"{RELEASES}/{published.path}"
    size = 0
    try:
        # A new opener, since that of `urlopen` keeps the proxies of the process's first request.
        with build_opener().open(url, timeout=STALLED_SECONDS) as response:
            announced = response.headers.get("Content-Length", "")
            expected = int(announced) if announced.isdecimal() else None
            sys.stderr.write(f"downloading {url}{f' ({expected / 1e6:.0f} MB)' if expected else ''} to {path}\n")
            while size <= LARGEST and (chunk := response.read(_CHUNK)):
                size += len(chunk)
                yield chunk
    except HTTPError as error:
        raise _not_fetched(published, path, key, f"HTTP {error.code} {_reason(error.reason)}") from error
    except URLError as error:
        raise _not_fetched(published, path, key, _reason(error.reason)) from error
    except (InvalidURL, ValueError) as error:
        # Not the error's own words: they may hold the password of a proxy.
        raise _not_fetched(published, path, key, "the address of the proxy in HTTPS_PROXY is not valid") from error
    except (HTTPException, OSError) as error:
        raise _not_fetched(published, path, key, _reason(error)) from error
    if size > LARGEST:
        raise _not_fetched(published, path, key, f"the response has more than {LARGEST:,} bytes")
    if expected is not None and size < expected:
        raise _not_fetched(published, path, key, f"the connection ended after {size:,} of {expected:,} bytes")


def _reason(error: object) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return " ".join(text.split())[:200]


def _not_fetched(published: PublishedFile, path: Path, key: str, reason: str) -> WeightsError:
    return WeightsError(
        f"{key}: {published.file} could not be downloaded from {RELEASES}/{published.path} ({reason}); run the command again, "
        f"or download the file elsewhere and copy it to {path}, or set {key} to its path."
    )
