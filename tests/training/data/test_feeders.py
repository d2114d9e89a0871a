"""Processes that make samples: the same samples as without them, errors, and their end."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from inpaint_core.errors import ConfigError
from inpaint_core.hole_masks.keyed_random import sample_keys
from inpaint_core.hole_masks.sampler import HoleSampler
from inpaint_core.training.data.blocks import File, FileBlocks, ImageBlocks, held_out
from inpaint_core.training.data.feeders import Feeders, Inline
from inpaint_core.training.data.sample_maker import SampleMaker
from inpaint_core.training.data.samples import Batch, BatchStream
from tests.samples import encoded
from tests.training.data.odd_samplers import Broken
from tests.training.data.test_samples import NOTHING, assert_same_batches
from tests.training.small import photographs

HOLES = HoleSampler(("strokes", "box"), (1.0, 2.0), None)
SIDE = 144
FILES = [
    File(f"{number}.png", encoded(image, "PNG"))
    if number % 3
    else File(f"{number}.jpg", encoded(image, "JPEG", quality=95))
    for number, image in enumerate(photographs(37, SIDE))
]


def file_blocks(files: list[File], size: int = 5, max_failed: float = 0.0) -> FileBlocks:
    parts = [files[start : start + size] for start in range(0, len(files), size)]
    sizes = [len(part) for part in parts]
    return FileBlocks(sizes, parts.__getitem__, size=SIDE, max_pixels=10**8, max_failed=max_failed)


def decoded(files: list[File]) -> NDArray[np.uint8]:
    maker = SampleMaker(None, SIDE, 10**8)
    made = maker.empty(len(files))
    maker(np.zeros(len(files), np.uint64), [file.data for file in files], made)
    assert made.failures == []
    assert made.images is not None
    return made.images


def epoch(
    blocks: ImageBlocks | FileBlocks, feeders: int, *, rank: int = 0, ranks: int = 1, first: int = 0
) -> list[Batch]:
    stream = BatchStream(
        blocks, held_out=held_out(37, 3), batch=8, rank=rank, ranks=ranks, seed=5, holes=HOLES, feeders=feeders
    )
    with closing(stream):
        return list(stream.epoch(3, first))


@pytest.fixture(scope="module")
def expected() -> list[Batch]:
    return epoch(ImageBlocks.of(decoded(FILES), size=5), 0)


@pytest.mark.parametrize("feeders", [0, 1, 3])
@pytest.mark.parametrize("files", [True, False])
def test_samples_are_the_same_with_any_number_of_feeders(expected: list[Batch], feeders: int, files: bool) -> None:
    blocks = file_blocks(FILES) if files else ImageBlocks.of(decoded(FILES), size=5)
    assert len(expected) == 4
    assert_same_batches(epoch(blocks, feeders), expected)


def test_samples_are_the_same_on_several_workers_with_feeders(expected: list[Batch]) -> None:
    for rank in range(2):
        part = epoch(file_blocks(FILES), 2, rank=rank, ranks=2, first=1)
        whole = [
            Batch(
                *(
                    None if value is None else value[4 * rank : 4 * rank + 4]
                    for value in (batch.images, batch.flips, batch.corners, batch.masks)
                )
            )  # type: ignore[arg-type]
            for batch in expected[1:]
        ]
        assert_same_batches(part, whole)


def test_an_epoch_that_is_left_early_leaves_nothing_behind(expected: list[Batch]) -> None:
    stream = BatchStream(
        file_blocks(FILES), held_out=held_out(37, 3), batch=8, rank=0, ranks=1, seed=5, holes=HOLES, feeders=2
    )
    with closing(stream):
        running = stream.epoch(1)
        next(running)
        running.close()  # type: ignore[attr-defined]
        assert_same_batches(list(stream.epoch(3)), expected)
    assert children() == []


def test_photographs_that_cannot_be_used_are_replaced_by_the_same_others() -> None:
    spoiled = list(FILES)
    spoiled[7] = File("7.png", b"no picture")
    spoiled[8] = File("8.png", "the object is gone")
    spoiled[20] = File("20.png", spoiled[20].data[: len(spoiled[20].data) // 2])
    substituted = decoded(FILES)
    # The next one of the block, which may be used: 7 and 8 stand in a block of 5 to 9.
    substituted[[7, 8]] = substituted[9]
    substituted[20] = substituted[21]
    whole = epoch(ImageBlocks.of(substituted, size=5), 0)
    for feeders in (0, 2):
        stream = BatchStream(
            file_blocks(spoiled, max_failed=0.1),
            held_out=held_out(37, 3),
            batch=8,
            rank=0,
            ranks=1,
            seed=5,
            holes=HOLES,
            feeders=feeders,
        )
        with closing(stream):
            assert_same_batches(list(stream.epoch(3)), whole)
            seen = {key: reason for key, reason in stream.failures.values()}
            assert set(seen) <= {"7.png", "8.png", "20.png"}
            assert "8.png" not in seen or seen["8.png"] == "the object is gone"
            stream.check_failures()
            for number in (0, 1):
                list(stream.epoch(number))
            assert len(stream.failures) == 3


def test_too_many_unusable_photographs_are_told() -> None:
    files = [File(file.key, b"<html>") if number % 4 == 0 else file for number, file in enumerate(FILES)]
    stream = BatchStream(
        file_blocks(files, max_failed=0.1), held_out=NOTHING, batch=37, rank=0, ranks=1, seed=0, holes=None
    )
    list(stream.epoch(0))
    with pytest.raises(ConfigError, match=r"10 of 37 photographs cannot be used.*allows 3.*\.(jpg|png): The file"):
        stream.check_failures()
    nothing = [File(file.key, "it is gone") for file in FILES]
    stream = BatchStream(file_blocks(nothing), held_out=NOTHING, batch=8, rank=0, ranks=1, seed=0, holes=None)
    with pytest.raises(ConfigError, match=r"none of the photographs next to \d+\.\w+ can be used \(it is gone\)"):
        list(stream.epoch(0))


KEYS = sample_keys((1,), np.arange(6))


def children() -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process().children()
        if child.status() != psutil.STATUS_ZOMBIE and "feeder_process" in " ".join(child.cmdline())
    ]


@pytest.fixture
def feeders() -> Iterator[Feeders]:
    with closing(Feeders(SampleMaker(HOLES), 2, 6)) as started:
        yield started
    assert children() == []


def test_results_come_in_the_order_of_the_work(feeders: Feeders) -> None:
    work = [KEYS[: 1 + number % 6] for number in range(feeders.room)]
    for keys in work:
        feeders.submit(keys, [])
    with pytest.raises(RuntimeError, match="a result has to be taken first"):
        feeders.submit(KEYS, [])
    results = [feeders.result() for _ in work]
    for keys, made in zip(work, results, strict=True):
        assert made.masks is not None
        np.testing.assert_array_equal(made.masks, HOLES(keys))
        assert made.masks.flags.owndata, "not the memory that the next result is put into"


def test_an_error_of_a_feeder_is_raised_where_its_result_is_taken() -> None:
    with closing(Feeders(SampleMaker(Broken(("box",), None, None)), 1, 6)) as broken:
        broken.submit(KEYS, [])
        broken.submit(KEYS[:2], [])
        with pytest.raises(ZeroDivisionError, match="no hole for 6 keys") as raised:
            broken.result()
        assert "odd_samplers.py" in "".join(raised.value.__notes__), "where it was raised there"
        with pytest.raises(ZeroDivisionError, match="no hole for 2 keys"):
            broken.result()


def use(feeders: Feeders) -> None:
    for _ in range(4):
        feeders.submit(KEYS, [])
        feeders.result()


def test_a_killed_feeder_is_told(feeders: Feeders) -> None:
    os.kill(children()[0].pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match=r"process that prepares samples ended \(exit status -9"):
        use(feeders)


def test_feeders_end_with_the_process_that_was_killed() -> None:
    script = (
        "import numpy as np, psutil\n"
        "from inpaint_core.training.data.feeders import Feeders, SampleMaker\n"
        "from tests.training.data.odd_samplers import Slow\n"
        "feeders = Feeders(SampleMaker(Slow(('box',), None, None)), 2, 6)\n"
        "feeders.submit(np.zeros(6, np.uint64), [])\n"
        "print(*[child.pid for child in psutil.Process().children()], flush=True)\n"
        "feeders.result()\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pids = [int(pid) for pid in process.stdout.readline().split()]
        assert len(pids) == 2
        process.kill()
    deadline = time.monotonic() + 10
    while any(psutil.pid_exists(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not [pid for pid in pids if psutil.pid_exists(pid)]


def test_without_feeders_samples_are_made_when_they_are_taken() -> None:
    inline = Inline(SampleMaker(Broken(("box",), None, None)))
    inline.submit(KEYS, [])
    with pytest.raises(ZeroDivisionError):
        inline.result()


def test_a_feeder_loads_neither_torch_nor_ray() -> None:
    script = (
        "import sys, inpaint_core.training.data.feeder_process, inpaint_core.images.collections.photographs\n"
        "print([name for name in ('torch', 'ray', 'tensorboard') if name in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert output.stdout == "[]\n"
