"""Properties of an S3 object besides its bytes, and the parameters of a request that give them to another object.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, urlencode

from inpaint_core.images.media_types import IMAGE_TYPES
from inpaint_core.storage.base import Properties, printable

# Browsers offer objects without a type for download instead of showing them. Not the `mimetypes` module: what it knows
# depends on the version of Python and on files of the machine.
CONTENT_TYPES = MappingProxyType(
    {
        **{f".{extension}": entry.media_type for entry in IMAGE_TYPES.values() for extension in entry.extensions},
        ".html": "text/html; charset=utf-8",
        ".json": "application/json",
        ".parquet": "application/vnd.apache.parquet",
    }
)

_TEXT_HEADERS = MappingProxyType(
    {
        "CacheControl": "Cache-Control",
        "ContentDisposition": "Content-Disposition",
        "ContentLanguage": "Content-Language",
        "ContentType": "Content-Type",
        "StorageClass": "storage class",
    }
)
"""Parameters of an upload that are in the answer to a download too, and what they are called."""

# What no cache may keep is often said with a value that is no date, such as `0`: it means a time in the past (RFC 9111, 5.3).
_EXPIRED = datetime(1970, 1, 1, tzinfo=UTC)

TAGS = "tags (these credentials may not read or write tags here: s3:GetObjectTagging, s3:PutObjectTagging)"
"""Name of the tags in what was lost."""


@dataclass(frozen=True, kw_only=True)
class S3Properties(Properties):
    """Of one object as it was read.

    `etag` is quoted as S3 quotes it, empty where there was none; `headers` are parameters of an upload; `tagged` says
    whether the object has tags; `lost` names what no upload can carry.
    """

    etag: str
    headers: Mapping[str, Any]
    tagged: bool
    lost: tuple[str, ...] = ()

    @property
    def storage_class(self) -> dict[str, str]:
        """The parameter of the storage class, which a copy does not take over; empty for the usual one."""
        return {"StorageClass": self.headers["StorageClass"]} if "StorageClass" in self.headers else {}


def properties_of(answer: Mapping[str, Any]) -> S3Properties:
    """The properties in botocore's answer to GetObject or HeadObject."""
    headers: dict[str, Any] = {}
    lost: list[str] = []
    for name, called in _TEXT_HEADERS.items():
        if value := answer.get(name):
            if _sendable(value):
                headers[name] = value
            else:
                lost.append(f"{called} (it is not ASCII text)")
    encoding = content_encoding(answer)
    if encoding:
        headers["ContentEncoding"] = encoding
    if answer.get("Expires") or answer.get("ExpiresString"):
        headers["Expires"] = answer.get("Expires") or _EXPIRED
    metadata = answer.get("Metadata") or {}
    kept = {name: value for name, value in metadata.items() if _sendable(name) and _sendable(value)}
    if kept:
        headers["Metadata"] = kept
    lost += [f"metadata {printable(name)!r} (it is not ASCII text)" for name in metadata if name not in kept]
    if answer.get("MissingMeta"):
        lost.append(f"{answer['MissingMeta']} metadata entries that the store does not show")
    return S3Properties(
        encoding=None if encoding == "identity" else encoding,
        etag=answer.get("ETag", ""),
        headers=headers,
        tagged=bool(answer.get("TagCount")),
        lost=tuple(lost),
    )


def content_encoding(answer: Mapping[str, Any]) -> str | None:
    """The Content-Encoding less `aws-chunked`, which is of a request and which some services keep by mistake."""
    parts = [part.strip() for part in str(answer.get("ContentEncoding") or "").split(",")]
    text = ", ".join(part for part in parts if part and part.lower() != "aws-chunked")
    return text if text and _sendable(text) else None


def tagging(tags: list[dict[str, str]]) -> str:
    """The parameter `Tagging` of an upload for the tags of GetObjectTagging; those that only AWS may set are left out."""
    return urlencode([(tag["Key"], tag["Value"]) for tag in tags if not tag["Key"].startswith("aws:")], quote_via=quote)


def content_type(key: str) -> dict[str, str]:
    """The parameter of an upload; empty where the extension says nothing, so that the store takes its default."""
    found = CONTENT_TYPES.get(posixpath.splitext(key)[1].lower())
    return {} if found is None else {"ContentType": found}


def _sendable(value: str) -> bool:
    """Whether a header can hold the text, and botocore sends it as it is."""
    return value.isascii() and value.isprintable()
