"""Objects by URI: folders, `s3://`, and any other scheme that fsspec knows.

`open_storage(uri)` gives one root; everything else takes keys relative to it. A key is exact: nothing in it is read as a
URL, a pattern or a path to normalise.
"""

from inpaint_core.storage.base import TEMPORARY_FOLDER, IncompleteRead, MissingObject, ObjectInfo, S3Options, Storage
from inpaint_core.storage.open import open_storage, refuse_relative_paths

__all__ = [
    "TEMPORARY_FOLDER",
    "IncompleteRead",
    "MissingObject",
    "ObjectInfo",
    "S3Options",
    "Storage",
    "open_storage",
    "refuse_relative_paths",
]
