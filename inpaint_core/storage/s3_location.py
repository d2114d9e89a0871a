"""Where in S3 a storage is, and the keys that its objects have there."""

from __future__ import annotations

import re
from dataclasses import dataclass

from inpaint_core.errors import ConfigError, ObjectError
from inpaint_core.storage.base import printable, quoted

MAX_KEY_BYTES = 1024


@dataclass(frozen=True)
class S3Location:
    """A bucket and a prefix, which is empty or ends with `/`."""

    bucket: str
    prefix: str

    @classmethod
    def of(cls, uri: str) -> S3Location:
        """The location `s3://bucket/prefix`. The prefix is taken as it is: `%20` is no space.

        Raises:
            ConfigError: no valid bucket name.
        """
        bucket, _, prefix = uri.partition("://")[2].partition("/")
        if not re.fullmatch(r"[A-Za-z0-9._\-]{3,255}|arn:aws[A-Za-z0-9:/_\-]+", bucket):
            raise ConfigError(
                f"{quoted(uri)} is not a valid URI: it has no valid bucket name, as in s3://bucket/prefix."
            )
        prefix = prefix.rstrip("/")
        return cls(bucket, f"{prefix}/" if prefix else "")

    @property
    def uri(self) -> str:
        """As it is printed."""
        return printable(f"s3://{self.bucket}/{self.prefix}".rstrip("/"))

    def contains(self, other: S3Location) -> bool:
        """Whether, in one service, all keys there are keys here, too."""
        return self.bucket == other.bucket and other.prefix.startswith(self.prefix)

    def full_key(self, key: str, *, writing: bool = False) -> str:
        """The key in the bucket.

        Args:
            key: relative to the prefix.
            writing: whether an object is to be written, which cannot have every key that one can be asked for.

        Raises:
            ObjectError: no object can have this key.
        """
        full = self.prefix + key
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
