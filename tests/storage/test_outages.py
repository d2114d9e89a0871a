"""How long requests wait for a store, whose fault it is, and what is told; by a clock that only waiting moves."""

import errno
import os
import pickle
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inpaint_core.errors import ObjectError, StorageError
from inpaint_core.storage import S3Options, open_storage, outages
from inpaint_core.storage.local import LocalStorage
from inpaint_core.storage.outages import SECONDS_TO_FIRST_ANSWER, Outages, Verdict, duration

PATIENCE = 600.0


class Clock:
    """Stands in for the module `time`."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(outages, "time", made)
    return made


def store(*, answered: bool = True) -> tuple[Outages, list[str]]:
    lines: list[str] = []
    made = Outages("s3://bucket", PATIENCE, answered=answered)
    made.tell = lines.append
    return made, lines


def until_given_up(
    made: Outages, clock: Clock, meanwhile: Callable[[], None] = lambda: None, **fault: Any
) -> tuple[Verdict, float]:
    """The verdict on a request that always fails, and the seconds until then."""
    started = clock.now
    with made.retries("get_object", PATIENCE) as retries:
        while (verdict := retries.failed("HTTP 503 SlowDown", silence=20, **fault)) is Verdict.AGAIN:
            meanwhile()
            retries.wait()
    return verdict, clock.now - started


def test_a_store_that_answers_nothing_is_given_up_after_the_whole_patience_and_told_once(clock: Clock) -> None:
    made, lines = store()
    verdict, seconds = until_given_up(made, clock)
    assert verdict is Verdict.STORE
    assert PATIENCE - 30 < seconds <= PATIENCE
    assert len(lines) == 1
    assert lines[0].startswith("s3://bucket has not answered since ")
    assert lines[0].endswith(" (HTTP 503 SlowDown); retrying for up to 10 min")
    assert made.seconds() == pytest.approx(seconds)
    made.answered("get_object")
    assert len(lines) == 2
    assert lines[1].startswith("s3://bucket answers again, after ")


def test_pauses_grow_with_jitter(clock: Clock) -> None:
    made, _ = store()
    until_given_up(made, clock)
    bases = [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8] + [15.0] * 100
    assert all(base / 2 <= pause <= base for pause, base in zip(clock.pauses, bases, strict=False))
    assert len({round(pause, 9) for pause in clock.pauses[7:]}) > 10


def test_an_outage_that_ends_soon_is_not_told(clock: Clock) -> None:
    made, lines = store()
    with made.retries("put_object", PATIENCE) as retries:
        for _ in range(5):
            assert retries.failed("no answer in time", silence=20) is Verdict.AGAIN
            retries.wait()
        made.answered("put_object")
    assert lines == []
    assert made.seconds() == pytest.approx(sum(clock.pauses))


def test_fault_of_one_object_while_others_are_answered(clock: Clock) -> None:
    made, lines = store()
    verdict, seconds = until_given_up(made, clock, lambda: made.answered("get_object"))
    assert verdict is Verdict.OBJECT
    assert 30 < seconds <= 60
    assert lines == []


def test_answers_of_another_kind_do_not_make_it_a_fault_of_one_object(clock: Clock) -> None:
    made, lines = store()
    assert until_given_up(made, clock, lambda: made.answered("list_objects_v2"))[0] is Verdict.STORE
    assert len(lines) == 1


def test_a_store_that_mostly_throttles_is_waited_for(clock: Clock) -> None:
    made, _ = store()

    def others() -> None:
        for _ in range(3):
            made.probe_failed("get_object")
        made.answered("get_object")

    verdict, seconds = until_given_up(made, clock, others)
    assert verdict is Verdict.STORE
    assert seconds > PATIENCE - 30


def test_an_answer_that_is_no_good_is_of_the_object(clock: Clock) -> None:
    made, _ = store(answered=False)
    verdict, seconds = until_given_up(made, clock, of_object=True)
    assert verdict is Verdict.OBJECT
    assert seconds <= 60


def test_a_store_that_has_never_answered_is_given_up_soon(clock: Clock) -> None:
    made, lines = store(answered=False)
    verdict, seconds = until_given_up(made, clock)
    assert verdict is Verdict.STORE
    assert seconds <= SECONDS_TO_FIRST_ANSWER
    assert lines == []
    sent = pickle.loads(pickle.dumps(made))
    assert not sent.has_answered
    made.answered("list_objects_v2")
    assert pickle.loads(pickle.dumps(made)).has_answered  # workers wait from the beginning


def test_two_outages_of_many_kinds_are_told_as_two(clock: Clock) -> None:
    made, lines = store()
    for _ in range(2):
        with made.retries("get_object", PATIENCE) as reading, made.retries("put_object", PATIENCE) as writing:
            for _ in range(10):
                reading.failed("no answer in time", silence=20)
                writing.failed("no answer in time", silence=20)
                reading.wait()
            made.answered("get_object")
            assert len(lines) % 2 == 1  # writes still wait
            made.answered("put_object")
    assert ["answers again" in line for line in lines] == [False, True, False, True]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.5, "0.5 s"), (6, "6 s"), (45.2, "45 s"), (600, "10 min"), (200, "3 min 20 s")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_setting_is_the_patience_of_every_store() -> None:
    for uri in ("s3://bucket/x", "/somewhere"):
        assert open_storage(uri).retry_seconds == 600
        storage = open_storage(uri, S3Options(retry_minutes=2.5))
        assert storage.retry_seconds == 150
        assert storage.with_patience(5).retry_seconds == 5
        assert storage.retry_seconds == 150


class Mount:
    """Makes everything below a folder fail as a network mount does whose server is gone."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
        self.away = threading.Event()
        for name in ("open", "scandir", "stat", "unlink"):
            monkeypatch.setattr(os, name, self._failing(getattr(os, name), number))

    def _failing(self, function: Callable[..., Any], number: int) -> Callable[..., Any]:
        def call(path: Any, *args: Any, **kwargs: Any) -> Any:
            if self.away.is_set() and b"/root" in os.fsencode(path if isinstance(path, str | bytes) else b""):
                raise OSError(number, os.strerror(number))
            return function(path, *args, **kwargs)

        return call


