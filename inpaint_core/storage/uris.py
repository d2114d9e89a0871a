"""What a URI may be."""

from __future__ import annotations

import re

from inpaint_core.errors import ConfigError
from inpaint_core.storage.base import quoted

VALID_URIS = "a folder, file:///folder, s3://bucket/prefix, or another scheme of fsspec such as gs://bucket/prefix"


def scheme_of(uri: str) -> str:
    """The scheme in lower case; `file` for a plain path.

    Raises:
        ConfigError: empty, or neither a path nor a URI.
    """
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", uri)
    if found:
        return found[1].lower()
    if not uri or "\0" in uri or "://" in uri or re.match(r"(file|s3a?|gs|gcs|az|abfss?):/?[^/]", uri):
        raise ConfigError(f"{quoted(uri)} is not a valid URI: give {VALID_URIS}.")
    return "file"
