"""HEIC files made by libheif: what is kept, what is dropped, what is refused."""

import io
import struct
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from PIL import ImageCms

from inpaint_core.errors import ImageError
from inpaint_core.images import media_types
from inpaint_core.images.decode import Decoded, decode
from inpaint_core.images.encode import encode
from inpaint_core.images.formats.heif_items import boxes, heif_items
from inpaint_core.images.formats.samples import to_upright
from inpaint_core.images.names import without_names
from tests.encoding import LIMIT, SECRET, cleaned, hole, load
from tests.images.metadata.packets import packet
from tests.images.metadata.test_regions import face, mwg
from tests.odd_files import exif_block, picture

pillow_heif = pytest.importorskip("pillow_heif")

PIXELS = np.asarray(picture(96, 72))
RDF = "application/rdf+xml"
PLAIN_XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"/></x:xmpmeta>'


def heic(samples: np.ndarray = PIXELS, mode: str = "RGB", **options: Any) -> bytes:
    buffer = io.BytesIO()
    height, width = samples.shape[:2]
    options = {"quality": 90, "chroma": 444, **options}
    pillow_heif.encode(mode, (width, height), np.ascontiguousarray(samples).tobytes(), buffer, **options)
    return buffer.getvalue()


def opened(data: bytes) -> Any:
    """As libheif reads the file, with the depth of its samples."""
    return pillow_heif.open_heif(data, convert_hdr_to_8bit=False, hdr_to_16bit=False)


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">L4s", 8 + len(content), kind) + content


def error_from(source: Decoded, output: Decoded, mask: np.ndarray) -> float:
    """Mean difference outside the mask."""
    return float(np.abs(source.pixels.astype(int) - output.pixels)[~mask].mean())


def test_a_picture_is_cleaned_and_the_rest_stays_nearly_as_it_was() -> None:
    source, output, result, mask = cleaned(heic())
    assert (source.format, source.mode, source.orientation) == ("HEIC", "RGB", 1)
    assert (result.format, result.pixels.shape) == ("HEIC", source.pixels.shape)
    assert np.abs(source.pixels.astype(int) - PIXELS).mean() < 2
    assert error_from(source, result, mask) < 2
    inside = result.pixels[:14, 22:44].astype(int)
    assert np.abs(inside - (200, 60, 30)).mean() < 4
    assert opened(output).info["chroma"] == 444
    assert output[4:12] == b"ftypheix"  # the brand of 4:4:4 and of more than 8 bits


@pytest.mark.parametrize("chroma", [420, 422, 444])
def test_chroma_subsampling_is_kept(chroma: int) -> None:
    _, output, _, _ = cleaned(heic(chroma=chroma))
    assert opened(output).info["chroma"] == chroma
    assert output[8:12] == (b"heic" if chroma == 420 else b"heix")


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 90), (47, 33)])
def test_odd_sizes_are_kept(size: tuple[int, int]) -> None:
    source, _, result, _ = cleaned(heic(np.asarray(picture(*size)), chroma=420))
    assert source.pixels.shape == result.pixels.shape == (size[1], size[0], 3)


