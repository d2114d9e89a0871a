"""Every way in which a run can fail, with earlier good outputs in place: they stay until their successors are written."""

import errno
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from inpaint_core.errors import ConfigError, ImageError, ObjectError, StorageError
from inpaint_core.removal import remover as flow
from inpaint_core.removal.catalogue import ledger
from inpaint_core.removal.catalogue.config import ListingConfig
from inpaint_core.removal.catalogue.entries import as_entries
from inpaint_core.removal.catalogue.journal import Journal
from inpaint_core.removal.catalogue.ledger import read_records
from inpaint_core.removal.config import MaskConfig, RemoveConfig, ScalingConfig
from inpaint_core.removal.worker import Worker
from inpaint_core.storage import Original, Storage, open_storage
from inpaint_core.storage.base import Properties
from tests import jobs
from tests.samples import encoded, painted, photograph

EARLIER = "the output under this key is of an earlier run"
KEYS = [f"{'ab'[number % 2]}/{number}.png" for number in range(5)]


def image(seed: int, *, clean: bool = False) -> bytes:
    plain = photograph((96, 80), seed=seed)
    return encoded(plain if clean else painted(plain, (30, 20, 50, 45)))


@pytest.fixture
def settings(tmp_path: Path) -> RemoveConfig:
    """A job whose input was cleaned into its output; the last image had nothing to remove."""
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "some.png").touch()
    for number, key in enumerate(KEYS):
        path = tmp_path / "in" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image(number, clean=number == 4))
    first = jobs.config(str(tmp_path / "in"), str(tmp_path / "out"), tmp_path / "masks")
    rows = jobs.run(first)
    assert [row["status"] for row in rows.values()].count("cleaned") == 4
    return first


def changed(settings: RemoveConfig, **changes: Any) -> RemoveConfig:
    """Another config, so that all images are done again and cleaned differently."""
    return replace(settings, mask=MaskConfig(grow_min=5), **changes)


def kept(settings: RemoveConfig) -> dict[str, bytes]:
    return jobs.written(open_storage(settings.output))


def raising(error: Exception) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


def refused_reads(worker: Worker, _: pytest.MonkeyPatch) -> None:
    worker.source.read_original = raising(ObjectError("'x' may not be read"))  # type: ignore[method-assign]


