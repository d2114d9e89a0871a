"""Photographs read and decoded once, by Ray Data, into blocks of uint8 pixels in the object store."""

from __future__ import annotations

import math
import pickle
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING, TypeAlias, cast

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray
from ray.actor import ActorHandle
from ray.data import DataContext, TaskPoolStrategy

from inpaint_core.errors import ResourceError, UserError
from inpaint_core.images.collections.config import ReadingConfig
from inpaint_core.images.collections.sources import Failure, Source, check_failures, list_sources
from inpaint_core.on_ray.block_progress import BlockProgress
from inpaint_core.on_ray.cluster import beside_driver, connect, node_resources
from inpaint_core.on_ray.errors import CarriedError, unwrapped
from inpaint_core.progress import PrintLine, Progress
from inpaint_core.storage import S3Options

if TYPE_CHECKING:
    from inpaint_core.images.collections.photographs import DecodedPhotographs

_BYTES_PER_BLOCK = 16 * 2**20
_IMAGES_PER_BLOCK = 256
# A block is read again when the process that reads it dies; after so many beginnings it will not succeed.
_BEGINNINGS = 3

SourceReader: TypeAlias = "Callable[[Source, int], DecodedPhotographs]"


@dataclass
class StoredImages:
    """Decoded images in Ray's object store, which keeps them while this object, or a reference of it, exists.

    The order of blocks, and of the images in them, follows from the photographs alone.
    """

    blocks: list[ray.ObjectRef[pa.Table]]
    """Tables with a column `key` (string) and a column `pixels`: see `block_pixels`."""
    sizes: list[int]
    """Images of each block, at least one."""
    failures: list[Failure]
    """Photographs that cannot be used: key and reason."""
    nbytes: int
    """Of all blocks."""
    block_progress: ActorHandle[BlockProgress] = field(repr=False)
    """Kept alive: Ray reads a block again when the machine that held it is lost."""

    def __len__(self) -> int:
        return sum(self.sizes)


def _read_source(source: Source, size: int) -> DecodedPhotographs:
    from inpaint_core.images.collections.photographs import read_source  # the decoders: in the tasks, not in the driver

    return read_source(source, size)


def read_blocks(
    uri: str,
    s3: S3Options,
    reading: ReadingConfig,
    *,
    print_line: PrintLine,
    name: str = "data",
    reader: SourceReader = _read_source,
) -> StoredImages:
    """Read the photographs of a URI with all CPUs of the cluster; returns when the last is decoded.

    What does not fit into the object store's memory waits on disk, where Ray puts it.

    Args:
        uri: see `inpaint_core.images.collections.sources.list_photographs`.
        s3: how `s3://` URIs are reached.
        reading: which photographs, their size, and how many may fail.
        print_line: takes what a user should read, line by line.
        name: the config key that holds the URI, for messages.
        reader: decodes a source to images of a size.

    Raises:
        ConfigError: no photographs, a damaged shard, or too many failures.
        StorageError: the store cannot be used.
        ResourceError: the processes that read die again and again.
    """
    sources = list_sources(uri, s3, reading, per_block=images_per_block(reading.stored_size), name=name)
    return read_sources(sources, reading, print_line=print_line, uri=uri, name=name, reader=reader)


