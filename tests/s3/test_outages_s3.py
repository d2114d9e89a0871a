"""Outages of a real S3 server behind a proxy, in the middle of a job: waited for, told, and nothing is lost."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from inpaint_core.errors import StorageError
from inpaint_core.removal.config import RemoveConfig, ScalingConfig
from inpaint_core.removal.store_watch import StoreWatch
from inpaint_core.removal.worker import Worker
from inpaint_core.storage import S3Options, Storage, UnansweredRequest, open_storage
from inpaint_core.training.checkpoint import FORMAT, load_state, save_state
from tests import jobs
from tests.s3.proxy import Fault, FaultyProxy
from tests.s3.seaweedfs import S3Bucket
from tests.samples import encoded, painted, photograph

pytestmark = pytest.mark.s3

COUNT = 16
ALL_METHODS = ("GET", "PUT", "DELETE", "HEAD", "POST")
PATIENCE = 40.0  # told after a tenth of it


@pytest.fixture
def settings(s3_bucket: S3Bucket, s3_proxy: FaultyProxy, tmp_path: Path) -> RemoveConfig:
    """A job of four batches through the proxy, whose images may take less time than the outage."""
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "some.png").touch()
    source = open_storage(f"{s3_bucket.uri}/in", S3Options(endpoint=s3_bucket.endpoint))
    data = encoded(painted(photograph((96, 80)), (30, 20, 50, 45)))
    for number in range(COUNT):
        source.write(f"{number:02}.png", data)
    options = S3Options(endpoint=s3_proxy.endpoint, retry_minutes=PATIENCE / 60)
    plain = jobs.config(f"{s3_bucket.uri}/in", f"{s3_bucket.uri}/out", tmp_path / "masks", s3=options)
    return replace(plain, scaling=ScalingConfig(images_per_batch=4, io_threads=2, image_timeout=4.0))


class Outage:
    """Faults from the second batch on, for some seconds."""

    def __init__(self, proxy: FaultyProxy, seconds: float, *faults: Fault) -> None:
        self._proxy, self._seconds, self._faults = proxy, seconds, faults
        self.lines: list[str] = []
        self.at_its_end: Callable[[], None] = lambda: None
        self._batches = 0

    def __call__(self, worker: Worker) -> None:
        fill = worker.remover.fill
        for storage in (worker.source, worker.target):
            storage.on_outage(self.lines.append)

        def fill_and_fail(tasks: Any) -> None:
            self._batches += 1
            if self._batches == 2:
                self._proxy.faults = list(self._faults)
                threading.Timer(self._seconds, self._end).start()
            fill(tasks)

        worker.remover.fill = fill_and_fail  # type: ignore[method-assign]

    def _end(self) -> None:
        try:
            self.at_its_end()
        finally:
            self._proxy.faults = []


def outputs(settings: RemoveConfig, proxy: FaultyProxy) -> dict[str, bytes]:
    written = jobs.written(open_storage(settings.output, S3Options(endpoint=proxy.upstream)))
    return {key: data for key, data in written.items() if not key.startswith("_removal/")}


def check_all(settings: RemoveConfig, proxy: FaultyProxy, rows: dict[str, Any]) -> None:
    keys = [f"{number:02}.png" for number in range(COUNT)]
    assert [(key, row["status"], row["note"]) for key, row in sorted(rows.items())] == [
        (key, "cleaned", None) for key in keys
    ]
    assert sorted(outputs(settings, proxy)) == keys


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["busy", "stall"])
def test_an_outage_longer_than_the_timeout_of_an_image_loses_nothing(
    settings: RemoveConfig, s3_proxy: FaultyProxy, kind: Any
) -> None:
    outage = Outage(s3_proxy, 6.0, Fault(kind, ALL_METHODS, ".*", seconds=8))
    rows = jobs.run(settings, outage, retry_seconds=PATIENCE)
    check_all(settings, s3_proxy, rows)
    begun = [line for line in outage.lines if " has not answered since " in line]
    over = [line for line in outage.lines if " answers again, after " in line]
    assert len(begun) == len(over) == len(outage.lines) / 2
    stores = [line.partition(" ")[0] for line in begun]
    assert set(stores) <= {settings.input, settings.output}
    assert len(set(stores)) == len(stores)
    assert stores
    reason = {"busy": "HTTP 503 SlowDown", "stall": "no answer in time"}[kind]
    assert all(line.endswith(f" ({reason}); retrying for up to 40 s") for line in begun)


def test_images_at_hand_are_written_while_the_input_is_out_of_reach(
    settings: RemoveConfig, s3_proxy: FaultyProxy
) -> None:
    written: list[int] = []
    outage = Outage(s3_proxy, 3.0, Fault("busy", keys="in/.*"))
    outage.at_its_end = lambda: written.append(len(outputs(settings, s3_proxy)))
    check_all(settings, s3_proxy, jobs.run(settings, outage, retry_seconds=PATIENCE))
    assert written[0] >= 8  # both batches that were read


def test_an_outage_longer_than_the_patience_stops_the_job_which_goes_on_later(
    settings: RemoveConfig, s3_proxy: FaultyProxy
) -> None:
    outage = Outage(s3_proxy, 30.0, Fault("busy", ALL_METHODS, ".*"))
    with pytest.raises(StorageError, match=r"HTTP 503 SlowDown, even after 2 s of retries; check the endpoint"):
        jobs.run(settings, outage, retry_seconds=2.0)
    s3_proxy.faults = []
    check_all(settings, s3_proxy, jobs.run(settings))


@pytest.mark.parametrize("kind", ["busy", "stall"])
def test_an_output_that_cannot_be_written_fails_alone_and_is_done_by_the_next_run(
    settings: RemoveConfig, s3_proxy: FaultyProxy, kind: Any
) -> None:
    with s3_proxy.failing(Fault(kind, ("PUT",), keys="out/03.png")):
        rows = jobs.run(settings, retry_seconds=2.0)
    failed = {key: row for key, row in rows.items() if row["status"] == "failed"}
    assert list(failed) == ["03.png"]
    assert failed["03.png"]["stage"] == "write"
    assert "cannot write '03.png': " in failed["03.png"]["error"]
    assert failed["03.png"]["note"] == "the output under this key may be of this run, or of an earlier one"
    check_all(settings, s3_proxy, jobs.run(settings))


def storage_of(bucket: S3Bucket, proxy: FaultyProxy, retry_seconds: float) -> Storage:
    storage = open_storage(bucket.uri, S3Options(endpoint=proxy.endpoint, retry_minutes=retry_seconds / 60))
    storage.request_timeout = 0.5
    return storage


def test_one_object_that_never_comes_is_told_from_an_outage_by_another(
    s3_bucket: S3Bucket, s3_proxy: FaultyProxy
) -> None:
    storage = storage_of(s3_bucket, s3_proxy, 12.0)
    storage.write("good", b"data")
    storage.write("bad", b"data")
    assert storage.read("good") == b"data"
    started = time.monotonic()
    with (
        s3_proxy.failing(Fault("stall", keys="bad")),
        pytest.raises(
            UnansweredRequest, match=r"cannot read 'bad': no answer in time, .* while the store answers other"
        ),
    ):
        storage.read("bad")
    assert time.monotonic() - started < 10  # not the whole patience
    assert any(request.headers.get("range") == "bytes=0-0" and request.key == "good" for request in s3_proxy.requests)


def test_a_checkpoint_is_written_and_read_over_an_outage(s3_bucket: S3Bucket, s3_proxy: FaultyProxy) -> None:
    storage = storage_of(s3_bucket, s3_proxy, PATIENCE)
    storage.check_readable()
    for use in (
        lambda: save_state(storage, {"step": 7}),
        lambda: load_state(storage, torch.device("cpu")),
    ):
        s3_proxy.faults = [Fault("busy", ALL_METHODS, ".*")]
        threading.Timer(1.0, s3_proxy.faults.clear).start()
        result = use()
    assert result == {"format": FORMAT, "step": 7}


def test_the_watch_tells_what_the_driver_would_not_see(s3_bucket: S3Bucket, s3_proxy: FaultyProxy) -> None:
    storage = storage_of(s3_bucket, s3_proxy, 6.0)
    storage.check_readable()
    lines: list[str] = []
    deadline = time.monotonic() + 20

    def wait_for_lines(count: int) -> None:
        while len(lines) < count and time.monotonic() < deadline:
            time.sleep(0.02)

    with StoreWatch([storage], lines.append, seconds=0.05):
        with s3_proxy.failing(Fault("busy", keys="")):
            wait_for_lines(1)
        wait_for_lines(2)
    assert lines[0].startswith(f"{storage.place} has not answered since ")
    assert lines[0].endswith(" (HTTP 503 SlowDown); retrying for up to 6 s")
    assert lines[1].startswith(f"{storage.place} answers again, after ")
    assert len(lines) == 2
