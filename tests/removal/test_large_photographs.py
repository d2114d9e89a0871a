"""Memory of a worker: images wait for decoding while others have taken the pixels that it may hold."""

import io
import json
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from inpaint_core.detection.config import MaskFilesConfig
from inpaint_core.images.decode import pixel_count
from inpaint_core.inpainting.config import OpencvConfig
from inpaint_core.inpainting.inpainter import Inpainter
from inpaint_core.removal.catalogue.entries import Entry, RunId
from inpaint_core.removal.catalogue.journal import Journal
from inpaint_core.removal.config import MaskConfig, RemoveConfig, ScalingConfig
from inpaint_core.removal.freed_memory import give_back_freed_memory
from inpaint_core.removal.image_task import ImageTask
from inpaint_core.removal.pixel_budget import PixelBudget
from inpaint_core.removal.remover import ObjectRemover
from inpaint_core.removal.worker import Worker
from inpaint_core.storage import open_storage
from tests.samples import PaintDetector, encoded, painted, photograph


@dataclass
class Image_:
    over: bool = False


def test_a_budget_counts_what_is_held() -> None:
    budget = PixelBudget(100)
    first, second, third = Image_(), Image_(), Image_()
    assert budget.take(first, 60)
    assert budget.take(second, 40)
    assert not budget.take(third, 1)
    budget.give_back(first)
    assert budget.take(third, 60)


def test_an_image_alone_has_room_whatever_its_size() -> None:
    budget = PixelBudget(100)
    large, small = Image_(), Image_()
    assert budget.take(large, 1000)
    assert not budget.take(small, 1)
    assert budget.take(small, 1, at_any_rate=True)


def test_those_after_one_that_waits_wait_too() -> None:
    budget = PixelBudget(100)
    first, large, small = Image_(), Image_(), Image_()
    assert budget.take(first, 50)
    assert not budget.take(large, 80)
    assert not budget.take(small, 1)
    budget.give_back(first)
    assert budget.take(large, 80)
    assert budget.take(small, 1)


def test_an_image_before_its_turn_finds_half_of_the_room() -> None:
    budget = PixelBudget(100)
    slow, large, small = Image_(), Image_(), Image_()
    for image in (slow, small, large):
        budget.expect(image)
    assert budget.take(small, 50)
    assert not budget.take(large, 1)
    assert not budget.take(slow, 80)
    assert budget.take(slow, 80, at_any_rate=True)
    budget.give_back(slow)
    assert budget.take(large, 50)


def test_an_image_that_never_came_is_not_waited_for() -> None:
    budget = PixelBudget(100)
    unreadable, large = Image_(), Image_()
    budget.expect(unreadable)
    budget.expect(large)
    budget.give_back(unreadable)
    assert budget.take(large, 1000)


def test_an_image_that_was_given_up_takes_nothing() -> None:
    budget = PixelBudget(100)
    hung, other = Image_(), Image_()
    assert budget.take(hung, 100)
    hung.over = True
    budget.give_back(hung)
    assert budget.take(hung, 100)
    assert budget.take(other, 100)


def test_free_memory_is_returned() -> None:
    give_back_freed_memory()


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF"])
def test_pixels_are_counted_by_the_header(format_: str) -> None:
    data = encoded(photograph((64, 48)), format_)
    assert pixel_count(data) == 64 * 48
    assert pixel_count(b"neither") == pixel_count(b"") == 0


def test_pixels_of_a_heic_file_are_those_of_the_whole_picture() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(photograph((300, 200)))).save(buffer, tile_size=128)
    assert pixel_count(buffer.getvalue()) == 300 * 200


def test_pixels_of_a_header_that_says_nothing_are_estimated() -> None:
    assert pixel_count(b"\x89PNG\r\n\x1a\n" + bytes(300)) == 102


class CountingRemover(ObjectRemover):
    """Knows how many images were decoded at the same time."""

    def __init__(self, config: RemoveConfig) -> None:
        model = config.inpainter.build(None, device=torch.device("cpu"), autocast=False)
        super().__init__(config, PaintDetector(), Inpainter(model, config.fill))
        self.now = self.most = 0
        self.together: list[int] = []
        self._lock = threading.Lock()

    def decode(self, task: ImageTask) -> None:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        super().decode(task)

    def fill(self, tasks: Any) -> None:
        self.together.append(len(tasks))
        super().fill(tasks)

    def count_residuals(self, tasks: Any) -> None:
        super().count_residuals(tasks)
        with self._lock:
            self.now -= len(tasks)