def slow_reads(worker: Worker, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(worker.source, "read_original", lambda *_: time.sleep(2))


def damaged(worker: Worker, _: pytest.MonkeyPatch) -> None:
    def half(key: str, size: int | None = None) -> tuple[bytes, Original]:
        return b"\xff\xd8\xff half", Original(worker.source, key, Properties())

    worker.source.read_original = half  # type: ignore[method-assign]


def detector(worker: Worker, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(worker.remover.detector, "detect", raising(RuntimeError("out of memory")))


def unreadable_masks(worker: Worker, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(worker.remover.detector, "detect", raising(ImageError("read", "the mask x.png cannot be read")))


def inpainter(worker: Worker, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(worker.remover.inpainter, "inpaint", raising(RuntimeError("out of memory")))


def within(name: str) -> Callable[[Worker, pytest.MonkeyPatch], None]:
    return lambda _, patch: patch.setattr(flow, name, raising(ValueError("no")))


def image_writes(worker: Worker, _: pytest.MonkeyPatch) -> None:
    worker.target.write_like = raising(ObjectError("'x' cannot be stored"))  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("stage", "broken", "again"),
    [
        ("read", refused_reads, 5),
        ("read", slow_reads, 5),
        ("decode", damaged, 0),
        ("detect", detector, 0),
        ("read", unreadable_masks, 5),
        ("mask", within("mask_task"), 0),
        ("inpaint", inpainter, 0),
        ("encode", within("encode"), 0),
        ("measure", within("outside_difference"), 0),
        ("write", image_writes, 5),
    ],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_failure_leaves_the_earlier_outputs_and_says_so(
    settings: RemoveConfig,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    broken: Callable[[Worker, pytest.MonkeyPatch], None],
    again: int,
    overwrite: bool,
) -> None:
    before = kept(settings)
    scaling = replace(settings.scaling, image_timeout=0.3 if broken is slow_reads else 60)
    failing = changed(settings, scaling=scaling, overwrite=overwrite)
    with monkeypatch.context() as patch:
        rows = jobs.run(failing, lambda worker: broken(worker, patch))
    after = kept(settings)
    only_filled = stage in ("inpaint", "encode", "measure")  # the image without an object comes through
    assert after == before
    for key, row in rows.items():
        if only_filled and key == KEYS[4]:
            assert row["status"] == "unchanged"
            continue
        assert (row["status"], row["stage"], row["output_size"]) == ("failed", stage, None)
        assert row["note"] is not None
        assert row["note"].endswith(EARLIER)
    _, todo = jobs.start(replace(failing, overwrite=False, scaling=settings.scaling))
    assert len(todo.pending) == again  # what says nothing of the image is taken again
    rows = jobs.run(replace(failing, overwrite=False, retry_failed=True, scaling=settings.scaling))
    assert {row["status"] for row in rows.values()} == {"cleaned", "unchanged"}
    assert {row["note"] for row in rows.values()} == {None}
    assert set(kept(settings)) == set(before)


def test_a_dry_run_touches_no_output(settings: RemoveConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    before = kept(settings)
    for overwrite in (False, True):
        with monkeypatch.context() as patch:
            jobs.run(changed(settings, dry_run=True, overwrite=overwrite), lambda worker: detector(worker, patch))
        jobs.run(changed(settings, dry_run=True, overwrite=overwrite))
        assert kept(settings) == before


@pytest.mark.parametrize("name", ["replace", "fsync"])
def test_a_full_disk_leaves_each_image_with_its_own_mask(
    settings: RemoveConfig, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    before = kept(settings)

    def full(worker: Worker) -> None:
        monkeypatch.setattr(os, name, raising(OSError(errno.ENOSPC, "No space left on device")))

    with pytest.raises(StorageError, match="there is no space left"):
        jobs.run(changed(settings), full)
    monkeypatch.undo()
    assert kept(settings) == before
    assert {row["status"] for row in jobs.run(changed(settings)).values()} == {"cleaned", "unchanged"}


def test_an_image_whose_mask_cannot_be_written_is_done_again(
    settings: RemoveConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = kept(settings)

    def broken(worker: Worker) -> None:
        write = worker.target.write

        def only_images(key: str, data: bytes) -> None:
            if "/masks/" in key:
                raise ObjectError(f"{key} cannot be stored")
            write(key, data)

        monkeypatch.setattr(worker.target, "write", only_images)

    rows = jobs.run(changed(settings), broken)
    assert [(rows[key]["stage"], rows[key]["note"]) for key in KEYS[:4]] == [
        ("write", "the output under this key is of this run, but its mask is not")
    ] * 4
    assert set(kept(settings)) == set(before)
    assert {row["status"] for row in jobs.run(changed(settings)).values()} == {"cleaned", "unchanged"}


def test_a_kill_between_an_image_and_its_mask_is_noticed(
    settings: RemoveConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = kept(settings)

    def dies(worker: Worker) -> None:
        write = worker.target.write

        def write_until_masks(key: str, data: bytes) -> None:
            if "/masks/" in key:
                raise StorageError("killed")
            write(key, data)

        monkeypatch.setattr(worker.target, "write", write_until_masks)

    with pytest.raises(StorageError, match="killed"):
        jobs.run(changed(settings), dies)
    assert kept(settings) != reference
    jobs.run(settings)  # the first config again: whatever was replaced is made as it was
    assert kept(settings) == reference


def test_a_mask_goes_with_the_output_that_it_was_of(settings: RemoveConfig, tmp_path: Path) -> None:
    mask = tmp_path / "out" / "_removal" / "masks" / f"{KEYS[0]}.png"
    assert mask.exists()
    (tmp_path / "in" / KEYS[0]).write_bytes(image(9, clean=True))
    assert jobs.run(settings)[KEYS[0]]["status"] == "unchanged"
    assert not mask.exists()
    assert (tmp_path / "out" / KEYS[0]).read_bytes() == image(9, clean=True)
    assert len(kept(settings)) == 5 + 3


def test_a_killed_overwrite_loses_no_output_and_goes_on(settings: RemoveConfig) -> None:
    before = kept(settings)
    job, todo = jobs.start(replace(settings, overwrite=True))  # and then it was killed
    assert kept(settings) == before
    worker = jobs.worker_of(job)
    batch = as_entries(todo.pending.read())[:2]
    next(worker.process([batch], Journal(job.target, worker.journal_key(batch, "1"))))  # and again, later
    assert kept(settings) == before
    assert len(jobs.start(settings)[1].pending) == 3
    jobs.run(settings)
    assert kept(settings) == before


def test_an_overwrite_that_is_killed_while_it_forgets_keeps_its_claim(
    settings: RemoveConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = kept(settings)
    with monkeypatch.context() as patch:
        patch.setattr("inpaint_core.removal.job._compare", raising(KeyboardInterrupt()))  # type: ignore[arg-type]
        with pytest.raises(KeyboardInterrupt):
            jobs.start(replace(settings, overwrite=True))
    assert read_records(open_storage(settings.output)).num_rows == 0
    assert len(jobs.start(settings)[1].pending) == 5  # its own, not somebody else's
    assert kept(settings) == before


def test_parts_and_a_moved_input_leave_the_rest(settings: RemoveConfig, tmp_path: Path) -> None:
    before = kept(settings)
    part = changed(settings, listing=ListingConfig(include="a/*"), overwrite=True)
    rows = jobs.run(part, lambda worker: refused_reads(worker, None))  # type: ignore[arg-type]
    assert {key for key, row in rows.items() if row["status"] == "failed"} == {key for key in KEYS if key[0] == "a"}
    assert kept(settings) == before
    assert [row["status"] for row in jobs.run(settings).values()].count("cleaned") == 4
    assert kept(settings) == before
    (tmp_path / "in").rename(tmp_path / "moved")
    moved = replace(settings, input=str(tmp_path / "moved"))
    (tmp_path / "moved" / KEYS[1]).write_bytes(b"\xff\xd8\xff half")
    with pytest.raises(ConfigError, match=r"already holds 1 of these keys.*adopt=true"):
        jobs.run(moved)
    assert kept(settings) == before
    assert jobs.run(replace(moved, adopt=True))[KEYS[1]]["note"] == EARLIER
    assert kept(settings) == before
    with pytest.raises(StorageError, match="there is no such folder"):
        jobs.run(settings)
    (tmp_path / "other" / "a").mkdir(parents=True)
    (tmp_path / "other" / KEYS[0]).write_bytes(image(8))
    with pytest.raises(ConfigError, match="already holds 1 of these keys"):
        jobs.run(replace(settings, input=str(tmp_path / "other")))
    assert kept(settings) == before


def test_an_input_that_vanishes_keeps_its_output(settings: RemoveConfig, tmp_path: Path) -> None:
    before = kept(settings)

    def vanish(worker: Worker) -> None:
        for key in KEYS:
            (tmp_path / "in" / key).unlink()

    rows = jobs.run(changed(settings), vanish)
    assert {(row["stage"], row["note"]) for row in rows.values()} == {("read", EARLIER)}
    assert kept(settings) == before


def test_two_runs_at_once_lose_no_record(settings: RemoveConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    job, todo = jobs.start(changed(settings))
    worker, entries = jobs.worker_of(job), as_entries(todo.pending.read())
    journal = Journal(job.target, worker.journal_key(entries, "1"))
    batches = worker.process([entries[:2], entries[2:]], journal)
    first = next(batches)
    delete_all = ledger._delete_all

    def slowly(storage: Storage, keys: list[str]) -> None:
        """The other run writes its journal again after it was read."""
        delete_all(storage, keys)
        list(batches)

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "_delete_all", slowly)
        jobs.run(replace(settings, limit=1))
    assert len(first) == 2
    rows = read_records(job.target).to_pylist()
    assert [row["run_id"] for row in rows[1:]] == [job.run.run_id] * 4
    assert set(kept(settings)) == {*KEYS, *(f"_removal/masks/{key}.png" for key in KEYS[:4])}


def test_reads_that_fail_in_a_row_stop_the_job_in_one_line(settings: RemoveConfig, tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / "in" / f"more{number:02}.png").write_bytes(image(number))
    before = kept(settings)

    def broken(worker: Worker) -> None:
        attempts: list[str] = []

        def refuse(key: str, size: int | None = None) -> tuple[bytes, Original]:
            attempts.append(key)
            assert len(attempts) <= 16  # what is read ahead, and not all of the collection
            raise ObjectError(f"in: {key!r} may not be read with these credentials")

        worker.source.read_original = refuse  # type: ignore[method-assign]

    with pytest.raises(
        StorageError, match=r"may not be read .*; the 7 images before it could not be read either.*listing\.exclude"
    ) as e:
        jobs.run(changed(settings), broken)
    assert "\n" not in str(e.value)
    assert kept(settings) == before
    assert [row["status"] for row in jobs.run(changed(settings)).values()].count("failed") == 0


def test_single_unreadable_images_do_not_stop_the_job(settings: RemoveConfig, tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / "in" / f"more{number:02}.png").write_bytes(image(number))

    def broken(worker: Worker) -> None:
        read = worker.source.read_original

        def refuse(key: str, size: int | None = None) -> tuple[bytes, Original]:
            if key[:4] == "more" and int(key[4:6]) % 7:
                raise ObjectError(f"in: {key!r} may not be read with these credentials")
            return read(key, size)

        worker.source.read_original = refuse  # type: ignore[method-assign]

    rows = jobs.run(settings, broken)
    assert [row["status"] for row in rows.values()].count("failed") == 17
    assert [row["status"] for row in jobs.run(settings).values()].count("failed") == 0


def test_a_file_that_is_still_being_copied_is_never_called_damaged(
    settings: RemoveConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = kept(settings)
    path = tmp_path / "in" / KEYS[0]
    whole = image(7)
    path.write_bytes(whole[:500])

    def grow(worker: Worker) -> None:
        path.write_bytes(whole[:700])

    row = jobs.run(settings, grow)[KEYS[0]]
    assert (row["stage"], row["note"]) == ("read", EARLIER)
    assert "came with 700 bytes where the listing said 500" in row["error"]
    assert kept(settings) == before
    path.write_bytes(whole)
    assert jobs.run(settings)[KEYS[0]]["status"] == "cleaned"


def test_a_write_that_was_given_up_loses_nothing(settings: RemoveConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    before = kept(settings)

    def slow(worker: Worker) -> None:
        write = worker.target.write_like

        def late(*args: Any, **kwargs: Any) -> tuple[str, ...]:
            time.sleep(1.5)
            return write(*args, **kwargs)

        monkeypatch.setattr(worker.target, "write_like", late)

    hurried = changed(settings, limit=1, scaling=ScalingConfig(image_timeout=1.0, images_per_batch=4))
    row = jobs.run(hurried, slow)[KEYS[0]]
    assert (row["stage"], row["output_size"]) == ("write", None)
    assert "may be of this run, or of an earlier one" in row["note"]
    time.sleep(2.5)
    assert set(kept(settings)) == set(before)  # the earlier one, or its successor after all
    assert jobs.run(replace(hurried, scaling=settings.scaling))[KEYS[0]]["status"] == "cleaned"


def test_an_image_whose_worker_died_says_what_lies_there(settings: RemoveConfig) -> None:
    before = kept(settings)
    job, todo = jobs.start(changed(settings))
    worker, entries = jobs.worker_of(job), as_entries(todo.pending.read())
    (table,) = worker.failed(entries[0], "worker", "died", Journal(job.target, worker.journal_key(entries, "1")))
    assert table["note"].to_pylist() == [EARLIER]
    assert kept(settings) == before


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_link_in_the_output_never_leads_to_the_originals(
    settings: RemoveConfig, tmp_path: Path, overwrite: bool
) -> None:
    originals = {path: path.read_bytes() for path in (tmp_path / "in").rglob("*.png")}
    (tmp_path / "out" / "a").rename(tmp_path / "out" / "aside")
    (tmp_path / "out" / "a").symlink_to(tmp_path / "in" / "a")
    with pytest.raises(
        StorageError, match=r"'a/[024]\.png' would be written .* symbolic link to .*/in/a; remove the link"
    ):
        jobs.run(changed(settings, overwrite=overwrite))
    assert {path: path.read_bytes() for path in (tmp_path / "in").rglob("*.png")} == originals


def test_the_output_itself_may_be_a_link(settings: RemoveConfig, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "out")
    linked = changed(settings, output=str(tmp_path / "link"))
    assert {row["status"] for row in jobs.run(linked).values()} == {"cleaned", "unchanged"}
