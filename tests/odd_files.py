"""An adversarial folder: files as collections really hold them, each with what has to become of it.

Everything is made in code, deterministic, and small. Used by the tests of decoding and of the removal job.
"""

from __future__ import annotations

import io
import struct
import unicodedata
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageCms, PngImagePlugin

from inpaint_core.images.media_types import installed

OK, FAILED = "ok", "failed"
SIZE = (48, 40)  # width, height


def picture(width: int = SIZE[0], height: int = SIZE[1]) -> Image.Image:
    """A small RGB image that is smooth with some texture, and looks different in every orientation."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:height, :width].astype(np.float64)
    red, green, blue = 255 * x / max(width, 2), 255 * y / max(height, 2), 128 + 100 * np.sin((x + 2 * y) / 7)
    noise = rng.normal(0, 6, (height, width, 3))
    return Image.fromarray(np.clip(np.stack([red, green, blue], -1) + noise, 0, 255).astype(np.uint8))


def saved(image: Image.Image, format_: str, **options: Any) -> bytes:
    """The image as bytes of a format."""
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def jpeg(**options: Any) -> bytes:
    """A small JPEG file."""
    return saved(picture(), "JPEG", **{"quality": 90, **options})


def png(mode: str = "RGB", **options: Any) -> bytes:
    """A small PNG file of a mode."""
    return saved(in_mode(mode), "PNG", **options)


def in_mode(mode: str) -> Image.Image:
    """The picture in a mode of Pillow's, with an alpha ramp where it has alpha."""
    image = picture()
    if mode == "I;16":
        grey = np.asarray(image.convert("L")).astype(np.uint16)
        return Image.fromarray(grey * 257 + np.arange(grey.shape[1], dtype=np.uint16) % 100)
    if mode == "F":
        return image.convert("L").convert("F")
    if mode == "P":
        return image.quantize(200)
    if mode == "LAB":
        to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
        return ImageCms.applyTransform(image, to_lab)
    if mode in ("LA", "RGBA"):
        ramp = np.tile(np.linspace(0, 255, image.width).astype(np.uint8), (image.height, 1))
        image = image.convert(mode)
        image.putalpha(Image.fromarray(ramp))
        return image
    return image.convert(mode)


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """One PNG chunk with its checksum."""
    return struct.pack(">L", len(content)) + kind + content + struct.pack(">L", zlib.crc32(kind + content))


def png_16(channels: int) -> bytes:
    """PNG with 16 bits per sample: RGB or RGBA."""
    samples = np.random.default_rng(1).integers(0, 2**16, (SIZE[1], SIZE[0], channels), dtype=np.uint16)
    return cv2.imencode(".png", samples)[1].tobytes()


def exif_block(orientation: int = 1, thumbnail: bytes = b"", order: str = "<", filler: int = 0) -> bytes:
    """An EXIF block (TIFF stream without prefix): orientation, a maker note, and a thumbnail in a second directory."""
    maker_note = bytes(index * 31 % 255 for index in range(300 + filler))
    model = b"Odd Camera 3000\x00"
    model_at = 8 + 2 + 3 * 12 + 4
    note_ifd_at = model_at + len(model)
    note_at = note_ifd_at + 2 + 12 + 4
    second_at = note_at + len(maker_note)
    second_at += second_at % 2

    def entry(tag: int, type_: int, count: int, value: int) -> bytes:
        short = type_ == 3 and count == 1
        return struct.pack(order + ("HHLHH" if short else "HHLL"), tag, type_, count, value, *([0] if short else []))

    first = struct.pack(order + "H", 3)
    first += entry(272, 2, len(model), model_at) + entry(274, 3, 1, orientation) + entry(34665, 4, 1, note_ifd_at)
    first += struct.pack(order + "L", second_at if thumbnail else 0)
    note = struct.pack(order + "H", 1) + entry(37500, 7, len(maker_note), note_at) + bytes(4)
    body = struct.pack(order + "2sHL", b"II" if order == "<" else b"MM", 42, 8) + first + model + note + maker_note
    if not thumbnail:
        return body
    body += bytes(second_at - len(body))
    thumbnail_at = second_at + 2 + 3 * 12 + 4
    second = struct.pack(order + "H", 3) + entry(259, 3, 1, 6) + entry(513, 4, 1, thumbnail_at)
    return body + second + entry(514, 4, 1, len(thumbnail)) + bytes(4) + thumbnail


