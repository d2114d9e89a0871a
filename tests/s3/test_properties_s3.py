"""What objects of a real S3 server have besides their bytes, in their outputs; and the requests that this takes."""

import gzip
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import botocore.session
import pytest

from inpaint_core.errors import ConfigError, ObjectError, StorageError
from inpaint_core.removal.config import RemoveConfig
from inpaint_core.removal.job import finish_job
from inpaint_core.removal.summary import Summary, summary_lines
from inpaint_core.removal.worker import Worker
from inpaint_core.storage import S3Options, Storage, open_storage
from inpaint_core.storage import s3 as s3_module
from tests import jobs
from tests.s3.proxy import Fault, FaultyProxy, Request
from tests.s3.seaweedfs import S3Bucket
from tests.s3.test_storage_s3 import FaultyServer
from tests.samples import encoded, painted, photograph

pytestmark = pytest.mark.s3

PROPERTIES = {
    "CacheControl": "public, max-age=31536000",
    "ContentDisposition": 'inline; filename="a.png"',
    "ContentLanguage": "de, en",
    "ContentType": "image/x-png",
    "Expires": datetime(2030, 1, 1, tzinfo=UTC),
    "Metadata": {"photographer": "jane", "license": "cc-by"},
    "StorageClass": "STANDARD_IA",
}
TAGS = [{"Key": "pii", "Value": "yes & no"}, {"Key": "project", "Value": "x=1"}]
TAGGING = "pii=yes%20%26%20no&project=x%3D1"
TAGS_LOST = "tags (these credentials may not read or write tags here: s3:GetObjectTagging, s3:PutObjectTagging)"
CLEANED, UNCHANGED = "in/painted.png", "in/plain.png"


@pytest.fixture
def client(s3_bucket: S3Bucket) -> Any:
    """botocore's own client, as other programs use it."""
    session = botocore.session.Session()
    return session.create_client("s3", endpoint_url=s3_bucket.endpoint, region_name="us-east-1")


@pytest.fixture
def settings(s3_bucket: S3Bucket, s3_proxy: FaultyProxy, client: Any, tmp_path: Path) -> RemoveConfig:
    """A job through the proxy, over one image with an object and one without, both with all properties and tags."""
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "some.png").touch()
    plain = photograph((96, 80))
    for key, image in ((CLEANED, painted(plain, (30, 20, 50, 45))), (UNCHANGED, plain)):
        client.put_object(Bucket=s3_bucket.name, Key=key, Body=encoded(image), Tagging=TAGGING, **PROPERTIES)
    options = S3Options(endpoint=s3_proxy.endpoint)
    return jobs.config(f"{s3_bucket.uri}/in", f"{s3_bucket.uri}/out", tmp_path / "masks", s3=options)


def properties(client: Any, bucket: S3Bucket, key: str) -> dict[str, Any]:
    head = client.head_object(Bucket=bucket.name, Key=key)
    return {name: head.get(name) for name in PROPERTIES}


def tags(client: Any, bucket: S3Bucket, key: str) -> list[dict[str, str]]:
    found = client.get_object_tagging(Bucket=bucket.name, Key=key)["TagSet"]
    return sorted(found, key=lambda tag: str(tag["Key"]))


def body(client: Any, bucket: S3Bucket, key: str) -> bytes:
    return bytes(client.get_object(Bucket=bucket.name, Key=key)["Body"].read())


def of_images(proxy: FaultyProxy, key: str = ".png") -> Iterator[Request]:
    return (request for request in proxy.requests if key in request.key and "_removal" not in request.key)


def storage_of(bucket: S3Bucket, proxy: FaultyProxy, **options: Any) -> Storage:
    storage = open_storage(bucket.uri, S3Options(endpoint=proxy.endpoint, **options))
    storage.retry_seconds = 0.3
    return storage


