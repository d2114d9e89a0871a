import pyarrow as pa
import pytest

from inpaint_core.removal.catalogue import entries
from inpaint_core.removal.catalogue.entries import block_size, streams
from inpaint_core.removal.catalogue.sorted_rows import SortedRows

KEYS = pa.schema([pa.field("key", pa.string())])


@pytest.mark.parametrize(
    ("images", "workers", "batch", "size"),
    [
        (30, 2, 4, 4),  # several blocks for each worker
        (30, 2, 100, 100),
        (1_000, 2, 8, 64),
        (1_000_000, 100, 8, 64),
        (4_000_000, 100, 8, 256),  # no more blocks than the driver can keep in mind
        (1, 100, 8, 8),
    ],
)
def test_blocks_are_of_whole_batches(images: int, workers: int, batch: int, size: int) -> None:
    assert block_size(images, workers=workers, images_per_batch=batch) == size


def test_streams_and_blocks_hold_every_image_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "IMAGES_PER_STREAM", 40)
    keys = [f"{number:03}" for number in range(101)]
    pending = SortedRows(KEYS)
    pending.add(pa.table([keys], schema=KEYS))
    taken = list(streams(pending, workers=2, images_per_batch=3))
    assert [len(stream) for stream in taken] == [6, 6, 5]
    blocks = [block for stream in taken for block in stream]
    assert {len(block) for block in blocks[:-1]} == {6}
    assert [key for block in blocks for key in block["key"].to_pylist()] == keys
    assert list(streams(SortedRows(KEYS), workers=2, images_per_batch=3)) == []
