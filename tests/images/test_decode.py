import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageFile, ImageOps

from inpaint_core.errors import ImageError
from inpaint_core.images.decode import decode
from inpaint_core.images.encode import encode
from inpaint_core.images.formats.all import FORMATS
from inpaint_core.images.tensors import channels_first, from_network, to_network
from tests import odd_files
from tests.odd_files import in_mode, jpeg, picture, png, png_16, png_chunk, saved, write_odd_folder

LIMIT = 10**8
ODD_FILES = odd_files.odd_files()
# Of the formats that Pillow writes by itself; tests/images/formats/test_heic.py has the other.
NAMES = tuple(name for name in FORMATS if name != "HEIC")


def over_white(data: bytes) -> np.ndarray:
    """What Pillow alone makes of a file: upright, over white."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return np.asarray(Image.alpha_composite(white, image).convert("RGB")).astype(int)


def reason(data: bytes, max_pixels: int = LIMIT) -> str:
    with pytest.raises(ImageError) as error:
        decode(data, max_pixels=max_pixels)
    assert error.value.stage == "decode"
    assert error.value.reason.endswith(".")
    return error.value.reason


@pytest.mark.parametrize("key", ODD_FILES)
def test_every_odd_file_decodes_or_is_refused_as_expected(key: str) -> None:
    data, expectation = ODD_FILES[key]
    if expectation == "failed":
        assert "0x" not in reason(data)
        return
    decoded = decode(data, max_pixels=LIMIT)
    assert decoded.format in NAMES
    assert decoded.pixels.dtype == np.uint8
    assert decoded.pixels.shape[2] == 3
    assert not decoded.pixels.flags.writeable


def test_odd_folder_is_written_as_told(tmp_path: Path) -> None:
    expectations = write_odd_folder(tmp_path)
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == set(expectations)
    assert len(expectations) >= 45
    for key in ("name/new\nline.jpg", "broken/half.jpg"):
        assert (tmp_path / key).read_bytes() == ODD_FILES[key][0]


SAME_AS_PILLOW = [
    key
    for key, (_, expectation) in ODD_FILES.items()
    if expectation == "ok"
    and key.startswith(("mode/", "orientation/", "size/", "named/"))
    # Pillow maps 16-bit grey to white.
    and "I_16" not in key
    and "16_bit" not in key
]


@pytest.mark.parametrize("key", SAME_AS_PILLOW)
def test_pixels_are_what_a_viewer_shows_over_white(key: str) -> None:
    data = ODD_FILES[key][0]
    pixels = decode(data, max_pixels=LIMIT).pixels
    assert np.abs(pixels - over_white(data)).max() <= (1 if "CMYK" not in key.upper() else 2)


@pytest.mark.parametrize(
    ("what", "data"),
    [
        ("empty", b""),
        ("HTML", ODD_FILES["broken/error_page.jpg"][0]),
        ("text", b"this is not an image\n"),
        ("SVG", ODD_FILES["broken/drawing.png"][0]),
        ("PDF", b"%PDF-1.7"),
        ("HEIC", ODD_FILES["broken/phone.jpg"][0]),
        ("unknown kind", bytes(100)),
        ("2 frames", ODD_FILES["frames/animated.gif"][0]),
        ("2 frames", ODD_FILES["frames/animated.png"][0]),
        ("2 frames", ODD_FILES["frames/animated.webp"][0]),
        ("2 frames", ODD_FILES["frames/animated.avif"][0]),
        ("2 frames", ODD_FILES["frames/pages.tif"][0]),
        ("checksum of its IDAT chunk", ODD_FILES["broken/checksum.png"][0]),
        ("cut off", ODD_FILES["broken/half.jpg"][0]),
        ("cut off", ODD_FILES["broken/half.png"][0]),
        ("float", ODD_FILES["depth/float.tif"][0]),
        ("CIELAB", ODD_FILES["depth/lab.tif"][0]),
        ("16-bit RGB", ODD_FILES["depth/16_bit_colour.tif"][0]),
        ("BigTIFF", b"II\x2b\x00" + bytes(40)),
        ("no pixels", ODD_FILES["broken/no_pixels.png"][0]),
    ],
)
def test_reason_names_what_is_wrong(what: str, data: bytes) -> None:
    assert what in reason(data)


@pytest.mark.parametrize("format_", NAMES)
def test_too_large_a_header_is_refused_in_every_format(format_: str) -> None:
    data = saved(picture().quantize(16) if format_ == "GIF" else picture(), format_)
    assert "48 x 40 = 1,920 pixels" in reason(data, max_pixels=1919)
    decode(data, max_pixels=1920)


def test_too_large_a_header_is_refused_before_pixels_are_decoded() -> None:
    assert "60000 x 60000 = 3,600,000,000 pixels" in reason(ODD_FILES["broken/bomb.png"][0])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP"])
def test_pillows_own_limit_neither_refuses_nor_warns(format_: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved(picture(), format_)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    assert decode(data, max_pixels=LIMIT).pixels.shape == (40, 48, 3)


@pytest.mark.parametrize("key", [key for key in ODD_FILES if key.startswith("broken/half")])
def test_cut_off_files_fail_whatever_pillow_was_told(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    reason(ODD_FILES[key][0])


def test_png_with_too_little_image_data_fails_whatever_pillow_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    header = struct.pack(">LLBBBBB", 48, 40, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(145 * 20))), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*part) for part in parts)
    assert "too little image data" in reason(data)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_pixels_are_upright(format_: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    data = saved(picture(47, 33), format_, exif=exif)
    decoded = decode(data, max_pixels=LIMIT)
    assert decoded.orientation == orientation
    assert decoded.pixels.shape == ((47, 33, 3) if orientation > 4 else (33, 47, 3))
    assert np.array_equal(decoded.pixels, over_white(data))


@pytest.mark.parametrize("channels", [3, 4])
def test_16_bit_colour_is_stored_in_full(channels: int) -> None:
    data = png_16(channels)
    stored = decode(data, max_pixels=LIMIT).file.raster.samples
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert stored.dtype == np.uint16
    assert np.array_equal(stored, expected[..., [2, 1, 0, 3][:channels]])


def test_16_bit_grey_is_shown_by_its_upper_bits() -> None:
    data = png("I;16")
    samples = np.asarray(Image.open(io.BytesIO(data))).astype(int)
    shown = decode(data, max_pixels=LIMIT).pixels[..., 0]
    assert np.array_equal(shown, np.round(samples / 257))


def test_interlaced_png_and_colour_key() -> None:
    grey = np.arange(16, dtype=np.uint8).reshape(4, 4) * 16
    ok, plain = cv2.imencode(".png", grey)
    assert ok
    data = plain.tobytes()
    keyed = data[:33] + png_chunk(b"tRNS", struct.pack(">H", 32)) + data[33:]
    pixels = decode(keyed, max_pixels=LIMIT).pixels[..., 0]
    assert np.array_equal(pixels, np.where(grey == 32, 255, grey))
    # Adam7 with a single pixel is one pass: the same bytes with the flag set.
    one = bytearray(saved(Image.new("L", (1, 1), 77), "PNG"))
    one[28] = 1
    one[29:33] = struct.pack(">L", zlib.crc32(one[12:29]))
    assert decode(bytes(one), max_pixels=LIMIT).pixels.tolist() == [[[77, 77, 77]]]


def test_gif_frame_smaller_than_its_screen_is_shown_in_its_place() -> None:
    data = bytearray(saved(Image.new("P", (4, 3), 1), "GIF"))
    at = data.index(b",", 13 + 3 * 2 ** ((data[10] & 7) + 1))
    data[6:10] = struct.pack("<HH", 10, 8)
    data[at + 1 : at + 5] = struct.pack("<HH", 5, 2)
    pixels = decode(bytes(data), max_pixels=LIMIT).pixels
    assert pixels.shape == (8, 10, 3)
    shown = (pixels != 255).any(-1)
    assert shown.sum() == 12
    assert shown[2:5, 5:9].all()


def with_wrong_checksum(kind: bytes, content: bytes) -> bytes:
    """A PNG with such a chunk before its image data."""
    wrong = bytearray(png_chunk(kind, content))
    wrong[-1] ^= 1
    data = png("RGB")
    return data[:33] + bytes(wrong) + data[33:]


def test_ancillary_png_chunk_with_a_wrong_checksum_is_dropped_with_a_note() -> None:
    decoded = decode(with_wrong_checksum(b"tEXt", b"Comment\x00hello"), max_pixels=LIMIT)
    assert np.array_equal(decoded.pixels, np.asarray(picture()))
    assert decoded.notes == ("the checksum of the PNG's tEXt chunk is wrong, and the chunk was dropped",)
    fill = np.zeros_like(decoded.pixels)
    output = encode(decoded, fill, np.ones(fill.shape[:2], bool), lossy_quality=90).data
    assert b"hello" not in output
    assert decode(output, max_pixels=LIMIT).notes == ()


@pytest.mark.parametrize("kind", [b"PLTE", b"IDAT", b"acTL", b"\x01abc"])
def test_other_png_chunks_with_a_wrong_checksum_are_damage(kind: bytes) -> None:
    assert "checksum" in reason(with_wrong_checksum(kind, bytes(8)))


def _corrupted(rng: np.random.Generator, data: bytes) -> bytes:
    if rng.random() < 0.3:
        data = data[: rng.integers(1, len(data))]
    damaged = bytearray(data)
    for _ in range(rng.integers(1, 6)):
        reach = len(damaged) if rng.random() < 0.5 else min(len(damaged), 200)
        damaged[rng.integers(reach)] ^= 1 << rng.integers(8)
    if not data.startswith(b"\x89PNG") or rng.random() < 0.3:
        return bytes(damaged)
    return _with_right_checksums(bytes(damaged))


def _with_right_checksums(data: bytes) -> bytes:
    """So that the damage gets past them."""
    position, chunks = 8, [data[:8]]
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">L", data, position)
        if position + 12 + length > len(data):
            break
        chunks.append(png_chunk(data[position + 4 : position + 8], data[position + 8 : position + 8 + length]))
        position += 12 + length
    return b"".join(chunks) + data[position:]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("format_", NAMES)
def test_damaged_data_raise_nothing_but_image_error(format_: str) -> None:
    rng = np.random.default_rng(NAMES.index(format_))
    seeds = [
        data
        for key, (data, expectation) in ODD_FILES.items()
        if expectation == "ok"
        and not key.startswith("name/")
        and len(data) < 20_000
        and decode(data, max_pixels=LIMIT).format == format_
    ]
    refused = 0
    for _ in range(150):
        data = _corrupted(rng, seeds[rng.integers(len(seeds))])
        try:
            decode(data, max_pixels=10**6)
        except ImageError:
            refused += 1
    assert refused > 20


def test_network_range_and_layout() -> None:
    images = np.zeros((2, 3, 5, 3), np.uint8)
    images[0, 0, 0] = (0, 51, 255)
    tensor = to_network(images)
    assert tensor.shape == (2, 3, 3, 5)
    assert tensor.dtype == torch.float32
    assert torch.allclose(tensor[0, :, 0, 0], torch.tensor([-1.0, -0.6, 1.0]))
    assert channels_first(images)[0, :, 0, 0].tolist() == [0, 51, 255]
    every_level = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    assert np.array_equal(from_network(to_network(every_level)), every_level)


def test_network_output_is_rounded_and_clipped() -> None:
    levels = torch.tensor([-1.2, -1.0, -0.9969, 0.9984, 1.7]).reshape(1, 1, 1, 5).expand(1, 3, 1, 5)
    assert from_network(levels)[0, 0, :, 0].tolist() == [0, 0, 0, 255, 255]
    assert from_network(torch.full((1, 3, 1, 1), 0.6 / 127.5 - 1)).max() == 1


def test_source_bytes_named_wrongly_are_told_by_content() -> None:
    assert decode(png(), max_pixels=LIMIT).format == "PNG"
    assert decode(jpeg(), max_pixels=LIMIT).format == "JPEG"
    assert decode(ODD_FILES["mode/two_pictures.jpg"][0], max_pixels=LIMIT).format == "JPEG"
    assert decode(saved(in_mode("L"), "BMP"), max_pixels=LIMIT).format == "BMP"
