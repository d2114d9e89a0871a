"""JPEG files whose blocks are the source's, but for those that the mask touches: compared coefficient by coefficient."""

import io
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import jpegio
import numpy as np
import pytest
from PIL import Image

from inpaint_core.images.encode import encode
from inpaint_core.images.metadata.segments import SOS, walk_jpeg
from inpaint_core.removal.measure import outside_exact, outside_max_diff
from tests.encoding import load
from tests.odd_files import jpeg_segment, saved
from tests.samples import photograph

FILL = (180, 90, 60)
ODD = (97, 61)
CV2_SAMPLINGS = {"4:4:4": 0x111111, "4:2:2": 0x211111, "4:2:0": 0x221111, "4:1:1": 0x411111, "4:4:0": 0x121111}


def picture(size: tuple[int, int], mode: str = "RGB") -> Image.Image:
    return Image.fromarray(photograph((160, 120))).resize(size).convert(mode)


def read(data: bytes) -> Any:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.jpg"
        path.write_bytes(data)
        return jpegio.read(path)


def write(jpeg: Any) -> bytes:
    jpeg.optimize_coding = 1
    for index, component in enumerate(jpeg.comp_info):
        component.dc_tbl_no = component.ac_tbl_no = int(index in (1, 2))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.jpg"
        jpegio.write(jpeg, path)
        return path.read_bytes()


def arithmetic(data: bytes) -> bytes:
    jpeg = read(data)
    jpeg.arith_code = 1
    return write(jpeg)


def ycck(size: tuple[int, int]) -> bytes:
    """A file with the first three of four inks as luma and chroma, which Pillow reads and does not write."""
    inks = picture(size, "CMYK")
    jpeg = read(saved(inks, "JPEG", quality=95))
    tables = Image.open(io.BytesIO(saved(inks, "JPEG", quality=95))).quantization
    three = Image.merge("RGB", inks.split()[:3])
    light = read(saved(three, "JPEG", subsampling=0, qtables=tables))
    for index in range(3):
        jpeg.coef_arrays[index][:] = light.coef_arrays[index]
    jpeg.jpeg_color_space = 5
    for marker in jpeg.markers:
        if marker["type"] == 0xEE:
            marker["data"] = marker["data"][:11] + b"\x02"
    return write(jpeg)


def of_kind(kind: str, size: tuple[int, int]) -> bytes:
    if kind in CV2_SAMPLINGS:
        options = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, CV2_SAMPLINGS[kind], cv2.IMWRITE_JPEG_QUALITY, 95]
        return cv2.imencode(".jpg", np.asarray(picture(size))[..., ::-1], options)[1].tobytes()
    match kind:
        case "grey":
            return saved(picture(size, "L"), "JPEG", quality=95)
        case "RGB":
            return saved(picture(size), "JPEG", quality=95, keep_rgb=True)
        case "CMYK":
            return saved(picture(size, "CMYK"), "JPEG", quality=95)
        case "YCCK":
            return ycck(size)
        case "progressive":
            return saved(picture(size), "JPEG", quality=95, progressive=True)
        case "progressive grey":
            return saved(picture(size, "L"), "JPEG", quality=95, progressive=True)
        case "restarts":
            return saved(picture(size), "JPEG", quality=95, restart_marker_rows=1)
        case "arithmetic":
            return arithmetic(saved(picture(size), "JPEG", quality=95))
        case "arithmetic progressive":
            return arithmetic(saved(picture(size), "JPEG", quality=95, progressive=True))
        case "coarse tables":
            return saved(picture(size), "JPEG", qtables=[[300] * 64, [400] * 64])
    raise AssertionError(kind)


KINDS = [
    *CV2_SAMPLINGS,
    *("grey", "RGB", "CMYK", "YCCK", "progressive", "progressive grey", "restarts", "arithmetic"),
    *("arithmetic progressive", "coarse tables"),
]