@pytest.mark.parametrize("number", [errno.ENOTCONN, errno.ESTALE, errno.EIO])
def test_a_mount_that_comes_back_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    (tmp_path / "root").mkdir()
    storage = LocalStorage(os.fsencode(tmp_path / "root"), retry_minutes=0.05)
    storage.write("x", b"data")
    lines: list[str] = []
    storage.on_outage(lines.append)
    mount = Mount(monkeypatch, number)
    uses: list[Callable[[], Any]] = [
        lambda: storage.read("x") == b"data",
        lambda: storage.write("y", b"new") is None,
        lambda: storage.exists("x"),
        lambda: storage.open_read("x").read() == b"data",
        lambda: storage.delete("z") is None,
    ]
    done: list[bool] = []
    threads = [threading.Thread(target=lambda use=use: done.append(use())) for use in uses]
    mount.away.set()
    for thread in threads:
        thread.start()
    threads[0].join(0.5)
    deadline = time.monotonic() + 1.5  # told by the next attempt, which comes later on a busy machine
    while not lines and time.monotonic() < deadline:
        time.sleep(0.01)
    assert done == []
    mount.away.clear()
    for thread in threads:
        thread.join(10)
    assert done == [True] * len(uses)
    assert storage.read("y") == b"new"
    assert storage.outage_seconds() > 0.4
    assert [line.partition(" since ")[0].partition(", after")[0] for line in lines] == [
        f"{storage.uri} has not answered",
        f"{storage.uri} answers again",
    ]
    assert f"({os.strerror(number)}); retrying for up to 3 s" in lines[0]


def test_a_mount_that_stays_away_and_a_damaged_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "root").mkdir()
    storage = LocalStorage(os.fsencode(tmp_path / "root"), retry_minutes=0.005)
    storage.write("x", b"data")
    with monkeypatch.context() as patch:
        Mount(patch, errno.ENOTCONN).away.set()
        with pytest.raises(StorageError, match=r"cannot read 'x' \(Transport endpoint is not connected\)"):
            storage.read("x")
    storage.retry_seconds = 600
    open_file = os.open

    def damaged(path: Any, *args: Any, **kwargs: Any) -> int:
        if path.endswith(b"/x"):
            raise OSError(errno.EIO, "Input/output error")
        return open_file(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", damaged)
    with pytest.raises(ObjectError, match="cannot read 'x': Input/output error"):  # at once: the folder answers
        storage.read("x")
