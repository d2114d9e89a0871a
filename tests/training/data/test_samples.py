"""Which images make up a step, and what happens to them on the way."""

import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from inpaint_core.errors import ConfigError
from inpaint_core.hole_masks.sampler import HoleSampler
from inpaint_core.training.data import blocks as blocks_module
from inpaint_core.training.data.blocks import ImageBlocks, held_out
from inpaint_core.training.data.samples import Batch, BatchStream
from inpaint_core.training.step import prepared
from tests.training.small import CPU, photographs

NOTHING = np.zeros(0, np.int64)


def numbered(sizes: list[int], side: int = 128, fetched: list[int] | None = None) -> ImageBlocks:
    """Blocks whose every image holds its own index (below 256) in all pixels."""
    starts = np.cumsum([0, *sizes])

    def fetch(block: int) -> NDArray[np.uint8]:
        if fetched is not None:
            fetched.append(block)
        indices = np.arange(starts[block], starts[block + 1], dtype=np.uint8)
        return np.broadcast_to(indices[:, None, None, None], (len(indices), side, side, 3))

    return ImageBlocks(sizes, fetch)


def stream(
    blocks: ImageBlocks,
    *,
    batch: int = 4,
    rank: int = 0,
    ranks: int = 1,
    seed: int = 0,
    without: NDArray[np.int64] = NOTHING,
    holes: HoleSampler | None = None,
) -> BatchStream:
    return BatchStream(blocks, held_out=without, batch=batch, rank=rank, ranks=ranks, seed=seed, holes=holes)


def indices_of(batches: Iterator[Batch]) -> list[int]:
    return [int(index) for batch in batches for index in batch.images[:, 0, 0, 0]]


def assert_same_batches(one: list[Batch], other: list[Batch]) -> None:
    assert len(one) == len(other)
    for first, second in zip(one, other, strict=True):
        assert torch.equal(first.images, second.images)
        assert torch.equal(first.flips, second.flips)
        assert torch.equal(first.corners, second.corners)
        assert (first.masks is None) == (second.masks is None)
        if first.masks is not None and second.masks is not None:
            assert torch.equal(first.masks, second.masks)


def test_blocks_gather_in_the_order_asked_for() -> None:
    blocks = numbered([3, 1, 5, 2])
    assert len(blocks) == 11
    wanted = np.array([10, 0, 3, 3, 8, 2])
    gathered = blocks.gather(wanted)
    assert gathered.shape == (6, 128, 128, 3)
    assert gathered[:, 64, 64, 1].tolist() == wanted.tolist()
    with pytest.raises(ValueError, match="No indices"):
        blocks.gather(NOTHING)


def test_images_in_memory_become_blocks() -> None:
    images = photographs(7)
    blocks = ImageBlocks.of(images, size=3)
    assert blocks.sizes == [3, 3, 1]
    assert np.array_equal(blocks.gather(np.arange(7)), images)


def test_order_follows_from_seed_and_epoch_alone() -> None:
    sizes = [7, 7, 7, 7, 2]
    orders = {
        (seed, epoch): indices_of(stream(numbered(sizes), seed=seed).epoch(epoch))
        for seed in (0, 1)
        for epoch in (0, 1)
    }
    assert len({tuple(order) for order in orders.values()}) == 4
    torch.manual_seed(123)
    np.random.seed(123)
    again = stream(numbered(sizes), seed=1)
    list(again.epoch(0))
    assert indices_of(again.epoch(1)) == orders[1, 1], "an epoch depends on those before it"


def test_an_epoch_has_every_image_at_most_once_and_no_held_out_one() -> None:
    blocks = numbered([10, 10, 10, 9])
    without = held_out(39, 6)
    batches = stream(blocks, batch=4, without=without)
    assert (batches.images, batches.steps) == (33, 8)
    epochs = [indices_of(batches.epoch(epoch)) for epoch in range(12)]
    for seen in epochs:
        assert len(seen) == len(set(seen)) == 32
        assert set(seen).isdisjoint(without.tolist())
    # What is left over differs from epoch to epoch: nothing is left out for good.
    assert set().union(*epochs) == set(range(39)) - set(without.tolist())