@pytest.mark.parametrize("depth", [10, 12])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_deep_samples_keep_their_bits(mode: str, depth: int) -> None:
    rng = np.random.default_rng(0)
    channels = {"L": 1, "RGB": 3, "RGBA": 4}[mode]
    y, x = np.mgrid[:72, :96]
    ramp = np.stack([x * 8 + y, y * 10, x * 3 + y * 5, 200 + x * 8][:channels], -1) + rng.integers(
        0, 3, (72, 96, channels)
    )
    samples = (ramp * 2 ** (depth - 10)).astype(np.uint16)
    source, output, result, mask = cleaned(heic(samples, f"{mode};{depth}", bit_depth=depth, quality=100), quality=100)
    assert source.mode == {"L": "I;16", "RGB": "RGB;16", "RGBA": "RGBA;16"}[mode]
    file = opened(output)
    assert file.info["bit_depth"] == depth
    assert file.mode == {"L": f"I;{depth}"}.get(mode, f"{mode};{depth}")
    # Steps of 1 of the file's own samples are told apart: those of 8 bits are 4 and 16 of them.
    stored = np.frombuffer(file.data, "<u2").reshape(72, -1)[:, : 96 * channels].reshape(samples.shape).astype(int)
    assert np.abs(stored - samples)[~mask].mean() < 2 ** (depth - 10) * 1.5
    # Shown as 8 bits: black is 0 and white is 2^depth - 1, whatever of it the picture uses.
    shown = source.pixels if source.rgba is None else source.rgba
    expected = (
        np.rint(samples * (255 / (2**depth - 1))) if mode != "L" else np.repeat(samples * (255 / (2**depth - 1)), 3, 2)
    )
    assert np.abs(shown - expected).max() <= 2
    assert (result.rgba is None) == (mode != "RGBA")


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("LA", 2), ("RGBA", 4)])
def test_grey_and_alpha_are_kept(mode: str, channels: int) -> None:
    grey = PIXELS[..., :1]
    alpha = np.tile(np.linspace(0, 255, 96).astype(np.uint8), (72, 1))[..., None]
    samples = {"L": grey, "LA": np.concatenate([grey, alpha], 2), "RGBA": np.concatenate([PIXELS, alpha], 2)}[mode]
    source, output, result, mask = cleaned(heic(samples, mode))
    assert (source.mode, result.mode) == (mode, mode)
    assert source.file.raster.samples.shape == (72, 96, channels)
    assert np.abs(source.file.raster.samples.astype(int) - samples).mean() < 2
    if mode != "L":
        assert np.abs(result.rgba[..., 3].astype(int) - alpha[..., 0])[~mask].mean() < 2
        assert np.allclose(result.rgba[~mask], source.rgba[~mask], atol=24)
    assert "chroma" not in opened(output).info or mode == "RGBA"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_rotation_of_the_container_is_kept_and_that_of_exif_is_not_applied_again(orientation: int) -> None:
    exif = exif_block(orientation)
    source, output, result, mask = cleaned(heic(exif=exif))
    upright = to_upright(PIXELS, orientation)
    assert source.orientation == result.orientation == orientation
    assert np.abs(source.pixels.astype(int) - upright).mean() < 2
    assert error_from(source, result, mask) < 2
    file = opened(output)
    assert file.size == upright.shape[1::-1]
    assert np.array_equal(np.frombuffer(file.data, np.uint8), result.pixels.ravel())
    assert file.info["exif"] == exif


def test_iptc_is_kept_and_other_metadata_named() -> None:
    iptc = {"type": "iptc", "content_type": "", "data": b"\x1c\x02Z\x00\x08Budapest"}
    source, output, _, _ = cleaned(heic(metadata=[iptc, {"type": "mime", "content_type": "text/x", "data": SECRET}]))
    assert opened(output).info["metadata"] == [iptc]
    assert SECRET not in output
    assert source.notes == ("further metadata dropped",)


def test_colours_that_only_the_tiles_tell_are_kept() -> None:
    names = ("color_primaries", "transfer_characteristics", "matrix_coefficients", "full_range_flag")
    points = dict(zip(names, (9, 18, 9, 0), strict=True))
    data = heic(tile_size=64, **points)
    available = dict(boxes(dict(boxes(meta_of(data)[4:]))[b"iprp"]))[b"ipco"]
    (colour,) = (index for index, (kind, _) in enumerate(boxes(available), 1) if kind == b"colr")
    # The grid is the first item of `ipma`: version, number of items, item, number of properties, and these, a byte each.
    first = data.index(b"ipma") + 4 + 4 + 4 + 2 + 1
    at = next(position for position in range(first, first + data[first - 1]) if data[position] & 0x7F == colour)
    without = data[:at] + b"\x00" + data[at + 1 :]
    items = heif_items(meta_of(without))
    assert not items.properties(items.primary, b"colr")
    assert points.items() <= opened(cleaned(without)[1]).info["nclx_profile"].items()


