"""HEIC (HEIF with HEVC): coded anew by x265 through pillow-heif, the extra `heic`, which is imported for such files alone.

EXIF, XMP, colour profile, bit depth, chroma subsampling, the grid of tiles and the rotation of the container are kept.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inpaint_core.errors import ImageError, Stage
from inpaint_core.images.formats import heif_picture as picture
from inpaint_core.images.formats.codec import check_frames, check_size, damaged, refused
from inpaint_core.images.formats.format import ImageFormat, XmpEdit
from inpaint_core.images.formats.heic_quality import CodedBytes, coded_bytes, quality_like
from inpaint_core.images.formats.heif_items import Box, HeifItems, heif_items, whole_boxes
from inpaint_core.images.formats.quality import encoded_like
from inpaint_core.images.formats.samples import Mode, Raster, Samples, UInt8, paint, show, to_stored
from inpaint_core.images.media_types import install_hint
from inpaint_core.images.metadata import previews as metadata
from inpaint_core.images.metadata.xmp_pictures import UNREADABLE, VIDEO, clean_xmp, dropped

# Boxes with the sizes of the picture and of its tiles, in the part of a file that comes before the samples.
_SIZE_BOX = re.compile(rb"ispe\x00{4}(.{8})", re.DOTALL)
_HEADER_BYTES = 2**20
_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
_SHARED_BRANDS = (b"mif1", b"msf1", b"mif2")
_EXIF = b"Exif\x00\x00"
_MAIN_BOXES = (b"ftyp", b"meta", b"mdat", b"free", b"skip", b"wide")
_VIDEO_BOX = b"mpvd"
# Boxes `uuid` with this number hold content credentials (C2PA), which have thumbnails of the old picture.
_CREDENTIALS = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
_MODES: dict[str, Mode] = {"L": "L", "I": "L", "LA": "LA", "La": "LA", "RGB": "RGB", "RGBA": "RGBA", "RGBa": "RGBA"}
_MODES_16: dict[Mode, Mode] = {"L": "I;16", "LA": "LA;16", "RGB": "RGB;16", "RGBA": "RGBA;16"}
_FULL = 2**16 - 1
# What pillow-heif tells of a picture and takes back as it is.
_KEPT = (
    "chroma",
    "pixel_aspect_ratio",
    "content_light_level",
    "mastering_display_colour_volume",
    "ambient_viewing_environment",
    "nominal_diffuse_white_luminance",
)
# One thread, as with other formats: the workers share the CPUs, and the bytes depend on nothing but the picture.
# `medium` takes half the time of the library's default, for 6 % more bytes.
_ENCODER = {"x265:pools": "none", "preset": "medium"}


@dataclass(frozen=True)
class HeicFile:
    """An HEIC file taken apart."""

    raster: Raster
    """Samples of 10 or 12 bits are scaled to 16."""
    orientation: int
    """How the container (`irot`, `imir`) turns the stored picture, as an EXIF orientation; EXIF's own turns nothing."""
    depth: int
    tile: int
    """Side of the tiles; 0: the picture is in one piece."""
    options: dict[str, Any] = field(repr=False)
    """Colours and the like, for the encoder."""
    exif: bytes
    """TIFF stream without prefix; empty where there is none."""
    xmp: bytes
    iptc: bytes
    coded: CodedBytes
    notes: tuple[str, ...] = ()
    """What of the file is not written again, for the record."""

    def with_xmp(self, edit: XmpEdit) -> HeicFile:
        """See `FileWithXmp.with_xmp`."""
        (xmp,) = edit((self.xmp,))
        return replace(self, xmp=xmp)

    def pixels(self) -> UInt8:
        """See `SourceFile.pixels`."""
        return show(self.raster)

    def write(self, fill: UInt8, mask: NDArray[np.bool_], quality: int | None) -> bytes:
        """See `SourceFile.write`; quality None: about the one that the file was coded with."""
        samples = paint(self.raster, fill, mask)
        if quality is None:
            estimate = quality_like(self.coded, self.raster.samples, self.tile, self._encoded)
            coded = encoded_like(lambda quality: self._whole(samples, quality), estimate, self.coded.file)
        else:
            coded = self._whole(samples, quality)
        return coded

    def _whole(self, samples: Samples, quality: int) -> bytes:
        """The file, with its metadata."""
        options: dict[str, Any] = {"tile_size": self.tile}
        exif = b""
        if self.exif or self.orientation != 1:
            # The encoder takes the container's orientation from EXIF. So it is given a block of the same length that says
            # no more than that, in whose place the source's is put.
            exif = _orientation_block(self.orientation, len(self.exif))
            options["exif"] = exif
        described = [("mime", "application/rdf+xml", self.xmp), ("iptc", "", self.iptc)]
        options["metadata"] = [
            {"type": kind, "content_type": content_type, "data": data} for kind, content_type, data in described if data
        ]
        coded = self._encoded(samples, quality, **options)
        if not self.exif:
            return coded
        if coded.count(exif) != 1:
            raise OSError("the EXIF block cannot be written into an HEIC file")
        return coded.replace(exif, self.exif.ljust(len(exif), b"\x00"))

    def _encoded(self, samples: Samples, quality: int, **options: Any) -> bytes:
        """A file of nothing but samples (H, W, C), kept as the source keeps them."""
        mode = {"I;16": "L"}.get(self.raster.mode, self.raster.mode.partition(";")[0])
        if self.depth > 8:
            samples = _narrowed(samples.astype(np.uint16, copy=False), self.depth)
            mode = f"{mode};{self.depth}"
        if self.raster.premultiplied:
            mode = mode.replace("A", "a")
        height, width = samples.shape[:2]
        buffer = io.BytesIO()
        # The library changes the dictionary of parameters.
        options |= {**self.options, "enc_params": dict(_ENCODER), "bit_depth": self.depth, "quality": quality}
        _library().encode(mode, (width, height), samples.tobytes(), buffer, **options)
        return buffer.getvalue()