@pytest.mark.parametrize("ranks", [2, 4])
def test_the_parts_of_all_ranks_are_the_batch_of_one(ranks: int) -> None:
    blocks = ImageBlocks.of(photographs(19, 144), size=4)
    holes = HoleSampler(("strokes", "box"), (1.0, 2.0), None)
    whole = list(stream(blocks, batch=8, holes=holes, seed=5).epoch(3))
    parts = [
        list(stream(blocks, batch=8, rank=rank, ranks=ranks, holes=holes, seed=5).epoch(3)) for rank in range(ranks)
    ]
    assert {len(part) for part in parts} == {len(whole)} == {2}
    assert all(len(batch.images) == 8 // ranks for part in parts for batch in part)

    def joined(step: int) -> Batch:
        at = [part[step] for part in parts]
        return Batch(
            images=torch.cat([batch.images for batch in at]),
            flips=torch.cat([batch.flips for batch in at]),
            corners=torch.cat([batch.corners for batch in at]),
            masks=torch.cat([batch.masks for batch in at if batch.masks is not None]),
        )

    assert_same_batches([joined(step) for step in range(2)], whole)


def test_going_on_from_a_step_gives_the_batches_that_were_left() -> None:
    holes = HoleSampler(("box",), None, None)
    batches = stream(ImageBlocks.of(photographs(17, 144), size=4), batch=4, holes=holes, seed=2)
    whole = list(batches.epoch(1))
    assert len(whole) == 4
    for first in range(4):
        assert_same_batches(list(batches.epoch(1, first)), whole[first:])


def test_flips_crops_and_holes_differ_within_a_batch_and_between_epochs() -> None:
    holes = HoleSampler(("box",), None, None)
    batches = stream(numbered([64], side=160), batch=64, holes=holes)
    one, other = next(batches.epoch(0)), next(batches.epoch(1))
    for batch in (one, other):
        assert batch.masks is not None
        assert 16 < int(batch.flips.sum()) < 48
        assert batch.corners.shape == (64, 2)
        assert int(batch.corners.min()) >= 0
        assert int(batch.corners.max()) <= 160 - 128
        assert len(batch.corners.unique(dim=0)) > 50
        assert len(batch.masks.flatten(1).unique(dim=0)) > 50
    assert not torch.equal(one.flips, other.flips)
    assert not torch.equal(one.corners, other.corners)


def test_every_corner_of_a_larger_image_can_be_drawn() -> None:
    batches = stream(numbered([250], side=130), batch=250)
    assert sorted(next(batches.epoch(0)).corners.unique(dim=0).tolist()) == [[y, x] for y in range(3) for x in range(3)]


def test_prepared_crops_and_mirrors_by_hand() -> None:
    images = photographs(6, 150)
    batch = next(stream(ImageBlocks.of(images, size=6), batch=6, seed=3).epoch(0))
    assert 0 < int(batch.flips.sum()) < 6
    got, masks = prepared(batch, CPU)
    assert masks is None
    assert (got.shape, got.dtype) == ((6, 3, 128, 128), torch.float32)
    stored = batch.images.permute(0, 2, 3, 1).numpy()
    for row in range(6):
        top, left = batch.corners[row].tolist()
        expected = stored[row, top : top + 128, left : left + 128].astype(np.float64) / 127.5 - 1
        if batch.flips[row]:
            expected = expected[:, ::-1]
        assert np.abs(got[row].permute(1, 2, 0).numpy() - expected).max() < 1e-6
    assert float(got.min()) >= -1
    assert float(got.max()) <= 1


def test_prepared_leaves_the_batch_alone() -> None:
    batch = next(stream(ImageBlocks.of(photographs(4)), batch=4).epoch(0))
    before = batch.images.clone()
    prepared(batch, CPU)[0].zero_()
    assert torch.equal(batch.images, before)


def test_masks_are_those_of_the_sampler_and_bool() -> None:
    batch = next(stream(numbered([4]), holes=HoleSampler(("center",), None, None)).epoch(0))
    assert batch.masks is not None
    assert (batch.masks.shape, batch.masks.dtype) == ((4, 1, 128, 128), torch.bool)
    assert batch.masks[:, :, 32:96, 32:96].all()
    assert int(batch.masks.sum()) == 4 * 64 * 64


def test_few_blocks_are_held_even_if_one_of_them_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks_module, "_WINDOW_IMAGES", 20)
    fetched: list[int] = []
    blocks = numbered([5] * 30 + [1], fetched=fetched)
    batches = stream(blocks, batch=5)
    held = []
    for _ in batches.epoch(0):
        held.append(len(blocks._held))
    assert max(held) <= 5
    # Nearly every block is fetched once: a window is used up before the next begins.
    assert len(fetched) <= len(blocks.sizes) + 6
    assert set(fetched) == set(range(31))


def test_the_thread_ends_when_the_consumer_stops_early() -> None:
    batches = stream(numbered([4] * 20))
    before = threading.active_count()
    running = batches.epoch(0)
    next(running)
    assert threading.active_count() == before + 1
    running.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
    assert list(running) == []


def test_the_thread_prepares_only_a_few_batches_ahead() -> None:
    fetched: list[int] = []
    running = stream(numbered([4] * 40, fetched=fetched)).epoch(0)
    next(running)
    time.sleep(0.3)
    assert len(fetched) <= 4 * 7, "one used, four waiting, one in hand: each of four images of up to four blocks"
    running.close()  # type: ignore[attr-defined]


def test_an_error_of_the_store_reaches_the_consumer() -> None:
    calls: list[int] = []

    def fetch(block: int) -> NDArray[np.uint8]:
        calls.append(block)
        if len(calls) == 4:
            raise OSError("the block is lost")
        return np.zeros((4, 128, 128, 3), np.uint8)

    before = threading.active_count()
    with pytest.raises(OSError, match="the block is lost"):
        list(stream(ImageBlocks([4] * 8, fetch), batch=4).epoch(0))
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: stream(numbered([5]), batch=8), r"data: 5 training images are fewer than one batch of 8"),
        (lambda: stream(numbered([]), batch=8), r"data: 0 training images"),
        (lambda: stream(numbered([9]), batch=8, without=np.arange(2)), r"data: 7 training images"),
        (lambda: stream(numbered([9]), batch=8, ranks=3), r"batch: 8 images cannot be divided among 3 workers"),
        (lambda: held_out(9, 5), r"validation.images: 5 of the 9 images"),
    ],
)
def test_impossible_numbers_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize(("total", "images"), [(2, 1), (10, 5), (11, 5), (1000, 499), (1_800_000, 1000)])
def test_held_out_images_are_spread_evenly(total: int, images: int) -> None:
    indices = held_out(total, images)
    assert len(indices) == len(set(indices.tolist())) == images
    assert indices[0] == 0
    assert indices[-1] <= total - 1
    if images > 1:
        gaps = np.diff(indices)
        assert gaps.max() - gaps.min() <= 1
