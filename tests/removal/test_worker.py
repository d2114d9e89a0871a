"""Worker, listing and ledger together on a local folder, without Ray."""

import os
import stat
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from inpaint_core.detection.config import MaskFilesConfig
from inpaint_core.errors import Stage
from inpaint_core.inpainting.config import OpencvConfig
from inpaint_core.inpainting.inpainter import Inpainter
from inpaint_core.removal.catalogue.config import ListingConfig
from inpaint_core.removal.catalogue.entries import Entry, RunId, as_entries
from inpaint_core.removal.catalogue.journal import Journal
from inpaint_core.removal.catalogue.listing import list_images
from inpaint_core.removal.config import MaskConfig, RemoveConfig, ScalingConfig, WriteConfig
from inpaint_core.removal.remover import ObjectRemover
from inpaint_core.removal.worker import Worker
from inpaint_core.storage import Original, open_storage
from tests.odd_files import write_odd_folder
from tests.samples import PaintDetector, encoded, painted, photograph


def config(tmp_path: Path, **changes: Any) -> RemoveConfig:
    plain = RemoveConfig(
        str(tmp_path / "in"),
        str(tmp_path / "out"),
        inpainter=OpencvConfig(),
        detector=MaskFilesConfig(root=str(tmp_path)),
        mask=MaskConfig(grow_min=2),
    )
    return replace(plain, **changes)


def worker(settings: RemoveConfig) -> Worker:
    model = settings.inpainter.build(None, device=torch.device("cpu"), autocast=False)
    remover = ObjectRemover(settings, PaintDetector(), Inpainter(model, settings.fill))
    return Worker(remover, open_storage(settings.input), open_storage(settings.output), RunId("run", "hash"))


def journal(job: Worker, entries: list[Entry]) -> Journal:
    return Journal(job.target, job.journal_key(entries, attempt="1"))


def run(settings: RemoveConfig, entries: list[Entry] | None = None) -> dict[str, dict[str, Any]]:
    job = worker(settings)
    if entries is None:
        entries = as_entries(list_images(job.source, job.target, settings.listing, None).manifest.read())
    tables = list(job.process(job.batches(entries), journal(job, entries)))
    rows = [row for table in tables for row in table.to_pylist()]
    assert [row["key"] for row in rows] == [entry.key for entry in entries]
    return {row["key"]: row for row in rows}


def put(tmp_path: Path, key: str, data: bytes) -> Path:
    path = tmp_path / "in" / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_an_adversarial_folder_gives_one_record_each(tmp_path: Path) -> None:
    expected = write_odd_folder(tmp_path / "in")
    assert len(expected) >= 45
    assert set(expected.values()) == {"ok", "failed"}
    rows = run(config(tmp_path))
    listed = {key for key in expected if Path(key).suffix.lower().lstrip(".") in ListingConfig().extensions}
    assert set(rows) == listed
    assert len(listed) >= 45
    for key, row in rows.items():
        output = tmp_path / "out" / key
        if expected[key] == "ok":
            assert row["status"] in ("unchanged", "cleaned"), (key, row["error"])
            assert output.stat().st_size == row["output_size"]
        else:
            assert (row["status"], row["stage"]) == ("failed", "decode"), key
            assert len(row["error"]) > 10
            assert not output.exists()
        if row["status"] == "unchanged":
            assert output.read_bytes() == (tmp_path / "in" / key).read_bytes()


def test_what_goes_wrong_around_an_image_is_in_its_record(tmp_path: Path) -> None:
    good = encoded(painted(photograph((96, 80)), (30, 20, 50, 45)))
    put(tmp_path, "good.png", good)
    put(tmp_path, "large.png", good + b"x" * len(good))
    stale = tmp_path / "out" / "gone.png"
    stale.parent.mkdir()
    stale.write_bytes(b"of an earlier version")
    (tmp_path / "out" / "folder.png").mkdir()
    put(tmp_path, "folder.png", good)
    settings = config(tmp_path, listing=ListingConfig(max_bytes=len(good) + 10))
    entries = [
        Entry("good.png", len(good), "1", None),
        Entry("gone.png", len(good), "1", None),
        Entry("large.png", 2 * len(good), "1", None),
        Entry("listed.png", 1, "1", "the file name is not valid UTF-8; rename the file"),
        Entry("../outside.png", 1, "1", None),
        Entry("folder.png", len(good), "1", None),
    ]
    rows = run(settings, entries)
    assert rows["good.png"]["status"] == "cleaned"
    stages = {key: row["stage"] for key, row in rows.items() if row["status"] == "failed"}
    assert stages == {
        "gone.png": "read",
        "large.png": "list",
        "listed.png": "list",
        "../outside.png": "read",
        "folder.png": "write",
    }
    assert "max_bytes" in rows["large.png"]["error"]
    assert "UTF-8" in rows["listed.png"]["error"]
    assert stale.read_bytes() == b"of an earlier version"
    assert rows["gone.png"]["note"] == "the output under this key is of an earlier run"
    assert rows["large.png"]["note"] is None