def test_an_output_has_all_properties_of_its_input(
    settings: RemoveConfig, s3_bucket: S3Bucket, s3_proxy: FaultyProxy, client: Any
) -> None:
    rows = jobs.run(settings)
    assert {key: (row["status"], row["note"]) for key, row in rows.items()} == {
        "painted.png": ("cleaned", None),
        "plain.png": ("unchanged", None),
    }
    for key in ("out/painted.png", "out/plain.png"):
        assert properties(client, s3_bucket, key) == PROPERTIES
        assert tags(client, s3_bucket, key) == TAGS
    assert body(client, s3_bucket, "out/plain.png") == body(client, s3_bucket, UNCHANGED)
    assert body(client, s3_bucket, "out/painted.png") != body(client, s3_bucket, CLEANED)
    asked = [(request.method, request.key, request.query, request.copies) for request in of_images(s3_proxy)]
    assert sorted(asked) == [
        ("GET", CLEANED, "", False),
        ("GET", CLEANED, "tagging", False),
        ("GET", UNCHANGED, "", False),
        ("PUT", "out/painted.png", "", False),
        ("PUT", "out/plain.png", "", True),
    ]
    (copy,) = (request for request in of_images(s3_proxy) if request.copies)
    etag = client.head_object(Bucket=s3_bucket.name, Key=UNCHANGED)["ETag"]
    assert copy.sent == 0
    assert {name: copy.headers.get(f"x-amz-{name}") for name in (
        "copy-source", "copy-source-if-match", "metadata-directive", "tagging-directive", "storage-class"
    )} == {
        "copy-source": f"{s3_bucket.name}/{UNCHANGED}",
        "copy-source-if-match": etag,
        "metadata-directive": "COPY",
        "tagging-directive": "COPY",
        "storage-class": "STANDARD_IA",
    }  # fmt: skip
    sent = next(request for request in of_images(s3_proxy) if request.key == "out/painted.png").headers
    assert sent["x-amz-tagging"] == TAGGING
    assert sent["x-amz-storage-class"] == "STANDARD_IA"
    assert sent["expires"] == "Tue, 01 Jan 2030 00:00:00 GMT"


def test_bytes_of_unchanged_images_are_sent_only_to_another_service(
    s3_bucket: S3Bucket, s3_proxy: FaultyProxy, settings: RemoveConfig
) -> None:
    source = open_storage(f"{s3_bucket.uri}/in", S3Options(endpoint=s3_bucket.endpoint))
    data = encoded(photograph((96, 80), seed=1))
    for number in range(8):
        source.write(f"more{number}.png", data)
    source.delete("painted.png")
    source.delete("plain.png")
    cost = {}
    for name, options in (("copied", None), ("sent", S3Options(endpoint=s3_proxy.endpoint, region="eu-west-1"))):
        s3_proxy.requests.clear()
        output = replace(settings, output=f"{s3_bucket.uri}/{name}", output_s3=options)
        breaks = (lambda _: None) if options is None else _another_service
        assert {row["status"] for row in jobs.run(output, breaks).values()} == {"unchanged"}
        asked = list(of_images(s3_proxy, "more"))
        cost[name] = (len(asked), sum(request.sent for request in asked))
    assert cost == {"copied": (16, 0), "sent": (16, 8 * len(data))}


def _another_service(worker: Worker) -> None:
    worker.target._connection.service = lambda _: "another"  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["refuse", "unknown", "missing"])
def test_a_service_that_copies_nothing_gets_the_bytes(
    settings: RemoveConfig, s3_bucket: S3Bucket, s3_proxy: FaultyProxy, client: Any, kind: Any
) -> None:
    refused = Fault(kind, ("PUT",), header="x-amz-copy-source")
    with s3_proxy.failing(refused):
        rows = jobs.run(settings)
    assert {row["note"] for row in rows.values()} == {None}
    assert refused.hits == (2 if kind == "refuse" else 1)  # once more without the tags
    assert properties(client, s3_bucket, "out/plain.png") == PROPERTIES
    assert tags(client, s3_bucket, "out/plain.png") == TAGS
    assert body(client, s3_bucket, "out/plain.png") == body(client, s3_bucket, UNCHANGED)


