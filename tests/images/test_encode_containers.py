import io
import re
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import PngImagePlugin

from inpaint_core.images.encode import encode
from tests.encoding import FILL, SECRET, SECRET_TEXT, cleaned, filled, hole, load, opened
from tests.odd_files import exif_block, in_mode, picture, png, png_chunk, saved


def chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    position, found = 8, []
    while position < len(data):
        (length,) = struct.unpack_from(">L", data, position)
        found.append((data[position + 4 : position + 8], data[position + 8 : position + 8 + length]))
        position += 12 + length
    return found


def test_png_chunks_are_taken_over_and_no_earlier_picture_stays() -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "kept")
    text.add_itxt("XML:com.adobe.xmp", f"<a xmpGImg:image='{SECRET_TEXT.decode()}'/>", zip=True)
    for profile in ("exif", "APP1", "8bim", "xmp", "iptc"):
        text.add_text(f"Raw profile type {profile}", SECRET_TEXT.decode(), zip=profile == "xmp")
    text.add_text("Raw profile type icc", "colours")
    data = png(pnginfo=text, dpi=(72, 72), icc_profile=bytes(200), exif=b"Exif\x00\x00" + exif_block(5, SECRET))
    additions = {b"gAMA": struct.pack(">L", 45455), b"caBX": SECRET, b"iDOT": bytes(28), b"prVt": b"private"}
    data = data[:33] + b"".join(png_chunk(*item) for item in additions.items()) + data[33:]
    _, output, result, _ = cleaned(data)
    kept = [b"IHDR", b"gAMA", b"prVt", b"iCCP", b"tEXt", b"pHYs"]
    before, after = chunks(data), chunks(output)
    assert [item for item in before if item[0] in kept and (b"Raw" not in item[1] or b"icc" in item[1])] == [
        item for item in after if item[0] in kept
    ]
    assert {kind for kind, _ in after} == {*kept, b"iTXt", b"eXIf", b"IDAT", b"IEND"}
    (xmp,) = [content for kind, content in after if kind == b"iTXt"]
    assert zlib.decompress(xmp.split(b"\x00\x01\x00\x00\x00", 1)[1]) == b"<a xmpGImg:image='%b'/>" % (
        b" " * len(SECRET_TEXT)
    )
    assert SECRET[20:60] not in output
    assert result.orientation == 5


