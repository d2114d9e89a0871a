"""Photographs kept as their files in Ray's object store, read block by block when they are first needed.

For collections whose pixels no memory holds. Nothing is read before the training asks for it, so that a run starts after
the listing; what memory does not hold, Ray puts on disk.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast, overload

import pyarrow as pa
import ray
from ray.actor import ActorHandle
from ray.exceptions import ObjectLostError, RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from inpaint_core.images.collections.config import ReadingConfig
from inpaint_core.images.collections.sources import Photograph, Source, as_sources, read_bytes
from inpaint_core.on_ray.cluster import connect
from inpaint_core.on_ray.errors import CarriedError, unwrapped
from inpaint_core.storage import Storage
from inpaint_core.training.data.blocks import File, FileBlocks, held_out

_PHOTOGRAPHS_PER_BLOCK = 256
_BLOCKS_AT_ONCE = 4  # that a reader reads
_ATTEMPTS = 3


@dataclass
class StoredFiles:
    """Photographs as files; the readers live as long as the process that made them."""

    sizes: list[int]
    """Photographs of each block."""
    readers: list[ActorHandle[FileReader]]
    """Block b is that of reader b modulo their number."""
    reading: ReadingConfig

    def __len__(self) -> int:
        return sum(self.sizes)

    def blocks(self) -> FileBlocks:
        """For a worker: blocks that are fetched from the readers, those of the next window before they are needed."""
        reading = self.reading
        return FileBlocks(
            self.sizes,
            self._fetch,
            size=reading.stored_size,
            max_pixels=reading.max_pixels,
            max_failed=reading.max_failed,
            threads=_BLOCKS_AT_ONCE,
        )

    def _fetch(self, block: int) -> Sequence[File]:
        """A block, from the object store, or read anew where it was lost with its machine or its reader.

        Raises:
            StorageError: the store cannot be used, or a shard is no longer what was listed.
        """
        reader = self.readers[block % len(self.readers)]
        for attempt in range(_ATTEMPTS):
            try:
                requests = [reader.block.remote(block, attempt > 0)]
                (held,) = unwrapped(cast("list[ray.ObjectRef[pa.Table]]", ray.get(request)) for request in requests)
                return Files(ray.get(held[0]))
            except (ObjectLostError, RayActorError):
                if attempt + 1 == _ATTEMPTS:
                    raise
        raise AssertionError("no attempt was made")


class FileReader:
    """Reads blocks and keeps them in the object store. One on each node.

    Args:
        sources: a pickled source for each block of this reader, by the block's number: photographs by the million take
            several times as much as objects.
    """

    def __init__(self, sources: dict[int, bytes]) -> None:
        self._sources = sources
        self._locks = {block: threading.Lock() for block in sources}
        self._held: dict[int, ray.ObjectRef[pa.Table]] = {}

    def block(self, number: int, again: bool) -> list[ray.ObjectRef[pa.Table]]:
        """The reference of a block, in a list, which is read where it was not yet.

        Args:
            number: of the block.
            again: the block that was read before is lost.

        Raises:
            CarriedError: with a StorageError.
        """
        with self._locks[number]:
            if again or number not in self._held:
                try:
                    table = file_table(pickle.loads(self._sources[number]))
                except Exception as error:
                    raise CarriedError(error) from error
                self._held[number] = ray.put(table)
            return [self._held[number]]


def keep_files(storage: Storage, photographs: list[Photograph], reading: ReadingConfig) -> StoredFiles:
    """Start the readers of listed photographs; nothing is read yet.

    Args:
        storage: where they lie.
        photographs: in the order of a listing.
        reading: how they are decoded later.
    """
    connect()
    sources = as_sources(storage, photographs, reading.max_pixels, per_block=_PHOTOGRAPHS_PER_BLOCK)
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    actor = ray.remote(FileReader)
    readers = [
        actor.options(
            num_cpus=0,  # the workers of the training hold every CPU
            max_restarts=-1,
            max_task_retries=-1,
            max_concurrency=_BLOCKS_AT_ONCE,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=True),
        ).remote({block: pickle.dumps(sources[block]) for block in range(number, len(sources), len(nodes))})
        for number, node in enumerate(nodes)
    ]
    return StoredFiles(
        [len(source.photographs) for source in sources], cast("list[ActorHandle[FileReader]]", readers), reading
    )


def held_out_sources(
    storage: Storage, photographs: list[Photograph], reading: ReadingConfig, images: int, per_block: int
) -> list[Source]:
    """The photographs that `held_out` keeps for validation, in its order.

    Args:
        storage: where they lie.
        photographs: all, in the order of a listing.
        reading: how they are read.
        images: how many are held out.
        per_block: photographs of a source, at most.

    Raises:
        ConfigError: less than half would be left to train on.
    """
    sources = as_sources(storage, photographs, reading.max_pixels, per_block=len(photographs))
    ordered = [photograph for source in sources for photograph in source.photographs]
    chosen = [ordered[index] for index in held_out(len(ordered), images)]
    return as_sources(storage, chosen, reading.max_pixels, per_block=per_block)


def file_table(source: Source) -> pa.Table:
    """The files of a source: columns `key`, `data` (null: it could not be read) and `problem` (then the reason)."""
    rows = list(read_bytes(source))
    return pa.table(
        {
            "key": pa.array([photograph.key for photograph, _ in rows], pa.string()),
            "data": pa.array([data if isinstance(data, bytes) else None for _, data in rows], pa.large_binary()),
            "problem": pa.array([data if isinstance(data, str) else None for _, data in rows], pa.string()),
        }
    )


class Files(Sequence[File]):
    """The files of a `file_table`, which stay in its memory until they are taken."""

    def __init__(self, table: pa.Table) -> None:
        self._keys, self._data, self._problems = (table[name].combine_chunks() for name in table.column_names)

    def __len__(self) -> int:
        return len(self._keys)

    @overload
    def __getitem__(self, index: int) -> File: ...

    @overload
    def __getitem__(self, index: slice) -> list[File]: ...

    def __getitem__(self, index: int | slice) -> File | list[File]:
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        data: bytes | None = self._data[index].as_py()
        problem: str | None = self._problems[index].as_py()
        return File(self._keys[index].as_py(), data if data is not None else problem or "it could not be read")