@pytest.mark.parametrize("kind", ["unknown", "busy"])
def test_a_copy_that_never_works_is_tried_once(s3_bucket: S3Bucket, s3_proxy: FaultyProxy, kind: Any) -> None:
    storage = storage_of(s3_bucket, s3_proxy)
    storage.write("x", b"data")
    data, original = storage.read_original("x")
    with s3_proxy.failing(Fault(kind, ("PUT",), header="x-amz-copy-source")):
        assert storage.write_like("y", data, original, unchanged=True) == ()
        before = len(s3_proxy.requests)
        assert storage.write_like("z", data, original, unchanged=True) == ()
    assert [(request.method, request.key, request.copies) for request in s3_proxy.requests[before:]] == [
        ("PUT", "z", False)
    ]
    assert storage.read("y") == storage.read("z") == data


@pytest.mark.parametrize("kind", ["busy", "reset", "lose"])
def test_a_copy_is_asked_for_again(s3_bucket: S3Bucket, s3_proxy: FaultyProxy, kind: Any) -> None:
    storage = storage_of(s3_bucket, s3_proxy)
    storage.retry_seconds = 10
    storage.write("x", b"data")
    data, original = storage.read_original("x")
    with s3_proxy.failing(Fault(kind, ("PUT",), header="x-amz-copy-source", times=2)):
        assert storage.write_like("y", data, original, unchanged=True) == ()
    assert [request.copies for request in s3_proxy.requests if request.key == "y"] == [True] * 3
    assert storage.read("y") == data


def test_what_was_read_is_written_where_the_input_has_changed_since(s3_bucket: S3Bucket, s3_proxy: FaultyProxy) -> None:
    storage = storage_of(s3_bucket, s3_proxy)
    storage.write("x", b"as it was read")
    data, original = storage.read_original("x")
    storage.write("x", b"later")
    assert storage.write_like("y", data, original, unchanged=True) == ()
    assert storage.read("y") == b"as it was read"
    storage.delete("x")
    assert storage.write_like("z", data, original, unchanged=True) == ()
    assert storage.read("z") == b"as it was read"


def test_keys_are_copied_exactly(s3_bucket: S3Bucket, s3_proxy: FaultyProxy) -> None:
    storage = storage_of(s3_bucket, s3_proxy)
    for key in ("/b+c d%20e", "q?versionId=3&x#y", "caf\u00e9\n", "st*r/[ab]"):
        storage.write(f"from/{key}", key.encode())
        data, original = storage.read_original(f"from/{key}")
        storage.write_like(f"to/{key}", data, original, unchanged=True)
        assert storage.read(f"to/{key}") == key.encode()
    assert all(request.copies for request in s3_proxy.requests if request.method == "PUT" and request.key[:3] == "to/")


def test_an_output_is_kept_where_its_copy_and_its_bytes_are_refused(
    settings: RemoveConfig, s3_bucket: S3Bucket, s3_proxy: FaultyProxy, client: Any
) -> None:
    jobs.run(settings)
    before = jobs.written(open_storage(settings.output, S3Options(endpoint=s3_bucket.endpoint)))
    client.put_object(Bucket=s3_bucket.name, Key=UNCHANGED, Body=encoded(photograph((96, 80), seed=5)))
    with (
        s3_proxy.failing(Fault("refuse", ("PUT",), "out/plain.png")),
        pytest.raises(StorageError, match="these credentials may not write here"),
    ):
        jobs.run(settings)
    assert jobs.written(open_storage(settings.output, S3Options(endpoint=s3_bucket.endpoint))) == before
    assert jobs.run(settings)["plain.png"]["status"] == "unchanged"
    assert body(client, s3_bucket, "out/plain.png") == body(client, s3_bucket, UNCHANGED)


def test_objects_of_others_are_not_copied_over(
    settings: RemoveConfig, s3_bucket: S3Bucket, s3_proxy: FaultyProxy, client: Any
) -> None:
    client.put_object(Bucket=s3_bucket.name, Key="out/plain.png", Body=b"of somebody else")
    with pytest.raises(ConfigError, match="already holds 1 of these keys"):
        jobs.run(settings)
    assert not any(request.copies for request in s3_proxy.requests)
    assert body(client, s3_bucket, "out/plain.png") == b"of somebody else"