def meta_of(data: bytes) -> bytes:
    return dict(boxes(data))[b"meta"]


def test_exif_that_contradicts_the_container_is_kept_and_turns_nothing() -> None:
    exif = exif_block(6)
    metadata = [
        {"type": "Exif", "content_type": "", "data": bytes(4) + exif},
        {"type": "mime", "content_type": RDF, "data": PLAIN_XMP.replace(b"<rdf:RDF", b'<rdf:RDF tiff:Orientation="8"')},
    ]
    source, output, _, _ = cleaned(heic(metadata=metadata))
    assert (source.orientation, source.pixels.shape) == (1, PIXELS.shape)
    file = opened(output)
    assert (file.size, file.info["exif"], file.info["xmp"]) == ((96, 72), exif, metadata[1]["data"])


def test_a_rotation_without_exif_is_kept() -> None:
    # The encoder takes it from XMP.
    xmp = PLAIN_XMP.replace(b"<rdf:RDF", b'<rdf:RDF tiff:Orientation="6"')
    source, output, result, _ = cleaned(heic(xmp=xmp))
    assert (source.orientation, source.file.exif) == (6, b"")
    assert (result.orientation, opened(output).size, opened(output).info["xmp"]) == (6, (72, 96), xmp)


def test_metadata_are_kept_without_thumbnails() -> None:
    exif = exif_block(1, thumbnail=SECRET)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = heic(exif=exif, xmp=PLAIN_XMP, icc_profile=profile, thumbnails=[32])
    assert len(opened(data).info["thumbnails"]) == 1
    assert SECRET in data
    source, output, _, _ = cleaned(data)
    assert SECRET not in output
    info = opened(output).info
    assert info["thumbnails"] == []
    assert (info["icc_profile"], info["xmp"], len(info["exif"])) == (profile, PLAIN_XMP, len(exif))
    # The first directory no longer points to the second one, that of the thumbnail.
    assert info["exif"][:350] == exif[:46] + bytes(4) + exif[50:350]
    assert source.notes == ()


@pytest.mark.parametrize("code_points", [(1, 13, 6, 1), (1, 1, 1, 0), (9, 16, 9, 1), (9, 18, 9, 0), (2, 2, 2, 1)])
def test_code_points_of_colour_are_kept(code_points: tuple[int, int, int, int]) -> None:
    names = ("color_primaries", "transfer_characteristics", "matrix_coefficients", "full_range_flag")
    data = heic(**dict(zip(names, code_points, strict=True)))
    source, output, result, mask = cleaned(data)
    before, after = (opened(file).info.get("nclx_profile") for file in (data, output))
    assert before == after
    assert before is None or tuple(before[name] for name in names) == code_points
    assert error_from(source, result, mask) < 2


def test_tiles_are_kept() -> None:
    source, output, result, mask = cleaned(heic(tile_size=64, exif=exif_block(6), chroma=420))
    assert source.file.tile == 64
    tiling = opened(output).info["tiling"]
    assert (tiling["tile_width"], tiling["num_columns"], tiling["num_rows"]) == (64, 2, 2)
    assert source.orientation == result.orientation == 6
    assert error_from(source, result, mask) < 3


@pytest.mark.parametrize("tile", [0, 64])
@pytest.mark.parametrize("quality", [30, 60, 85])
def test_without_a_quality_the_files_own_is_found(tile: int, quality: int) -> None:
    data = heic(
        np.asarray(picture(256, 192)), quality=quality, tile_size=tile, chroma=420, enc_params={"preset": "medium"}
    )
    source = load(data)
    mask = np.zeros(source.pixels.shape[:2], bool)
    mask[:2, :2] = True
    output = encode(source, source.pixels.copy(), mask, lossy_quality=None).data
    assert len(data) / 1.2 < len(output) < 1.2 * len(data)


