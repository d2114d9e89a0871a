"""Times and permissions of local files, in the files that are written like them."""

import errno
import os
import stat
from pathlib import Path

import pytest

from inpaint_core.storage import TEMPORARY_FOLDER, Original, Storage, open_storage

LONG_AGO = 1_234_567_890_123_456_789  # ns: February 2009


@pytest.fixture
def source(tmp_path: Path) -> Storage:
    storage = open_storage(str(tmp_path / "in"))
    storage.write("x", b"data")
    os.utime(tmp_path / "in" / "x", ns=(0, LONG_AGO))
    return storage


@pytest.fixture
def target(tmp_path: Path) -> Storage:
    return open_storage(str(tmp_path / "out"))


def test_a_file_has_the_time_of_its_original_to_the_nanosecond(
    source: Storage, target: Storage, tmp_path: Path
) -> None:
    data, original = source.read_original("x")
    assert data == b"data"
    for unchanged in (False, True):
        assert target.write_like("d/x", b"cleaned", original, unchanged=unchanged) == ()
        assert (tmp_path / "out/d/x").stat().st_mtime_ns == LONG_AGO
        assert target.read("d/x") == b"cleaned"
    without_time = Original(source, "x", original.properties.without_time())
    target.write_like("now", data, without_time)
    assert (tmp_path / "out/now").stat().st_mtime_ns > LONG_AGO + 10**17
    target.write("d/x", b"again")  # without an original
    assert (tmp_path / "out/d/x").stat().st_mtime_ns > LONG_AGO + 10**17


@pytest.mark.parametrize(("mode", "kept"), [(0o600, 0o600), (0o444, 0o444), (0o666, 0o666), (0o6755, 0o755)])
def test_a_file_has_the_permissions_of_its_original(
    source: Storage, target: Storage, tmp_path: Path, mode: int, kept: int
) -> None:
    (tmp_path / "in/x").chmod(mode)
    before = os.umask(0o027)
    try:
        for _ in range(2):  # and again, over a file that may be read-only
            target.write_like("x", *source.read_original("x"))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out/x").stat().st_mode) == kept


def test_a_file_system_without_times_and_permissions_takes_the_bytes(
    source: Storage, target: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "utime", refuse)
    monkeypatch.setattr(os, "fchmod", refuse)
    target.write_like("x", *source.read_original("x"))
    assert target.read("x") == b"data"


def test_a_file_being_written_is_no_leftover_however_old_its_time(
    source: Storage, target: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync
    removed = []

    def meanwhile(descriptor: int) -> None:  # another run tidies up, when the time is already set
        assert os.fstat(descriptor).st_mtime_ns == LONG_AGO
        removed.append(target.remove_leftovers(older_than=3600))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", meanwhile)
    target.write_like("x", *source.read_original("x"))
    assert removed == [0]
    assert target.read("x") == b"data"
    assert os.listdir(tmp_path / "out" / TEMPORARY_FOLDER) == []


def test_another_kind_of_store_takes_the_bytes(source: Storage, target: Storage) -> None:
    memory = open_storage("memory://properties/out")
    assert memory.write_like("x", *source.read_original("x"), unchanged=True) == ()
    assert target.write_like("x", *memory.read_original("x"), unchanged=True) == ()
    assert target.read("x") == b"data"