def test_tags_that_may_not_be_read_are_told_and_fail_nothing(
    settings: RemoveConfig, s3_bucket: S3Bucket, s3_proxy: FaultyProxy, client: Any
) -> None:
    with s3_proxy.failing(Fault("refuse", ("GET",), query="tagging")):
        rows = jobs.run(settings)
    assert (rows["painted.png"]["status"], rows["painted.png"]["note"]) == ("cleaned", f"not carried over: {TAGS_LOST}")
    assert rows["plain.png"]["note"] is None
    assert tags(client, s3_bucket, "out/painted.png") == []
    assert properties(client, s3_bucket, "out/painted.png") == PROPERTIES
    job, todo = jobs.start(settings)
    totals = finish_job(job, todo, lambda _: None)
    lines = summary_lines(settings, Summary(2, 0, 0, 2, totals, 1.0, 1.0, False, "x"))
    assert "1 outputs lack properties of their input objects, such as tags; see the column note of the records" in lines


@pytest.mark.parametrize(
    "fault",
    [
        Fault("refuse", ("GET",), query="tagging"),
        Fault("unknown", ("GET",), query="tagging"),
        Fault("refuse", ("PUT",), header="x-amz-tagging"),
        Fault("unknown", ("PUT",), header="x-amz-tagging"),
    ],
)
def test_a_store_without_tags_gets_all_but_them(
    s3_bucket: S3Bucket, s3_proxy: FaultyProxy, client: Any, fault: Fault
) -> None:
    client.put_object(Bucket=s3_bucket.name, Key="x", Body=b"data", Tagging=TAGGING, **PROPERTIES)
    storage = storage_of(s3_bucket, s3_proxy)
    data, original = storage.read_original("x")
    with s3_proxy.failing(fault):
        assert storage.write_like("y", data, original) == (TAGS_LOST,)
    assert tags(client, s3_bucket, "y") == []
    assert properties(client, s3_bucket, "y") == PROPERTIES


def test_a_copy_that_may_not_carry_tags_is_made_without(
    settings: RemoveConfig, s3_bucket: S3Bucket, s3_proxy: FaultyProxy, client: Any
) -> None:
    with s3_proxy.failing(Fault("refuse", ("PUT",), header="x-amz-copy-source", times=1)):
        rows = jobs.run(settings)
    assert rows["plain.png"]["note"] == f"not carried over: {TAGS_LOST}"
    assert [request.headers["x-amz-tagging-directive"] for request in of_images(s3_proxy) if request.copies] == [
        "COPY",
        "REPLACE",
    ]
    assert tags(client, s3_bucket, "out/plain.png") == []
    assert properties(client, s3_bucket, "out/plain.png") == PROPERTIES


def test_a_storage_class_that_is_not_known_is_told(s3_bucket: S3Bucket, s3_proxy: FaultyProxy) -> None:
    storage = storage_of(s3_bucket, s3_proxy)
    storage.write("x", b"data")
    data, original = storage.read_original("x")
    headers = {**original.properties.headers, "StorageClass": "COLD"}  # type: ignore[attr-defined]
    other = replace(original, properties=replace(original.properties, headers=headers))  # type: ignore[call-arg]
    assert storage.write_like("y", data, other) == ("storage class COLD (it is not known here)",)
    assert storage.read("y") == data


def test_headers_that_cannot_be_sent_are_told(s3_bucket: S3Bucket, s3_proxy: FaultyProxy, client: Any) -> None:
    server = FaultyServer(
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\nExpires: 0\r\nx-amz-missing-meta: 2\r\n"
        b"Content-Disposition: inline; filename=caf\xc3\xa9\r\nContent-Encoding: aws-chunked, br\r\nCache-Control: \r\n"
        b"x-amz-meta-place: Caf\xc3\xa9\r\nx-amz-meta-rfc2047: =?UTF-8?B?Q2Fmw6k=?=\r\n\r\ndata"
    )
    server.start()
    data, original = open_storage("s3://bucket", S3Options(endpoint=server.endpoint)).read_original("x")
    assert original.properties.encoding == "br"
    assert storage_of(s3_bucket, s3_proxy).write_like("y", data, original) == (
        "Content-Disposition (it is not ASCII text)",
        "metadata 'place' (it is not ASCII text)",
        "2 metadata entries that the store does not show",
    )
    head = client.head_object(Bucket=s3_bucket.name, Key="y")
    assert (head["ContentEncoding"], head["Metadata"]) == ("br", {"rfc2047": "=?UTF-8?B?Q2Fmw6k=?="})
    # No date means a time in the past (RFC 9111, 5.3).
    assert head["ExpiresString"] == "Thu, 01 Jan 1970 00:00:00 GMT"


