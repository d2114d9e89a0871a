"""Photographs read by Ray Data into the object store."""

import os
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import ray

from inpaint_core.errors import ConfigError, ResourceError, StorageError
from inpaint_core.images.collections.config import ReadingConfig
from inpaint_core.images.collections.photographs import DecodedPhotographs, load_photographs
from inpaint_core.images.collections.sources import Photograph, Source, as_sources, list_photographs
from inpaint_core.on_ray.files import held_out_sources, keep_files
from inpaint_core.on_ray.reading import StoredImages, block_pixels, read_blocks
from inpaint_core.on_ray.run_images import keep_as_files
from inpaint_core.storage import S3Options
from inpaint_core.training.data.blocks import held_out
from tests.images.collections.test_photographs import put, tarred
from tests.samples import encoded, photograph

pytestmark = pytest.mark.usefixtures("cluster")

BAD = {f"{number:03}.jpg": b"<html>" for number in (7, 300, 301)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """700 photographs in a folder and two shards, three of them pages of a web server."""
    data = [encoded(photograph((128, 128), seed=seed), "JPEG") for seed in range(20)]
    contents = {f"{number:03}.jpg": data[number % 20] for number in range(700)} | BAD
    loose = {key: value for key, value in contents.items() if key < "280"}
    first = {key: value for key, value in contents.items() if "280" <= key < "600"}
    second = {key: value for key, value in contents.items() if key >= "600"}
    return put(tmp_path_factory.mktemp("in"), loose | {"0.tar": tarred(first), "1.tar": tarred(second)})


def read(uri: Path, lines: list[str] | None = None, **reading: object) -> StoredImages:
    return read_blocks(
        str(uri), S3Options(), ReadingConfig(**reading), print_line=(lines if lines is not None else []).append
    )


@ray.remote
def look(blocks: list["ray.ObjectRef[pa.Table]"]) -> list[tuple[list[str], bool, int]]:
    """What a worker sees: keys, whether the pixels are the store's own memory, their sum."""
    found = []
    for ref in blocks:
        table = ray.get(ref)
        pixels = block_pixels(table)
        start, end = table["pixels"].chunk(0).buffers()[1].address, table["pixels"].chunk(0).buffers()[1].size
        inside = start <= pixels.ctypes.data < start + end
        found.append((table["key"].to_pylist(), inside and not pixels.flags.writeable, int(pixels.sum(dtype=np.int64))))
    return found


def test_blocks_hold_what_one_process_reads_and_can_be_read_by_others(folder: Path) -> None:
    lines: list[str] = []
    stored = read(folder, lines)
    assert stored.sizes == [255, 24, 254, 64, 100]
    assert len(stored) == 697
    assert stored.nbytes > 697 * 128 * 128 * 3
    assert stored.failures == [(key, stored.failures[0][1]) for key in BAD]
    assert lines[0] == f"reading 700 photographs of {folder}"
    assert lines[-1].startswith("697 photographs read in ")
    assert "0.03 GB; 3 cannot be used, such as 007.jpg: The file is not a supported image" in lines[-1]
    expected = load_photographs(str(folder), S3Options(), ReadingConfig(), 128)
    pixels = np.concatenate([block_pixels(table) for table in ray.get(stored.blocks)])
    np.testing.assert_array_equal(pixels, expected.pixels)
    seen = ray.get(look.remote(stored.blocks))
    assert [key for keys, _, _ in seen for key in keys] == expected.keys
    assert all(own for _, own, _ in seen)
    assert sum(total for _, _, total in seen) == int(expected.pixels.sum(dtype=np.int64))


def test_larger_images_make_smaller_blocks(folder: Path) -> None:
    stored = read(folder / "0.tar", stored_size=1024, limit=8)
    assert stored.sizes == [5, 3]  # a block has 16 MiB at most
    assert block_pixels(ray.get(stored.blocks[0])).shape[1:] == (1024, 1024, 3)


def test_errors_reach_the_driver_as_themselves(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"^data: 3 of 700 photographs cannot be used, .* allows 2; .*007\.jpg: The file"
    ):
        read(folder, max_failed=0.003)
    with pytest.raises(ConfigError, match="no photographs under"):
        read(tmp_path)

    def lose_shard(source: Source, size: int) -> DecodedPhotographs:
        raise StorageError(f"the shard of {source.photographs[0].key} is gone")

    with pytest.raises(StorageError, match=r"^the shard of \d+\.jpg is gone$"):
        read_blocks(str(folder), S3Options(), ReadingConfig(limit=3), print_line=print, reader=lose_shard)


def test_a_photograph_that_kills_its_reader_ends_the_run_with_its_block(folder: Path) -> None:
    def die(source: Source, size: int) -> DecodedPhotographs:
        os._exit(1)

    with pytest.raises(ResourceError, match=r"died 3 times .* at the 1 from 600.jpg to 600.jpg; remove"):
        read_blocks(str(folder / "1.tar"), S3Options(), ReadingConfig(limit=1), print_line=print, reader=die)


def test_pixels_of_a_slice_and_of_several_chunks() -> None:
    images = np.arange(6 * 2 * 2 * 3, dtype=np.uint8).reshape(6, 2, 2, 3)
    column = pa.FixedSizeBinaryArray.from_buffers(pa.binary(12), 6, [None, pa.py_buffer(images)])
    table = pa.table({"pixels": column})
    np.testing.assert_array_equal(block_pixels(table.slice(2, 3)), images[2:5])
    np.testing.assert_array_equal(
        block_pixels(pa.concat_tables([table.slice(4), table.slice(0, 2)])), images[[4, 5, 0, 1]]
    )
    assert block_pixels(table.slice(0, 0)).shape == (0, 2, 2, 3)


def test_files_are_kept_and_read_when_they_are_asked_for(folder: Path) -> None:
    reading = ReadingConfig()
    storage, photographs = list_photographs(str(folder), S3Options(), reading.extensions, None)
    stored = keep_files(storage, photographs, reading)
    assert stored.sizes == [256, 24, 256, 64, 100]
    blocks = stored.blocks()
    with closing(blocks):
        blocks.ask([0, 3])
        files = blocks.gather(np.array([0, 7, 255, 280, 699]))
    assert [file.key for file in files] == ["000.jpg", "007.jpg", "255.jpg", "280.jpg", "699.jpg"]
    assert [file.data == (BAD.get(file.key) or (folder / file.key).read_bytes()) for file in files[:3]] == [True] * 3
    assert isinstance(files[3].data, bytes)
    # The same block for another process is the same object, not another copy.
    (reader,) = stored.readers
    first, second = (ray.get(reader.block.remote(3, False))[0] for _ in range(2))
    assert first == second
    ray.kill(reader, no_restart=False)  # what it had put is lost with it
    assert stored.blocks().gather(np.array([699]))[0] == files[4]


def test_the_held_out_photographs_are_those_of_the_pixels(folder: Path) -> None:
    reading = ReadingConfig()
    storage, photographs = list_photographs(str(folder), S3Options(), reading.extensions, None)
    sources = held_out_sources(storage, photographs, reading, 9, 256)
    everything = as_sources(storage, photographs, reading.max_pixels, per_block=256)
    ordered = [photograph.key for source in everything for photograph in source.photographs]
    chosen = [photograph.key for source in sources for photograph in source.photographs]
    assert chosen == [ordered[index] for index in held_out(700, 9)]


def test_a_shard_that_is_gone_is_told(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "0.tar", tmp_path / "0.tar")
    reading = ReadingConfig()
    stored = keep_files(*list_photographs(str(tmp_path), S3Options(), reading.extensions, None), reading)
    (tmp_path / "0.tar").unlink()
    with pytest.raises(StorageError, match=r"the shard '0\.tar' can no longer be read as it was listed"):
        stored.blocks().gather(np.array([3]))


@pytest.mark.parametrize(
    ("reading", "files"),
    [
        ({"keep": "bytes"}, True),
        ({"keep": "pixels", "stored_size": 1024}, False),
        ({}, False),
        ({"stored_size": 1024}, True),  # a million photographs of 3 MB each
    ],
)
def test_auto_keeps_pixels_that_fit(reading: dict[str, Any], files: bool) -> None:
    count = 1000 if reading.get("stored_size") else 100
    photographs = [Photograph("a.jpg", "a.tar", 0, 5000)] * count * (1000 if files else 1)
    assert keep_as_files(ReadingConfig(**reading), photographs) is files
    large = [Photograph("a.jpg", "a.jpg", size=10**7)] * 1000
    if reading.get("keep", "auto") == "auto":
        assert not keep_as_files(ReadingConfig(**reading), large), (
            "files that are larger than their pixels are not kept"
        )
