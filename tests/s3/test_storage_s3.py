"""Storage over a real S3 server."""

import io
import multiprocessing
import pickle
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from hashlib import md5
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from inpaint_core.errors import ConfigError, ObjectError, StorageError
from inpaint_core.storage import MissingObject, S3Options, Storage, open_storage
from inpaint_core.storage import s3 as s3_module
from tests.s3.seaweedfs import AccessKey, S3Bucket, SeaweedFS, use_key

pytestmark = pytest.mark.s3

NASTY_KEYS = [
    "plain.jpg",
    "with space.jpg",
    " leading",
    "trailing ",
    "per%20cent%2Fx",
    "hash#x",
    "question?versionId=3",
    "plus+and&and=x",
    "st*r/[ab]/{c,d}",
    "chain::memory:x",
    "caf\u00e9-composed",
    "cafe\u0301-decomposed",
    "emoji-\N{GRINNING FACE}/\N{FAMILY}",
    "new\nline",
    "tab\tquote\"'",
    "<xml>&amp;",
    "~tilde",
    "file:x",
    "a/b",
    "a/b/c",
    "a.b",
]


def storage_of(bucket: S3Bucket, prefix: str = "", retry_seconds: float = 30.0) -> Storage:
    storage = open_storage(f"{bucket.uri}/{prefix}", S3Options(endpoint=bucket.endpoint))
    storage.retry_seconds = retry_seconds
    return storage


@pytest.mark.parametrize("prefix", ["", "my photos/50% #1?+*[x]"])
def test_keys_come_back_exactly(s3_bucket: S3Bucket, prefix: str) -> None:
    storage = storage_of(s3_bucket, prefix)
    for key in NASTY_KEYS:
        storage.write(key, key.encode())
    listed = list(storage.list())
    assert sorted(found.key for found in listed) == sorted(NASTY_KEYS)
    for found in listed:
        data = found.key.encode()
        assert storage.read(found.key) == data
        assert found.size == len(data)
        assert found.etag == md5(data).hexdigest()
        assert found.problem is None
        assert found.modified.tzinfo is UTC
        assert abs(datetime.now(UTC) - found.modified) < timedelta(minutes=1)
        assert storage.exists(found.key)
    for key in NASTY_KEYS:
        storage.delete(key)
        assert not storage.exists(key)
    assert list(storage.list()) == []


def test_list_under_a_folder(s3_bucket: S3Bucket) -> None:
    storage = storage_of(s3_bucket, "root")
    for key in ("a/1", "a/b/2", "ab/3", "4"):
        storage.write(key, b"x")
    assert sorted(found.key for found in storage.list("a")) == ["a/1", "a/b/2"]
    assert list(storage.list("a/")) == list(storage.list("a"))
    assert list(storage.list("nothing/here")) == []
    assert sorted(found.key for found in storage_of(s3_bucket, "root/a/").list()) == ["1", "b/2"]


def test_more_keys_than_a_page_holds(s3_bucket: S3Bucket) -> None:
    storage = storage_of(s3_bucket)
    keys = [f"{number:04d}.jpg" for number in range(1234)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: storage.write(key, b""), keys))
    found = storage.list()
    assert next(found).key == keys[0]
    assert [keys[0], *(info.key for info in found)] == keys


def test_key_of_a_thousand_characters(s3_bucket: S3Bucket) -> None:
    storage = storage_of(s3_bucket)
    key = "/".join(["k" * 249] * 4) + "!"
    assert len(key) == 1000
    storage.write(key, b"long")
    assert [found.key for found in storage.list()] == [key]
    assert storage.read(key) == b"long"
    with pytest.raises(ObjectError, match="1025 bytes, more than the maximum of 1024"):
        storage.write("k" * 1025, b"")


def test_keys_that_name_no_object(s3_bucket: S3Bucket) -> None:
    storage = storage_of(s3_bucket, "root")
    for key in ("", "\ud800", "folder/"):
        with pytest.raises(ObjectError):
            storage.write(key, b"x")