def test_a_compressed_object_says_why_it_is_no_image(settings: RemoveConfig, s3_bucket: S3Bucket, client: Any) -> None:
    data = gzip.compress(body(client, s3_bucket, UNCHANGED))
    client.put_object(Bucket=s3_bucket.name, Key="in/gz.png", Body=data, ContentEncoding="gzip")
    plain = body(client, s3_bucket, UNCHANGED)
    client.put_object(Bucket=s3_bucket.name, Key="in/chunked.png", Body=plain, ContentEncoding="aws-chunked,identity")
    rows = jobs.run(settings)
    assert (rows["gz.png"]["status"], rows["gz.png"]["stage"]) == ("failed", "decode")
    assert rows["gz.png"]["error"].endswith("; its Content-Encoding is gzip: store the image without it")
    assert rows["chunked.png"]["status"] == "unchanged"
    assert client.head_object(Bucket=s3_bucket.name, Key="out/chunked.png")["ContentLength"] == len(plain)


def test_a_file_that_goes_to_s3_has_the_type_of_its_name(
    s3_bucket: S3Bucket, s3_proxy: FaultyProxy, client: Any, tmp_path: Path
) -> None:
    bucket, folder = storage_of(s3_bucket, s3_proxy), open_storage(str(tmp_path / "folder"))
    folder.write("a.png", b"data")
    assert bucket.write_like("a.png", *folder.read_original("a.png"), unchanged=True) == ()
    assert client.head_object(Bucket=s3_bucket.name, Key="a.png")["ContentType"] == "image/png"
    bucket.write("b.png", b"data")
    assert folder.write_like("b.png", *bucket.read_original("b.png"), unchanged=True) == ()
    assert folder.read("b.png") == b"data"


