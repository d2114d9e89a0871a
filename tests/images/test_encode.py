import struct
import tracemalloc
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from inpaint_core.errors import ImageError
from inpaint_core.images.encode import encode
from inpaint_core.images.formats.samples import Raster, paint, show, to_stored
from tests.encoding import FILL, LOSSY, STILL, cleaned, filled, hole, is_lossy, load, opened
from tests.odd_files import in_mode, picture, png, png_16, png_chunk, saved


@pytest.mark.parametrize("key", STILL)
def test_file_stays_what_it_was(key: str) -> None:
    source, output, result, _ = cleaned(STILL[key])
    assert (result.format, result.mode, result.orientation) == (source.format, source.mode, source.orientation)
    assert result.pixels.shape == source.pixels.shape
    before, after = opened(STILL[key]), opened(output)
    assert (after.size, after.mode) == (before.size, before.mode)
    without = {"mp", "mpoffset"}  # The index of an MPO file's further pictures.
    assert after.info == {name: value for name, value in before.info.items() if name not in without}


@pytest.mark.parametrize("key", [key for key, data in STILL.items() if not is_lossy(load(data))])
def test_samples_outside_the_mask_are_exact_in_lossless_formats(key: str) -> None:
    source, _, result, mask = cleaned(STILL[key])
    stored = to_stored(mask, source.orientation)
    assert np.array_equal(result.file.raster.samples[~stored], source.file.raster.samples[~stored])
    assert np.array_equal(result.pixels[~mask], source.pixels[~mask])


@pytest.mark.parametrize("data", [png("RGB"), saved(picture(), "TIFF"), saved(picture(), "BMP"), png_16(3)])
def test_colour_under_the_mask_is_the_fill(data: bytes) -> None:
    _, _, result, mask = cleaned(data)
    assert (result.pixels[mask] == FILL).all()


@pytest.mark.parametrize("data", [png("L"), png("LA"), saved(in_mode("L"), "TIFF")])
def test_grey_under_the_mask_is_luma(data: bytes) -> None:
    _, _, result, mask = cleaned(data)
    luma = Image.new("RGB", (1, 1), FILL).convert("L").getpixel((0, 0))
    opaque = mask.copy()
    opaque[:, : mask.shape[1] * 2 // 3] &= result.mode != "LA"
    assert np.abs(result.pixels[opaque].astype(int) - luma).max(initial=0) <= 1


def test_16_bit_grey_and_single_bits_under_the_mask() -> None:
    source, output, result, mask = cleaned(png("I;16"))
    assert (result.pixels[mask] == 98).all()  # luma of the fill
    # Of the samples that are shown so, those that the surroundings have.
    samples, known = np.asarray(opened(output))[mask], source.file.raster.samples[..., 0][~mask]
    assert np.isin(samples, known[np.rint(known / 257) == 98]).all()
    _, _, result, mask = cleaned(png("1"))
    assert (result.pixels[mask] == 0).all()


def test_cmyk_under_the_mask_is_shown_as_the_fill() -> None:
    _, _, result, mask = cleaned(saved(in_mode("CMYK"), "TIFF"))
    assert np.abs(result.pixels[mask].astype(int) - FILL).max() <= 1


@pytest.mark.parametrize("mode", ["RGBA", "RGBA;16"])
def test_alpha_is_kept_and_the_fill_is_seen_through_it(mode: str) -> None:
    source, _, result, mask = cleaned(png_16(4) if mode == "RGBA;16" else png("RGBA"))
    before, after = source.file.raster.samples, result.file.raster.samples
    assert np.array_equal(after[..., 3], before[..., 3])
    # Over white a colour with alpha a can be no darker than 1 - a.
    darkest = 255 * (1 - after[..., 3:].astype(float) / np.iinfo(after.dtype).max)
    expected = np.maximum(np.array(FILL), darkest)
    assert np.abs(result.pixels - expected)[mask].max() <= 1


def test_colour_below_full_transparency_is_replaced_as_well() -> None:
    _, output, _, mask = cleaned(STILL["mode/fully_transparent.png"])
    assert (np.asarray(opened(output))[mask] == (*FILL, 0)).all()


@pytest.mark.parametrize("key", ["mode/palette.gif", "mode/png_P.png", "mode/palette_transparent.png"])
def test_palette_gives_its_nearest_colour(key: str) -> None:
    source, _, result, mask = cleaned(STILL[key])
    raster = source.file.raster
    opaque = raster.palette[raster.palette[:, 3] == 255, :3].astype(int)
    nearest = opaque[((opaque - FILL) ** 2).sum(1).argmin()]
    transparent = raster.palette[raster.samples[..., 0], 3] < 255
    assert (result.pixels[mask & ~transparent] == nearest).all()
    assert np.array_equal(result.file.raster.palette, raster.palette)


def test_fill_never_becomes_transparent_by_a_colour_key() -> None:
    plain = saved(Image.new("RGB", (8, 8), (1, 2, 3)), "PNG")
    keyed = plain[:33] + png_chunk(b"tRNS", struct.pack(">HHH", *FILL)) + plain[33:]
    _, _, result, mask = cleaned(keyed)
    assert np.abs(result.pixels[mask].astype(int) - FILL).max() == 1


def png_of_few_bits(values: np.ndarray, depth: int, *colours: tuple[bytes, bytes]) -> bytes:
    """A grey PNG, or one with a palette where `colours` has the chunk for it."""
    height, width = values.shape
    bits = (values[..., None] >> np.arange(depth - 1, -1, -1)) & 1
    rows = np.pad(np.packbits(bits.reshape(height, -1).astype(np.uint8), axis=1), ((0, 0), (1, 0))).tobytes()
    colour_type = 3 if any(kind == b"PLTE" for kind, _ in colours) else 0
    header = struct.pack(">LLBBBBB", width, height, depth, colour_type, 0, 0, 0)
    parts = [(b"IHDR", header), *colours, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*part) for part in parts)