def jpeg_segment(marker: int, payload: bytes) -> bytes:
    """One JPEG marker segment."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(payload) + 2) + payload


def with_segments(data: bytes, *segments: bytes) -> bytes:
    """A JPEG file with further segments behind its SOI."""
    return data[:2] + b"".join(segments) + data[2:]


def resampled(data: bytes, luma_factors: int) -> bytes:
    """A JPEG file of noise-free grey content whose luma has the given factors (0x41: 4:1:1, 0x12: 4:4:0).

    Such files cannot be written by Pillow, so the coded blocks of a file with the same number of blocks in a unit
    are given another header: 4:2:0 and both of these have luma blocks first, then one block of each chroma.
    """
    frame = data.index(b"\xff\xc0")
    at = frame + 4 + 6 + 1
    return data[:at] + bytes([luma_factors]) + data[at + 1 :]


def _jpeg_4_1_1() -> bytes:
    # A unit of 4:2:0 covers 16 x 16 pixels, one of 4:1:1 32 x 8: 64 x 32 has eight of either.
    return resampled(saved(picture(64, 32), "JPEG", quality=90, subsampling="4:2:0"), 0x41)


def _jpeg_4_4_0() -> bytes:
    # A unit of 4:2:2 covers 16 x 8 pixels, one of 4:4:0 8 x 16: 64 x 32 has sixteen of either.
    return resampled(saved(picture(64, 32), "JPEG", quality=90, subsampling="4:2:2"), 0x12)


def _several_frames(format_: str) -> bytes:
    frames = [picture(), picture().transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    return saved(frames[0], format_, save_all=True, append_images=frames[1:])


def _text_png() -> bytes:
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "a comment")
    text.add_itxt("Title", "ein Titel")
    return png(pnginfo=text, dpi=(300, 300))


def _wrong_checksum() -> bytes:
    data = bytearray(png())
    data[data.index(b"IDAT") + 20] ^= 0x10
    return bytes(data)


def _bomb() -> bytes:
    header = struct.pack(">LLBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, content) for kind, content in parts)


def _no_pixels() -> bytes:
    header = struct.pack(">LLBBBBB", 0, 40, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, content) for kind, content in parts)


def _half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _tiff_16() -> bytes:
    samples = np.random.default_rng(2).integers(0, 2**16, (SIZE[1], SIZE[0], 3), dtype=np.uint16)
    return cv2.imencode(".tiff", samples)[1].tobytes()


def _damaged_or_foreign() -> dict[str, bytes]:
    html = b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head><body>Not Found</body></html>\n"
    return {
        "broken/empty.jpg": b"",
        "broken/empty.png": b"",
        "broken/one_byte.jpg": b"\xff",
        "broken/only_start.jpg": b"\xff\xd8\xff",
        "broken/text.jpg": b"this is not an image\n",
        "broken/error_page.jpg": html,
        "broken/drawing.png": b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="4" height="4"/>\n',
        "broken/document.jpg": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<<>>\nendobj\n",
        "broken/phone.jpg": b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(64),
        "broken/zeros.bmp": bytes(500),
        "broken/half.jpg": _half(jpeg()),
        "broken/half_progressive.jpg": _half(jpeg(progressive=True)),
        "broken/half.png": _half(png()),
        "broken/half.webp": _half(saved(picture(), "WEBP")),
        "broken/half.tif": _half(saved(picture(), "TIFF")),
        "broken/half_lzw.tif": _half(saved(picture(), "TIFF", compression="tiff_lzw")),
        "broken/half.gif": _half(saved(in_mode("P"), "GIF")),
        "broken/half.bmp": _half(saved(picture(), "BMP")),
        "broken/half.avif": _half(saved(picture(), "AVIF")),
        "broken/checksum.png": _wrong_checksum(),
        "broken/bomb.png": _bomb(),
        "broken/no_pixels.png": _no_pixels(),
        "frames/animated.gif": _several_frames("GIF"),
        "frames/animated.webp": _several_frames("WEBP"),
        "frames/animated.png": _several_frames("PNG"),
        "frames/animated.avif": _several_frames("AVIF"),
        "frames/pages.tif": _several_frames("TIFF"),
        "depth/float.tif": saved(in_mode("F"), "TIFF"),
        "depth/lab.tif": saved(in_mode("LAB"), "TIFF"),
        "depth/16_bit_colour.tif": _tiff_16(),
    }


def _unusual() -> dict[str, bytes]:
    wrong_profile = b"this is no colour profile" * 4
    opaque_index = {"transparency": bytes([0, 128, 255])}
    files = {
        "named/png_named.jpg": png(),
        "named/jpeg_named.png": jpeg(),
        "named/UPPER.JPG": jpeg(),
        "named/no_suffix_inside.jpeg": jpeg(quality=60),
        "garbage_after_end.jpg": jpeg() + b"garbage" * 100,
        "no_end.jpg": jpeg()[:-2],
        "size/1x1.png": saved(picture(1, 1), "PNG"),
        "size/1x1.jpg": saved(picture(1, 1), "JPEG"),
        "size/1x300.png": saved(picture(1, 300), "PNG"),
        "size/300x1.jpg": saved(picture(300, 1), "JPEG"),
        "size/2x2.jpg": saved(picture(2, 2), "JPEG"),
        "size/odd_sides.jpg": saved(picture(47, 33), "JPEG"),
        "mode/grey.jpg": saved(in_mode("L"), "JPEG"),
        "mode/cmyk.jpg": saved(in_mode("CMYK"), "JPEG"),
        "mode/cmyk.tif": saved(in_mode("CMYK"), "TIFF"),
        "mode/progressive.jpg": jpeg(progressive=True),
        "mode/4_4_4.jpg": jpeg(subsampling="4:4:4"),
        "mode/4_2_2.jpg": jpeg(subsampling="4:2:2"),
        "mode/4_1_1.jpg": _jpeg_4_1_1(),
        "mode/4_4_0.jpg": _jpeg_4_4_0(),
        "mode/two_pictures.jpg": saved(picture(), "MPO", save_all=True, append_images=[picture(24, 20)]),
        "mode/palette.gif": saved(in_mode("P"), "GIF"),
        "mode/palette_transparent.png": saved(in_mode("P"), "PNG", **opaque_index),
        "mode/fully_transparent.png": saved(Image.new("RGBA", SIZE, (9, 8, 7, 0)), "PNG"),
        "mode/16_bit_rgb.png": png_16(3),
        "mode/16_bit_rgba.png": png_16(4),
        "mode/16_bit_grey.tif": saved(in_mode("I;16"), "TIFF"),
        "mode/fax.tif": saved(in_mode("1"), "TIFF", compression="group4"),
        "mode/lzw.tif": saved(picture(), "TIFF", compression="tiff_lzw"),
        "mode/rgb.bmp": saved(picture(), "BMP"),
        "mode/lossless.webp": saved(in_mode("RGBA"), "WEBP", lossless=True),
        "mode/lossy.webp": saved(picture(), "WEBP"),
        "mode/still.avif": saved(picture(), "AVIF"),
        "metadata/broken_exif.jpg": jpeg(exif=b"Exif\x00\x00II*\x00\xff\xff\xff\x7f broken"),
        "metadata/huge_exif.jpg": jpeg(exif=b"Exif\x00\x00" + exif_block(filler=64_000)),
        "metadata/wrong_profile.jpg": jpeg(icc_profile=wrong_profile),
        "metadata/wrong_profile.png": png(icc_profile=wrong_profile),
        "metadata/text.png": _text_png(),
    }
    files |= {f"mode/png_{mode.replace(';', '_')}.png": png(mode) for mode in ("1", "L", "LA", "P", "RGBA", "I;16")}
    for orientation in range(1, 9):
        exif = b"Exif\x00\x00" + exif_block(orientation)
        files[f"orientation/{orientation}.jpg"] = saved(picture(47, 33), "JPEG", exif=exif)
    return files


def _oddly_named() -> dict[str, bytes]:
    data = saved(picture(24, 20), "JPEG")
    accented = "na\u00efve caf\u00e9.jpg"
    deep = "/".join(f"level {level}" for level in range(10))
    names = [
        "name/with spaces in it.jpg",
        "name/" + unicodedata.normalize("NFC", accented),
        "name/" + unicodedata.normalize("NFD", accented),
        "name/percent%20sign.jpg",
        "name/hash#sign.jpg",
        "name/question?mark.jpg",
        "name/plus+and&and=equals.jpg",
        "name/star*[bracket].jpg",
        "name/quote'double\"quote.jpg",
        "name/back\\slash.jpg",
        "name/\U0001f6b2 emoji.jpg",
        "name/\u65e5\u672c\u8a9e.jpg",
        "name/.leading_dot.jpg",
        "name/ leading space.jpg",
        "name/two.dots.in.it.jpg",
        "name/new\nline.jpg",
        "name/" + "l" * 230 + ".jpg",
        "name/same_stem.jpg",
        "a/same_name.jpg",
        "b/same_name.jpg",
        deep + "/deep.jpg",
    ]
    files = dict.fromkeys(names, data)
    files["name/same_stem.png"] = saved(picture(24, 20), "PNG")
    files["name/same_stem.JPG"] = saved(picture(20, 24), "JPEG")
    return files


@cache
def odd_files() -> dict[str, tuple[bytes, str]]:
    """Key -> (bytes, what has to become of it: `ok` or `failed`)."""
    files = {key: (data, FAILED) for key, data in _damaged_or_foreign().items()}
    return files | {key: (data, OK) for key, data in (_unusual() | _oddly_named()).items()}


def heic(image: Image.Image, **options: Any) -> bytes:
    """The image as an HEIC file."""
    import pillow_heif

    buffer = io.BytesIO()
    pillow_heif.from_pillow(image).save(buffer, quality=90, **options)
    return buffer.getvalue()


def _phone_files() -> dict[str, tuple[bytes, str]]:
    """HEIC files, where the extra that reads them is installed."""
    if not installed("HEIC"):
        return {}
    upright = heic(picture(), exif=exif_block())
    return {
        "phone/upright.heic": (upright, OK),
        "phone/turned.HEIC": (heic(picture(47, 33), exif=exif_block(6)), OK),
        "phone/transparent.heif": (heic(in_mode("RGBA")), OK),
        "phone/half.heic": (_half(upright), FAILED),
    }


def write_odd_folder(root: Path) -> dict[str, str]:
    """Write the files below `root` and return key -> `ok` (it decodes) or `failed` (it raises ImageError).

    A file system that does not tell composed from decomposed letters, or upper from lower case (macOS), holds fewer.
    """
    expectations = {}
    for key, (data, expectation) in (odd_files() | _phone_files()).items():
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        expectations[key] = expectation
    return expectations