def box(shape: tuple[int, ...]) -> np.ndarray:
    height, width = shape[:2]
    mask = np.zeros((height, width), bool)
    mask[height // 3 : height // 3 + max(1, height // 3), width // 4 : width // 4 + max(1, width // 3)] = True
    return mask


def header(jpeg: Any) -> list[Any]:
    components = [(c.component_id, c.h_samp_factor, c.v_samp_factor, c.quant_tbl_no) for c in jpeg.comp_info]
    tables = [table.tolist() for table in jpeg.quant_tables]
    return [components, tables, jpeg.progressive_mode, jpeg.arith_code, jpeg.restart_interval, jpeg.jpeg_color_space]


def check(data: bytes) -> bytes:
    """Write the file with a filled box, and compare every coefficient; returns what was written."""
    source = load(data)
    mask = box(source.pixels.shape)
    result = encode(source, np.zeros_like(source.pixels) + np.array(FILL, np.uint8), mask, lossy_quality=1)
    assert result.notes == ()
    before, after = read(data), read(result.data)
    assert header(after) == header(before)
    for component, old, new in zip(before.comp_info, before.coef_arrays, after.coef_arrays, strict=True):
        down, across = (
            8 * before.max_v_samp_factor // component.v_samp_factor,
            8 * before.max_h_samp_factor // component.h_samp_factor,
        )
        for y in range(old.shape[0] // 8):
            for x in range(old.shape[1] // 8):
                if not mask[y * down : (y + 1) * down, x * across : (x + 1) * across].any():
                    block = np.s_[8 * y : 8 * y + 8, 8 * x : 8 * x + 8]
                    assert np.array_equal(new[block], old[block]), (y, x)
    written = load(result.data)
    assert outside_exact(source, written, result.changed)
    assert not (mask & ~result.changed).any()
    return result.data


@pytest.mark.parametrize("kind", KINDS)
def test_every_coefficient_outside_the_touched_blocks_is_the_sources(kind: str) -> None:
    data = of_kind(kind, ODD)
    written = load(check(data))
    mask = box(written.pixels.shape)
    inside = cv2.erode(mask.view(np.uint8), np.ones((9, 9), np.uint8)).view(bool)
    grey = load(saved(Image.new("RGB", (1, 1), FILL).convert("L"), "PNG")).pixels[0, 0]
    expected = grey if "grey" in kind else np.array(FILL)
    assert inside.sum() > 100
    assert np.abs(written.pixels.astype(int) - expected)[inside].max() <= (30 if "coarse" in kind else 8)


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (8, 8), (17, 9), (33, 70), (300, 1)])
@pytest.mark.parametrize("kind", ["4:2:0", "4:1:1", "grey", "YCCK", "progressive", "restarts"])
def test_sizes_that_are_no_multiples_of_a_unit(kind: str, size: tuple[int, int]) -> None:
    check(of_kind(kind, size))


def test_pixels_that_can_change_end_with_what_is_interpolated_from_the_touched_blocks() -> None:
    source = load(of_kind("4:2:0", (160, 128)))
    mask = np.zeros((128, 160), bool)
    mask[40:60, 50:75] = True
    expected = np.zeros_like(mask)
    expected[30:66, 46:82] = True  # units of 16 x 16, and one sample of chroma on each side
    result = encode(source, 255 - source.pixels, mask, lossy_quality=1)
    assert np.array_equal(result.changed, expected)
    written = load(result.data)
    assert outside_max_diff(source.pixels, written.pixels, mask) > 20
    assert outside_max_diff(source.pixels, written.pixels, expected) == 0


def test_turned_file_is_changed_where_its_mask_is() -> None:
    exif = Image.Exif()
    exif[0x112] = 6
    source = load(saved(picture((64, 48)), "JPEG", quality=95, exif=exif, subsampling=0))
    mask = np.zeros((64, 48), bool)
    mask[2:5, 3:6] = True
    result = encode(source, 255 - source.pixels, mask, lossy_quality=1)
    expected = np.zeros_like(mask)
    expected[:8, :8] = True
    assert np.array_equal(result.changed, expected)
    assert outside_exact(source, load(result.data), expected)


def test_fill_that_is_the_source_changes_no_coefficient_by_more_than_its_rounding() -> None:
    # Away from 0 and 255, where decoding clips.
    soft = Image.fromarray((np.asarray(picture((96, 56))) * 0.7 + 30).astype(np.uint8))
    data = saved(soft, "JPEG", quality=75, subsampling=0)
    source = load(data)
    everywhere = np.ones(source.pixels.shape[:2], bool)
    result = encode(source, source.pixels.copy(), everywhere, lossy_quality=1)
    for old, new in zip(read(data).coef_arrays, read(result.data).coef_arrays, strict=True):
        assert np.abs(old - new).max() <= 1
        assert (old != new).mean() < 0.01


def test_tables_in_other_slots_are_found() -> None:
    data = bytearray(of_kind("4:4:4", ODD))
    for segment in walk_jpeg(data):
        start = segment.payload.start
        if segment.marker == 0xDB:
            data[start] = {0: 1, 1: 3}[data[start]]
        elif segment.marker == 0xC0:
            for index in range(3):
                data[start + 8 + 3 * index] = 1 if index == 0 else 3
    written = load(check(bytes(data)))
    inside = cv2.erode(box(written.pixels.shape).view(np.uint8), np.ones((9, 9), np.uint8)).view(bool)
    assert np.abs(written.pixels.astype(int) - FILL)[inside].max() <= 8


def test_tables_that_change_between_scans_are_left_to_the_decoder() -> None:
    data = of_kind("progressive", ODD)
    second = [segment.start for segment in walk_jpeg(data) if segment.marker == SOS][1]
    table = jpeg_segment(0xDB, b"\x02" + bytes([1] * 64))
    source = load(data[:second] + table + data[second:])
    result = encode(source, 255 - source.pixels, box(source.pixels.shape), lossy_quality=1)
    assert result.notes == ("the JPEG file was coded again as a whole: its quantisation tables change between scans",)
    assert "progressive" in Image.open(io.BytesIO(result.data)).info


def test_coefficients_that_no_code_can_say_are_left_to_the_decoder() -> None:
    jpeg = read(of_kind("arithmetic", ODD))
    jpeg.coef_arrays[0][40, 41] = 3000
    source = load(write(jpeg))
    jpeg.arith_code = 0
    with pytest.raises(RuntimeError):
        write(jpeg)
    assert encode(source, 255 - source.pixels, box(source.pixels.shape), lossy_quality=1).data


def test_several_threads_write_the_same_as_one() -> None:
    sources = [load(of_kind(kind, ODD)) for kind in KINDS] * 4

    def written(source: Any) -> bytes:
        return encode(source, 255 - source.pixels, box(source.pixels.shape), lossy_quality=1).data

    alone = [written(source) for source in sources]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(written, sources)) == alone


def test_file_that_says_its_colours_by_names_alone_keeps_them() -> None:
    data = of_kind("RGB", ODD)
    adobe = next(segment for segment in walk_jpeg(data) if segment.marker == 0xEE)
    bare = data[: adobe.start] + data[adobe.end :]
    written = check(bare)
    assert not any(segment.marker == 0xEE for segment in walk_jpeg(written))
    assert struct.unpack_from("BBBB", written, written.index(b"\xff\xc0") + 9)[1] == ord("R")