def test_folder_markers_are_not_listed(s3_bucket: S3Bucket) -> None:
    storage = storage_of(s3_bucket)
    storage.write("a/b", b"x")
    storage._request("write", "a/", "put_object", Key="a/", Body=b"")  # type: ignore[attr-defined]
    storage._request("write", "z/", "put_object", Key="z/", Body=b"")  # type: ignore[attr-defined]
    assert [found.key for found in storage.list()] == ["a/b"]


def test_overwriting_changes_the_etag(s3_bucket: S3Bucket) -> None:
    storage = storage_of(s3_bucket)
    storage.write("x", b"one")
    (before,) = storage.list()
    storage.write("x", b"three")
    (after,) = storage.list()
    assert (storage.read("x"), after.size) == (b"three", 5)
    assert before.etag != after.etag


def test_parquet_through_open_write_and_open_read(s3_bucket: S3Bucket) -> None:
    storage = storage_of(s3_bucket)
    table = pa.table({"n": np.arange(300_000), "x": np.random.default_rng(0).random(300_000)})
    with storage.open_write("records?versionId=1/x.parquet") as file:
        pq.write_table(table, file)
    with storage.open_read("records?versionId=1/x.parquet") as file:
        assert pq.read_table(file, columns=["n"]).column("n")[-1].as_py() == 299_999
        file.seek(-4, io.SEEK_END)
        assert file.read() == b"PAR1"


def test_open_read_notices_that_the_object_changed(s3_bucket: S3Bucket) -> None:
    storage = storage_of(s3_bucket)
    storage.write("x", b"a" * 10)
    with storage.open_read("x") as file:
        storage.write("x", b"b" * 10)
        with pytest.raises(ObjectError, match="changed"):
            file.read()


def test_aborted_open_write_leaves_nothing(s3_bucket: S3Bucket) -> None:
    storage = storage_of(s3_bucket)
    storage.write("kept", b"old")
    for key in ("new", "kept"):
        with pytest.raises(RuntimeError, match="half way"), storage.open_write(key) as file:  # noqa: PT012
            file.write(b"x" * 100)
            raise RuntimeError("half way")
    assert [found.key for found in storage.list()] == ["kept"]
    assert storage.read("kept") == b"old"


def test_large_files_go_up_in_parts(s3_bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_module, "PART_BYTES", 5 * 2**20)
    storage = storage_of(s3_bucket)
    data = bytes(range(256)) * (12 * 2**12)
    with storage.open_write("large") as file:
        file.write(data)
    assert storage.read("large") == data
    monkeypatch.setattr(
        s3_module, "PART_BYTES", 2**10
    )  # under S3's least part: refused when the parts are put together
    with pytest.raises(ObjectError, match="EntityTooSmall"), storage.open_write("small parts") as file:
        file.write(data[: 3 * 2**10])
    assert not storage.exists("small parts")


