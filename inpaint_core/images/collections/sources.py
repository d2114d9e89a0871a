"""Where photographs lie: in folders, buckets and tar shards; listed, divided into units of reading, read as bytes."""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import groupby
from typing import BinaryIO, NamedTuple
from urllib.parse import unquote

from inpaint_core.errors import ConfigError, ObjectError, StorageError
from inpaint_core.images.collections.config import ReadingConfig
from inpaint_core.images.collections.tar_shards import Member, is_shard, list_members, refuse_compressed
from inpaint_core.prefetch import prefetch_map
from inpaint_core.storage import S3Options, Storage, open_storage
from inpaint_core.storage.base import quoted
from inpaint_core.storage.local import LocalStorage

Failure = tuple[str, str]
"""Key of a photograph that cannot be used, and the reason in a sentence."""

_PATTERN = re.compile(r"[*?[]")
_FAILURES_NAMED = 3
_LISTING_THREADS = 8
_SHARE_OF_CPU_TIME = 0.5  # in the wall time of a listing; from here on it counts as limited by the CPU
# Requests for objects that wait at the same time, and objects that wait to be decoded.
_READING_THREADS = 8
_PREFETCHED = 32


class Photograph(NamedTuple):
    """Where one photograph lies.

    `key` names it: the key below the listed root, or the member's name in its shard. `object` is the key of the
    storage's object that holds it: from the byte `start` on, `size` bytes; `start` None is the whole object, whose size
    may have changed since. `problem` says why it cannot be read, where the listing already shows it.
    """

    key: str
    object: str
    start: int | None = None
    size: int = 0
    problem: str | None = None


@dataclass(frozen=True)
class Source:
    """One unit of reading: objects of a store, or members of one of its shards. Can be pickled."""

    storage: Storage
    photographs: tuple[Photograph, ...]
    """At least one; either all are objects, or all lie in the same shard."""
    max_pixels: int


def list_sources(
    uri: str, s3: S3Options, reading: ReadingConfig, *, per_block: int = 256, name: str = "data"
) -> list[Source]:
    """Divide the photographs of a URI into units of at most `per_block`: see `list_photographs` and `as_sources`."""
    storage, photographs = list_photographs(uri, s3, reading.extensions, reading.limit, name=name)
    return as_sources(storage, photographs, reading.max_pixels, per_block=per_block)


def list_photographs(
    uri: str, s3: S3Options, extensions: Sequence[str], limit: int | None, *, name: str = "data"
) -> tuple[Storage, list[Photograph]]:
    """List the photographs of a URI, at any depth, in UTF-8 order of their keys.

    The URI is a folder or bucket prefix that holds photographs, `.tar` shards of them, or both; or one `.tar` file. Its
    last part may be a pattern (`*`, `?`, `[a-f]`), which the names of the files and folders there have to match:
    `data/train-*.tar`, `s3://bucket/images/train/[a-f]`. A folder and a tar of it give the same order. Where members
    of two shards, or a member and a file, have one name, the shard's key is put before the member's.

    Args:
        uri: what to list.
        s3: how `s3://` URIs are reached.
        extensions: endings of photographs, without the dot, in any case.
        limit: at most this many, spread evenly over the order, so that every folder keeps its part; None: all.
        name: the config key that holds the URI, for messages.

    Raises:
        ConfigError: nothing there, or a shard that is missing, damaged or compressed.
        StorageError: the URI cannot be listed.
    """
    refuse_compressed(uri, name)
    storage, objects = _objects(uri, s3, name)
    endings = tuple(f".{ending.lower().lstrip('.')}" for ending in extensions)
    shards: list[str] = []
    found: list[Photograph] = []
    for key, size, problem in objects:
        if is_shard(key) and problem is None:
            shards.append(key)
        elif _is_photograph(key, endings):
            found.append(Photograph(key, key, size=size, problem=problem))
    for shard, members in zip(shards, _listed(storage, shards, name), strict=True):
        found += [
            Photograph(member.name, shard, member.start, member.size)
            for member in members
            if _is_photograph(member.name, endings)
        ]
    if not found:
        raise ConfigError(f"{name}: no photographs under {uri} (extensions: {', '.join(endings)}, .tar)")
    found = sorted(_with_distinct_keys(found), key=lambda photograph: utf8(photograph.key))
    return storage, [found[index] for index in evenly(len(found), limit)]


def _listed(storage: Storage, shards: Sequence[str], name: str) -> Iterator[list[Member]]:
    """The members of each shard.

    Of a folder, in several threads only if the first shard was waited for (network mounts): otherwise the time goes to
    parsing headers, for which threads, sharing Python's interpreter lock, take longer than one.
    """
    left = list(shards)
    if left and isinstance(storage, LocalStorage):
        began, worked = time.perf_counter(), time.thread_time()
        members = list_members(storage, left.pop(0), name)
        cpu_bound = time.thread_time() - worked >= _SHARE_OF_CPU_TIME * (time.perf_counter() - began)
        yield members
        if cpu_bound:
            yield from (list_members(storage, shard, name) for shard in left)
            return
    with ThreadPoolExecutor(_LISTING_THREADS) as pool:
        yield from pool.map(lambda shard: list_members(storage, shard, name), left)


