"""What follows the image in a JPEG file: told where it is dropped, refused where it is as much the image."""

import io
import struct

import pytest
from PIL import Image, MpoImagePlugin

from inpaint_core.errors import ImageError
from tests.encoding import cleaned, load, opened
from tests.images.metadata.packets import XMP, main_xmp, names_in, packet
from tests.odd_files import jpeg, jpeg_segment, picture, saved, with_segments

PRIMARY, UNDEFINED, THUMBNAIL, DISPARITY = 0x030000, 0, 0x010002, 0x020002
VIDEO = (
    struct.pack(">L4s4sL4s4s", 24, b"ftyp", b"mp42", 0, b"isom", b"mp42")
    + struct.pack(">L4s", 5008, b"mdat")
    + bytes(5000)
)
ISO = jpeg_segment(0xE2, b"urn:iso:std:iso:ts:21496:-1\x00" + bytes(4))
CLAIM_OF_VIDEO = (
    'GCamera:MotionPhoto="1" GCamera:MotionPhotoVersion="1" GCamera:MicroVideoOffset="5032" dc:format="image/jpeg"'
)


def small() -> bytes:
    return saved(picture(24, 20).convert("L"), "JPEG")


def gain_map() -> bytes:
    return with_segments(small(), jpeg_segment(0xE1, XMP + packet("", 'hdrgm:Version="1.0" hdrgm:GainMapMax="2"')))


def with_index(primary: bytes, *pictures: tuple[int, bytes]) -> bytes:
    """A JPEG file with further pictures of MPF types behind it, as CIPA DC-007 lists them."""

    def header(offsets: list[int], size: int) -> bytes:
        count = 1 + len(pictures)
        ifd = struct.pack(">H", 3) + struct.pack(">HHL4s", 0xB000, 7, 4, b"0100")
        ifd += struct.pack(">HHLL", 0xB001, 4, 1, count) + struct.pack(">HHLL", 0xB002, 7, 16 * count, 50) + bytes(4)
        entries = struct.pack(">LLLHH", PRIMARY, size, 0, 0, 0)
        for (kind, data), offset in zip(pictures, offsets, strict=True):
            entries += struct.pack(">LLLHH", kind, len(data), offset, 0, 0)
        return jpeg_segment(0xE2, b"MPF\x00MM\x00*" + struct.pack(">L", 8) + ifd + entries)

    length = len(with_segments(primary, header([0] * len(pictures), 0)))
    base, offsets, position = 2 + 4 + 4, [], length
    for _, data in pictures:
        offsets.append(position - base)
        position += len(data)
    return with_segments(primary, header(offsets, length)) + b"".join(data for _, data in pictures)


def ultra_hdr() -> bytes:
    container = (
        "<Container:Directory><rdf:Seq>"
        '<rdf:li rdf:parseType="Resource"><Container:Item Item:Semantic="Primary" Item:Mime="image/jpeg"/></rdf:li>'
        '<rdf:li rdf:parseType="Resource"><Container:Item Item:Semantic="GainMap" Item:Length="999"/></rdf:li>'
        "</rdf:Seq></Container:Directory><dc:title>a title</dc:title>"
    )
    primary = with_segments(jpeg(), jpeg_segment(0xE1, XMP + packet(container, 'hdrgm:Version="1.0"')), ISO)
    return with_index(primary, (UNDEFINED, gain_map()))


def test_a_gain_map_goes_with_its_announcement() -> None:
    data = ultra_hdr()
    assert MpoImagePlugin.MpoImageFile(io.BytesIO(data)).n_frames == 2  # The index of the test is read by others too.
    source, output, result, _ = cleaned(data)
    assert source.notes == ("gain map dropped",)
    assert names_in(main_xmp(output)) == {"dc:title"}
    assert output.count(b"\xff\xd8\xff") == 1
    assert b"21496" not in output
    assert b"MPF\x00" not in output
    assert opened(output).format == "JPEG"
    assert result.notes == ()


