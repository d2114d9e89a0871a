"""Objects in an S3 bucket, below a prefix.

s3fs keeps the session and the event loop; requests are made with bucket and key as they are. Its path functions would
change keys: they cut `?versionId=`, leading and trailing slashes, and take `*` and `[` for patterns.
"""

from __future__ import annotations

import io
import os
import posixpath
import random
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC
from functools import partial
from types import MappingProxyType
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

from fsspec.asyn import sync
from s3fs import S3FileSystem

from inpaint_core.errors import ConfigError, ObjectError, StorageError
from inpaint_core.images.media_types import IMAGE_TYPES
from inpaint_core.storage.base import (
    NO_ROOM,
    Action,
    MissingObject,
    ObjectInfo,
    S3Options,
    Storage,
    no_room_for_upload,
    printable,
    quoted,
)
from inpaint_core.storage.ranges import RangeReader
from inpaint_core.storage.s3_faults import REQUEST_ERRORS, CutAnswer, explain, passing_reason

MAX_KEY_BYTES = 1024
PART_BYTES = 64 * 2**20  # of one upload request; 10,000 parts at most make an object of 640 GiB
READ_AHEAD_BYTES = 2**20
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0  # seconds between attempts, doubling
CONNECT_TIMEOUT = 5.0
MAX_CONNECTIONS = 64  # of one process; more threads than that wait for one another

# Browsers offer objects without a type for download instead of showing them. Not the `mimetypes` module: what it knows
# depends on the version of Python and on files of the machine.
CONTENT_TYPES = MappingProxyType(
    {
        **{f".{extension}": entry.media_type for entry in IMAGE_TYPES.values() for extension in entry.extensions},
        ".jfif": IMAGE_TYPES["JPEG"].media_type,
        ".html": "text/html; charset=utf-8",
        ".json": "application/json",
        ".parquet": "application/vnd.apache.parquet",
    }
)