@pytest.mark.parametrize("lossless", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_webp_stays_lossless_or_lossy_with_its_metadata(mode: str, lossless: bool) -> None:
    exif = b"Exif\x00\x00" + exif_block(8, SECRET)
    xmp = b"<a><xmpGImg:image>" + SECRET_TEXT + b"</xmpGImg:image></a>"
    options = {"exif": exif, "xmp": xmp, "icc_profile": bytes(range(99)), "exact": True}
    data = saved(in_mode(mode), "WEBP", lossless=lossless, **options)
    source, output, result, _ = cleaned(data, quality=50)
    assert source.file.lossless == result.file.lossless == lossless
    assert (b"VP8L" in output) == lossless
    if mode == "RGBA":
        before, after = source.file.raster.samples, result.file.raster.samples
        assert np.array_equal(before[..., 3], after[..., 3])
    assert SECRET[20:60] not in output
    assert SECRET_TEXT[:18] not in output
    assert opened(output).info["icc_profile"] == bytes(range(99))
    assert opened(output).info["exif"][:40] == exif[6:46]
    better = encode(source, filled(source), hole(source), lossy_quality=100).data
    assert (len(better) > len(output)) != lossless


def test_avif_keeps_metadata_and_its_sampling() -> None:
    exif = b"Exif\x00\x00" + exif_block(6, SECRET)
    data = saved(picture(), "AVIF", exif=exif, xmp=b"<a>text</a>", icc_profile=bytes(range(99)), subsampling="4:4:4")
    before = opened(data)
    source, output, result, _ = cleaned(data)
    after = opened(output)
    assert result.orientation == 6
    assert result.file.subsampling == source.file.subsampling == "4:4:4"
    assert after.info["icc_profile"] == bytes(range(99))
    assert after.info["xmp"] == b"<a>text</a>"
    assert SECRET[20:60] not in output
    assert after.info["exif"].removeprefix(b"Exif\x00\x00") == source.file.exif
    assert after.getexif().get_ifd(34665) == before.getexif().get_ifd(34665)
    assert after.getexif()[272] == "Odd Camera 3000"


@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "deflate", "lzma"])
@pytest.mark.parametrize("layout", ["strips", "tiles", "planes"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "I;16", "CMYK"])
def test_tiff_written_by_another_library_stays_as_it_was(
    mode: str, layout: str, compression: str | None, byte_order: str
) -> None:
    rng = np.random.default_rng(3)
    channels = {"L": (), "I;16": ()}.get(mode, (len(mode),))
    samples = rng.integers(0, 256, (50, 70, *channels)).astype(np.uint16 if mode == "I;16" else np.uint8)
    planes = layout == "planes" and bool(channels)
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        np.moveaxis(samples, -1, 0) if planes else samples,
        byteorder=byte_order,
        compression=compression,
        predictor=compression == "deflate",
        tile=(32, 32) if layout == "tiles" else None,
        photometric={"L": "minisblack", "I;16": "minisblack", "CMYK": "separated"}.get(mode, "rgb"),
        planarconfig=("separate" if planes else "contig") if channels else None,
        extrasamples=["unassalpha"] if mode == "RGBA" else None,
        description="a description that lies outside its entry",
        resolution=(300, 300),
        metadata=None,
    )
    source, output, result, mask = cleaned(buffer.getvalue())
    assert np.array_equal(source.file.raster.samples.reshape(samples.shape), samples)
    with tifffile.TiffFile(io.BytesIO(output)) as written:
        page = written.pages[0]
        assert written.byteorder == byte_order
        assert page.description == "a description that lies outside its entry"
        assert page.tags["XResolution"].value == (300, 1)
        assert page.compression == tifffile.TiffFile(io.BytesIO(buffer.getvalue())).pages[0].compression
        assert page.is_tiled == (layout == "tiles")
        assert page.planarconfig == (2 if planes else 1)
        stored = np.moveaxis(page.asarray(), 0, -1) if planes else page.asarray()
        assert np.array_equal(stored[~mask], samples[~mask])
        assert np.array_equal(stored, result.file.raster.samples.reshape(samples.shape))


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "packbits", "zstd", "jpeg", "group3", "group4"])
def test_tiff_keeps_its_compression(compression: str) -> None:
    mode = "1" if compression.startswith("group") else "RGB"
    data = saved(in_mode(mode), "TIFF", compression=compression)
    source, output, result, mask = cleaned(data)
    assert opened(output).info["compression"] == opened(data).info["compression"] == compression
    difference = np.abs(result.pixels.astype(int) - source.pixels)[~mask]
    assert difference.max() == 0 or (compression == "jpeg" and difference.mean() < 2)


