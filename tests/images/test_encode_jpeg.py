import struct
import sys

import numpy as np
import pytest
from PIL import Image, ImageFile

from inpaint_core.images.encode import encode
from inpaint_core.images.metadata.segments import walk_jpeg
from tests.encoding import SECRET, SECRET_TEXT, STILL, cleaned, filled, hole, load, opened
from tests.odd_files import exif_block, jpeg, jpeg_segment, picture, saved, with_segments


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("coefficients", [True, False])
def test_jpeg_keeps_tables_sampling_and_kind(
    subsampling: str, progressive: bool, coefficients: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not coefficients:
        monkeypatch.setitem(sys.modules, "jpegio", None)
    data = jpeg(quality=83, subsampling=subsampling, progressive=progressive)
    _, output, _, _ = cleaned(data)
    before, after = opened(data), opened(output)
    assert after.quantization == before.quantization
    assert after.layer == before.layer
    assert ("progressive" in after.info) == progressive


@pytest.fixture
def no_coefficients(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine for which the package has no wheel."""
    monkeypatch.setitem(sys.modules, "jpegio", None)


@pytest.mark.usefixtures("no_coefficients")
@pytest.mark.parametrize(("subsampling", "at_least"), [("4:4:4", 0.97), ("4:2:2", 0.9), ("4:2:0", 0.95)])
def test_blocks_that_the_mask_does_not_touch_are_hardly_coded_differently(subsampling: str, at_least: float) -> None:
    # Clipped samples are the exception: the picture stays away from 0 and 255.
    image = Image.fromarray((np.asarray(picture(160, 128)) * 0.7 + 30).astype(np.uint8))
    source = load(saved(image, "JPEG", quality=90, subsampling=subsampling))
    mask = np.zeros((128, 160), bool)
    mask[40:60, 50:75] = True
    result = load(encode(source, filled(source), mask, lossy_quality=1).data)
    # Units of 16 x 16, and the neighbours that chroma is interpolated from.
    touched = np.zeros_like(mask)
    touched[31:65, 47:81] = True
    difference = np.abs(result.pixels.astype(int) - source.pixels).max(-1)[~touched]
    assert (difference == 0).mean() >= at_least
    assert difference.max() <= 6


@pytest.mark.parametrize("coefficients", [True, False])
def test_jpeg_stored_as_rgb_and_as_cmyk_stays_so(coefficients: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not coefficients:
        monkeypatch.setitem(sys.modules, "jpegio", None)
    rgb = saved(picture(), "JPEG", quality=95, keep_rgb=True)
    source, output, result, _ = cleaned(rgb)
    assert [layer[0] for layer in opened(output).layer] == [ord(letter) for letter in "RGB"]
    assert np.abs(result.pixels.astype(int) - source.pixels)[:, 32:].max() <= 3
    _, output, _, _ = cleaned(STILL["mode/cmyk.jpg"])
    assert opened(output).info["adobe_transform"] == 0


@pytest.mark.usefixtures("no_coefficients")
def test_noisy_progressive_jpeg_that_exceeds_pillows_buffer_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "MAXBLOCK", 2**16)
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    source = load(saved(Image.fromarray(noise), "JPEG", quality=100, subsampling=0))
    object.__setattr__(source.file, "progressive", True)
    output = encode(source, filled(source), hole(source), lossy_quality=90).data
    assert "progressive" in opened(output).info
    assert ImageFile.MAXBLOCK == 5 * 300 * 400  # The second attempt was needed.


@pytest.mark.usefixtures("no_coefficients")
def test_file_that_is_coded_again_as_a_whole_says_so() -> None:
    source = load(STILL["mode/4_1_1.jpg"])
    mask = hole(source)
    result = encode(source, filled(source), mask, lossy_quality=90)
    assert result.notes == ("the JPEG file was coded again as a whole: the package pyjpegio is not installed",)
    assert np.array_equal(result.changed, mask)
    assert opened(result.data).layer[0][1:3] == (1, 1)


def test_jpeg_headers_are_taken_over_byte_for_byte() -> None:
    segments = [
        jpeg_segment(0xE1, b"Exif\x00\x00" + exif_block(3)),
        jpeg_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\x00<x:xmpmeta>text</x:xmpmeta>"),
        jpeg_segment(0xE2, b"ICC_PROFILE\x00\x01\x01" + bytes(range(200))),
        jpeg_segment(0xED, b"Photoshop 3.0\x008BIM\x04\x04\x00\x00\x00\x00\x00\x04iptc"),
        jpeg_segment(0xFE, b"a comment"),
    ]
    data = with_segments(jpeg(dpi=(300, 300)), *segments)
    _, output, _, _ = cleaned(data)
    assert output.startswith(b"\xff\xd8" + b"".join(segments) + data[2:][sum(map(len, segments)) :][:18])


def test_no_earlier_picture_stays_in_a_jpeg() -> None:
    thumbnail_resource = struct.pack(">4sHHL", b"8BIM", 1036, 0, len(SECRET)) + SECRET + bytes(len(SECRET) % 2)
    kept_resource = b"8BIM\x04\x04\x00\x00\x00\x00\x00\x04iptc"
    exif = exif_block(6, SECRET)
    data = with_segments(
        saved(picture(), "JPEG"),
        jpeg_segment(0xE0, b"JFXX\x00\x10" + SECRET),
        jpeg_segment(0xE1, b"Exif\x00\x00" + exif),
        jpeg_segment(
            0xE1, b"http://ns.adobe.com/xap/1.0/\x00<a><xmpGImg:image>" + SECRET_TEXT + b"</xmpGImg:image></a>"
        ),
        jpeg_segment(0xE1, b"http://ns.adobe.com/xmp/extension/\x00" + SECRET_TEXT),
        jpeg_segment(0xE2, b"MPF\x00" + SECRET),
        jpeg_segment(0xEB, b"JP\x00\x01" + SECRET),
        jpeg_segment(0xED, b"Photoshop 3.0\x00" + thumbnail_resource + kept_resource),
        jpeg_segment(0xE0, b"AVI1" + SECRET),
        jpeg_segment(0xE1, b"FLIR\x00\x01\x00\x00" + SECRET_TEXT),
        jpeg_segment(0xE2, b"FPXR\x00" + SECRET),
        *(jpeg_segment(0xE0 + number, SECRET_TEXT) for number in range(3, 16)),
    )
    _, output, result, _ = cleaned(data + SECRET)
    assert SECRET[20:60] not in output
    assert SECRET_TEXT[:18] not in output
    assert output.count(b"\xff\xd8\xff") == 1
    assert kept_resource in output
    assert result.orientation == 6
    # EXIF: of the same length, and the same up to the thumbnail but for the pointer to its directory.
    written = opened(output).info["exif"][6:]
    second = exif.index(SECRET) - (2 + 3 * 12 + 4)
    assert len(written) == len(exif)
    assert [at for at in range(second) if written[at] != exif[at]] == [46, 47]
    assert not any(written[second:])


@pytest.mark.parametrize("data", ["next directory", "strip"])
def test_broken_thumbnail_directory_leaves_orientation_and_header(data: str) -> None:
    exif = bytearray(exif_block(6, SECRET))
    pointer_at = 8 + 2 + 3 * 12
    expected = bytearray(exif)
    expected[pointer_at : pointer_at + 4] = bytes(4)
    if data == "next directory":
        struct.pack_into("<L", exif, pointer_at, 8)
    else:
        strip_at = exif.index(SECRET) - (3 * 12 + 4) + 12 + 8
        struct.pack_into("<L", exif, strip_at, 12)
        second = exif.index(SECRET) - (2 + 3 * 12 + 4)
        expected[second : second + 2 + 3 * 12 + 4] = bytes(2 + 3 * 12 + 4)
    secret_at = exif.index(SECRET)
    expected[secret_at : secret_at + len(SECRET)] = bytes(len(SECRET))
    source, output, result, _ = cleaned(jpeg(exif=b"Exif\x00\x00" + bytes(exif)))
    assert source.orientation == result.orientation == 6
    assert opened(output).info["exif"][6:] == bytes(expected)


@pytest.mark.parametrize("order", ["<", ">"])
def test_preview_within_a_maker_note_is_blanked(order: str) -> None:
    exif = bytearray(exif_block(1, order=order, filler=2000))
    exif[600 : 600 + len(SECRET)] = SECRET
    _, output, _, _ = cleaned(jpeg(exif=b"Exif\x00\x00" + bytes(exif)))
    written = opened(output).info["exif"][6:]
    exif[600 : 600 + len(SECRET)] = bytes(len(SECRET))
    assert written == bytes(exif)


def test_bytes_between_segments_are_passed_over_as_libjpeg_does() -> None:
    plain = jpeg()
    data = with_segments(plain, jpeg_segment(0xE5, b"first"), bytes(5), jpeg_segment(0xFE, b"a comment"), b"\xff\xff")
    source, output, _, _ = cleaned(data)
    assert np.array_equal(source.pixels, load(plain).pixels)
    assert opened(output).info["comment"] == b"a comment"
    assert b"\x00" * 5 + b"\xff\xfe" not in output


def test_mpo_becomes_its_first_picture() -> None:
    data = STILL["mode/two_pictures.jpg"]
    assert opened(data).n_frames == 2
    _, output, _, _ = cleaned(data)
    assert opened(output).format == "JPEG"


def test_segments_of_an_output_end_with_the_file() -> None:
    _, output, _, _ = cleaned(STILL["garbage_after_end.jpg"])
    assert list(walk_jpeg(output))[-1].end == len(output)