def sniff(data: bytes) -> bool:
    """See `ImageFormat.sniff`. AVIF files share some of the brands, and name their own beside them."""
    if data[4:8] != b"ftyp":
        return False
    brands = data[8 : int.from_bytes(data[:4], "big")]
    others = [brands[at : at + 4] for at in range(0, len(brands), 4)]
    return data[8:12] in _BRANDS or (
        data[8:12] in _SHARED_BRANDS and b"avif" not in others and any(brand in others for brand in _BRANDS)
    )


def pixel_count(data: bytes) -> int:
    """Number of pixels by the header, without decoding: of the largest picture that it describes.

    Raises:
        ValueError: it describes none.
    """
    sizes = [struct.unpack(">II", found.group(1)) for found in _SIZE_BOX.finditer(data[:_HEADER_BYTES])]
    return int(max(width * height for width, height in sizes))


def read(data: bytes, max_pixels: int) -> HeicFile:
    """Take an HEIC file apart.

    Raises:
        ImageError: pillow-heif is not installed; too large, several pictures, a sequence, damaged, or not coded with HEVC.
    """
    library = _library()
    found, end = whole_boxes(data)
    if any(kind == b"moov" for kind, _ in found):
        raise refused("The HEIC file is an image sequence; only still images are processed.")
    meta = next((content for kind, content in found if kind == b"meta"), None)
    if meta is None:
        raise damaged("HEIC", "it has no picture")
    items = heif_items(meta)
    _check(items, data[:end], max_pixels)
    opened = library.open_heif(data[:end], convert_hdr_to_8bit=False, hdr_to_16bit=False)
    image = opened[opened.primary_index]
    width, height = image.size
    check_size(width, height, max_pixels)
    orientation = picture.orientation(items)
    raster, depth = _raster(image, orientation)
    exif = metadata.without_exif_thumbnail(picture.exif_block(items, data)).removeprefix(_EXIF)
    clean = clean_xmp(picture.xmp_packet(items, data))
    iptc = picture.iptc_records(items, data)
    within = set(clean.within) | picture.others(items) | _beside(found, len(data) - end)
    missing = tuple(f"announcement of a missing {kind} dropped" for kind in sorted(clean.announced - within))
    return HeicFile(
        raster=raster,
        orientation=orientation,
        depth=depth,
        tile=picture.tile(items) if raster.mode not in ("LA", "RGBA", "LA;16", "RGBA;16") else 0,
        options={key: image.info[key] for key in _KEPT if key in image.info} | picture.colours(items, image.info),
        exif=exif,
        xmp=clean.packets[0],
        iptc=iptc,
        coded=coded_bytes(items, len(exif) + len(clean.packets[0]) + len(iptc)),
        notes=(*dropped(within), *missing, *(() if clean.readable else (UNREADABLE,))),
    )


