"""Blocks that are fetched before they are needed, and the order that asks for them."""

import threading
import time
from contextlib import closing

import numpy as np
import pytest
from numpy.typing import NDArray

from inpaint_core.training.data import blocks as blocks_module
from inpaint_core.training.data.blocks import ImageBlocks
from inpaint_core.training.data.samples import BatchStream
from tests.training.data.test_samples import NOTHING, assert_same_batches


class Store:
    """Blocks of 4 images each, which notes who fetched which."""

    def __init__(self, blocks: int, threads: int = 2) -> None:
        self.fetched: list[tuple[int, bool]] = []
        self.blocks = ImageBlocks([4] * blocks, self._fetch, threads=threads)

    def _fetch(self, block: int) -> NDArray[np.uint8]:
        self.fetched.append((block, threading.current_thread() is threading.main_thread()))
        return np.full((4, 128, 128, 3), block, np.uint8)

    def wait(self, count: int) -> None:
        deadline = time.monotonic() + 10
        while len(self.fetched) < count and time.monotonic() < deadline:
            time.sleep(0.005)


def test_blocks_that_were_asked_for_are_fetched_once_and_by_threads() -> None:
    store = Store(10)
    with closing(store.blocks):
        store.blocks.ask([3, 7])
        store.blocks.ask([3, 7, 5])
        store.wait(3)
        gathered = store.blocks.gather(np.array([13, 30, 21, 0]))
    assert gathered[:, 0, 0, 0].tolist() == [3, 7, 5, 0]
    assert sorted(store.fetched) == [(0, True), (3, False), (5, False), (7, False)]


def test_an_epoch_asks_for_the_next_window_and_the_next_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks_module, "_WINDOW_IMAGES", 8)  # two blocks
    store = Store(6)
    with closing(BatchStream(store.blocks, held_out=NOTHING, batch=4, rank=0, ranks=1, seed=0, holes=None)) as stream:
        running = stream._batches(0, 0)
        next(running)
        store.wait(4)
        time.sleep(0.05)
        assert len(store.fetched) == 4, "those of two windows"
        batches = list(running)
        store.wait(8)
        time.sleep(0.05)
        assert len(store.fetched) <= 8, "each block once, and those that the next epoch begins with"
        assert not any(in_main for _, in_main in store.fetched)
    assert len(batches) == 5


def test_threads_change_no_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks_module, "_WINDOW_IMAGES", 8)
    one, other = Store(9, threads=0), Store(9, threads=3)
    for first in (0, 2, 5):
        batches = []
        for store in (one, other):
            stream = BatchStream(store.blocks, held_out=np.array([2, 9]), batch=4, rank=0, ranks=1, seed=1, holes=None)
            with closing(stream):
                batches.append(list(stream.epoch(2, first)))
        assert_same_batches(*batches)
        assert len(batches[0]) == 8 - first