def images_per_block(size: int) -> int:
    """Images of `size` pixels a side that a block has at most."""
    return max(1, min(_IMAGES_PER_BLOCK, _BYTES_PER_BLOCK // (size * size * 3)))


def read_sources(
    sources: list[Source],
    reading: ReadingConfig,
    *,
    print_line: PrintLine,
    uri: str,
    name: str = "data",
    reader: SourceReader = _read_source,
) -> StoredImages:
    """Read photographs that were listed: see `read_blocks`. Each source becomes a block.

    Args:
        sources: of at most `images_per_block` photographs each.
        reading: their size, and how many may fail.
        print_line: takes what a user should read, line by line.
        uri: where they were listed, for messages.
        name: the config key that holds the URI, for messages.
        reader: decodes a source to images of a size.

    Raises:
        UserError: as `read_blocks`.
    """
    start = time.monotonic()
    size = reading.stored_size
    total = sum(len(source.photographs) for source in sources)
    print_line(f"reading {total:,} photographs of {uri}")
    connect()
    block_progress = beside_driver(BlockProgress)
    blocks: list[ray.ObjectRef[pa.Table]] = []
    sizes: list[int] = []
    stored = 0
    progress = Progress(total, print_line)
    try:
        read = partial(_read, size=size, block_progress=block_progress, reader=reader)
        for ref, images, nbytes in unwrapped(_stream(sources, read)):
            if images:
                blocks.append(ref)
                sizes.append(images)
                stored += nbytes
                progress.add(repeat("read", images))
    finally:
        progress.close()
    failures = cast("list[Failure]", ray.get(block_progress.failures.remote()))
    check_failures(total, failures, reading.max_failed, name=name)
    seconds = time.monotonic() - start
    failed = (
        f"{len(failures):,} cannot be used, such as {failures[0][0]}: {failures[0][1]}" if failures else "none failed"
    )
    enlarged = cast(int, ray.get(block_progress.enlarged.remote()))
    print_line(f"{sum(sizes):,} photographs read in {seconds:.1f} s, {stored / 1e9:.2f} GB; {failed}")
    if enlarged:
        print_line(f"{enlarged:,} of them have fewer than {size} pixels on a side and were enlarged")
    return StoredImages(blocks, sizes, failures, stored, block_progress)


def block_pixels(block: pa.Table) -> NDArray[np.uint8]:
    """The images of a block, (n, size, size, 3) uint8 RGB: a read-only view of the table's own memory."""
    column = block["pixels"].combine_chunks() if block["pixels"].num_chunks != 1 else block["pixels"].chunk(0)
    width = column.type.byte_width
    size = math.isqrt(width // 3)
    flat = np.frombuffer(column.buffers()[1], np.uint8, count=len(column) * width, offset=column.offset * width)
    return flat.reshape(len(column), size, size, 3)


def _stream(
    sources: list[Source], read: Callable[[pa.Table], Iterator[pa.Table]]
) -> Iterator[tuple[ray.ObjectRef[pa.Table], int, int]]:
    """The blocks in the order of the sources: reference, number of images, bytes."""
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_options.preserve_order = True
    # Ray would end a job that waits for a busy cluster, or for a slow network, after half an hour.
    context.execution_no_progress_timeout_s = -1
    jobs = [pa.table({"block": [block], "source": [pickle.dumps(source)]}) for block, source in enumerate(sources)]
    # As many at once as there are CPUs, but without reserving them: when a node is lost, its blocks are read again while the
    # workers of a training hold every CPU there is.
    cpus = int(sum(node["CPU"] for node in node_resources()))
    # Not `from_arrow`, which starts a task for each block that counts its rows.
    images = ray.data.from_blocks(jobs).map_batches(
        read,
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=0,
        compute=TaskPoolStrategy(size=max(1, min(cpus, len(jobs)))),
    )
    for bundle in images.iter_internal_ref_bundles():
        for entry in bundle.blocks:
            yield entry.ref, entry.metadata.num_rows or 0, entry.metadata.size_bytes or 0


def _read(
    jobs: pa.Table, size: int, block_progress: ActorHandle[BlockProgress], reader: SourceReader
) -> Iterator[pa.Table]:
    for job in jobs.to_pylist():
        source: Source = pickle.loads(job["source"])
        try:
            if cast(int, ray.get(block_progress.begin.remote(job["block"]))) > _BEGINNINGS:
                first, last = source.photographs[0].key, source.photographs[-1].key
                raise ResourceError(
                    f"the process that reads photographs died {_BEGINNINGS} times (memory, or a crash in a library) at "
                    f"the {len(source.photographs):,} from {first} to {last}; remove the photograph that causes it, or lower "
                    "reading.max_pixels"
                )
            block = reader(source, size)
        except UserError as error:
            raise CarriedError(error) from error
        ray.get(block_progress.finish.remote(job["block"], block.failures, block.enlarged))
        yield _table(block, size)


def _table(block: DecodedPhotographs, size: int) -> pa.Table:
    width = size * size * 3
    pixels = pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(block.keys), [None, pa.py_buffer(block.pixels)])
    return pa.table({"key": pa.array(block.keys, pa.string()), "pixels": pixels})