def run(
    tmp_path: Path, images: int, pixels_in_flight: int
) -> tuple[CountingRemover, list[dict[str, Any]], list[bytes]]:
    settings = RemoveConfig(
        str(tmp_path / "in"),
        str(tmp_path / f"out{pixels_in_flight}"),
        inpainter=OpencvConfig(),
        detector=MaskFilesConfig(root=str(tmp_path)),
        mask=MaskConfig(grow_min=2),
        scaling=ScalingConfig(images_per_batch=4, pixels_in_flight=pixels_in_flight),
    )
    remover = CountingRemover(settings)
    job = Worker(remover, open_storage(settings.input), open_storage(settings.output), RunId("run", "hash"))
    files = sorted((tmp_path / "in").iterdir())[:images]
    entries = [Entry(file.name, file.stat().st_size, "1", None) for file in files]
    tables = list(job.process(job.batches(entries), Journal(job.target, "journal.parquet")))
    rows = [row for table in tables for row in table.to_pylist()]
    return remover, rows, [Path(settings.output, row["key"]).read_bytes() for row in rows if row["status"] != "failed"]


@pytest.fixture
def twelve(tmp_path: Path) -> Path:
    """Twelve files: of the second batch one is damaged, one large, one without objects."""
    folder = tmp_path / "in"
    folder.mkdir()
    for index in range(12):
        size = (320, 240) if index == 5 else (160, 120)
        image = photograph(size) if index == 6 else painted(photograph(size), (60, 40, 80, 70))
        data = encoded(image)
        (folder / f"{index:02}.png").write_bytes(data[: len(data) // 2] if index == 4 else data)
    return tmp_path


@pytest.mark.parametrize(("pixels", "most"), [(1, 1), (2 * 160 * 120, 2), (5 * 160 * 120, 5)])
def test_results_do_not_depend_on_the_pixels_in_flight(twelve: Path, pixels: int, most: int) -> None:
    free, expected, outputs = run(twelve, 12, 32_000_000)
    assert max(free.together) == 4
    assert [row["key"] for row in expected] == [f"{index:02}.png" for index in range(12)]
    assert [row["status"] for row in expected] == ["cleaned"] * 4 + ["failed", "cleaned", "unchanged"] + ["cleaned"] * 5
    bound, rows, results = run(twelve, 12, pixels)
    volatile = ("seconds", "finished_at")
    plain = [
        [{key: value for key, value in row.items() if key not in volatile} for row in some] for some in (expected, rows)
    ]
    assert plain[0] == plain[1]
    assert results == outputs
    assert bound.most <= most


MEMORY = """
import json, sys
from pathlib import Path
import cv2, torch
torch.set_num_threads(1); cv2.setNumThreads(1)
from tests.removal.test_large_photographs import run_masked
def peak(): return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
loaded = peak()
statuses = run_masked(Path(sys.argv[1]))
print(json.dumps([loaded, peak(), statuses]))
"""


def run_masked(folder: Path) -> list[str]:
    """Work through `folder/in` with the masks of `folder/masks`, and default limits."""
    settings = RemoveConfig(
        str(folder / "in"),
        str(folder / "out"),
        inpainter=OpencvConfig(),
        detector=MaskFilesConfig(root=str(folder / "masks")),
    )
    model = settings.inpainter.build(None, device=torch.device("cpu"), autocast=False)
    detector = settings.detector.build(None, s3=settings.s3, device=torch.device("cpu"), autocast=False)
    remover = ObjectRemover(settings, detector, Inpainter(model, settings.fill))
    job = Worker(remover, open_storage(settings.input), open_storage(settings.output), RunId("run", "hash"))
    files = sorted((folder / "in").iterdir())
    entries = [Entry(file.name, file.stat().st_size, "1", None) for file in files]
    tables = list(job.process(job.batches(entries), Journal(job.target, "journal.parquet")))
    return [row["status"] for table in tables for row in table.to_pylist()]


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_photographs_of_24_megapixels_fit_in_memory(shared_dir: Path, tmp_path: Path) -> None:
    """Three files of 24 megapixels, each with a hole of about 1 megapixel."""
    (tmp_path / "in").mkdir()
    (tmp_path / "masks").mkdir()
    source = Image.open(shared_dir / "data/coco64-seg/images/000000000257.jpg").convert("RGB")
    source.resize((6000, 4000), Image.Resampling.BICUBIC).save(tmp_path / "in/0.jpg", quality=80)
    mask = np.zeros((4000, 6000), np.uint8)
    mask[1500:2500, 2500:3500] = 255
    Image.fromarray(mask).save(tmp_path / "masks/0.png", compress_level=1)
    for index in range(1, 3):
        (tmp_path / f"in/{index}.jpg").write_bytes((tmp_path / "in/0.jpg").read_bytes())
        (tmp_path / f"masks/{index}.png").write_bytes((tmp_path / "masks/0.png").read_bytes())
    command = [sys.executable, "-c", MEMORY, str(tmp_path)]
    child = subprocess.run(command, check=True, capture_output=True, text=True)
    loaded, peak, statuses = json.loads(child.stdout.splitlines()[-1])
    assert statuses == ["cleaned"] * 3
    assert peak - loaded < LIMIT_MB


LIMIT_MB = 1250
