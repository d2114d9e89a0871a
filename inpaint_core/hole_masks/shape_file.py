"""The Parquet file of object shapes: one row per object."""

from __future__ import annotations

from typing import TypedDict
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from inpaint_core.errors import ConfigError, ObjectError
from inpaint_core.hole_masks.shapes import MAKE_ONE, ObjectShapes
from inpaint_core.storage import MissingObject, S3Options, open_storage

SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),  # of the photograph; in a tar file its name there
        pa.field("class", pa.string(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),  # of the mask, which is cut out tight
        pa.field("width", pa.int32(), nullable=False),
        pa.field("mask", pa.binary(), nullable=False),  # row by row, bits packed by np.packbits
        pa.field("image_height", pa.int32(), nullable=False),  # of the photograph
        pa.field("image_width", pa.int32(), nullable=False),
        pa.field("area_fraction", pa.float64(), nullable=False),  # part of the photograph that the object covers
    ]
)


class ShapeRow(TypedDict("_", {"class": str})):  # `class` cannot be written as a field
    """One row of `SCHEMA`."""

    key: str
    height: int
    width: int
    mask: bytes
    image_height: int
    image_width: int
    area_fraction: float


def load_object_shapes(uri: str, s3: S3Options, *, name: str = "holes.objects") -> ObjectShapes:
    """Read the shapes that `inpaint shapes` made.

    Args:
        uri: path or URI of the Parquet file.
        s3: how `s3://` URIs are reached.
        name: the config key that holds the URI, for messages.

    Raises:
        ConfigError: no such file, it cannot be read, or it is not a file of object shapes.
        StorageError: its store cannot be used.
    """
    parent, file_name = split_file(uri, name)
    try:
        with open_storage(parent, s3).open_read(file_name) as file:
            table = pq.read_table(file, columns=SCHEMA.names)
            table = table.select(SCHEMA.names).cast(SCHEMA)
    except MissingObject as error:
        raise ConfigError(f"{name}: there is no file {uri}; {MAKE_ONE}") from error
    except ObjectError as error:
        raise ConfigError(f"{name}: {uri} cannot be read: {error}") from error
    except (pa.ArrowException, KeyError, ValueError, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise ConfigError(f"{name}: {uri} is not a Parquet file of object shapes ({reason}); {MAKE_ONE}") from error
    if not len(table):
        raise ConfigError(f"{name}: {uri} holds no shape; {MAKE_ONE}, of photographs that show objects")
    shapes = ObjectShapes(
        tuple(table["height"].to_pylist()), tuple(table["width"].to_pylist()), tuple(table["mask"].to_pylist())
    )
    for row, (height, width, packed) in enumerate(zip(shapes.heights, shapes.widths, shapes.packed, strict=True)):
        if height < 1 or width < 1 or len(packed) != -(-height * width // 8) or not np.any(shapes[row]):
            raise ConfigError(
                f"{name}: {uri}: the mask of row {row} is not {height} x {width} pixels with an object; {MAKE_ONE}"
            )
    return shapes


def split_file(uri: str, key: str) -> tuple[str, str]:
    """A file's URI as the URI of the folder it lies in and its name.

    Raises:
        ConfigError: it names no file; the message begins with the config key `key`.
    """
    parent, slash, name = uri.rpartition("/")
    if not name or parent.endswith(":/"):
        raise ConfigError(f"{key}: {uri!r} names no file; give the path or URI of one, such as objects.parquet")
    if uri.lower().startswith("file://"):
        name = unquote(name)
    return (parent or "/") if slash else ".", name
