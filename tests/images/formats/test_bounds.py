"""Small files whose headers claim large pictures are refused before memory is spent on them; flat pictures pass."""

import struct
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from inpaint_core.errors import ImageError
from inpaint_core.images.decode import decode
from inpaint_core.images.formats.all import FORMATS
from inpaint_core.images.formats.jpeg_bounds import has_least_data
from inpaint_core.images.formats.tiff_tags import check_amount
from inpaint_core.images.metadata.directories import Ifd
from inpaint_core.images.metadata.segments import walk_jpeg
from tests.encoding import LIMIT, load
from tests.odd_files import heic, in_mode, picture, png, png_chunk, saved

SIDE = 9999
WHERE = {"JPEG": b"\xff\xc0", "progressive": b"\xff\xc2", "WEBP": b"\x9d\x01\x2a", "GIF": b",\0\0\0\0"}
COMPRESSIONS = {"LZW": "tiff_lzw", "Deflate": "tiff_adobe_deflate", "PackBits": "packbits", "Zstandard": "zstd"}


def patched(data: bytes, *places: tuple[int, bytes]) -> bytes:
    body = bytearray(data)
    for at, new in places:
        body[at : at + len(new)] = new
    return bytes(body)


def tiff(data: bytes, side: int = SIDE) -> bytes:
    """The file with other numbers for width, height and rows of a strip."""
    (directory,) = struct.unpack_from("<L", data, 4)
    entries = range(directory + 2, directory + 2 + 12 * struct.unpack_from("<H", data, directory)[0], 12)
    sizes = [at for at in entries if struct.unpack_from("<H", data, at)[0] in (256, 257, 278)]
    return patched(data, *((at + 2, struct.pack("<HLL", 4, 1, side)) for at in sizes))


def lies() -> Iterator[tuple[str, bytes]]:
    """Files of a few kilobytes, each with a size in its header that its data cannot have."""
    big, little = struct.pack(">HH", SIDE, SIDE), struct.pack("<HH", SIDE, SIDE)
    for name in ("JPEG", "progressive"):
        data = saved(picture(), "JPEG", progressive=name == "progressive")
        yield name, patched(data, (data.index(WHERE[name]) + 5, big))
    data = png()
    yield "PNG", data[:8] + png_chunk(b"IHDR", struct.pack(">LL", SIDE, SIDE) + data[24:29]) + data[33:]
    data = saved(in_mode("P"), "GIF")
    yield "GIF", patched(data, (6, little), (data.index(WHERE["GIF"]) + 5, little))
    yield "BMP", patched(saved(picture(), "BMP"), (18, struct.pack("<LL", SIDE, SIDE)))
    data = saved(picture(), "WEBP")
    yield "WEBP", patched(data, (data.index(WHERE["WEBP"]) + 3, little))
    yield "TIFF", tiff(saved(picture(), "TIFF"))
    for name, compression in (*COMPRESSIONS.items(), ("JPEG in TIFF", "jpeg")):
        yield name, tiff(saved(picture(), "TIFF", compression=compression))
    yield "fax", tiff(saved(in_mode("1"), "TIFF", compression="group4"), 99_999)
    data = saved(picture(), "AVIF")
    yield "AVIF", patched(data, (data.index(b"ispe") + 8, struct.pack(">LL", SIDE, SIDE)))


LIES = dict(lies())


@pytest.mark.parametrize("name", LIES)
def test_headers_that_claim_more_than_the_data_can_hold_are_refused(name: str) -> None:
    assert len(LIES[name]) < 10_000
    limit = 10**10 if name == "fax" else LIMIT
    with pytest.raises(ImageError, match=r"too little image data|cut off|truncated|fewer than its header says"):
        decode(LIES[name], max_pixels=limit)


def test_they_cost_no_memory() -> None:
    code = """
import resource
from inpaint_core.errors import ImageError
from inpaint_core.images.decode import decode
from tests.images.formats.test_bounds import LIES, LIMIT
from tests.odd_files import in_mode, jpeg, picture, png, saved
for file in (jpeg(), png(), *(saved(picture(), name) for name in ("BMP", "WEBP", "TIFF", "AVIF")), saved(in_mode("P"), "GIF")):
    decode(file, max_pixels=LIMIT)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name, data in LIES.items():
    try:
        decode(data, max_pixels=LIMIT)
    except ImageError:
        pass
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after - before < 30 * 1024, (name, after - before)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("depth", ["one piece", "tiles"])
def test_an_heic_file_that_claims_more_is_refused(depth: str) -> None:
    pytest.importorskip("pillow_heif")
    data = heic(picture(200, 200), tile_size=64 if depth == "tiles" else 0)
    at = data.index(b"ispe") + 8
    with pytest.raises(ImageError, match="damaged"):
        decode(patched(data, (at, struct.pack(">LL", SIDE, SIDE))), max_pixels=LIMIT)


@pytest.mark.parametrize(("name", "options"), [("JPEG", {"optimize": True}), ("PNG", {"compress_level": 1})])
def test_a_large_picture_of_one_colour_passes(name: str, options: dict[str, Any]) -> None:
    data = saved(Image.new("L", (10_000, 10_000), 77), name, **options)
    assert len(data) < 500_000
    samples = FORMATS[name].read(data, LIMIT).raster.samples
    assert samples.shape == (10_000, 10_000, 1)
    assert (samples[::1000, ::1000] == 77).all()


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_the_least_jpeg_files_pass(mode: str, progressive: bool, subsampling: str) -> None:
    image = Image.new(mode, (2005, 1003), 77)
    options = {} if mode == "CMYK" else {"subsampling": subsampling}
    data = saved(image, "JPEG", quality=10, optimize=True, progressive=progressive, **options)
    assert has_least_data(data, list(walk_jpeg(data)))
    # They have exactly as much as is asked for: one more row of blocks has too little.
    frame = data.index(WHERE["progressive" if progressive else "JPEG"]) + 5
    taller = patched(data, (frame, struct.pack(">H", 1020)))
    assert not has_least_data(taller, list(walk_jpeg(taller)))


def test_the_least_files_of_other_formats_pass() -> None:
    image = Image.new("RGB", (1500, 1000), (9, 99, 200))
    for compression in COMPRESSIONS.values():
        check_amount(Ifd.at_header(saved(image, "TIFF", compression=compression)))
    check_amount(Ifd.at_header(saved(image, "TIFF", compression="jpeg", quality=1)))
    check_amount(Ifd.at_header(saved(image.convert("1"), "TIFF", compression="group4")))
    for format_, quality in (("WEBP", 0), ("AVIF", 1)):
        pixels = load(saved(image, format_, quality=quality)).pixels
        assert np.abs(pixels.mean((0, 1)) - (9, 99, 200)).max() < 20


def test_components_with_the_same_number_are_not_counted() -> None:
    data = saved(picture(), "JPEG")
    frame, scan = data.index(WHERE["JPEG"]) + 10, data.index(b"\xff\xda") + 5
    same = patched(data, *((at, b"\x01") for at in (frame, frame + 3, frame + 6, scan, scan + 2, scan + 4)))
    assert has_least_data(same, list(walk_jpeg(same)))


def test_a_scan_of_an_unknown_component_is_refused() -> None:
    data = saved(picture(), "JPEG")
    with pytest.raises(ImageError, match="a scan is of a component that the frame lacks"):
        load(patched(data, (data.index(b"\xff\xda") + 5, b"\x09")))
