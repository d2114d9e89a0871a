"""What is spread over several segments of a JPEG file is joined, filtered and cut up again."""

import hashlib
import struct

import pytest

from inpaint_core.images.metadata import xmp
from inpaint_core.images.metadata.segments import walk_jpeg
from inpaint_core.images.metadata.xmp_pictures import clean_xmp
from tests.encoding import SECRET, SECRET_TEXT, cleaned
from tests.images.metadata.packets import EXTENSION, XMP, extended_xmp, main_xmp, names_in, packet, segments
from tests.odd_files import jpeg, jpeg_segment, with_segments

PHOTOSHOP = b"Photoshop 3.0\x00"
LONG = "caption words " * 6000


def with_extended(main_elements: str, extended: bytes, guid: str = "", skip: int = -1) -> bytes:
    """A JPEG file with extended XMP in pieces of 60,000 bytes; without the piece `skip`."""
    guid = guid or hashlib.md5(extended).hexdigest().upper()
    main = packet(main_elements, f'xmpNote:HasExtendedXMP="{guid}"', wrapped=True)
    pieces = [
        jpeg_segment(
            0xE1, EXTENSION + guid.encode() + struct.pack(">LL", len(extended), at) + extended[at : at + 60000]
        )
        for number, at in enumerate(range(0, len(extended), 60000))
        if number != skip
    ]
    return with_segments(jpeg(), jpeg_segment(0xE1, XMP + main), *pieces)


def test_extended_xmp_without_pictures_is_kept_byte_for_byte() -> None:
    extended = packet(f"<dc:rights>(c) Jane Doe</dc:rights><dc:description>{LONG}</dc:description>")
    data = with_extended("<dc:title>a title</dc:title>", extended)
    _, output, result, _ = cleaned(data)
    assert [item for item in segments(output) if item[0] == 0xE1] == [
        item for item in segments(data) if item[0] == 0xE1
    ]
    assert result.notes == ()


def test_extended_xmp_is_written_again_without_the_pictures_in_it() -> None:
    depth = f"<GDepth:Data>{SECRET_TEXT.decode() * 900}</GDepth:Data><GImage:Data>{SECRET_TEXT.decode()}</GImage:Data>"
    extended = packet(f"<dc:rights>(c) Jane Doe</dc:rights>{depth}<dc:description>{LONG}</dc:description>")
    data = with_extended("<GDepth:Format>RangeLinear</GDepth:Format><dc:title>a title</dc:title>", extended)
    source, output, result, _ = cleaned(data)
    found = extended_xmp(output)
    assert found is not None
    guid, written = found
    assert guid == hashlib.md5(written).hexdigest().upper()
    assert f'HasExtendedXMP="{guid}"'.encode() in main_xmp(output)
    assert written == packet(f"<dc:rights>(c) Jane Doe</dc:rights><dc:description>{LONG}</dc:description>")
    assert names_in(main_xmp(output)) == {"xmpNote:HasExtendedXMP", "dc:title"}
    assert SECRET_TEXT[:18] not in output
    assert source.notes == ("depth map dropped", "second picture of a depth photograph dropped")
    assert result.notes == ()
    # The packet's wrapper and padding stay as they are.
    assert main_xmp(output).endswith(b"</x:xmpmeta>\n" + b" " * 200 + b'<?xpacket end="w"?>')


@pytest.mark.parametrize("fault", ["missing piece", "other GUID"])
def test_extended_xmp_that_is_incomplete_goes_with_what_names_it(fault: str) -> None:
    extended = packet(f"<dc:description>{LONG}</dc:description>")
    if fault == "missing piece":
        data = with_extended("<dc:title>a title</dc:title>", extended, skip=0)
    else:
        data = with_extended("<dc:title>a title</dc:title>", extended).replace(EXTENSION, EXTENSION + b"0" * 8)
        data = data.replace(EXTENSION + b"0" * 8, EXTENSION)
        guid_at = data.index(EXTENSION) + len(EXTENSION)
        data = data[:guid_at] + b"0" * 32 + data[guid_at + 32 :]
    source, output, result, _ = cleaned(data)
    assert extended_xmp(output) is None
    assert names_in(main_xmp(output)) == {"dc:title"}
    assert source.notes == ("extended XMP dropped: it is incomplete, or not the one that the XMP names",)
    assert result.notes == ()


def test_a_name_without_extended_xmp_goes() -> None:
    data = with_segments(jpeg(), jpeg_segment(0xE1, XMP + packet("", f'xmpNote:HasExtendedXMP="{"A" * 32}"')))
    source, output, _, _ = cleaned(data)
    assert names_in(main_xmp(output)) == set()
    assert source.notes == ("the extended XMP is missing",)


def resource(identifier: int, content: bytes) -> bytes:
    return b"8BIM" + struct.pack(">HBBL", identifier, 0, 0, len(content)) + content + bytes(len(content) % 2)