def test_no_earlier_picture_stays_in_a_tiff() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    layers = SECRET + b"layers"
    resource = struct.pack(">4sHHL", b"8BIM", 1036, 0, len(SECRET)) + SECRET + bytes(len(SECRET) % 2)
    xmp = b"<a><xmpGImg:image>" + SECRET_TEXT + b"</xmpGImg:image></a>"
    extra = [(700, 1, len(xmp), xmp, True), (34377, 1, len(resource), resource, True)]
    extra.append((37724, 7, len(layers), layers, True))
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(noise, photometric="rgb", extratags=extra, subifds=1, metadata=None)
        writer.write(noise[::2, ::2], photometric="rgb", subfiletype=1, metadata=None)
        writer.write(noise[::4, ::4], photometric="rgb", subfiletype=1, metadata=None)
    source = load(buffer.getvalue())
    everywhere = np.ones((40, 48), bool)
    output = encode(source, filled(source), everywhere, lossy_quality=90).data
    for trace in (SECRET[20:60], SECRET_TEXT[:18], *(noise[::step, ::step].tobytes()[60:90] for step in (1, 2, 4))):
        assert trace in buffer.getvalue()
        assert trace not in output
    with tifffile.TiffFile(io.BytesIO(output)) as written:
        assert not {34377, 37724} & set(written.pages[0].tags.keys())
        copies = [*written.pages, *written.pages[0].pages]
        assert [copy.shape[:2] for copy in copies] == [(40, 48), (10, 12), (20, 24)]
        assert all((copy.asarray() == FILL).all() for copy in copies)


def test_tiff_with_associated_alpha_keeps_its_products() -> None:
    samples = np.random.default_rng(4).integers(0, 256, (20, 30, 4), dtype=np.uint8)
    samples[..., :3] = np.minimum(samples[..., :3], samples[..., 3:])
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, samples, photometric="rgb", extrasamples=["assocalpha"], metadata=None)
    _, output, _, mask = cleaned(buffer.getvalue())
    written = tifffile.imread(io.BytesIO(output))
    assert np.array_equal(written[~mask], samples[~mask])
    assert np.array_equal(written[..., 3], samples[..., 3])
    assert (written[..., :3] <= written[..., 3:]).all()


@pytest.mark.parametrize("kind", ["16 bits", "top down", "masks", "run lengths", "2 colours"])
def test_bmp_is_overwritten_in_place(kind: str) -> None:
    if kind == "2 colours":
        data = saved(in_mode("1"), "BMP")
    elif kind == "run lengths":
        header = struct.pack("<lLHHLLLLLL", 4, 2, 1, 8, 1, 12, 0, 0, 2, 0)
        pixels = b"\x04\x01\x00\x00\x02\x00\x02\x01\x00\x00\x00\x01"
        palette = b"\x00\x00\x00\x00\x40\x80\xff\x00"
        data = b"BM" + struct.pack("<LLLL", 74, 0, 62, 40) + header + palette + pixels
    else:
        height = -6 if kind == "top down" else 6
        bits, compression, masks = (
            (32, 3, struct.pack("<LLL", 0xFF000000, 0xFF0000, 0xFF00)) if kind == "masks" else (16, 0, b"")
        )
        pixels = np.random.default_rng(0).integers(0, 256, 6 * 8 * bits // 8, dtype=np.uint8).tobytes()
        header = struct.pack("<llHHLLLLLL", 8, height, 1, bits, compression, len(pixels), 0, 0, 0, 0)
        start = 54 + len(masks)
        data = b"BM" + struct.pack("<LLLL", start + len(pixels), 0, start, 40) + header + masks + pixels
    source, output, result, mask = cleaned(data)
    assert np.abs(source.pixels - np.asarray(opened(data).convert("RGB")).astype(int)).max() <= 4
    assert np.array_equal(result.pixels[~mask], source.pixels[~mask])
    if kind in ("16 bits", "top down", "masks"):
        assert len(output) == len(data)
        assert np.abs(result.pixels[mask].astype(int) - FILL).max() <= 4


@pytest.mark.parametrize("interlace", [0, 1])
def test_gif_blocks_are_taken_over(interlace: int) -> None:
    data = saved(in_mode("P"), "GIF", comment=b"kept", transparency=7, interlace=interlace)
    _, output, result, _ = cleaned(data)
    start = re.search(rb",\x00\x00\x00\x00\x30\x00\x28\x00", data).end()
    assert output[:start] == data[:start]
    assert opened(output).info.get("interlace") == opened(data).info.get("interlace")
    assert b"kept" in output
    assert result.pixels.shape == (40, 48, 3)
