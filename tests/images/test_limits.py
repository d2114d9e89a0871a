"""Files made to cost time or memory are refused, or cost no more than others of their size."""

import struct
import time
import tracemalloc
import zlib

import numpy as np
import pytest

from inpaint_core.errors import ImageError
from inpaint_core.images.decode import decode
from inpaint_core.images.formats.png import _check_image_data
from inpaint_core.images.metadata.previews import blank_jpegs, without_xmp_pictures
from inpaint_core.images.metadata.segments import MAX_PARTS, SOS, walk_jpeg
from tests.encoding import LIMIT, SECRET, SECRET_TEXT
from tests.odd_files import in_mode, jpeg, jpeg_segment, picture, png, png_chunk, saved, with_segments

MANY = MAX_PARTS + 1


@pytest.mark.parametrize("prefix", [b"xmpGImg", b"xapGImg", b"my-own.1"])
def test_xmp_pictures_are_blanked_whatever_their_prefix(prefix: bytes) -> None:
    tail = b"<x:imageWidth>4000</x:imageWidth><x:image/> text </a>"
    element = b"<a><" + prefix + b":image rdf:x='1'>%b</" + prefix + b":image>" + tail
    attribute = b"<a " + prefix + b':image = "%b"/>' + tail
    for xmp in (element, attribute):
        assert without_xmp_pictures(xmp % SECRET_TEXT) == xmp % (b" " * len(SECRET_TEXT))


@pytest.mark.parametrize(
    "unit", [b"<xmpGImg:image ", b"<a", b"a", b"x:image", b"x:image  ", b"<x:image>", b"<a:image="]
)
def test_xmp_of_any_kind_is_searched_in_linear_time(unit: bytes) -> None:
    xmp = unit * (2**20 // len(unit))
    start = time.process_time()
    assert len(without_xmp_pictures(xmp)) == len(xmp)
    assert time.process_time() - start < 1


def test_starts_of_jpeg_streams_are_passed_in_linear_time() -> None:
    body = bytearray(b"\xff\xd8" * 2**15)
    start = time.process_time()
    blank_jpegs(body)
    assert time.process_time() - start < 1
    assert body == b"\xff\xd8" * 2**15


@pytest.mark.parametrize("tail", ["segments", "scan"])
def test_many_jpeg_streams_with_the_same_rest_are_refused(tail: str) -> None:
    # Each start jumps over the others into the same long run of segments, or into the same scan.
    count, marker = 8000, b"\xfe" if tail == "segments" else b"\xda"
    hops = [struct.pack(">H", 6 * (count - index) - 4) for index in range(count)]
    starts = b"".join(b"\xff\xd8\xff" + marker + hop for hop in hops)
    rest = b"\xff\xd0" * 10_000 if tail == "segments" else bytes(2**22)
    start = time.process_time()
    with pytest.raises(ValueError, match="too many broken JPEG streams"):
        blank_jpegs(bytearray(starts + rest))
    assert time.process_time() - start < 1


def test_preview_cut_off_by_another_one_is_blanked_and_what_follows_kept() -> None:
    body = bytearray(SECRET[:-20] + SECRET + b"maker note")
    blank_jpegs(body)
    assert body == bytes(2 * len(SECRET) - 20) + b"maker note"


def test_noise_in_a_png_is_checked_without_copies_of_it() -> None:
    rows = np.random.default_rng(0).integers(0, 256, (2000, 4001), dtype=np.uint8)
    compressed = zlib.compress(rows, 0)
    tracemalloc.start()
    _check_image_data(compressed, 4000, 2000, 8, 0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # A copy of the rest after each piece takes time that grows with the square of the size.
    assert peak < len(compressed) / 3
    with pytest.raises(ImageError, match="too little image data"):
        _check_image_data(compressed, 4000, 2001, 8, 0)


def _with_many_parts(format_: str) -> bytes:
    match format_:
        case "JPEG":
            return with_segments(jpeg(), jpeg_segment(0xFE, b"") * MANY)
        case "PNG":
            data = png()
            return data[:33] + png_chunk(b"prVt", b"") * MANY + data[33:]
        case "WEBP":
            data = saved(picture(), "WEBP") + (b"prVt" + bytes(4)) * MANY
            return data[:4] + struct.pack("<L", len(data) - 8) + data[8:]
        case _:
            return saved(in_mode("RGB"), "AVIF") + struct.pack(">L4s", 8, b"free") * MANY


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_too_many_parts_are_refused(format_: str) -> None:
    with pytest.raises(ImageError, match=r"more than 100,000 (segments|chunks|boxes)") as error:
        decode(_with_many_parts(format_), max_pixels=LIMIT)
    assert error.value.stage == "decode"


def test_too_many_scans_are_refused() -> None:
    data = jpeg(progressive=True)
    last = [segment for segment in walk_jpeg(data) if segment.marker == SOS][-1]
    data = data[: last.end] + data[last.start : last.end] * 200 + data[last.end :]
    with pytest.raises(ImageError, match=r"has 2\d\d scans, and the limit is 200"):
        decode(data, max_pixels=LIMIT)