def iptc_of(data: bytes) -> dict[tuple[int, int], bytes]:
    """(record, data set) -> value of the IPTC in the image resources of a JPEG file, joined over its APP13 segments."""
    run = b"".join(payload[len(PHOTOSHOP) :] for marker, payload in segments(data) if marker == 0xED)
    found, position = {}, 0
    while position < len(run):
        assert run[position : position + 4] == b"8BIM"
        (identifier, _, size) = struct.unpack_from(">HHL", run, position + 4)
        content = run[position + 12 : position + 12 + size]
        position += 12 + size + size % 2
        at = 0
        while identifier == 1028 and at < len(content):
            tag, record, number, length = struct.unpack_from(">BBBH", content, at)
            assert tag == 0x1C
            found[record, number] = content[at + 5 : at + 5 + length]
            at += 5 + length
    return found


IPTC = b"".join(
    bytes([0x1C, 2, number]) + struct.pack(">H", len(text)) + text
    for number, text in ((80, b"Jane Doe"), (116, b"(c) Jane Doe"), (25, b"keyword"))
)
PATH = resource(2000, bytes(range(256)) * 280)


@pytest.mark.parametrize("thumbnail", [False, True])
def test_iptc_in_a_second_segment_is_kept(thumbnail: bool) -> None:
    run = PATH + (resource(1036, SECRET * 40) if thumbnail else b"") + resource(1028, IPTC)
    pieces = [jpeg_segment(0xED, PHOTOSHOP + run[at : at + 65500]) for at in range(0, len(run), 65500)]
    assert len(pieces) == 2
    data = with_segments(jpeg(), *pieces)
    _, output, _, _ = cleaned(data)
    assert iptc_of(output) == {(2, 80): b"Jane Doe", (2, 116): b"(c) Jane Doe", (2, 25): b"keyword"}
    assert SECRET[20:60] not in output
    written = b"".join(payload[len(PHOTOSHOP) :] for marker, payload in segments(output) if marker == 0xED)
    assert written == PATH + resource(1028, IPTC)
    if not thumbnail:
        assert output[2 : 2 + len(b"".join(pieces))] == b"".join(pieces)


def test_segments_of_whole_resources_stay_apart() -> None:
    parts = [resource(1036, SECRET) + resource(1005, bytes(16)), resource(1028, IPTC)]
    data = with_segments(jpeg(), *(jpeg_segment(0xED, PHOTOSHOP + part) for part in parts))
    _, output, _, _ = cleaned(data)
    expected = [PHOTOSHOP + resource(1005, bytes(16)), PHOTOSHOP + resource(1028, IPTC)]
    assert [payload for marker, payload in segments(output) if marker == 0xED] == expected


def test_what_is_dropped_is_told() -> None:
    data = with_segments(
        jpeg(),
        jpeg_segment(0xEB, b"JP\x00\x01" + bytes(20) + b"jumdc2pa"),
        jpeg_segment(0xE1, b"FLIR\x00\x01\x00\x00" + bytes(50)),
        jpeg_segment(0xE7, b"\xf0\xf1"),
        jpeg_segment(0xEC, b"Ducky\x00\x01\x00\x04\x00\x00\x00\x50\x00\x00"),
        jpeg_segment(0xE0, b"JFXX\x00\x10" + SECRET),
    )
    source, output, _, _ = cleaned(data)
    assert source.notes == ("content credentials dropped", "segment APP1 (FLIR) dropped", "segment APP7 dropped")
    assert [payload[:5] for marker, payload in segments(output) if marker == 0xEC] == [b"Ducky"]


@pytest.mark.parametrize(
    "broken",
    [
        b"<a><b></a>",
        b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">' + b"".join(
            b'<!ENTITY %c "%b">' % (98 + step, b"&%c;" % (97 + step) * 10) for step in range(9)
        ) + b"]><x>&j;</x>",
        b"\xff\xfe<\x00a\x00/\x00>\x00",
    ],
    ids=["malformed", "entities", "not UTF-8"],
)  # fmt: skip
def test_unreadable_xmp_stays_as_it_is_and_is_told(broken: bytes) -> None:
    source, output, _, _ = cleaned(with_segments(jpeg(), jpeg_segment(0xE1, XMP + broken)))
    assert main_xmp(output) == broken
    assert source.notes == ("the XMP is unreadable and stays as it is",)


@pytest.mark.parametrize("many", [b"<a>" * 101 + b"</a>" * 101, b"<r>" + b"<a/>" * 1000 + b"</r>"])
def test_xmp_of_too_many_elements_is_not_read_to_its_end(many: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    assert clean_xmp(many[3:-4] if many.startswith(b"<a>") else many).readable
    monkeypatch.setattr(xmp, "_MAX_ELEMENTS", 1000)
    assert clean_xmp(many).packets == (many,)
    assert not clean_xmp(many).readable


def test_an_output_is_a_whole_jpeg_file() -> None:
    extended = packet(f"<GDepth:Data>{SECRET_TEXT.decode()}</GDepth:Data><dc:description>{LONG}</dc:description>")
    _, output, _, _ = cleaned(with_extended("", extended))
    assert list(walk_jpeg(output))[-1].end == len(output)