@pytest.mark.parametrize(("depth", "key"), [(1, 0), (2, 1), (4, 6)])
def test_fill_never_becomes_transparent_in_grey_of_few_bits(depth: int, key: int) -> None:
    # Luma of the fill is 98, the nearest levels are 0, 85 and 102.
    values = np.full((9, 13), 2**depth - 1)
    values[0, 0] = key
    source, _, result, mask = cleaned(png_of_few_bits(values, depth, (b"tRNS", struct.pack(">H", key))))
    stored = result.file.raster.samples[..., 0]
    scale = 255 // (2**depth - 1)
    assert source.file.raster.key == result.file.raster.key == (key * scale,)
    mask[0, 0] = False
    assert (stored[mask] == (key ^ 1) * scale).all()


@pytest.mark.parametrize("opaque", [True, False])
def test_object_in_palette_entries_with_an_alpha_of_their_own_is_replaced(opaque: bool) -> None:
    alphas = [255, 255, 200, 150] if opaque else [210, 220, 200, 150]
    colours = [FILL, (255, 255, 255), (0, 0, 0), (0, 0, 255)]
    values = np.tile([2, 3], (8, 6))
    palette = (b"PLTE", bytes(np.array(colours, np.uint8)))
    _, _, result, mask = cleaned(png_of_few_bits(values, 2, palette, (b"tRNS", bytes(alphas))))
    assert (result.file.raster.samples[mask] == 0).all()


def test_large_images_are_converted_like_small_ones_and_in_little_memory() -> None:
    rng = np.random.default_rng(0)
    height, width = 1000, 2000
    samples = rng.integers(0, 256, (height, width, 4), dtype=np.uint8)
    fill, mask = rng.integers(0, 256, (height, width, 3), dtype=np.uint8), rng.random((height, width)) < 0.9
    large = Raster(samples, "RGBA")
    tracemalloc.start()
    shown = show(large)
    painted = paint(large, fill, mask)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20 * height * width  # 3 + 4 of it are the results.
    for top in range(0, height, 100):
        rows = slice(top, top + 100)
        small = Raster(samples[rows].copy(), "RGBA")
        assert np.array_equal(shown[rows], show(small))
        assert np.array_equal(painted[rows], paint(small, fill[rows], mask[rows]))


@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("colour_type", [0, 3])
def test_png_of_few_bits_keeps_its_depth(colour_type: int, depth: int) -> None:
    rng = np.random.default_rng(depth)
    values = rng.integers(0, 2**depth, (9, 13))
    palette = rng.integers(0, 256, 3 * 2**depth, dtype=np.uint8).tobytes()
    data = png_of_few_bits(values, depth, *([(b"PLTE", palette)] if colour_type else []))
    source, output, result, mask = cleaned(data)
    assert output[16:29] == data[16:29]
    assert np.array_equal(result.pixels[~mask], source.pixels[~mask])
    assert np.array_equal(np.asarray(opened(output).convert("RGB")), result.pixels)


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_fill_lands_where_the_mask_is_displayed(format_: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    options = {"lossless": True} if format_ == "WEBP" else {"quality": 95} if format_ in LOSSY else {}
    source, _, result, mask = cleaned(saved(picture(90, 70), format_, exif=exif, **options))
    assert result.orientation == orientation
    inner = cv2.erode(mask.astype(np.uint8), np.ones((5, 5))).astype(bool)
    assert np.abs(result.pixels[inner].astype(int) - FILL).max() < 30
    assert np.abs(result.pixels.astype(int) - source.pixels)[~mask].mean() < 4


@pytest.mark.parametrize("what", ["size", "type", "mask size", "mask type"])
def test_arguments_that_do_not_fit_are_refused(what: str) -> None:
    source = load(png())
    pixels, mask = filled(source), hole(source)
    match what:
        case "size":
            pixels = pixels[1:]
        case "type":
            pixels = pixels.astype(np.float32)
        case "mask size":
            mask = mask.T
        case "mask type":
            mask = mask.astype(np.uint8)
    with pytest.raises(ImageError, match="and the image is") as error:
        encode(source, pixels, mask, lossy_quality=90)
    assert error.value.stage == "encode"


def test_inputs_are_not_changed() -> None:
    source = load(png())
    pixels, mask = filled(source), hole(source)
    before = source.pixels.copy(), source.file.raster.samples.copy(), pixels.copy(), mask.copy()
    encode(source, pixels, mask, lossy_quality=90)
    for old, new in zip(before, (source.pixels, source.file.raster.samples, pixels, mask), strict=True):
        assert np.array_equal(old, new)