def test_objects_have_the_type_that_browsers_show(s3_bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = storage_of(s3_bucket, "root")

    def type_of(key: str) -> str:
        head = storage._request("read", key, "head_object", Key=f"root/{key}")  # type: ignore[attr-defined]
        return str(head["ContentType"])

    storage.write("unknown.xyz", b"x")
    default = type_of("unknown.xyz")  # the server guesses it from the content, here text
    assert not default.startswith("image/")
    for key, expected in (
        ("a/b.JPG", "image/jpeg"),
        ("b.jpeg", "image/jpeg"),
        ("c.png", "image/png"),
        ("d.webp", "image/webp"),
        ("e.avif", "image/avif"),
        ("f.tif", "image/tiff"),
        ("g.gif", "image/gif"),
        ("h.bmp", "image/bmp"),
        ("report.html", "text/html; charset=utf-8"),
        ("job.json", "application/json"),
        ("records.parquet", "application/vnd.apache.parquet"),
        ("folder.png/jpg", default),
        ("x.jpg?y", default),
    ):
        storage.write(key, b"x")
        assert type_of(key) == expected
        with storage.open_write(f"again/{key}") as file:
            file.write(b"x")
        assert type_of(f"again/{key}") == expected
    monkeypatch.setattr(s3_module, "PART_BYTES", 5 * 2**20)
    with storage.open_write("large.tiff") as file:
        file.write(bytes(6 * 2**20))
    assert type_of("large.tiff") == "image/tiff"


def test_missing_objects(s3_bucket: S3Bucket) -> None:
    storage = storage_of(s3_bucket)
    with pytest.raises(MissingObject, match=r"'gone/x\.jpg' no longer exists"):
        storage.read("gone/x.jpg")
    with pytest.raises(MissingObject):
        storage.open_read("gone")
    assert not storage.exists("gone")
    storage.delete("gone")
    storage.check_readable()


def test_missing_bucket(s3_bucket: S3Bucket) -> None:
    storage = open_storage("s3://no-such-bucket/x", S3Options(endpoint=s3_bucket.endpoint))
    for use in (
        storage.check_readable,
        lambda: list(storage.list()),
        lambda: storage.read("x"),
        lambda: storage.write("x", b""),
    ):
        with pytest.raises(StorageError, match=r"s3://no-such-bucket/x at http.*no such bucket"):
            use()


def test_refused_credentials(s3_bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    storage_of(s3_bucket).write("x", b"data")
    admin = s3_bucket.server.admin
    empty = tmp_path / "aws-empty"
    for key, message in (
        (AccessKey(admin.key_id, "wrong-secret-0123456789"), "the secret key does not belong to this access key"),
        (AccessKey("NOSUCHKEY0123456789", admin.secret), "does not know this access key"),
    ):
        use_key(monkeypatch, key, empty)
        storage = storage_of(s3_bucket)
        for use in (
            storage.check_readable,
            lambda storage=storage: list(storage.list()),
            lambda storage=storage: storage.read("x"),
            lambda storage=storage: storage.open_read("x"),
            lambda storage=storage: storage.exists("x"),
            lambda storage=storage: storage.write("y", b""),
        ):
            started = time.monotonic()
            with pytest.raises(StorageError, match=message) as caught:
                use()
            assert time.monotonic() - started < 5
            assert key.secret not in str(caught.value)
            assert key.secret not in repr(caught.value.__cause__)


def test_no_credentials_and_unknown_profile(s3_bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    options = S3Options(endpoint=s3_bucket.endpoint, profile="nobody")
    with pytest.raises(StorageError, match=r"no such profile; check s3\.profile"):
        open_storage(s3_bucket.uri, options).check_readable()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StorageError, match="no AWS credentials were found; set AWS_ACCESS_KEY_ID"):
        storage_of(s3_bucket).check_readable()
    anonymous = open_storage(s3_bucket.uri, S3Options(endpoint=s3_bucket.endpoint, anonymous=True))
    with pytest.raises(StorageError, match="these credentials may not list here"):
        anonymous.check_readable()


def test_profile_from_the_config_files(s3_bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    admin = s3_bucket.server.admin
    credentials = tmp_path / "credentials"
    credentials.write_text(f"[work]\naws_access_key_id = {admin.key_id}\naws_secret_access_key = {admin.secret}\n")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    storage = open_storage(s3_bucket.uri, S3Options(endpoint=s3_bucket.endpoint, profile="work", region="eu-west-1"))
    storage.write("x", b"data")
    assert storage.read("x") == b"data"
    assert admin.secret.encode() not in pickle.dumps(storage)


def test_read_only_credentials(s3_bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    storage_of(s3_bucket).write("x", b"data")
    use_key(monkeypatch, s3_bucket.server.read_only, tmp_path / "aws-empty")
    storage = storage_of(s3_bucket)
    assert [found.key for found in storage.list()] == ["x"]
    assert storage.read("x") == b"data"
    with pytest.raises(StorageError, match="these credentials may not write here"):
        storage.write("y", b"")
    with pytest.raises(StorageError, match="these credentials may not write here"), storage.open_write("y") as file:
        file.write(b"")
    with pytest.raises(StorageError, match="these credentials may not delete here"):
        storage.delete("x")


def test_dead_endpoint_is_given_up_in_bounded_time(s3_bucket: S3Bucket) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, but not listening: connections are refused
        storage = open_storage("s3://bucket", S3Options(endpoint=f"http://127.0.0.1:{unused.getsockname()[1]}"))
        storage.retry_seconds = 1.0
        started = time.monotonic()
        with pytest.raises(
            StorageError, match="cannot list: connection refused, even after 1 s of retries; check the endpoint"
        ) as caught:
            storage.check_readable()
        assert 0.3 < time.monotonic() - started < 4
        assert caught.value.__cause__ is not None


def test_silent_endpoint_is_given_up_in_bounded_time(s3_bucket: S3Bucket) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, never answers
        storage = open_storage("s3://bucket", S3Options(endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}"))
        storage.retry_seconds = 1.0
        storage.request_timeout = 0.5
        started = time.monotonic()
        with pytest.raises(StorageError, match="no answer in time"):
            storage.check_readable()
        assert time.monotonic() - started < 5


class FaultyServer(threading.Thread):
    """Answers each request with the next of some raw HTTP answers, then closes the connection."""

    def __init__(self, *answers: bytes) -> None:
        super().__init__(daemon=True)
        self._answers = answers
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.requests: list[bytes] = []

    def run(self) -> None:
        for answer in self._answers:
            connection, _ = self._listener.accept()
            with connection:
                self.requests.append(connection.recv(65536).split(b"\r\n")[0])
                connection.sendall(answer)
        self._listener.close()


def http(status: str, body: bytes, length: int | None = None) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {length or len(body)}\r\nConnection: close\r\n\r\n".encode() + body


def s3_error(code: str) -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>secret detail</Message></Error>".encode()


def test_passing_faults_are_ridden_over(s3_bucket: S3Bucket) -> None:
    server = FaultyServer(
        http("503 Slow Down", s3_error("SlowDown")),
        http("500 Internal Server Error", b"not even XML"),
        b"",  # the connection breaks before an answer
        http("200 OK", b"hal", length=4),  # and in the middle of one
        http("200 OK", b"whole"),
    )
    server.start()
    storage = open_storage("s3://bucket/place", S3Options(endpoint=server.endpoint))
    assert storage.read("a/../b//c") == b"whole"
    assert server.requests == [b"GET /bucket/place/a/../b//c HTTP/1.1"] * 5  # the key is never normalised


@pytest.mark.parametrize(
    ("code", "status", "error", "message"),
    [
        ("ExpiredToken", "400 Bad Request", StorageError, "the session token has expired; log in again"),
        ("RequestTimeTooSkewed", "403 Forbidden", StorageError, "clock"),
        ("InvalidObjectState", "403 Forbidden", ObjectError, "'x' *: *it is archived; restore it first"),
        ("AccessDenied", "403 Forbidden", ObjectError, "'x' may not be read with these credentials"),
        ("Strange", "400 Bad Request", ObjectError, "cannot read 'x': the store returned Strange"),
    ],
)
def test_answers_become_one_sentence(
    s3_bucket: S3Bucket, code: str, status: str, error: type[Exception], message: str
) -> None:
    server = FaultyServer(http(status, s3_error(code)))
    server.start()
    with pytest.raises(error, match=message) as caught:
        open_storage("s3://bucket", S3Options(endpoint=server.endpoint)).read("x")
    assert "secret detail" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_many_threads_share_a_storage(s3_bucket: S3Bucket) -> None:
    storage = storage_of(s3_bucket)

    def work(thread: int) -> bool:
        keys = [f"{thread}/{number}" for number in range(50)]
        for key in keys:
            storage.write(key, key.encode())
        return all(storage.read(key) == key.encode() for key in keys)

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(work, range(16)))
    assert len(list(storage.list())) == 800


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_use_in_another_process(s3_bucket: S3Bucket, method: str) -> None:
    storage = storage_of(s3_bucket)
    storage.write("x", b"data")
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
        assert pool.submit(storage.read, "x").result(timeout=60) == b"data"
        pool.submit(storage.write, "y", b"from the child").result(timeout=60)
    assert storage.read("y") == b"from the child"


def test_use_after_fork_without_pickling(s3_bucket: S3Bucket) -> None:
    storage = storage_of(s3_bucket)
    storage.write("x", b"data")

    child = multiprocessing.get_context("fork").Process(target=storage.write, args=("y", b"from the child"))
    child.start()
    child.join(timeout=60)
    assert child.exitcode == 0
    assert storage.read("y") == b"from the child"


def test_contains(s3_bucket: S3Bucket) -> None:
    def opened(uri: str, endpoint: str | None = s3_bucket.endpoint) -> Storage:
        return open_storage(uri, S3Options(endpoint=endpoint))

    assert opened("s3://bucket/photos").contains(opened("s3://bucket/photos/"))
    assert opened("s3://bucket/photos").contains(opened("s3://bucket/photos/clean"))
    assert opened("s3://bucket").contains(opened("s3://bucket/photos"))
    assert not opened("s3://bucket/photos/clean").contains(opened("s3://bucket/photos"))
    assert not opened("s3://bucket/photos").contains(opened("s3://bucket/photos-clean"))
    assert not opened("s3://bucket").contains(opened("s3://other"))
    assert not opened("s3://bucket").contains(opened("/bucket"))
    assert opened("s3://bucket").contains(opened("s3://bucket", s3_bucket.endpoint.replace("127.0.0.1", "LOCALHOST")))
    assert not opened("s3://bucket").contains(opened("s3://bucket", "http://127.0.0.1:1"))
    assert not opened("s3://bucket").contains(opened("s3://bucket", None))
    aws = opened("s3://bucket", "https://s3.eu-west-1.amazonaws.com")
    assert opened("s3://bucket", None).contains(aws)


@pytest.mark.parametrize(
    ("uri", "endpoint"),
    [
        ("s3://", None),
        ("s3:///key", None),
        ("s3:/bucket/key", None),
        ("s3://bu cket/x", None),
        ("s3://KEYID:SECRET@bucket/x", None),
        ("s3://bucket", "127.0.0.1:8333"),
        ("s3://bucket", "http://KEYID:SECRET@host"),
        ("s3://bucket", "http://host:port"),
        ("s3://bucket", "ftp://host"),
    ],
)
def test_bad_uris_and_endpoints(uri: str, endpoint: str | None) -> None:
    with pytest.raises(ConfigError) as caught:
        open_storage(uri, S3Options(endpoint=endpoint))
    assert "SECRET" not in str(caught.value)


@pytest.fixture
def own_server(s3_bucket: S3Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SeaweedFS]:
    """A server that a test may kill."""
    server = SeaweedFS(s3_bucket.server.weed, tmp_path / "seaweedfs")
    server.start()
    use_key(monkeypatch, server.admin, tmp_path / "aws-empty")
    yield server
    server.stop()


@pytest.mark.slow
def test_server_dies_and_comes_back(own_server: SeaweedFS) -> None:
    bucket = S3Bucket(own_server, own_server.make_bucket())
    storage = storage_of(bucket, retry_seconds=60.0)
    storage.write("before", b"kept")

    own_server.kill()
    restart = threading.Timer(1.0, own_server.start)
    restart.start()
    storage.write("during", b"written when the server is back")
    restart.join()
    assert storage.read("before") == b"kept"
    assert storage.read("during") == b"written when the server is back"
    assert sorted(found.key for found in storage.list()) == ["before", "during"]

    own_server.kill()
    storage.retry_seconds = 1.0
    started = time.monotonic()
    for use in (lambda: storage.read("before"), lambda: storage.write("x", b""), lambda: list(storage.list())):
        with pytest.raises(StorageError, match="even after 1 s of retries"):
            use()
    assert time.monotonic() - started < 10