class S3Storage(Storage):
    """A bucket and a prefix, which is empty or ends with `/`."""

    _fs: S3FileSystem | None
    _parents: S3FileSystem | None
    _pid: int
    _lock: threading.Lock
    _jitter: random.Random

    def __init__(self, bucket: str, prefix: str, options: S3Options) -> None:
        self._bucket = bucket
        self._prefix = prefix
        self._options = options
        self.uri = printable(f"s3://{bucket}/{prefix}".rstrip("/"))
        self._forget_connection()

    @classmethod
    def of(cls, uri: str, options: S3Options) -> S3Storage:
        """The storage of `s3://bucket/prefix`. The prefix is taken as it is: `%20` is no space.

        Raises:
            ConfigError: no valid bucket name, or an endpoint that is no URL.
        """
        bucket, _, prefix = uri.partition("://")[2].partition("/")
        if not re.fullmatch(r"[A-Za-z0-9._\-]{3,255}|arn:aws[A-Za-z0-9:/_\-]+", bucket):
            raise ConfigError(
                f"{quoted(uri)} is not a valid URI: it has no valid bucket name, as in s3://bucket/prefix."
            )
        if options.endpoint is not None:
            _check_endpoint(options.endpoint)
        prefix = prefix.rstrip("/")
        return cls(bucket, f"{prefix}/" if prefix else "", options)

    def list(
        self,
        under: str = "",
        *,
        skip: Callable[[str], bool] | None = None,
        forbidden: Callable[[str, str], None] | None = None,
    ) -> Iterator[ObjectInfo]:
        """See `Storage.list`. Keys that end with `/` stand for folders and are left out."""
        root = len(self._prefix)
        prefix = self._prefix + (f"{under.rstrip('/')}/" if under else "")
        further: dict[str, str] = {}
        while True:
            page = self._request("list", None, "list_objects_v2", Prefix=prefix, **further)
            for item in page.get("Contents", ()):
                if not item["Key"].endswith("/"):
                    yield ObjectInfo(
                        key=item["Key"][root:],
                        size=item["Size"],
                        etag=item.get("ETag", "").strip('"'),
                        modified=item["LastModified"].astimezone(UTC),
                    )
            if not page.get("IsTruncated"):
                return
            further = {"ContinuationToken": page["NextContinuationToken"]}

    def _read(self, key: str, size: int | None) -> bytes:
        return cast(bytes, self._request("read", key, "get_object", Key=self._full(key))["Body"])

    def open_read(self, key: str) -> BinaryIO:
        """See `Storage.open_read`. Each read past the buffer is one request for that range."""
        head = self._head(key)
        get = partial(self._request, "read", key, "get_object", Key=self._full(key), IfMatch=head["ETag"])
        return io.BufferedReader(RangeReader(get, head["ContentLength"]), READ_AHEAD_BYTES)

    def write(self, key: str, data: bytes) -> None:
        """See `Storage.write`."""
        self._request("write", key, "put_object", Key=self._full(key, writing=True), Body=data, **_content_type(key))

    @contextmanager
    def open_write(self, key: str) -> Iterator[BinaryIO]:
        """See `Storage.open_write`. Nothing is sent before the block has ended; large files wait on the local disk."""
        self._full(key, writing=True)
        with tempfile.SpooledTemporaryFile(max_size=PART_BYTES) as file:
            try:
                yield cast(BinaryIO, file)
            except OSError as error:
                if error.errno in NO_ROOM:
                    raise no_room_for_upload(self.uri) from error
                raise
            if file.closed:
                raise ValueError(f"{quoted(key)}: the file of open_write was closed inside its block")
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            if size <= PART_BYTES:
                self.write(key, file.read())
            else:
                self._write_parts(key, cast(BinaryIO, file))

    def delete(self, key: str) -> None:
        """See `Storage.delete`."""
        self._request("delete", key, "delete_object", Key=self._full(key))

    def exists(self, key: str) -> bool:
        """See `Storage.exists`."""
        try:
            self._head(key)
        except MissingObject:
            return False
        return True

    def check_readable(self) -> None:
        """See `Storage.check_readable`. An empty prefix is fine; the caller decides."""
        self._request("list", None, "list_objects_v2", Prefix=self._prefix, MaxKeys=1)

    def contains(self, other: Storage) -> bool:
        """See `Storage.contains`. Two names of one endpoint are told apart, except those of AWS and of this machine."""
        return (
            isinstance(other, S3Storage)
            and self._bucket == other._bucket
            and other._prefix.startswith(self._prefix)
            and _service(self._endpoint()) == _service(other._endpoint())
        )

    def _full(self, key: str, *, writing: bool = False) -> str:
        """The key in the bucket."""
        full = self._prefix + key
        try:
            size = len(full.encode("utf-8"))
        except UnicodeEncodeError as error:
            raise ObjectError(
                f"{self.uri}: {quoted(key)} is not valid Unicode, so no object can have this key"
            ) from error
        if not key:
            raise ObjectError(f"{self.uri}: an empty key names no object")
        if size > MAX_KEY_BYTES:
            raise ObjectError(
                f"{self.uri}: {quoted(key)} cannot be stored in S3: with its prefix it has {size} bytes, "
                f"more than the maximum of {MAX_KEY_BYTES}; rename the object or shorten the prefix"
            )
        if writing and key.endswith("/"):
            raise ObjectError(
                f"{self.uri}: {quoted(key)} cannot be an object: a key that ends with '/' denotes a folder"
            )
        return full

    def _head(self, key: str) -> dict[str, Any]:
        try:
            return self._request("read", key, "head_object", Key=self._full(key))
        except MissingObject:
            raise
        except ObjectError:
            self.check_readable()  # an answer to HEAD has no text: this one says what is wrong, if it is the store
            raise

    def _write_parts(self, key: str, file: BinaryIO) -> None:
        request = partial(self._request, "write", key, Key=self._full(key))
        upload = partial(request, UploadId=request("create_multipart_upload", **_content_type(key))["UploadId"])
        try:
            parts: list[dict[str, Any]] = []
            while data := file.read(PART_BYTES):
                number = len(parts) + 1
                etag = upload("upload_part", PartNumber=number, Body=data)["ETag"]
                parts.append({"PartNumber": number, "ETag": etag})
            upload("complete_multipart_upload", MultipartUpload={"Parts": parts})
        except BaseException:
            with suppress(ObjectError, StorageError):  # the first error is the one to tell
                upload("abort_multipart_upload")
            raise

    def _request(self, action: Action, key: str | None, method: str, **parameters: Any) -> dict[str, Any]:
        """One request, sent again while it fails for a passing reason. A body in the answer is read to bytes."""
        deadline = time.monotonic() + self.retry_seconds
        pause = FIRST_PAUSE
        while True:
            try:
                fs = self._connected()
                return cast("dict[str, Any]", sync(fs.loop, _send, fs, method, {"Bucket": self._bucket, **parameters}))
            except REQUEST_ERRORS as error:
                fault = explain(error, self.place, action, key)
                if fault is not None:
                    raise fault from error
                if time.monotonic() + pause > deadline:
                    if isinstance(error, CutAnswer) and key is not None:
                        # The store answers: what it cannot give is this object.
                        raise ObjectError(
                            f"{self.place}: the response with {quoted(key)} is truncated, even after "
                            f"{self.retry_seconds:g} s of retries"
                        ) from error
                    raise StorageError(
                        f"{self.place}: cannot {action}: {passing_reason(error)}, even after {self.retry_seconds:g} s of "
                        "retries; check the endpoint and the network, then run the job again"
                    ) from error
            time.sleep(pause * self._jitter.uniform(0.5, 1.0))
            pause = min(2 * pause, LONGEST_PAUSE)

    def _connected(self) -> S3FileSystem:
        if self._pid != os.getpid():
            # Forked: the lock may be held for ever, and the event loop has no thread here. The old file system is kept
            # from being closed: its sockets are the parent's.
            self._parents = self._fs
            self._forget_connection()
        with self._lock:
            if self._fs is None:
                self._fs = self._connect()
            return self._fs

    def _connect(self) -> S3FileSystem:
        options = self._options
        config: dict[str, Any] = {
            "connect_timeout": min(CONNECT_TIMEOUT, self.request_timeout),
            "read_timeout": self.request_timeout,
            "max_pool_connections": MAX_CONNECTIONS,
            "retries": {"total_max_attempts": 1},  # `_request` does it, with a limit in seconds
        }
        if options.endpoint is not None:
            # Many other services do not know the checksums that AWS's clients add on their own.
            config |= {"request_checksum_calculation": "when_required", "response_checksum_validation": "when_required"}
        fs = S3FileSystem(
            anon=options.anonymous,
            endpoint_url=options.endpoint,
            client_kwargs={} if options.region is None else {"region_name": options.region},
            config_kwargs=config,
            skip_instance_cache=True,
            use_listings_cache=False,
            **({} if options.profile is None else {"profile": options.profile}),
        )
        try:
            fs.connect()
        except ValueError as error:  # what botocore raises for an endpoint in AWS_ENDPOINT_URL that is no URL
            raise StorageError(
                f"{self.uri}: the endpoint is not valid; check AWS_ENDPOINT_URL and the AWS config"
            ) from error
        return fs

    def _endpoint(self) -> str:
        """The URL that requests go to, from the options or from AWS's own settings."""
        if self._options.endpoint is not None:
            return self._options.endpoint
        try:
            return str(self._connected().s3.meta.endpoint_url)
        except REQUEST_ERRORS as error:
            raise explain(error, self.place, "read", None) or StorageError(f"{self.uri}: cannot be used") from error

    @property
    def place(self) -> str:
        """The root and, where it is not AWS, the service."""
        return self.uri if self._options.endpoint is None else f"{self.uri} at {self._options.endpoint}"

    def _forget_connection(self) -> None:
        self._fs = None
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._jitter = random.Random()

    def __getstate__(self) -> dict[str, Any]:
        return {
            name: value for name, value in vars(self).items() if name not in ("_fs", "_lock", "_jitter", "_parents")
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget_connection()


async def _send(fs: S3FileSystem, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
    client = await fs.set_session()
    answer: dict[str, Any] = await getattr(client, method)(**parameters)
    if "Body" in answer:
        async with answer["Body"] as body:
            try:
                answer["Body"] = await body.read()
            except REQUEST_ERRORS as error:
                raise CutAnswer("the answer broke off") from error
    return answer


def _content_type(key: str) -> dict[str, str]:
    """The parameter of an upload; empty where the extension says nothing, so that the store takes its default."""
    found = CONTENT_TYPES.get(posixpath.splitext(key)[1].lower())
    return {} if found is None else {"ContentType": found}


def _check_endpoint(endpoint: str) -> None:
    try:
        parts = urlsplit(endpoint)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid, parts = False, urlsplit("")
    if "@" in endpoint:
        raise ConfigError("s3.endpoint contains a user name or password (the part before '@'): remove it.")
    if not valid or parts.query or parts.fragment:
        raise ConfigError(f"s3.endpoint is {quoted(endpoint)}: give a URL such as http://127.0.0.1:8333.")


def _service(endpoint: str) -> str:
    """What two endpoints have in common when the same bucket name means the same bucket."""
    parts = urlsplit(endpoint)
    host = (parts.hostname or "").lower()
    if host.endswith((".amazonaws.com", ".amazonaws.com.cn")):
        return "aws"
    if host in ("localhost", "::1") or host.startswith("127."):
        host = "localhost"
    return f"{host}:{parts.port or (443 if parts.scheme == 'https' else 80)}{parts.path.rstrip('/')}"