def test_names_of_removed_people_are_dropped() -> None:
    regions = mwg(face("Ada", x=0.35, y=0.1, w=0.1, h=0.1), face("Bo", x=0.8, y=0.8, w=0.1, h=0.1))
    source = load(heic(xmp=packet(regions)))
    edited, count = without_names(source, hole(source))
    assert count == 1
    output = encode(edited, source.pixels.copy(), hole(source), lossy_quality=90).data
    xmp = opened(output).info["xmp"]
    assert b"Ada" not in xmp
    assert b"Bo" in xmp


def test_depth_maps_videos_and_other_boxes_are_dropped_and_named() -> None:
    rgba = np.concatenate([PIXELS, PIXELS[..., :1]], 2)
    data = heic(rgba, "RGBA")
    alpha, depth = b"urn:mpeg:hevc:2015:auxid:1", b"urn:mpeg:hevc:2015:auxid:2"
    assert data.count(alpha) == 1
    depth_map = data.replace(alpha, depth)
    credentials = box(b"uuid", bytes.fromhex("d8fec3d61b0e483c92975828877ec481") + SECRET)
    video = box(b"mpvd", box(b"ftyp", b"mp42") + SECRET)
    source, output, result, _ = cleaned(
        depth_map + video + credentials + box(b"sefd", bytes(30)) + b"\xff\xff\xff\xffrest"
    )
    assert source.notes == (
        "1 other boxes dropped",
        "8 bytes behind the image dropped",
        "content credentials dropped",
        "depth map dropped",
        "motion video dropped",
    )
    assert (source.mode, opened(output).info["depth_images"], opened(output).info["aux"]) == ("RGB", [], {})
    assert SECRET not in output
    assert result.notes == ()


def test_bursts_and_sequences_are_refused() -> None:
    images = [pillow_heif.from_bytes("RGB", (96, 72), PIXELS.tobytes()) for _ in range(3)]
    buffer = io.BytesIO()
    images[0].save(buffer, append_images=[image[0] for image in images[1:]], quality=50)
    with pytest.raises(ImageError, match=r"^decode: The HEIC file has 3 frames; only still images"):
        load(buffer.getvalue())
    with pytest.raises(ImageError, match="is an image sequence"):
        load(heic() + box(b"moov", bytes(8)))


def test_too_large_or_damaged_files_are_refused() -> None:
    data = heic(tile_size=64)
    with pytest.raises(ImageError, match="too large: 96 x 72"):
        decode(data, max_pixels=96 * 72 - 1)
    for length in range(12, len(data), max(1, len(data) // 40)):
        with pytest.raises(ImageError) as error:
            decode(data[:length], max_pixels=LIMIT)
        assert error.value.stage == "decode"


def test_damaged_bytes_raise_nothing_but_image_error() -> None:
    data, refused = heic(tile_size=64, exif=exif_block(6), xmp=PLAIN_XMP), 0
    rng = np.random.default_rng(3)
    for _ in range(100):
        broken = bytearray(data)
        # Half of the damage lies in the boxes before the coded picture.
        end = data.index(b"mdat") if rng.random() < 0.5 else len(data)
        for at in rng.integers(4, end, int(rng.integers(1, 4))):
            broken[at] = int(rng.integers(256))
        try:
            decode(bytes(broken), max_pixels=LIMIT)
        except ImageError as error:
            refused += error.stage == "decode"
    assert 30 < refused < 100


def test_without_the_package_the_record_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError, match=r"HEIC needs pillow-heif .*; run: pip install 'inpaint-core\[heic\]'\.$"):
        load(heic())


def test_the_package_is_imported_for_such_files_alone() -> None:
    code = (
        "import sys, inpaint_core.images.decode as d, inpaint_core.images.media_types as m;"
        "from tests.odd_files import jpeg;"
        "d.decode(jpeg(), max_pixels=10**6);"
        "assert m.installed('HEIC') and 'pillow_heif' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_media_type_is_that_of_the_library() -> None:
    assert pillow_heif.get_file_mimetype(heic()) == media_types.IMAGE_TYPES["HEIC"].media_type


def test_other_formats_need_no_package() -> None:
    assert all(media_types.installed(name) for name in media_types.IMAGE_TYPES)
