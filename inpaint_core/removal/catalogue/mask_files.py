"""Mask files that lie among the images: they are no images to process."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc

from inpaint_core.detection.detector import FilesByKey
from inpaint_core.errors import ConfigError
from inpaint_core.removal.catalogue.layout import TEMPORARY_FOLDER
from inpaint_core.removal.catalogue.listing import KEYS, SCHEMA, prefix_inside
from inpaint_core.removal.catalogue.sorted_rows import Cursor, SortedRows
from inpaint_core.storage import S3Options, Storage, open_storage


def without_masks(manifest: SortedRows, files: FilesByKey | None, source: Storage, s3: S3Options) -> SortedRows:
    """The manifest less the mask files that lie among the images.

    Args:
        manifest: rows of `listing.SCHEMA`.
        files: of the detector; None: it reads none.
        source: the input.
        s3: how `s3://` URIs are reached.

    Raises:
        ConfigError: there are no mask files, or an image is its own mask.
    """
    if files is None:
        return manifest
    masks = open_storage(files.root, s3, temporary_folder=TEMPORARY_FOLDER)
    if next(masks.list(), None) is None:
        raise ConfigError(f"detector.root: {masks.uri} holds no files; check the path or prefix")
    among = masks.contains(source) and source.contains(masks)
    below = None if among else prefix_inside(source, masks, "detector.root")
    if not among and below is None:
        return manifest
    kept = SortedRows(SCHEMA)
    if below is not None:
        for images in manifest:
            kept.add(images.filter(pc.invert(pc.starts_with(images["key"], below))))
        return kept
    mask_keys = SortedRows(KEYS)
    for images in manifest:
        keys = set(images["key"].to_pylist())
        mask_keys.add(pa.table([[files.key_of(key) for key in keys]], schema=KEYS))
    cursor = Cursor(mask_keys, KEYS)
    for images in manifest:
        keys = images["key"].to_pylist()
        images_of = Counter(cursor.matching(images["key"])["key"].to_pylist())
        own = [key for key in keys if images_of[key] == 1 and files.key_of(key) == key]
        if own:
            raise ConfigError(
                f"detector.pattern: {files.pattern!r} makes {own[0]!r} its own mask, since the masks are stored among the "
                "images; choose another pattern, or exclude such images with listing.exclude"
            )
        kept.add(images.filter(pa.array([key not in images_of for key in keys])))
    return kept