def test_a_gain_map_of_full_size_is_no_second_view() -> None:
    full = with_segments(jpeg(), jpeg_segment(0xE1, XMP + packet("", 'hdrgm:Version="1.0"')))
    assert load(with_index(jpeg(), (UNDEFINED, full))).notes == ("gain map dropped",)
    assert load(with_index(jpeg(), (UNDEFINED, with_segments(jpeg(), ISO)))).notes == ("gain map dropped",)


@pytest.mark.parametrize("kind", [DISPARITY, 0x020001, 0x020003])
def test_views_of_equal_rank_are_refused(kind: int) -> None:
    with pytest.raises(ImageError, match="The JPEG file has 3 frames; only still images with one frame"):
        load(with_index(jpeg(), (kind, jpeg()), (kind, jpeg())))


def test_a_stereo_pair_of_pillow_is_refused() -> None:
    mirrored = picture().transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    data = saved(picture(), "MPO", save_all=True, append_images=[mirrored])
    with pytest.raises(ImageError, match="The JPEG file has 2 frames"):
        load(data)


def test_a_pair_whose_second_view_is_cut_off_is_an_ordinary_image() -> None:
    data = with_index(jpeg(), (DISPARITY, jpeg()))
    assert load(data[: -len(jpeg())]).notes == ()


def test_previews_of_a_camera_are_dropped_and_told() -> None:
    data = with_index(jpeg(), (THUMBNAIL, small()), (THUMBNAIL, jpeg()), (UNDEFINED, small()))
    source, output, _, _ = cleaned(data)
    assert source.notes == ("further pictures (MPF) dropped", "previews (MPF) dropped")
    assert opened(output).format == "JPEG"
    assert output.count(b"\xff\xd8\xff") == 1


def test_a_motion_photograph_becomes_a_still_one() -> None:
    data = with_segments(jpeg(), jpeg_segment(0xE1, XMP + packet("", CLAIM_OF_VIDEO))) + VIDEO
    source, output, result, _ = cleaned(data)
    assert source.notes == ("motion video dropped",)
    assert names_in(main_xmp(output)) == {"dc:format"}
    assert b"ftyp" not in output
    assert result.notes == ()


def test_a_gain_map_and_a_video_are_both_told() -> None:
    assert load(ultra_hdr() + VIDEO).notes == ("gain map dropped", "motion video dropped")


def test_a_camera_that_says_that_there_is_no_video_is_no_announcement() -> None:
    xmp = packet("", 'GCamera:MotionPhoto="0" GCamera:BurstID="7"')
    source, output, _, _ = cleaned(with_segments(jpeg(), jpeg_segment(0xE1, XMP + xmp)))
    assert main_xmp(output) == xmp
    assert source.notes == ()


def test_an_announcement_of_what_is_missing_goes() -> None:
    data = with_segments(jpeg(), jpeg_segment(0xE1, XMP + packet("", CLAIM_OF_VIDEO)), ISO)
    source, output, _, _ = cleaned(data)
    assert source.notes == (
        "announcement of a missing gain map dropped",
        "announcement of a missing motion video dropped",
    )
    assert names_in(main_xmp(output)) == {"dc:format"}


@pytest.mark.parametrize(
    ("behind", "notes"),
    [
        (bytes(100), ()),
        (bytes(10) + b"garbage" * 100, ("700 bytes behind the image dropped",)),
        (small(), ("further pictures dropped",)),
        (jpeg() + small(), ("further pictures dropped",)),
        (b"MotionPhoto_Data" + bytes(9) + b"SEFT", ("motion video dropped",)),
        (b"\xff\xd8\xff" * 2000, ("further pictures dropped",)),
    ],
    ids=["zeros", "garbage", "small picture", "two pictures", "trailer of Samsung", "starts"],
)
def test_what_no_index_lists_is_told(behind: bytes, notes: tuple[str, ...]) -> None:
    assert load(jpeg() + behind).notes == notes