def evenly(total: int, wanted: int | None) -> list[int]:
    """`wanted` of the indices below `total`, spread evenly; None, or more than there are: all."""
    if wanted is None or wanted >= total:
        return list(range(total))
    return [number * total // wanted for number in range(wanted)]


def as_sources(storage: Storage, photographs: Sequence[Photograph], max_pixels: int, *, per_block: int) -> list[Source]:
    """Divide listed photographs into units of at most `per_block`.

    First those that are objects, in the order given; then each shard's, in the order in which they lie in it: read in
    another order, a shard in an object store would take a request for each photograph.
    """
    ordered = sorted(photographs, key=lambda item: ("", 0) if item.start is None else (item.object, item.start))
    sources = []
    for _, group in groupby(ordered, key=lambda item: "" if item.start is None else item.object):
        items = tuple(group)
        for first in range(0, len(items), per_block):
            sources.append(Source(storage, items[first : first + per_block], max_pixels))
    return sources


def read_bytes(source: Source) -> Iterator[tuple[Photograph, bytes | str]]:
    """The photographs of a source in its order: each one's file, or a sentence that says why it cannot be read.

    Objects are prefetched by threads, so that a store's answers are waited for together.

    Raises:
        StorageError: the store cannot be used, or a shard is no longer what was listed.
    """
    if source.photographs[0].start is None:
        yield from prefetch_map(
            lambda photograph: (photograph, _read_object(source.storage, photograph)),
            source.photographs,
            threads=_READING_THREADS,
            count=_PREFETCHED,
        )
        return
    key = source.photographs[0].object
    try:
        with source.storage.open_read(key) as shard:
            for photograph in source.photographs:
                yield photograph, _read_member(shard, photograph)
    except (ObjectError, EOFError, OSError) as error:
        raise StorageError(
            f"{source.storage.uri}: the shard {quoted(key)} can no longer be read as it was listed: {error}"
        ) from error


def check_failures(total: int, failures: Sequence[Failure], max_failed: float, *, name: str = "data") -> None:
    """Raise ConfigError where more than the part `max_failed` of `total` photographs failed, or all of them."""
    allowed = min(math.floor(max_failed * total + 1e-9), total - 1)
    if len(failures) <= allowed:
        return
    named = "; ".join(f"{key}: {reason.rstrip('.')}" for key, reason in failures[:_FAILURES_NAMED])
    further = len(failures) - _FAILURES_NAMED
    raise ConfigError(
        f"{name}: {len(failures):,} of {total:,} photographs cannot be used, but reading.max_failed={max_failed:g} "
        f"allows {allowed:,}; repair them, remove them, or raise reading.max_failed. "
        f"{named}{f'; and {further:,} more' if further > 0 else ''}"
    )


def names_folder(uri: str) -> bool:
    """Whether all below a URI is meant: it is no shard's, and no pattern."""
    last = _split(uri)[1]
    return not is_shard(last) and not _PATTERN.search(last)


def utf8(key: str) -> bytes:
    """What keys are sorted by."""
    return key.encode("utf-8", "surrogatepass")


def _read_object(storage: Storage, photograph: Photograph) -> bytes | str:
    if photograph.problem is not None:
        return photograph.problem
    try:
        return storage.read(photograph.object)
    except ObjectError as error:
        return str(error)


def _read_member(shard: BinaryIO, photograph: Photograph) -> bytes:
    assert photograph.start is not None
    shard.seek(photograph.start)
    data = shard.read(photograph.size)
    if len(data) != photograph.size:
        raise EOFError(f"it ends inside {quoted(photograph.key)}")
    return data


def _objects(uri: str, s3: S3Options, name: str) -> tuple[Storage, Iterable[tuple[str, int, str | None]]]:
    """The storage that a URI names or lies in, and those of its objects that it means: key, size, and what is against it."""
    parent, last = _split(uri)
    pattern = last if _PATTERN.search(last) else None
    if pattern is None and is_shard(last):
        storage = open_storage(parent, s3)
        if storage.exists(last):
            return storage, [(last, 0, None)]
        if next(iter(storage.list(last)), None) is None:  # nor a folder of that name
            raise ConfigError(f"{name}: there is no shard {uri}; check its name and folder")
    storage = open_storage(uri if pattern is None else parent, s3)
    return storage, (
        (info.key, info.size, info.problem)
        for info in storage.list()
        if pattern is None or fnmatchcase(info.key.partition("/")[0], pattern)
    )


def _split(uri: str) -> tuple[str, str]:
    """The URI of the folder around the last part of a URI, and that part as a key; no part where it has but a host."""
    scheme, separator, path = uri.partition("://") if "://" in uri else ("", "", uri)
    folder, slash, last = path.rstrip("/").rpartition("/")
    if not separator:
        return folder or ("/" if slash else "."), last
    if not slash:
        return uri, ""
    return f"{scheme}://{folder or '/'}", unquote(last) if scheme.lower() in ("file", "local") else last


def _is_photograph(key: str, endings: tuple[str, ...]) -> bool:
    name = key.rpartition("/")[2]
    # `._name.jpg` is what macOS keeps beside a file on foreign disks and in tars: no photograph, whatever its ending.
    return name.lower().endswith(endings) and not name.startswith("._")


def _with_distinct_keys(photographs: list[Photograph]) -> list[Photograph]:
    counts = Counter(photograph.key for photograph in photographs)
    return [
        photograph
        if counts[photograph.key] == 1 or photograph.start is None
        else photograph._replace(key=f"{photograph.object}/{photograph.key}")
        for photograph in photographs
    ]