FORMAT = ImageFormat(sniff, read, pixel_count)


def _library() -> Any:
    """pillow-heif.

    Raises:
        ImageError: it is not installed.
    """
    try:
        import pillow_heif
    except ImportError as error:
        raise ImageError(Stage.DECODE, f"HEIC needs pillow-heif ({error}); {install_hint('HEIC')}.") from error
    return pillow_heif


def _check(items: HeifItems, data: bytes, max_pixels: int) -> None:
    pictures = picture.shown(items)
    check_frames("HEIC", len(pictures))
    kind = items.items[items.primary].kind
    if kind not in (b"hvc1", b"grid"):
        raise refused(
            f"The HEIC file's picture is of the kind {kind.decode('latin-1')!r}, which cannot be written again."
        )
    for number in items.pieces():
        for content in items.properties(number, b"ispe"):
            width, height = struct.unpack_from(">LL", content, 4)
            check_size(width, height, max_pixels)
        if not items.content(data, number):
            raise damaged("HEIC", "it has no image data")


def _beside(found: Sequence[Box], behind: int) -> set[str]:
    """What the file holds beside its picture and metadata, each as a word for the record."""
    kinds = [kind for kind, _ in found]
    credentials = sum(kind == b"uuid" and content.startswith(_CREDENTIALS) for kind, content in found)
    others = sum(kind not in (*_MAIN_BOXES, _VIDEO_BOX) for kind in kinds) - credentials
    names = {VIDEO: _VIDEO_BOX in kinds, "content credentials": credentials > 0, f"{others:,} other boxes": others > 0}
    names[f"{behind:,} bytes behind the image"] = behind > 0
    return {name for name, there in names.items() if there}


def _raster(image: Any, orientation: int) -> tuple[Raster, int]:
    """The samples in stored orientation, and how many bits each has in the file."""
    name, _, bits = image.mode.partition(";")
    depth = int(bits) if bits else 8
    width, height = image.size
    grey = "chroma" not in image.info and name in ("RGBA", "RGBa")  # grey with alpha, which the library shows as colour
    channels = {"I": 1}.get(name, len(name))
    rows = np.frombuffer(image.data, np.uint8 if depth == 8 else "<u2").reshape(image.size[1], -1)
    if image.size != (width, height):
        raise damaged("HEIC", f"its picture is not of the {width} x {height} pixels of its header")
    samples = rows[:, : width * channels].reshape(height, width, channels)
    mode = _MODES["LA" if grey else name]
    samples = to_stored(samples[..., [0, 3]] if grey else samples, orientation)
    if depth > 8:
        return Raster(_widened(samples, depth), _MODES_16[mode], premultiplied=name.endswith("a")), depth
    return Raster(np.array(samples, order="C"), mode, premultiplied=name.endswith("a")), depth


def _widened(samples: NDArray[np.uint16], depth: int) -> NDArray[np.uint16]:
    """Samples of `depth` bits as the nearest of 16 bits."""
    top = 2**depth - 1
    widened: NDArray[np.uint16] = ((samples.astype(np.uint32) * _FULL + top // 2) // top).astype(np.uint16)
    return widened


def _narrowed(samples: NDArray[np.uint16], depth: int) -> NDArray[np.uint16]:
    """Undo `_widened`; others become the nearest samples of `depth` bits."""
    top = 2**depth - 1
    narrowed: NDArray[np.uint16] = ((samples.astype(np.uint32) * top + _FULL // 2) // _FULL).astype("<u2")
    return narrowed


def _orientation_block(orientation: int, length: int) -> bytes:
    """EXIF of at least `length` bytes that says nothing but the orientation."""
    block = struct.pack(">2sHLHHHLHHL", b"MM", 42, 8, 1, 274, 3, 1, orientation, 0, 0)
    return block + bytes(index * 7 % 251 + 1 for index in range(length - len(block)))
