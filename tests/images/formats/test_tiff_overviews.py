"""Overviews, masks and the layout of cloud-optimised GeoTIFFs (read back with tifffile), and JPEG inside TIFF."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from inpaint_core.images.encode import encode
from inpaint_core.images.formats.tiff_overviews import has_shape_of
from inpaint_core.images.metadata.directories import Ifd
from inpaint_core.images.metadata.segments import walk_jpeg
from tests.encoding import FILL, cleaned, filled, load, opened
from tests.odd_files import resampled, saved
from tests.samples import photograph

TILE, SIDE = 16, 128
GHOST = (
    b"LAYOUT=IFDS_BEFORE_DATA\nBLOCK_ORDER=ROW_MAJOR\nBLOCK_LEADER=SIZE_AS_UINT4\n"
    b"BLOCK_TRAILER=LAST_4_BYTES_REPEATED\nKNOWN_INCOMPATIBLE_EDITION=NO\n "
)
GEO_KEYS = (1, 1, 0, 1, 3072, 0, 1, 32633)
PICTURE = photograph((SIDE, SIDE))
HOLE = np.zeros((SIDE, SIDE), bool)
HOLE[40:72, 36:68] = True


def smaller(image: np.ndarray, factor: int) -> np.ndarray:
    return cv2.resize(image, (image.shape[1] // factor, image.shape[0] // factor), interpolation=cv2.INTER_AREA)


def directory(kind: int, side: int, bits: int, channels: int, extra: dict[int, tuple[str, tuple[int, ...]]]) -> dict:
    photometric = 4 if bits == 1 else 2
    numbers = {254: kind, 256: side, 257: side, 259: 8, 262: photometric, 277: channels, 322: TILE, 323: TILE}
    return {tag: ("L", (value,)) for tag, value in numbers.items()} | {258: ("H", (bits,) * channels)} | extra


def tiles_of(samples: np.ndarray) -> list[bytes]:
    """Deflated tiles of an (H, W, C) uint8 or (H, W) bool picture, row by row."""
    side = len(samples)
    parts = [samples[y : y + TILE, x : x + TILE] for y in range(0, side, TILE) for x in range(0, side, TILE)]
    return [zlib.compress((np.packbits(part, axis=1) if part.dtype == bool else part).tobytes()) for part in parts]


def cloud_optimised(levels: list[np.ndarray], mask: np.ndarray | None = None, ghost: bytes = GHOST) -> bytes:
    """A GeoTIFF as GDAL lays it out: all directories, then the tiles of the smallest overview first, the masks' beside them."""
    pictures = []
    for index, level in enumerate(levels):
        extra = {34735: ("H", GEO_KEYS)} if index == 0 else {}
        pictures.append((directory(int(index > 0), len(level), 8, 3, extra), tiles_of(level)))
        if mask is not None:
            kind = 4 + int(index > 0)
            pictures.append(
                (directory(kind, len(level), 1, 1, {}), tiles_of(mask[:: SIDE // len(level), :: SIDE // len(level)]))
            )
    header = b"GDAL_STRUCTURAL_METADATA_SIZE=%06d bytes\n" % len(ghost) + ghost
    starts, position = [], 8 + len(header) + (8 + len(header)) % 2
    for entries, tiles in pictures:
        starts.append(position)
        values = sum(4 * len(tiles) * 2 if len(tiles) > 1 else 0 for _ in (0,))
        values += sum(
            len(v) * (2 if t == "H" else 4) for t, v in entries.values() if len(v) * (2 if t == "H" else 4) > 4
        )
        position += 2 + 12 * (len(entries) + 2) + 4 + values
    data, located = b"", [[] for _ in pictures]
    step = 1 if mask is None else 2
    for group in reversed(range(0, len(pictures), step)):
        for tile in range(len(pictures[group][1])):
            for index in range(group, group + step):
                content = pictures[index][1][tile]
                located[index].append((position + len(data) + 4, len(content)))
                data += struct.pack("<L", len(content)) + content + content[-4:]
    body = struct.pack("<2sHL", b"II", 42, starts[0]) + header
    body += bytes(starts[0] - len(body))
    for index, (entries, _) in enumerate(pictures):
        offsets, lengths = zip(*located[index], strict=True)
        entries |= {324: ("L", offsets), 325: ("L", lengths)}
        values_at = starts[index] + 2 + 12 * len(entries) + 4
        table, values = b"", b""
        for tag, (type_, numbers) in sorted(entries.items()):
            packed = struct.pack(f"<{len(numbers)}{type_}", *numbers)
            value = packed.ljust(4, b"\x00") if len(packed) <= 4 else struct.pack("<L", values_at + len(values))
            values += packed if len(packed) > 4 else b""
            table += struct.pack("<HHL", tag, 3 if type_ == "H" else 4, len(numbers)) + value
        following = starts[index + 1] if index + 1 < len(starts) else 0
        body += struct.pack("<H", len(entries)) + table + struct.pack("<L", following) + values
    return body + data


LEVELS = [PICTURE, smaller(PICTURE, 2), smaller(PICTURE, 4)]


def filled_hole(data: bytes) -> tuple[object, bytes]:
    source = load(data)
    return source, encode(source, filled(source), HOLE, lossy_quality=None).data


def assert_pyramid_is_filled(pictures: list[np.ndarray]) -> None:
    """Each level has the fill where the hole is, and the old samples a few pixels away from it."""
    for level, picture in zip(LEVELS, pictures, strict=True):
        factor = SIDE // len(level)
        inside = smaller(HOLE.astype(np.float32), factor) == 1
        away = cv2.dilate((smaller(HOLE.astype(np.float32), factor) > 0).astype(np.uint8), np.ones((7, 7))) == 0
        assert (picture[inside] == FILL).all()
        assert np.array_equal(
            picture[HOLE == 0] if factor == 1 else picture[away], level[HOLE == 0] if factor == 1 else level[away]
        )


@pytest.mark.parametrize("masked", [False, True])
def test_cloud_optimised_geotiff_stays_one(masked: bool) -> None:
    valid = np.ones((SIDE, SIDE), bool)
    valid[:30, :50] = False
    data = cloud_optimised(LEVELS, valid if masked else None)
    source, output = filled_hole(data)
    assert source.notes == ()
    with tifffile.TiffFile(io.BytesIO(data)) as before, tifffile.TiffFile(io.BytesIO(output)) as after:
        pages = list(after.pages)
        assert [page.offset for page in pages] == [page.offset for page in before.pages]
        assert pages[0].tags[34735].value == GEO_KEYS
        assert all(page.is_tiled and page.compression == 8 and page.tilewidth == TILE for page in pages)
        assert_pyramid_is_filled([page.asarray() for page in pages if not page.subfiletype & 4])
        masks = [page.asarray() for page in pages if page.subfiletype & 4]
        assert len(masks) == (3 if masked else 0)
        assert all(np.array_equal(mask, valid[:: SIDE // len(mask), :: SIDE // len(mask)]) for mask in masks)
        order = sorted(
            (start, length)
            for page in pages
            for start, length in zip(page.dataoffsets, page.databytecounts, strict=True)
        )
        was = [
            sorted((start, page.index, tile) for page in file.pages for tile, start in enumerate(page.dataoffsets))
            for file in (before, after)
        ]
    assert [item[1:] for item in was[0]] == [item[1:] for item in was[1]]
    # Nothing between the tiles but their leaders and trailers, and all directories before them.
    first = order[0][0] - 4
    assert output[8:first].startswith(b"GDAL_STRUCTURAL_METADATA_SIZE=")
    assert GHOST in output[8:first]
    position = first
    for start, length in order:
        assert start == position + 4
        assert output[position:start] == struct.pack("<L", length)
        assert output[start + length : start + length + 4] == output[start + length - 4 : start + length]
        position = start + length + 4
    assert position == len(output)
    assert first == min(page.dataoffsets[0] for page in before.pages) - 4


def test_tiles_that_the_mask_does_not_touch_are_the_same_bytes() -> None:
    data = cloud_optimised(LEVELS)
    _, output = filled_hole(data)

    def tiles(file: bytes) -> list[bytes]:
        with tifffile.TiffFile(io.BytesIO(file)) as opened:
            page = opened.pages[0]
            return [
                file[start : start + size] for start, size in zip(page.dataoffsets, page.databytecounts, strict=True)
            ]

    across = SIDE // TILE
    touched = {y * across + x for y in range(40 // TILE, 71 // TILE + 1) for x in range(36 // TILE, 67 // TILE + 1)}
    changed = {index for index, (old, new) in enumerate(zip(tiles(data), tiles(output), strict=True)) if old != new}
    assert changed == touched


@pytest.mark.parametrize("what", ["overview of another picture", "overview of another compression"])
def test_layout_that_cannot_be_kept_is_no_longer_claimed(what: str) -> None:
    odd = LEVELS[1][:, : SIDE // 4].repeat(2, axis=1) if what == "overview of another picture" else LEVELS[1]
    data = bytearray(cloud_optimised([PICTURE, odd]))
    second = Ifd.at_header(bytes(data)).next_offset
    tag, value = (259, 99) if "compression" in what else (257, SIDE // 4)
    at = next(at for at in range(second + 2, second + 200, 12) if struct.unpack_from("<H", data, at)[0] == tag)
    struct.pack_into("<L", data, at + 8, value)
    source, output = filled_hole(bytes(data))
    assert source.notes == (
        "smaller copies of the picture in the TIFF were dropped: 1",
        "the TIFF is no longer a cloud-optimised GeoTIFF and does not claim it",
    )
    assert b"KNOWN_INCOMPATIBLE_EDITION=YES\n" in output[:300]
    with tifffile.TiffFile(io.BytesIO(output)) as after:
        assert len(after.pages) == 1
        assert np.array_equal(after.pages[0].asarray()[~HOLE], PICTURE[~HOLE])
    assert tiles_of(odd)[0] not in output


@pytest.mark.parametrize("below", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "I;16", "P", "1"])
def test_overviews_of_other_tiffs_follow_the_fill(mode: str, below: bool) -> None:
    rng = np.random.default_rng(1)
    shape, dtype = ((64, 90, 3), np.uint8) if mode == "RGB" else ((64, 90), np.uint16 if mode == "I;16" else np.uint8)
    whole = rng.integers(0, 2 if mode == "1" else 256, shape).astype(bool if mode == "1" else dtype)
    colours = {"photometric": {"RGB": "rgb", "P": "palette"}.get(mode, "minisblack")}
    if mode == "P":
        colours["colormap"] = np.tile(np.arange(256, dtype=np.uint16) * 257, (3, 1))
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(whole, subifds=2 if below else 0, metadata=None, **colours)
        for factor in (2, 4):
            level = whole[::factor, ::factor][: 64 // factor, : 90 // factor]
            writer.write(level, subfiletype=1, metadata=None, compression=None if mode == "1" else "deflate", **colours)
    source, output, _, mask = cleaned(buffer.getvalue())
    assert source.notes == ()
    with tifffile.TiffFile(io.BytesIO(output)) as after:
        main = after.pages[0]
        pages = list(main.pages) if below else list(after.pages)[1:]
        assert [page.shape[:2] for page in pages] == [(32, 45), (16, 22)]
        fill = main.asarray()[mask][0]
        assert (main.asarray()[mask] == fill).all()
        for page in pages:
            factor = 64 // page.shape[0]
            near = cv2.dilate(mask.astype(np.uint8), np.ones((8 * factor + 1,) * 2))[
                factor // 2 :: factor, factor // 2 :: factor
            ]
            near = near[: page.shape[0], : page.shape[1]].astype(bool)
            level = whole[::factor, ::factor][: page.shape[0], : page.shape[1]]
            inner = (slice(0, page.shape[0] // 4 - 1), slice(page.shape[1] // 5 + 1, page.shape[1] // 2 - 1))
            assert (page.asarray()[inner] == fill).all()
            assert np.array_equal(page.asarray()[~near], level[~near])


@pytest.mark.parametrize(
    ("size", "same"),
    [
        ((50, 40), True),
        ((51, 40), True),
        ((52, 40), False),
        ((13, 10), True),
        ((100, 80), False),
        ((50, 80), False),
        ((0, 0), False),
    ],
)
def test_proportions_of_overviews(size: tuple[int, int], same: bool) -> None:
    assert has_shape_of(size, (100, 80)) == same


def strips(data: bytes) -> list[bytes]:
    directory = Ifd.at_header(data)
    return [data[at : at + size] for at, size in zip(directory.numbers(273), directory.numbers(279), strict=True)]


@pytest.mark.parametrize("mode", ["RGB", "YCbCr", "L", "CMYK"])
@pytest.mark.parametrize("quality", [30, 75, 95])
def test_jpeg_in_tiff_keeps_its_tables_and_the_strips_outside(quality: int, mode: str) -> None:
    image = Image.fromarray(photograph((240, 320))).convert(mode)
    data = saved(image, "TIFF", compression="jpeg", quality=quality, tiffinfo={278: 64})
    source = load(data)
    mask = np.zeros((320, 240), bool)
    mask[70:120, 50:150] = True
    output = encode(source, np.ascontiguousarray(source.pixels[:, ::-1]), mask, lossy_quality=None).data
    result = load(output)
    before, after = Ifd.at_header(data), Ifd.at_header(output)
    assert before.raw(347) == after.raw(347) != b""
    assert [old == new for old, new in zip(strips(data), strips(output), strict=True)] == [
        True,
        False,
        True,
        True,
        True,
    ]
    assert np.array_equal(result.pixels[128:], source.pixels[128:])
    assert len(output) < 1.05 * len(data)
    beside = ~mask
    beside[:64] = beside[128:] = False
    error = (result.pixels[beside].astype(float) - source.pixels[beside]) ** 2
    assert 10 * np.log10(255**2 / error.mean()) > 34
    assert np.abs(result.pixels[mask].astype(int) - source.pixels[:, ::-1][mask]).mean() < 8


def test_jpeg_in_tiff_with_other_codes_under_the_same_number_gets_tables_in_each_strip() -> None:
    image = Image.fromarray(photograph((240, 320))).convert("L")
    data = saved(image, "TIFF", compression="jpeg", quality=80, tiffinfo={278: 64})
    tables = Ifd.at_header(data).raw(347)
    # The file's codes become those of number 1, and shorter ones that only know zeros those of number 0.
    moved = tables
    for class_ in (0x00, 0x10):
        for segment in walk_jpeg(tables):
            if segment.marker == 0xC4 and tables[segment.payload][0] == class_:
                content = tables[segment.payload]
                moved = moved.replace(content, bytes([class_ + 1]) + content[1:])
    zeros = bytes([1] + [0] * 15 + [0])
    for class_ in (0x00, 0x10):
        moved = moved[:-2] + b"\xff\xc4" + struct.pack(">H", 2 + 18) + bytes([class_]) + zeros + b"\xff\xd9"
    directory = Ifd.at_header(data)
    changed = bytearray(data)
    for at, strip in zip(directory.numbers(273), strips(data), strict=True):
        scan = next(segment for segment in walk_jpeg(strip) if segment.marker == 0xDA)
        changed[at + scan.payload.start + 2] = 0x11
    entry = next(at for at in range(directory.offset + 2, directory.end, 12) if changed[at : at + 2] == b"\x5b\x01")
    struct.pack_into("<LL", changed, entry + 4, len(moved), len(changed))
    changed += moved
    source = load(bytes(changed))
    assert np.array_equal(source.pixels, load(data).pixels)
    mask = np.zeros((320, 240), bool)
    mask[70:120, 50:150] = True
    output = encode(source, source.pixels, mask, lossy_quality=None).data
    assert all({0xDB, 0xC4} <= {segment.marker for segment in walk_jpeg(strip)} for strip in strips(output))
    result = load(output).pixels
    assert np.array_equal(result[:64], source.pixels[:64])
    assert np.array_equal(result[128:], source.pixels[128:])
    assert np.abs(result.astype(int) - source.pixels).mean() < 1


@pytest.mark.parametrize("factors", [(1, 1), (2, 1), (2, 2), (4, 1)])
def test_jpeg_in_tiff_keeps_its_sampling_where_pillow_can_write_it(factors: tuple[int, int]) -> None:
    image = Image.fromarray(photograph((256, 128)) if factors != (4, 1) else np.full((128, 256, 3), 130, np.uint8))
    stream = saved(image, "JPEG", quality=80, subsampling={(2, 1): "4:2:2", (2, 2): "4:2:0"}.get(factors, "4:4:4"))
    if factors == (4, 1):  # A unit of 4:1:1 covers 32 x 8 pixels, one of 4:2:0 16 x 16.
        stream = resampled(saved(image, "JPEG", quality=80, subsampling="4:2:0"), 0x41)
    segments = list(walk_jpeg(stream))
    stream = b"\xff\xd8" + b"".join(stream[s.start : s.end] for s in segments if not 0xE0 <= s.marker <= 0xEF)
    entries = {256: 256, 257: 128, 259: 7, 262: 6, 273: 8, 277: 3, 278: 128, 279: len(stream)}
    table = [struct.pack("<HHLL", tag, 4, 1, value) for tag, value in entries.items()]
    at = 8 + len(stream) + len(stream) % 2
    table.append(struct.pack("<HHLL", 258, 3, 3, at + 2 + 12 * 10 + 4))
    table.append(struct.pack("<HHLHH", 530, 3, 2, *factors))
    table.sort(key=lambda entry: struct.unpack_from("<H", entry))
    data = struct.pack("<2sHL", b"II", 42, at) + stream.ljust(at - 8, b"\x00")
    data += struct.pack("<H", len(table)) + b"".join(table) + bytes(4) + struct.pack("<HHH", 8, 8, 8)
    source, output, result, mask = cleaned(data)
    kept = factors != (4, 1)
    assert len(output) < 1.1 * len(data) + 2000 * (not kept)
    if kept:
        assert Ifd.at_header(output).numbers(530) == factors
        old, new = (opened(strips(file)[0]) for file in (data, output))
        assert (old.layer, old.quantization) == (new.layer, new.quantization)
    assert np.abs(result.pixels.astype(int) - source.pixels)[~mask].mean() < 2
    inner = cv2.erode(mask.astype(np.uint8), np.ones((9, 9))) == 1
    assert np.abs(result.pixels[inner].astype(int) - FILL).max() < 20


@pytest.mark.parametrize(
    ("order", "compression"),
    [
        ("behind", "tiff_lzw"),
        ("behind", "tiff_adobe_deflate"),
        ("behind", "jpeg"),
        ("in front", "deflate"),
        ("in front", None),
    ],
)
def test_one_strip_that_becomes_longer_leaves_no_hole(order: str, compression: str | None) -> None:
    flat = np.full((100, 120, 3), 90, np.uint8)
    flat[20:40, 20:40] = photograph((20, 20))
    if order == "behind":
        options = {"compression": compression, "strip_size": 10**6, "description": "here", "dpi": (300, 300)}
        data = saved(Image.fromarray(flat), "TIFF", **options)
    else:
        options = {"photometric": "rgb", "description": "here", "resolution": (300, 300), "resolutionunit": "inch"}
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, flat, compression=compression, rowsperstrip=100, metadata=None, **options)
        data = buffer.getvalue()
    source = load(data)
    noise = np.random.default_rng(0).integers(0, 256, flat.shape, dtype=np.uint8)
    mask = np.zeros((100, 120), bool)
    mask[:90, :90] = True
    output = encode(source, noise, mask, lossy_quality=None).data
    (strip,) = strips(output)
    assert len(output) - len(strip) <= len(data) - len(strips(data)[0]) + 2
    with Image.open(io.BytesIO(output)) as image:
        assert image.tag_v2[270] == "here"
        assert image.info["dpi"] == (300, 300)
        written = np.asarray(image)
    assert np.array_equal(written, load(output).pixels)
    assert np.array_equal(written[~mask], flat[~mask]) or compression == "jpeg"
    assert np.abs(written.astype(int) - noise)[mask].mean() < (30 if compression == "jpeg" else 1e-9)


def test_directory_with_pointers_behind_the_strips_stays_where_it_is() -> None:
    flat = Image.fromarray(np.full((60, 80, 3), 90, np.uint8))
    changed = bytearray(saved(flat, "TIFF", compression="tiff_lzw", tiffinfo={305: "abc"}))
    changed += bytes(len(changed) % 2)
    # The last tag of the directory becomes the pointer to EXIF data.
    at = Ifd.at_header(bytes(changed)).end - 4 - 12
    changed[at : at + 12] = struct.pack("<HHLL", 34665, 4, 1, len(changed))
    changed += struct.pack("<HHHLLL", 1, 0x9003, 2, 20, len(changed) + 18, 0) + b"2020:05:01 10:00:00\x00"
    data = bytes(changed)
    source, output, result, mask = cleaned(data)
    assert not source.file.sequential
    assert opened(output).getexif().get_ifd(0x8769)[0x9003] == "2020:05:01 10:00:00"
    assert (result.pixels[mask] == FILL).all()
    assert (result.pixels[~mask] == 90).all()
