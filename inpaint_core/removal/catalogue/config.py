"""Which objects of the input are images of a removal job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, with_config

from inpaint_core.config import STRICT
from inpaint_core.images.media_types import EXTENSIONS

SYSTEM_FILES = (
    "._*",
    ".DS_Store",
    ".Spotlight-V100",
    ".Trash-*",
    ".Trashes",
    ".fseventsd",
    "Thumbs.db",
    "desktop.ini",
    "$RECYCLE.BIN",
    "System Volume Information",
    "@eaDir",
    "#recycle",
    "__MACOSX",
    "lost+found",
)
"""Files and folders of macOS, Windows, Linux and network disks that hold no photographs of their own."""


@with_config(STRICT)
@dataclass(frozen=True)
class ListingConfig:
    """Selection of the input objects."""

    extensions: Annotated[
        tuple[str, ...],
        Field(min_length=1, description="File name extensions of images, without the dot; case is ignored."),
    ] = EXTENSIONS
    without_extension: Annotated[
        bool,
        Field(
            description="Also objects whose name has no extension, such as uploads named by a hash. Objects that are not images get a `failed` record."
        ),
    ] = False
    ignore: Annotated[
        tuple[str, ...],
        Field(
            description="Names of files and folders that are left out at any depth, with `*` and `?`; case is ignored. Default: files added by operating systems and camera software."
        ),
    ] = SYSTEM_FILES
    include: Annotated[
        str | None,
        Field(
            description="Glob of keys to process, relative to the input (`**` matches across folders); null: all keys."
        ),
    ] = None
    exclude: Annotated[str | None, Field(description="Glob of keys to leave out; null: none.")] = None
    max_bytes: Annotated[
        int,
        Field(
            gt=0,
            description="Maximum size of an object in bytes; a larger one is not read, and its record is `failed`.",
        ),
    ] = 256 * 2**20
    max_pixels: Annotated[
        int,
        Field(
            gt=0,
            description="Maximum number of pixels of an image (protection against decompression bombs); a larger one is not decoded, and its record is `failed`.",
        ),
    ] = 100_000_000