def use_everything(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes every kind of request that storages make."""
    monkeypatch.setattr(s3_module, "PART_BYTES", 5 * 2**20)
    storage.check_readable()
    storage.write("x", b"data")
    with storage.open_write("large") as file:
        file.write(bytes(6 * 2**20))
    assert [info.key for info in storage.list()] == ["large", "x"]
    with storage.open_read("x") as file:
        assert file.read() == b"data"
    data, original = storage.read_original("x")
    tagged = replace(original, properties=replace(original.properties, tagged=True))  # type: ignore[call-arg]
    storage.write_like("copied", data, original, unchanged=True)
    storage.write_like("sent", data, tagged)
    assert storage.exists("sent")
    storage.delete("sent")


def test_the_requester_pays_for_every_request(
    s3_bucket: S3Bucket, s3_proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_everything(storage_of(s3_bucket, s3_proxy), monkeypatch)
    asked = len(s3_proxy.requests)
    assert asked >= 15
    assert not any("x-amz-request-payer" in request.headers for request in s3_proxy.requests)
    for key in ("x", "large", "copied"):
        storage_of(s3_bucket, s3_proxy).delete(key)
    s3_proxy.requests.clear()
    use_everything(storage_of(s3_bucket, s3_proxy, requester_pays=True), monkeypatch)
    assert len(s3_proxy.requests) == asked
    assert {request.headers.get("x-amz-request-payer") for request in s3_proxy.requests} == {"requester"}


def test_every_write_is_encrypted(
    s3_bucket: S3Bucket, s3_proxy: FaultyProxy, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = storage_of(s3_bucket, s3_proxy, encryption="AES256")
    use_everything(storage, monkeypatch)
    for key in ("x", "large", "copied"):
        assert client.head_object(Bucket=s3_bucket.name, Key=key)["ServerSideEncryption"] == "AES256"
    made = {request.key for request in s3_proxy.requests if "x-amz-server-side-encryption" in request.headers}
    assert made == {"x", "large", "copied", "sent"}
    storage_of(s3_bucket, s3_proxy).write("plain", b"data")
    assert "ServerSideEncryption" not in client.head_object(Bucket=s3_bucket.name, Key="plain")


@pytest.mark.parametrize("key", [None, "arn:aws:kms:eu-west-1:123456789012:key/abc"])
def test_a_kms_key_is_named_in_every_write(s3_bucket: S3Bucket, s3_proxy: FaultyProxy, key: str | None) -> None:
    storage_of(s3_bucket, s3_proxy).write("x", b"data")
    storage = storage_of(s3_bucket, s3_proxy, encryption="aws:kms", kms_key=key)
    data, original = storage.read_original("x")
    s3_proxy.requests.clear()
    # The test server knows no KMS: what is sent counts.
    with s3_proxy.failing(Fault("refuse", ("PUT", "POST"))):
        for write in (
            lambda: storage.write("y", data),
            lambda: storage.write_like("y", data, original),
            lambda: storage.write_like("y", data, original, unchanged=True),
            lambda: storage._write_parts("y", original),  # type: ignore[attr-defined]
        ):
            with pytest.raises(StorageError, match="may not write here"):
                write()
    assert [(request.method, request.copies) for request in s3_proxy.requests] == [
        ("PUT", False),
        ("PUT", False),
        ("PUT", True),
        ("PUT", True),
        ("PUT", False),
        ("POST", False),
    ]
    name = "x-amz-server-side-encryption"
    assert {request.headers[name] for request in s3_proxy.requests} == {"aws:kms"}
    assert {request.headers.get(f"{name}-aws-kms-key-id") for request in s3_proxy.requests} == {key}


PAYS = "if the requester pays for this bucket, set s3.requester_pays=true"
DEMANDS = "if the bucket demands encryption, set s3.encryption (and s3.kms_key)"
KMS = "User: arn:aws:iam::1:user/x is not authorized to perform: {} on resource: secret detail"


@pytest.mark.parametrize(
    ("method", "options", "message", "hint"),
    [
        ("list", {}, "", PAYS),
        ("list", {"requester_pays": True}, "", None),
        ("read", {}, "", PAYS),
        ("read", {"requester_pays": True}, "", None),
        (
            "read",
            {"requester_pays": True},
            KMS.format("kms:Decrypt"),
            "the KMS key refuses them: they need kms:Decrypt",
        ),
        ("write", {}, "", f"{DEMANDS}; {PAYS}"),
        ("write", {"requester_pays": True, "encryption": "AES256"}, "", None),
        (
            "write",
            {"requester_pays": True, "encryption": "aws:kms"},
            "",
            "for s3.encryption=aws:kms they need kms:GenerateDataKey, and s3.kms_key has to be a key of the bucket's",
        ),
        (
            "write",
            {"requester_pays": True},
            KMS.format("kms:GenerateDataKey"),
            "the KMS key refuses them: they need kms:GenerateDataKey; check s3.kms_key",
        ),
        ("delete", {}, "", PAYS),
    ],
)
def test_a_denied_request_names_the_settings_that_may_help(
    s3_bucket: S3Bucket, s3_proxy: FaultyProxy, method: str, options: dict[str, Any], message: str, hint: str | None
) -> None:
    storage = storage_of(s3_bucket, s3_proxy, **options)
    use = {
        "list": lambda: list(storage.list()),
        "read": lambda: storage.read("x"),
        "write": lambda: storage.write("x", b"data"),
        "delete": lambda: storage.delete("x"),
    }[method]
    with (
        s3_proxy.failing(Fault("refuse", ("GET", "PUT", "DELETE"), ".*", message=message)),
        pytest.raises((ObjectError, StorageError)) as caught,
    ):
        use()
    said = str(caught.value)
    assert said.endswith(f" ({hint})" if hint is not None else (" permission granted", " with these credentials"))
    assert "secret detail" not in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kms_key": "k"}, r"s3\.kms_key is set, but s3\.encryption is none: set s3\.encryption=aws:kms"),
        ({"kms_key": "k", "encryption": "AES256"}, r"but s3\.encryption is AES256"),
        ({"requester_pays": True, "anonymous": True}, r"s3\.requester_pays needs credentials"),
    ],
)
def test_options_that_contradict_each_other(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_storage("s3://bucket/x", S3Options(**options))
