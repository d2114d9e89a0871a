"""What an output must be after any number of kills, and how much of the work was done twice."""

from __future__ import annotations

import io
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import botocore.session
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from inpaint_core.removal.catalogue.layout import RESERVED, Layout
from inpaint_core.storage import Storage
from tests.on_ray.chaos_site import INPUT, OUTPUT, Site

_LASTING = re.compile(
    rf"{RESERVED}/(job\.json|manifest\.parquet|runs/[^/]+\.json|records/[^/]+\.parquet|masks/.+\.png)"
)
_LAYOUT = Layout.of(dry_run=False)


def check_output(site: Site) -> list[str]:
    """What is wrong, with the key; nothing: every image has one record and one whole output, and nothing else is there."""
    target = site.storage(OUTPUT)
    sizes = {info.key: info.size for info in target.list()}
    return [
        *_records(site, target, sizes),
        *_outputs(site, target, sizes),
        *_strays(site, sizes),
        *_uploads(site),
    ]


def _records(site: Site, target: Storage, sizes: dict[str, int]) -> Iterator[str]:
    files = [key for key in sizes if key.startswith(f"{_LAYOUT.records}/")]
    # As they lie there: the project's readers take the latest of a key.
    rows = [row for key in files for row in pq.read_table(pa.BufferReader(target.read(key))).to_pylist()]
    counts = Counter(row["key"] for row in rows)
    for key in sorted(site.images.keys() | counts.keys()):
        if key not in site.images:
            yield f"{key}: a record of no image"
        elif counts[key] != 1:
            yield f"{key}: {counts[key]} records"
    for row in rows:
        expected = "unchanged" if row["key"] in site.images and site.is_unchanged(row["key"]) else "cleaned"
        if row["status"] != expected:
            yield f"{row['key']}: {row['status']}, not {expected} ({row['stage']}: {row['error']})"
        elif row["output_size"] != sizes.get(row["key"]):
            yield f"{row['key']}: {row['output_size']} bytes in the record, {sizes.get(row['key'])} in the store"


def _outputs(site: Site, target: Storage, sizes: dict[str, int]) -> Iterator[str]:
    results: dict[tuple[int, str], dict[bytes, str]] = defaultdict(dict)
    for key, number in site.images.items():
        if key not in sizes:
            yield f"{key}: no output"
            continue
        data, source = target.read(key), site.files[number]
        if site.is_unchanged(key):
            if data != source:
                yield f"{key}: not the bytes of the input"
            continue
        found = results[number, "output"]
        mask = _LAYOUT.mask(key)
        if mask not in sizes:
            yield f"{key}: no mask"
        else:
            results[number, "mask"].setdefault(target.read(mask), mask)
        if data in found:
            continue
        found[data] = key
        try:
            picture, before = _decoded(data), _decoded(source)
        except (OSError, SyntaxError, ValueError) as error:
            yield f"{key}: does not decode: {error}"
            continue
        if picture.shape != before.shape:
            yield f"{key}: {picture.shape}, not {before.shape}"
        elif (picture == before).all():
            yield f"{key}: nothing was removed"
    for (_, what), found in results.items():  # the same image gives the same result, whatever was killed meanwhile
        if len(found) > 1:
            yield f"{' and '.join(sorted(found.values()))}: the same image, and another {what}"


def _strays(site: Site, sizes: dict[str, int]) -> Iterator[str]:
    masks = {_LAYOUT.mask(key) for key in site.images if not site.is_unchanged(key)}
    for key in sizes:
        if key in site.images or key in masks:
            continue
        if key.startswith(f"{_LAYOUT.masks}/") or _LASTING.fullmatch(key) is None:
            yield f"{key}: stray"


def _uploads(site: Site) -> Iterator[str]:
    client: Any = botocore.session.Session().create_client(
        "s3", endpoint_url=site.server.endpoint, region_name="us-east-1"
    )
    for upload in client.list_multipart_uploads(Bucket=site.bucket).get("Uploads", []):
        yield f"{upload['Key']}: an unfinished upload"


def done_twice(site: Site) -> dict[str, float]:
    """Shares of images, 0 to 1, that more than one attempt has read or written; more than one per image count only once.

    A request that the same attempt sends again after a fault is not counted: it follows an answer that did not arrive.
    """
    whole = [answer for answer in site.proxy.answers if answer.fault in (None, "stall") and answer.status == 200]
    images = len(site.images)
    shares = {}
    for name, method, part in (("read", "GET", INPUT), ("written", "PUT", OUTPUT)):
        counts = Counter(
            answer.key.partition("/")[2]
            for answer in whole
            if answer.method == method and answer.key.startswith(f"{part}/")
        )
        of_images = [counts[key] for key in site.images]
        shares[f"{name}_again"] = sum(count > 1 for count in of_images) / images
        shares[f"{name}_per_image"] = sum(of_images) / images
    return {name: round(share, 4) for name, share in shares.items()}


def _decoded(data: bytes) -> Any:
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB"))
