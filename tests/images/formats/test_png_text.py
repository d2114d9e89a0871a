"""Raw profiles in text chunks of PNG; Pillow's reading is the reference."""

import struct
import zlib

import numpy as np
import pytest
from PIL import ImageOps

from tests.encoding import SECRET, SECRET_TEXT, cleaned, load, opened
from tests.odd_files import exif_block, picture, png_chunk, saved

PLAIN = saved(picture(47, 33), "PNG")
CAPTION = b"\x1c\x02\x50\x00\x08Jane Doe"
EXIF = b"Exif\x00\x00" + exif_block(6, SECRET)


def resource(identifier: int, content: bytes) -> bytes:
    return struct.pack(">4sHHL", b"8BIM", identifier, 0, len(content)) + content + bytes(len(content) % 2)


def raw_profile(name: bytes, profile: bytes, compressed: bool = True) -> bytes:
    """The chunk as ImageMagick writes it: 36 bytes a line."""
    lines = b"\n".join(profile[at : at + 36].hex().encode() for at in range(0, len(profile), 36))
    text = b"\n%b\n%8d\n%b\n" % (name, len(profile), lines)
    content = b"Raw profile type " + name + (b"\x00\x00" + zlib.compress(text) if compressed else b"\x00" + text)
    return png_chunk(b"zTXt" if compressed else b"tEXt", content)


def with_chunks(*chunks: bytes) -> bytes:
    return PLAIN[:33] + b"".join(chunks) + PLAIN[33:]


def profile_of(data: bytes, name: str) -> bytes:
    text = opened(data).text[f"Raw profile type {name}"]
    _, written_name, length, *digits = text.split("\n")
    profile = bytes.fromhex("".join(digits))
    assert (written_name, int(length)) == (name, len(profile))
    assert len(length) == 8
    assert {len(line) for line in digits[:-2]} <= {72}
    return profile


def without_thumbnail(exif: bytes) -> bytes:
    """EXIF of `exif_block`: its first directory points at byte 46 of the TIFF stream to the thumbnail's, the last thing in it."""
    (second,) = struct.unpack_from("<L", exif, 6 + 46)
    return exif[:52] + bytes(4) + exif[56 : 6 + second] + bytes(len(exif) - 6 - second)


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("name", ["exif", "APP1"])
def test_exif_in_a_raw_profile_turns_the_picture_and_is_kept_without_its_thumbnail(name: str, compressed: bool) -> None:
    data = with_chunks(raw_profile(name.encode(), EXIF, compressed))
    source, output, result, _ = cleaned(data)
    assert source.orientation == result.orientation == 6
    assert profile_of(data, name) == EXIF
    assert profile_of(output, name) == without_thumbnail(EXIF)
    assert source.notes == ()
    if name == "exif":  # Pillow reads no other.
        assert opened(output).getexif()[272] == "Odd Camera 3000"
        assert np.array_equal(source.pixels, ImageOps.exif_transpose(opened(data)))


def test_exif_chunk_decides_over_the_orientation_where_there_are_both() -> None:
    data = with_chunks(raw_profile(b"exif", EXIF), png_chunk(b"eXIf", exif_block(3)))
    source, output, result, _ = cleaned(data)
    assert source.orientation == result.orientation == 3
    assert np.array_equal(source.pixels, ImageOps.exif_transpose(opened(data)))
    assert profile_of(output, "exif") == without_thumbnail(EXIF)


@pytest.mark.parametrize("name", ["iptc", "8bim"])
def test_photoshop_resources_lose_their_thumbnails_alone(name: str) -> None:
    caption = resource(0x0404, CAPTION)
    data = with_chunks(raw_profile(name.encode(), resource(1036, SECRET) + caption))
    _, output, _, _ = cleaned(data)
    assert profile_of(output, name) == caption
    same = with_chunks(raw_profile(name.encode(), caption))
    assert raw_profile(name.encode(), caption) in cleaned(same)[1]
    only = cleaned(with_chunks(raw_profile(name.encode(), resource(1036, SECRET))))[1]
    assert b"Raw profile" not in only


@pytest.mark.parametrize("name", ["xmp", "APP1"])
def test_pictures_in_a_raw_profile_of_xmp_are_blanked(name: str) -> None:
    prefix = b"http://ns.adobe.com/xap/1.0/\x00" if name == "APP1" else b""
    xmp = prefix + b"<a><xmpGImg:image>%b</xmpGImg:image><b>Jane</b></a>"
    output = cleaned(with_chunks(raw_profile(name.encode(), xmp % SECRET_TEXT)))[1]
    assert profile_of(output, name) == xmp % (b" " * len(SECRET_TEXT))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (b"exif", b"\nexif\n       4\nnot hexadecimal\n"),
        (b"iptc", b"\niptc\n       9\n00112233\n"),
        (b"exif", b"\nexif\n       2\n001\n"),
        (b"exif", b""),
        (b"unheard of", b"\nunheard of\n       4\n00112233\n"),
    ],
)
def test_raw_profiles_that_cannot_be_told_are_dropped_and_noted(name: bytes, text: bytes) -> None:
    source, output, _, _ = cleaned(with_chunks(png_chunk(b"tEXt", b"Raw profile type " + name + b"\x00" + text)))
    assert b"Raw profile" not in output
    assert source.notes == (f"the PNG's raw profile {name.decode()} is not readable and was dropped",)


def test_raw_profile_that_cannot_be_inflated_is_dropped() -> None:
    broken = png_chunk(b"zTXt", b"Raw profile type exif\x00\x00" + zlib.compress(b"\nexif\n")[:-5])
    assert load(with_chunks(broken)).notes == ("the PNG's raw profile exif is not readable and was dropped",)
