"""Objects in an S3 bucket, below a prefix."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC
from functools import partial
from typing import Any, BinaryIO, cast

from inpaint_core.errors import ObjectError, StorageError
from inpaint_core.storage.base import (
    NO_ROOM,
    Action,
    MissingObject,
    ObjectInfo,
    Original,
    Storage,
    no_room_for_upload,
    quoted,
)
from inpaint_core.storage.ranges import RangeReader
from inpaint_core.storage.s3_connection import S3Connection
from inpaint_core.storage.s3_faults import DENIED_CODES, UNKNOWN_CODES, code_of
from inpaint_core.storage.s3_location import S3Location
from inpaint_core.storage.s3_options import S3Options, check_options
from inpaint_core.storage.s3_properties import TAGS, S3Properties, content_type, properties_of, tagging

PART_BYTES = 64 * 2**20  # of one upload request; 10,000 parts at most make an object of 640 GiB
READ_AHEAD_BYTES = 2**20
_SECONDS_FOR_A_COPY = 30.0  # by the service; some fail at nothing else, and the bytes are at hand


class S3Storage(Storage):
    """The objects below a prefix of a bucket."""

    def __init__(self, location: S3Location, options: S3Options) -> None:
        self._location = location
        self._options = options
        self.uri = location.uri
        self.retry_seconds = 60 * options.retry_minutes
        self._connection = S3Connection(options, self.place)
        self._copies = True  # False: this service copies nothing

    @classmethod
    def of(cls, uri: str, options: S3Options) -> S3Storage:
        """The storage of `s3://bucket/prefix`. The prefix is taken as it is: `%20` is no space.

        Raises:
            ConfigError: no valid bucket name, or options that cannot be used.
        """
        location = S3Location.of(uri)
        check_options(options)
        return cls(location, options)

    def list(
        self,
        under: str = "",
        *,
        skip: Callable[[str], bool] | None = None,
        forbidden: Callable[[str, str], None] | None = None,
    ) -> Iterator[ObjectInfo]:
        """See `Storage.list`. Keys that end with `/` stand for folders and are left out."""
        root = len(self._location.prefix)
        prefix = self._location.prefix + (f"{under.rstrip('/')}/" if under else "")
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

    def _read(self, key: str, size: int | None) -> tuple[bytes, S3Properties]:
        answer = self._request("read", key, "get_object", Key=self._location.full_key(key))
        return answer["Body"], properties_of(answer)

    def open_read(self, key: str) -> BinaryIO:
        """See `Storage.open_read`. Each read past the buffer is one request for that range."""
        head = self._head(key)
        get = partial(self._request, "read", key, "get_object", Key=self._location.full_key(key), IfMatch=head["ETag"])
        return io.BufferedReader(RangeReader(get, head["ContentLength"]), READ_AHEAD_BYTES)

    def write(self, key: str, data: bytes) -> None:
        """See `Storage.write`."""
        self._put(key, Body=data, **content_type(key))

    def write_like(self, key: str, data: bytes, original: Original, *, unchanged: bool = False) -> tuple[str, ...]:
        """See `Storage.write_like`. Of an S3 object: its content headers, metadata, tags and storage class.

        A copy within one service is made by the service, of the version that was read; where it is refused, the bytes are
        sent.
        """
        properties = original.properties
        if not isinstance(properties, S3Properties):
            return super().write_like(key, data, original, unchanged=unchanged)
        if unchanged and properties.etag and self._copies and self._shares_access(original.storage):
            lost = self._copy(key, original, properties)
            if lost is not None:
                return lost
        tags = cast(S3Storage, original.storage)._tags(original.key) if properties.tagged else ""
        lost = (*properties.lost, *((TAGS,) if tags is None else ()))
        upload = {**content_type(key), **properties.headers, **({"Tagging": tags} if tags else {})}
        while True:
            try:
                self._put(key, Body=data, **upload)
            except (ObjectError, StorageError) as error:
                refused = _refused(code_of(error), upload)
                if refused is None:
                    raise
                lost = (
                    *lost,
                    TAGS if refused == "Tagging" else f"storage class {upload[refused]} (it is not known here)",
                )
                del upload[refused]
            else:
                return lost

    @contextmanager
    def open_write(self, key: str) -> Iterator[BinaryIO]:
        """See `Storage.open_write`. Nothing is sent before the block has ended; large files wait on the local disk."""
        self._location.full_key(key, writing=True)
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
        self._request("delete", key, "delete_object", Key=self._location.full_key(key))

    def exists(self, key: str) -> bool:
        """See `Storage.exists`."""
        try:
            self._head(key)
        except MissingObject:
            return False
        return True

    def check_readable(self) -> None:
        """See `Storage.check_readable`. An empty prefix is fine; the caller decides."""
        self._request("list", None, "list_objects_v2", Prefix=self._location.prefix, MaxKeys=1)

    def on_outage(self, tell: Callable[[str], None]) -> None:
        """See `Storage.on_outage`."""
        self._connection.outages.tell = tell

    def outage_seconds(self) -> float:
        """See `Storage.outage_seconds`."""
        return self._connection.outages.seconds()

    def contains(self, other: Storage) -> bool:
        """See `Storage.contains`. Two names of one endpoint are told apart, except those of AWS and of this machine."""
        return (
            isinstance(other, S3Storage)
            and self._location.contains(other._location)
            and self._connection.service(self.request_timeout) == other._connection.service(self.request_timeout)
        )

    def _head(self, key: str) -> dict[str, Any]:
        try:
            return self._request("read", key, "head_object", Key=self._location.full_key(key))
        except MissingObject:
            raise
        except ObjectError:
            self.check_readable()  # an answer to HEAD has no text: this one says what is wrong, if it is the store
            raise

    def _put(self, key: str, **upload: Any) -> None:
        self._request(
            "write", key, "put_object", Key=self._location.full_key(key, writing=True), **self._encryption(), **upload
        )

    def _encryption(self) -> dict[str, str]:
        """The parameters of every request that makes an object."""
        if self._options.encryption == "none":
            return {}
        key = {} if self._options.kms_key is None else {"SSEKMSKeyId": self._options.kms_key}
        return {"ServerSideEncryption": self._options.encryption, **key}

    def _shares_access(self, other: Storage) -> bool:
        """Whether one request, with this storage's credentials, can read there and write here."""
        return (
            isinstance(other, S3Storage)
            and (self._options.profile, self._options.anonymous) == (other._options.profile, other._options.anonymous)
            and self._connection.service(self.request_timeout) == other._connection.service(self.request_timeout)
        )

    def _copy(self, key: str, original: Original, properties: S3Properties) -> tuple[str, ...] | None:
        """Have the service copy the version that was read; None: it did not, and nothing was written."""
        source = cast(S3Storage, original.storage)
        pays = {"RequestPayer": "requester"} if source._options.requester_pays else {}
        copy = partial(
            self.with_patience(_SECONDS_FOR_A_COPY)._request,
            "write",
            key,
            "copy_object",
            Key=self._location.full_key(key, writing=True),
            CopySource={"Bucket": source._location.bucket, "Key": source._location.full_key(original.key)},
            CopySourceIfMatch=properties.etag,
            MetadataDirective="COPY",
            **properties.storage_class,
            **self._encryption(),
            **pays,
        )
        lost: tuple[str, ...] = ()
        for directive in ("COPY", "REPLACE"):  # the latter: without tags
            try:
                copy(TaggingDirective=directive)
            except (ObjectError, StorageError) as error:
                code = code_of(error)
                if code is None or code in UNKNOWN_CODES:
                    self._copies = False
                if code not in DENIED_CODES:
                    return None
                lost = (TAGS,)
            else:
                return lost
        return None

    def _tags(self, key: str) -> str | None:
        """The tags of an object, as a parameter of an upload; None: they cannot be read."""
        try:
            return tagging(self._request("read", key, "get_object_tagging", Key=self._location.full_key(key))["TagSet"])
        except ObjectError:
            return None

    def _write_parts(self, key: str, file: BinaryIO) -> None:
        request = partial(self._request, "write", key, Key=self._location.full_key(key))
        made = request("create_multipart_upload", **self._encryption(), **content_type(key))
        upload = partial(request, UploadId=made["UploadId"])
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
        """One request, sent again while it fails for a passing reason; errors as of `Storage`."""
        pays = {"RequestPayer": "requester"} if self._options.requester_pays else {}
        return self._connection.request(
            action,
            key,
            method,
            {"Bucket": self._location.bucket, **parameters, **pays},
            retry_seconds=self.retry_seconds,
            timeout=self.request_timeout,
        )

    @property
    def place(self) -> str:
        """The root and, where it is not AWS, the service."""
        return self.uri if self._options.endpoint is None else f"{self.uri} at {self._options.endpoint}"


def _refused(code: str | None, upload: Mapping[str, Any]) -> str | None:
    """The parameter without which an upload that was refused with this code may be accepted; None: there is none."""
    if "Tagging" in upload and (code in DENIED_CODES or code in UNKNOWN_CODES or code == "InvalidTag"):
        return "Tagging"
    if "StorageClass" in upload and (code == "InvalidStorageClass" or code in UNKNOWN_CODES):
        return "StorageClass"
    return None