def test_an_image_that_is_given_up_is_failed_and_keeps_an_earlier_output(tmp_path: Path) -> None:
    entries = [Entry("earlier.png", 10, "1", None), Entry("new.png", 10, "1", None)]
    earlier = tmp_path / "out" / "earlier.png"
    earlier.parent.mkdir()
    earlier.write_bytes(b"of an earlier version")
    job = worker(config(tmp_path))
    kept = journal(job, entries)
    rows = [
        row for entry in entries for table in job.failed(entry, Stage.WORKER, "died", kept) for row in table.to_pylist()
    ]
    assert [(row["key"], row["status"], row["stage"], row["error"]) for row in rows] == [
        (entry.key, "failed", "worker", "died") for entry in entries
    ]
    assert [row["note"] for row in rows] == ["the output under this key is of an earlier run", None]
    assert earlier.read_bytes() == b"of an earlier version"
    assert not (tmp_path / "out" / "new.png").exists()


def test_an_object_that_never_comes_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(photograph((64, 64)))
    for number in range(4):
        put(tmp_path, f"{number}.png", data)
    settings = config(tmp_path, scaling=ScalingConfig(image_timeout=0.5, io_threads=1))
    job = worker(settings)
    read = job.source.read_original

    def slow_read(key: str, size: int | None = None) -> tuple[bytes, Original]:
        if key == "1.png":
            time.sleep(5)
        return read(key, size)

    monkeypatch.setattr(job.source, "read_original", slow_read)
    entries = [Entry(f"{number}.png", len(data), "1", None) for number in range(4)]
    start = time.monotonic()
    rows = [row for table in job.process(job.batches(entries), journal(job, entries)) for row in table.to_pylist()]
    assert time.monotonic() - start < 4
    assert [row["status"] for row in rows] == ["unchanged", "failed", "unchanged", "unchanged"]
    assert (rows[1]["stage"], rows[1]["error"]) == ("read", "timed out after 0.5 s (scaling.image_timeout)")


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_batches_of_any_size_give_the_same_records_and_files(tmp_path: Path, batch: int) -> None:
    for number in range(7):
        image = photograph((96, 80), seed=number)
        put(tmp_path, f"{number}.png", encoded(painted(image, (30, 20, 50, 45)) if number % 2 else image))
    run(config(tmp_path, output=str(tmp_path / "reference")))
    rows = run(config(tmp_path, scaling=ScalingConfig(images_per_batch=batch)))
    assert [row["status"] for row in rows.values()].count("cleaned") == 3
    for number in range(7):
        assert (tmp_path / "out" / f"{number}.png").read_bytes() == (
            tmp_path / "reference" / f"{number}.png"
        ).read_bytes()
    (file,) = (tmp_path / "out" / "_removal" / "journal" / "run").iterdir()
    assert pq.read_table(file)["key"].to_pylist() == list(rows)


def test_large_files_make_small_batches(tmp_path: Path) -> None:
    job = worker(config(tmp_path))
    sizes = [2**20] * 9 + [5 * 2**20] * 3 + [100 * 2**20] * 2 + [1]
    batches = job.batches([Entry(str(number), size, "1", None) for number, size in enumerate(sizes)])
    assert [len(batch) for batch in batches] == [8, 2, 1, 1, 1, 1, 1]
    assert [entry.key for batch in batches for entry in batch] == [str(number) for number in range(len(sizes))]


@pytest.mark.parametrize("times", ["keep", "now"])
def test_outputs_have_times_and_permissions_of_their_inputs(tmp_path: Path, times: Any) -> None:
    image = photograph((96, 80))
    long_ago = 1_234_567_890_123_456_789
    for key, data in (("plain.png", encoded(image)), ("painted.png", encoded(painted(image, (30, 20, 50, 45))))):
        path = put(tmp_path, key, data)
        path.chmod(0o640)
        os.utime(path, ns=(0, long_ago))
    rows = run(config(tmp_path, write=WriteConfig(times=times)))
    assert {key: row["status"] for key, row in rows.items()} == {"plain.png": "unchanged", "painted.png": "cleaned"}
    for key in rows:
        status = (tmp_path / "out" / key).stat()
        assert (status.st_mtime_ns == long_ago) == (times == "keep")
        assert stat.S_IMODE(status.st_mode) == 0o640
    assert (tmp_path / "out" / "_removal" / "masks" / "painted.png.png").stat().st_mtime_ns > long_ago
