"""One job at a time in an output."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from inpaint_core.errors import ConfigError, ObjectError
from inpaint_core.removal.catalogue.layout import Layout
from inpaint_core.removal.catalogue.lease import JobLease, Pace
from inpaint_core.storage import Storage, open_storage
from inpaint_core.storage.local import LocalStorage

LAYOUT = Layout.of(dry_run=False)
FAST = Pace(renewed=0.05, stale=0.4)


@pytest.fixture
def output(tmp_path: Path) -> Storage:
    return open_storage(str(tmp_path / "out"))


def lease(output: Storage, run_id: str, lines: list[str] | None = None, pace: Pace = FAST) -> JobLease:
    return JobLease(output, LAYOUT, run_id, (lines if lines is not None else []).append, pace)


def test_nothing_is_told_or_left_where_one_job_runs(output: Storage) -> None:
    lines: list[str] = []
    with lease(output, "first", lines) as held:
        assert output.exists("_removal/lease/holder.json")
        held.check()
    assert lines == []
    held.check()
    assert [info.key for info in output.list()] == []


def test_second_job_is_refused_while_the_first_one_lives(output: Storage) -> None:
    with lease(output, "first") as first:
        lines: list[str] = []
        started = time.monotonic()
        with (
            pytest.raises(
                ConfigError, match=rf"^output: another job is running in .*out \(run first, process {os.getpid()} on "
            ),
            lease(output, "second", lines),
        ):
            pass
        assert time.monotonic() - started < FAST.stale + 1
        assert len(lines) == 1
        assert lines[0].startswith("another job may be running in ")
        first.check()
        assert [info.key for info in output.list()] == [LAYOUT.lease]
    with lease(output, "third", lines):
        assert len(lines) == 1


def test_lease_of_a_killed_process_of_this_machine_is_taken_at_once(output: Storage, tmp_path: Path) -> None:
    code = (
        "import os, signal\n"
        "from inpaint_core.removal.catalogue.layout import Layout\n"
        "from inpaint_core.removal.catalogue.lease import JobLease\n"
        "from inpaint_core.storage import open_storage\n"
        f"with JobLease(open_storage({str(tmp_path / 'out')!r}), Layout.of(dry_run=False), 'killed', print):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    process = subprocess.run([sys.executable, "-c", code], check=False)
    assert process.returncode == -9
    lines: list[str] = []
    started = time.monotonic()
    with lease(output, "next", lines, Pace(renewed=10, stale=600)) as held:
        held.check()
    assert time.monotonic() - started < 5
    (line,) = lines
    assert line.startswith("resuming after a job that ended without releasing its lease (run killed, process ")


def test_lease_of_a_machine_that_is_gone_is_taken_when_it_is_stale(output: Storage) -> None:
    elsewhere = (
        b'{"run_id": "far", "host": "node-7", "process": 1, "machine": "other", "started": "then", "renewals": 3}'
    )
    output.write(LAYOUT.lease, elsewhere)
    lines: list[str] = []
    started = time.monotonic()
    with lease(output, "next", lines):
        assert FAST.stale / 2 < time.monotonic() - started < FAST.stale + 2
    assert lines[0].startswith("another job may be running in ")
    assert "(run far, process 1 on node-7, since then); waiting up to" in lines[0]
    assert (
        lines[1]
        == "resuming after a job that ended without releasing its lease (run far, process 1 on node-7, since then)"
    )


def test_lease_of_another_version_counts_by_its_age(output: Storage) -> None:
    output.write(LAYOUT.lease, b'{"format": 2}')
    lines: list[str] = []
    with lease(output, "next", lines):
        pass
    assert lines[-1].startswith("resuming after a job that ended without releasing its lease (run unknown, ")


def test_job_that_was_taken_for_dead_ends(output: Storage) -> None:
    with (
        lease(output, "asleep", pace=Pace(renewed=0.3, stale=0.4)) as asleep,
        lease(output, "awake", pace=Pace(renewed=5, stale=0)) as awake,
    ):
        time.sleep(1)
        with pytest.raises(ConfigError, match=r"was taken over by another job \(run awake, .* this one ends"):
            asleep.check()
        awake.check()
        assert output.exists(LAYOUT.lease)
    assert not output.exists(LAYOUT.lease)


def test_job_that_ends_leaves_the_lease_of_the_next_one(output: Storage) -> None:
    with lease(output, "first", pace=Pace(renewed=60, stale=0)) as first:
        output.write(LAYOUT.lease, output.read(LAYOUT.lease).replace(b"first", b"second"))
        first.check()  # not seen yet
    assert b"second" in output.read(LAYOUT.lease)


def test_outage_of_the_store_does_not_end_the_lease(output: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = threading.Event()
    read = LocalStorage.read

    def fault(self: LocalStorage, key: str, size: int | None = None) -> bytes:
        failed.set()
        raise ObjectError("no answer")

    with lease(output, "first") as held:
        monkeypatch.setattr(LocalStorage, "read", fault)
        assert failed.wait(5)
        monkeypatch.setattr(LocalStorage, "read", read)
        before = output.read(LAYOUT.lease)
        deadline = time.monotonic() + 5
        while output.read(LAYOUT.lease) == before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert output.read(LAYOUT.lease) != before
        held.check()


def old_lease(output: Storage, tmp_path: Path, age: float) -> Path:
    """The lease of a holder elsewhere, of an age in seconds."""
    output.write(
        LAYOUT.lease, b'{"run_id": "far", "host": "node-7", "process": 1, "machine": "other", "started": "then"}'
    )
    path = tmp_path / "out" / LAYOUT.lease
    os.utime(path, (time.time() - age, time.time() - age))
    return path


def test_holder_whose_store_was_out_of_reach_keeps_its_lease(output: Storage, tmp_path: Path) -> None:
    path = old_lease(output, tmp_path, 300)
    renewed = path.read_bytes().replace(b"{", b'{"renewals": 4, ')
    threading.Timer(0.3, lambda: output.write(LAYOUT.lease, renewed)).start()
    with (
        pytest.raises(ConfigError, match=r"another job is running in .* \(run far, process 1 on node-7"),
        lease(output, "next", pace=Pace(renewed=0.2, stale=5)),
    ):
        pass


def test_lease_older_than_any_outage_is_taken_at_once(output: Storage, tmp_path: Path) -> None:
    old_lease(output, tmp_path, 2000)
    started = time.monotonic()
    lines: list[str] = []
    with lease(output, "next", lines, Pace(renewed=10, stale=600)) as held:
        held.check()
    assert time.monotonic() - started < 5
    assert [line.partition(" (")[0] for line in lines] == [
        "resuming after a job that ended without releasing its lease"
    ]


def test_dry_run_has_a_lease_of_its_own(output: Storage) -> None:
    with lease(output, "real"), JobLease(output, Layout.of(dry_run=True), "dry", print, FAST) as dry:
        dry.check()
