"""Earlier outputs on a real S3 server behind a proxy that refuses, stalls, resets, cuts and loses requests."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import pytest

from inpaint_core.errors import ObjectError, StorageError
from inpaint_core.removal.config import MaskConfig, RemoveConfig
from inpaint_core.storage import IncompleteRead, S3Options, Storage, UnansweredRequest, open_storage
from tests import jobs
from tests.s3.proxy import Fault, FaultyProxy
from tests.s3.seaweedfs import S3Bucket, SeaweedFS, use_key
from tests.samples import encoded, painted, photograph

pytestmark = pytest.mark.s3

EARLIER = "the output under this key is of an earlier run"
COUNT = 9  # one more than are read before a refusal of all ends the job


@dataclass(frozen=True)
class Earlier:
    """A bucket whose input was cleaned into its output, and what that output held then."""

    job: RemoveConfig
    proxy: FaultyProxy
    objects: dict[str, bytes]


@pytest.fixture(scope="module")
def earlier(s3_server: SeaweedFS, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Earlier]:
    folder = tmp_path_factory.mktemp("earlier")
    (folder / "masks").mkdir()
    (folder / "masks" / "some.png").touch()
    (folder / "aws-empty").touch()
    proxy = FaultyProxy(s3_server.endpoint)
    options = S3Options(endpoint=proxy.endpoint)  # of all jobs: another one is another input
    with pytest.MonkeyPatch.context() as patch, closing(proxy):
        use_key(patch, s3_server.admin, folder / "aws-empty")
        uri = f"s3://{s3_server.make_bucket()}"
        source = open_storage(f"{uri}/in", options)
        for number in range(COUNT):
            source.write(f"{number:02}.png", encoded(painted(photograph((96, 80), seed=number), (30, 20, 50, 45))))
        first = jobs.config(f"{uri}/in", f"{uri}/out", folder / "masks", s3=options)
        assert {row["status"] for row in jobs.run(first).values()} == {"cleaned"}
        storage = open_storage(first.output, options)
        yield Earlier(first, proxy, {info.key: storage.read(info.key) for info in storage.list()})


@pytest.fixture
def s3_proxy(earlier: Earlier) -> FaultyProxy:
    """The proxy of all jobs here, as new."""
    earlier.proxy.reset()
    return earlier.proxy


@pytest.fixture
def settings(earlier: Earlier, s3_proxy: FaultyProxy) -> RemoveConfig:
    """That job; its output is as it was at first."""
    output = open_storage(earlier.job.output, S3Options(endpoint=s3_proxy.upstream))
    for info in list(output.list()):
        if info.key not in earlier.objects:
            output.delete(info.key)
    for key, data in earlier.objects.items():
        output.write(key, data)
    return earlier.job


def changed(settings: RemoveConfig, **changes: Any) -> RemoveConfig:
    return replace(settings, mask=MaskConfig(grow_min=5), **changes)


def kept(settings: RemoveConfig, proxy: FaultyProxy) -> dict[str, bytes]:
    return jobs.written(open_storage(settings.output, S3Options(endpoint=proxy.upstream)))


def storage_of(bucket: S3Bucket, proxy: FaultyProxy) -> Storage:
    storage = open_storage(bucket.uri, S3Options(endpoint=proxy.endpoint))
    storage.retry_seconds, storage.request_timeout = 1.0, 0.5
    return storage


@pytest.mark.parametrize(
    "changes", [{"mask": MaskConfig(grow_min=5)}, {"overwrite": True}], ids=["config", "overwrite"]
)
def test_a_refused_input_stops_the_job_and_loses_nothing(
    settings: RemoveConfig, s3_proxy: FaultyProxy, changes: dict[str, Any]
) -> None:
    before = kept(settings, s3_proxy)
    refused = Fault("refuse", keys="in/.*")
    with (
        s3_proxy.failing(refused),
        pytest.raises(
            StorageError,
            match=r"may not be read with these credentials \(if the requester pays for this bucket, set s3\.requester_pays=true\); "
            r"the 7 images before it could not be read either",
        ),
    ):
        jobs.run(replace(settings, **changes))
    assert refused.hits <= COUNT
    assert kept(settings, s3_proxy) == before
    again = {**changes, "overwrite": False}  # with access back
    assert len(jobs.start(replace(settings, **again))[1].pending) == COUNT
    assert {row["status"] for row in jobs.run(replace(settings, **again)).values()} == {"cleaned"}
    assert set(kept(settings, s3_proxy)) == set(before)


@pytest.mark.parametrize("kind", ["refuse", "missing", "cut", "short", "busy", "stall", "reset"])
def test_a_single_object_that_cannot_be_read_is_taken_again(
    settings: RemoveConfig, s3_proxy: FaultyProxy, kind: Any
) -> None:
    before = kept(settings, s3_proxy)
    with s3_proxy.failing(Fault(kind, keys="in/03.*")):
        rows = jobs.run(changed(settings))
    assert {key: (row["stage"], row["note"]) for key, row in rows.items() if row["status"] == "failed"} == {
        "03.png": ("read", EARLIER)
    }
    after = kept(settings, s3_proxy)
    for key in ("03.png", "_removal/masks/03.png.png"):
        assert after[key] == before[key]
    assert after["04.png"] != before["04.png"]
    _, todo = jobs.start(changed(settings))
    assert todo.pending.read()["key"].to_pylist() == ["03.png"]
    assert {row["status"] for row in jobs.run(changed(settings)).values()} == {"cleaned"}


@pytest.mark.parametrize("kind", ["busy", "reset", "cut", "short", "lose"])
def test_faults_that_pass_leave_no_trace(settings: RemoveConfig, s3_proxy: FaultyProxy, kind: Any) -> None:
    before = kept(settings, s3_proxy)
    methods = ("GET",) if kind in ("cut", "short") else ("GET", "PUT", "DELETE", "HEAD")
    keys = "in/.+" if kind == "short" else ".*"
    faults = Fault(kind, methods, keys, probability=0.1)
    with s3_proxy.failing(faults, Fault(kind, methods, keys, times=2)):
        rows = jobs.run(changed(settings), retry_seconds=20)
    assert {row["status"] for row in rows.values()} == {"cleaned"}
    assert set(kept(settings, s3_proxy)) == set(before)


@pytest.mark.parametrize(
    ("kind", "method", "keys"),
    [
        ("refuse", "PUT", r"out/\d.*"),
        ("busy", "PUT", r"out/\d.*"),
        ("lose", "PUT", r"out/_removal/masks/.*"),
        ("refuse", "PUT", r"out/_removal/journal/.*"),
        ("reset", "GET", "in/.*"),
        ("stall", "GET", "in/.*"),
        ("refuse", "GET", "out/_removal/records/.*"),
        ("cut", "GET", "out/_removal/records/.*"),
        ("refuse", "DELETE", ".*"),
        ("refuse", "GET", ""),
    ],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_store_that_fails_stops_the_job_and_loses_no_output(
    settings: RemoveConfig, s3_proxy: FaultyProxy, kind: Any, method: str, keys: str, overwrite: bool
) -> None:
    before = kept(settings, s3_proxy)
    failing = changed(settings, overwrite=overwrite)
    with s3_proxy.failing(Fault(kind, (method,), keys)), pytest.raises((StorageError, ObjectError)) as error:
        jobs.run(failing)
    assert "\n" not in str(error.value)
    after = kept(settings, s3_proxy)
    assert set(after) == set(before)
    assert {row["status"] for row in jobs.run(changed(settings)).values()} == {"cleaned"}
    successors = kept(settings, s3_proxy)
    assert set(successors) == set(before)
    # Either one, whole: a thread that was trying again when the job stopped may have come through after all.
    assert [key for key, data in after.items() if data not in (before[key], successors[key])] == []


def test_an_answer_that_is_cut_is_asked_for_again(s3_bucket: S3Bucket, s3_proxy: FaultyProxy) -> None:
    storage = storage_of(s3_bucket, s3_proxy)
    data = bytes(range(256)) * 400
    storage.write("x", data)
    for kind in ("cut", "short", "reset", "busy"):
        with s3_proxy.failing(Fault(kind, times=2)):  # type: ignore[arg-type]
            storage.retry_seconds = 10
            assert storage.read("x", len(data)) == data
    storage.retry_seconds = 0.5
    with (
        s3_proxy.failing(Fault("cut")),
        pytest.raises(ObjectError, match=r"'x' is truncated, even after 0\.\d+ s of retries"),
    ):
        storage.read("x", len(data))
    short = Fault("short")
    with s3_proxy.failing(short), pytest.raises(IncompleteRead, match=r"came with 51,200 bytes where .* said 102,400"):
        storage.read("x", len(data))
    assert short.hits == 4
    with (
        s3_proxy.failing(Fault("stall")),
        pytest.raises(UnansweredRequest, match=r"'x': no answer in time, .* while the store answers other requests"),
    ):
        storage.read("x", len(data))


def test_an_object_that_changed_since_the_listing_is_not_asked_for_endlessly(
    s3_bucket: S3Bucket, s3_proxy: FaultyProxy
) -> None:
    storage = storage_of(s3_bucket, s3_proxy)
    storage.write("x", b"longer than it was")
    with pytest.raises(IncompleteRead, match="it has changed since, or the answer was cut"):
        storage.read("x", 6)
    assert [request.method for request in s3_proxy.requests].count("GET") == 4


def test_the_same_seed_draws_the_same_faults(s3_bucket: S3Bucket) -> None:
    drawn = []
    for seed in (1, 1, 2):
        proxy = FaultyProxy(s3_bucket.endpoint, seed, [Fault("missing", keys="x", probability=0.5)])
        storage = storage_of(s3_bucket, proxy)
        storage.request_timeout = 30.0  # one that is late and sent again would be one more draw
        storage.write("x", b"data")
        drawn.append([_came(storage) for _ in range(20)])
        assert [request.fault for request in proxy.requests[1:]] == [None if came else "missing" for came in drawn[-1]]
        proxy.close()
    assert drawn[0] == drawn[1] != drawn[2]


def _came(storage: Storage) -> bool:
    try:
        return storage.read("x") == b"data"
    except ObjectError:
        return False
