"""Objects by URI: folders, `s3://`, and any other scheme that fsspec knows.

`open_storage(uri)` gives one root; everything else takes keys relative to it. A key is exact: nothing in it is read as a
URL, a pattern or a path to normalise.
"""

from inpaint_core.storage.base import (
    TEMPORARY_FOLDER,
    IncompleteRead,
    MissingObject,
    ObjectInfo,
    Original,
    Storage,
    UnansweredRequest,
)
from inpaint_core.storage.open import open_storage, refuse_relative_paths
from inpaint_core.storage.s3_options import S3Options

__all__ = [
    "TEMPORARY_FOLDER",
    "IncompleteRead",
    "MissingObject",
    "ObjectInfo",
    "Original",
    "S3Options",
    "Storage",
    "UnansweredRequest",
    "open_storage",
    "refuse_relative_paths",
]
