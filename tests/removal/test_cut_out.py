"""Objects removed from images with transparency, in each way in which a file can have it."""

import io
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray
from PIL import Image

from inpaint_core.detection.config import UltralyticsConfig
from inpaint_core.detection.detector import Detection
from inpaint_core.images.decode import Decoded, decode
from inpaint_core.images.transparency import GREY, WHITE, over
from inpaint_core.inpainting.config import OpencvConfig
from inpaint_core.inpainting.inpainter import Inpainter
from inpaint_core.removal.config import MaskConfig, RemoveConfig
from inpaint_core.removal.cut_out import detected, outside_difference, over_backgrounds, visible_seam, with_remains
from inpaint_core.removal.object_mask import object_mask
from inpaint_core.removal.remover import ObjectRemover, remove_objects
from tests.odd_files import png_chunk
from tests.samples import PAINT, PaintDetector

HEIGHT, WIDTH = 60, 120
MEADOW, PERSON = (120, 150, 90), (40, 40, 200)
GREY_OF = {colour: Image.new("RGB", (1, 1), colour).convert("L").getpixel((0, 0)) for colour in (MEADOW, PERSON)}
CONFIG = RemoveConfig(
    "in",
    "out",
    detector=UltralyticsConfig(classes=("paint",)),
    inpainter=OpencvConfig(),
    mask=MaskConfig(grow_min=2, min_object_pixels=20),
)


def disc(x: float, y: float, radius: float) -> NDArray[np.bool_]:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    mask: NDArray[np.bool_] = (columns - x) ** 2 + (rows - y) ** 2 <= radius**2
    return mask


class Finds:
    """Knows where the objects are."""

    def __init__(self, *masks: NDArray[np.bool_]) -> None:
        self.masks = masks

    def detect(self, images: Sequence[NDArray[np.uint8]], keys: Sequence[str]) -> list[list[Detection]]:
        height, width = images[0].shape[:2]
        box = (0.0, 0.0, float(width), float(height))
        return [[Detection("paint", 0.9, box, mask, 0, 0) for mask in self.masks] for _ in images]


def removed(data: bytes, *masks: NDArray[np.bool_]) -> tuple[Decoded, int]:
    """The image without the objects, and its `outside_max_diff`."""
    model = CONFIG.inpainter.build(None, device=torch.device("cpu"), autocast=False)
    config = replace(CONFIG, measure=replace(CONFIG.measure, residual_objects=False))
    output, record = remove_objects(data, ObjectRemover(config, Finds(*masks), Inpainter(model, config.fill)))
    assert (record.status, record.error) == ("cleaned", None)
    assert output is not None
    assert record.outside_max_diff is not None
    return decode(output, max_pixels=10**6), record.outside_max_diff


# A person stands in transparency, of whom the detector does not see the outermost pixels; another in a meadow.
IN_TRANSPARENCY, IN_PICTURE = disc(28, 30, 17), disc(90, 30, 15)
FOUND = disc(28, 30, 14), IN_PICTURE
MEADOW_AREA = np.broadcast_to(np.arange(WIDTH) >= 60, (HEIGHT, WIDTH))


def collage() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """RGBA with both persons, and without them."""
    truth = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    truth[MEADOW_AREA] = (*MEADOW, 255)
    image = truth.copy()
    image[IN_TRANSPARENCY | IN_PICTURE] = (*PERSON, 255)
    return image, truth


def raw_png(samples: NDArray[np.integer], colour_type: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of 8 or 16 bits."""
    height, width = samples.shape[:2]
    depth = 8 * samples.dtype.itemsize
    rows = samples.astype(f">u{depth // 8}").reshape(height, -1).view(np.uint8).reshape(height, -1)
    header = struct.pack(">LLBBBBB", width, height, depth, colour_type, 0, 0, 0)
    image_data = zlib.compress(np.pad(rows, ((0, 0), (1, 0))).tobytes())
    parts = [(b"IHDR", header), *chunks, (b"IDAT", image_data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*part) for part in parts)


def saved(rgba: NDArray[np.uint8], format_: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(rgba, "RGBA").save(file, format_, **options)  # type: ignore[arg-type]
    return file.getvalue()


def grey(rgba: NDArray[np.uint8], dtype: type = np.uint8) -> NDArray[np.integer]:
    luma = np.asarray(Image.fromarray(rgba[..., :3]).convert("L"))
    return np.stack([luma, rgba[..., 3]], -1).astype(dtype) * (257 if dtype is np.uint16 else 1)


def tiff(rgba: NDArray[np.uint8], extra: str, *, premultiplied: bool = False) -> bytes:
    file = io.BytesIO()
    samples = rgba.copy()
    if premultiplied:
        samples[..., :3] = np.rint(rgba[..., :3] * (rgba[..., 3:] / 255))
    tifffile.imwrite(file, samples, photometric="rgb", extrasamples=[extra])
    return file.getvalue()


def indexed(rgba: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], bytes]:
    """Indices and palette: transparent, the meadow, the person."""
    indices = np.where(rgba[..., 3] == 0, 0, np.where((rgba[..., :3] == MEADOW).all(-1), 1, 2)).astype(np.uint8)
    return indices, bytes((9, 9, 9, *MEADOW, *PERSON, 0, 0, 0))


def gif(rgba: NDArray[np.uint8]) -> bytes:
    indices, palette = indexed(rgba)
    image = Image.fromarray(indices, "P")
    image.putpalette(palette)
    file = io.BytesIO()
    image.save(file, "GIF", transparency=0, optimize=False)
    return file.getvalue()


def png_with_palette(rgba: NDArray[np.uint8], alphas: bytes = b"\x00") -> bytes:
    indices, palette = indexed(rgba)
    return raw_png(indices[..., None], 3, (b"PLTE", palette), (b"tRNS", alphas))


def png_with_key(rgba: NDArray[np.uint8], dtype: type, *, colour: bool) -> bytes:
    """Transparent is the colour 7."""
    samples = rgba[..., :3] if colour else grey(rgba)[..., :1]
    samples = samples.astype(dtype) * (257 if dtype is np.uint16 else 1)
    samples[rgba[..., 3] == 0] = 7
    key = struct.pack(f">{samples.shape[2]}H", *[7] * samples.shape[2])
    return raw_png(samples, 2 if colour else 0, (b"tRNS", key))


def bmp(rgba: NDArray[np.uint8]) -> bytes:
    """With a header of version 4, which names the bits of alpha."""
    masks = struct.pack("<LLLL", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    info = (
        struct.pack("<LllHHLLllLL", 108, WIDTH, -HEIGHT, 1, 32, 3, rgba.size, 0, 0, 0, 0) + masks + b"BGRs" + bytes(48)
    )
    pixels = rgba[..., [2, 1, 0, 3]].tobytes()
    return b"BM" + struct.pack("<LLL", 14 + len(info) + len(pixels), 0, 14 + len(info)) + info + pixels


FILES: dict[str, Callable[[NDArray[np.uint8]], bytes]] = {
    "png RGBA": lambda rgba: raw_png(rgba, 6),
    "png LA": lambda rgba: raw_png(grey(rgba), 4),
    "png RGBA;16": lambda rgba: raw_png(rgba.astype(np.uint16) * 257, 6),
    "png LA;16": lambda rgba: raw_png(grey(rgba, np.uint16), 4),
    "png palette": png_with_palette,
    "png palette, the person half transparent": lambda rgba: png_with_palette(rgba, b"\x00\xff\x80"),
    "png key RGB": lambda rgba: png_with_key(rgba, np.uint8, colour=True),
    "png key L": lambda rgba: png_with_key(rgba, np.uint8, colour=False),
    "png key RGB;16": lambda rgba: png_with_key(rgba, np.uint16, colour=True),
    "png key L;16": lambda rgba: png_with_key(rgba, np.uint16, colour=False),
    "gif": gif,
    "webp lossless": lambda rgba: saved(rgba, "WEBP", lossless=True, exact=True),
    "webp lossy": lambda rgba: saved(rgba, "WEBP", quality=90),
    "avif": lambda rgba: saved(rgba, "AVIF", quality=90),
    "tiff unassociated": lambda rgba: tiff(rgba, "unassalpha"),
    "tiff associated": lambda rgba: tiff(rgba, "assocalpha", premultiplied=True),
    "bmp": bmp,
}


@pytest.mark.parametrize("kind", FILES)
def test_what_transparency_surrounds_becomes_transparent_and_what_the_picture_surrounds_becomes_picture(
    kind: str,
) -> None:
    image, truth = collage()
    lossy = kind in ("webp lossy", "avif")
    source = decode(FILES[kind](image), max_pixels=10**6)
    assert source.rgba is not None
    assert (source.rgba[IN_TRANSPARENCY, 3] > 100).all()
    result, outside = removed(FILES[kind](image), *FOUND)
    assert (result.format, result.mode) == (source.format, source.mode)
    assert result.rgba is not None
    assert result.rgba[~MEADOW_AREA, 3].max() <= 2 * lossy
    assert result.rgba[MEADOW_AREA, 3].min() >= 255 - 2 * lossy
    if "L" in result.mode or result.mode == "I;16":
        truth[..., :3] = np.where(MEADOW_AREA[..., None], GREY_OF[MEADOW], 0)
    for background in (255, 128, 0):
        difference = np.abs(over(result.rgba, background).astype(int) - over(truth, background))
        assert difference[~MEADOW_AREA].max() <= 2 * lossy
        assert difference[MEADOW_AREA].max() <= (30 if lossy else 5)  # 5: Telea's fill of a flat colour
    assert outside <= (30 if lossy else 0)


@pytest.mark.parametrize("kind", ["png RGBA", "png RGBA;16", "tiff unassociated", "webp lossless", "bmp"])
def test_no_colour_of_the_object_stays_below_transparency(kind: str) -> None:
    image, _ = collage()
    result, _ = removed(FILES[kind](image), *FOUND)
    assert result.rgba is not None
    assert (result.rgba[IN_TRANSPARENCY, :3] == MEADOW).all()


def test_frame_of_a_gif_within_its_screen() -> None:
    """Around the frame is nothing; the object fills it."""
    image = np.zeros((20, 30, 4), np.uint8)
    image[:] = (*PERSON, 255)
    data = bytearray(gif(image))
    struct.pack_into("<HH", data, 6, WIDTH, HEIGHT)
    frame_at = data.index(b",\x00\x00\x00\x00" + struct.pack("<HH", 30, 20))
    struct.pack_into("<HH", data, frame_at + 1, 50, 20)
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[20:40, 50:80] = True
    source = decode(bytes(data), max_pixels=10**6)
    assert source.rgba is not None
    assert np.array_equal(source.rgba[..., 3] > 0, mask)
    result, _ = removed(bytes(data), mask)
    assert result.rgba is not None
    assert result.rgba[..., 3].max() == 0


@pytest.mark.parametrize("softness", [0.7, 1.5, 3])
def test_soft_edge_leaves_no_outline(softness: float) -> None:
    image = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    image[..., :3] = PERSON
    image[..., 3] = cv2.GaussianBlur(disc(60, 30, 18).astype(np.uint8) * 255, (0, 0), softness)
    for data in (raw_png(image, 6), tiff(image, "assocalpha", premultiplied=True)):
        result, _ = removed(data, disc(60, 30, 17))
        assert result.rgba is not None
        assert result.rgba[..., 3].max() == 0


def test_images_without_transparency_are_filled_as_if_they_had_no_alpha() -> None:
    image, _ = collage()
    image[..., 3] = 255
    opaque, _ = removed(raw_png(image, 6), *FOUND)
    plain, _ = removed(raw_png(image[..., :3], 2), *FOUND)
    assert opaque.rgba is None
    assert np.array_equal(opaque.pixels, plain.pixels)


def test_fill_of_half_surrounded_hole_continues_the_outline_and_takes_colours_of_the_picture_only() -> None:
    image = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    image[..., :3] = (255, 0, 255)  # below transparency: a colour that nobody is to see
    image[30:] = (*MEADOW, 255)
    image[disc(60, 30, 15)] = (*PERSON, 255)
    result, outside = removed(raw_png(image, 6), disc(60, 30, 15))
    assert outside == 0
    assert result.rgba is not None
    expected = np.broadcast_to(np.arange(HEIGHT)[:, None] >= 30, (HEIGHT, WIDTH))
    assert np.count_nonzero((result.rgba[..., 3] > 127) != expected) <= 20
    assert set(np.unique(result.rgba[..., 3])) <= {0, 255}
    shown = result.rgba[..., 3] > 0
    assert np.abs(result.rgba[shown, :3].astype(int) - MEADOW).max() <= 5


def test_remains_are_masked_where_they_end_near_the_mask() -> None:
    alpha = np.zeros((HEIGHT, WIDTH), np.uint8)
    alpha[disc(40, 30, 17)] = 255  # an outline of the object remains outside its mask
    alpha[30, 56:60] = 3  # a hair
    alpha[5, 40] = 200  # touches nothing
    alpha[28:33, 58:119] = 255  # a stick that goes on
    found = Finds(disc(40, 30, 14)).detect([np.zeros((HEIGHT, WIDTH, 3), np.uint8)], ["a"])[0]
    target = object_mask(found, (HEIGHT, WIDTH), MaskConfig(grow_min=2))
    alpha[28:33, 56:60] = 0
    alpha[30, 56:59] = 3
    alpha[30, 57:59] = 0
    grown = with_remains(target, alpha).mask
    assert grown[disc(40, 30, 17) & (alpha == 255)].all()
    assert grown[30, 56]
    assert not grown[5, 40]
    assert not grown[:, 60:].any()
    joined = alpha.copy()
    joined[28:33, 50:119] = 255
    assert np.array_equal(with_remains(target, joined).mask, target.mask)
    assert np.array_equal(with_remains(target, np.full_like(alpha, 90)).mask, target.mask)
    nothing = object_mask([], (HEIGHT, WIDTH), MaskConfig())
    assert with_remains(nothing, alpha) is nothing


def test_detector_sees_what_would_vanish_in_white_over_grey_too() -> None:
    dark, light = (np.zeros((HEIGHT, WIDTH, 4), np.uint8) for _ in range(2))
    dark[disc(60, 30, 20)] = (20, 30, 20, 255)
    light[disc(60, 30, 20)] = (250, 250, 250, 255)
    for rgba, expected in ((dark, (WHITE,)), (light, (WHITE, GREY))):
        shown = over_backgrounds(decode(raw_png(rgba, 6), max_pixels=10**6))
        assert len(shown) == len(expected)
        assert [int(image[0, 0, 0]) for image in shown] == list(expected)
    opaque = decode(raw_png(dark[..., :3], 2), max_pixels=10**6)
    assert over_backgrounds(opaque)[0] is opaque.pixels


class Dark(PaintDetector):
    """Finds grey of the background, less what is lighter than it."""

    def detect(self, images: Sequence[NDArray[np.uint8]], keys: Sequence[str]) -> list[list[Detection]]:
        self.batches.append(list(keys))
        return [self._find(np.where((image > 200).all(-1, keepdims=True), np.array(PAINT), 0)) for image in images]


def test_objects_of_several_views_are_counted_once() -> None:
    rgba = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    rgba[disc(30, 30, 12)] = PAINT
    moved = rgba.copy()
    moved[disc(90, 30, 12)] = PAINT
    detector = PaintDetector()
    first, second = detected(detector, [[rgba], [rgba, moved]], ["a", "b"])
    assert detector.batches == [["a", "b", "b"]]
    assert [len(first), len(second)] == [1, 2]


def test_white_ghost_counts_as_residual_object() -> None:
    """A silhouette that is left in alpha is not seen over white."""
    rgba = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    rgba[disc(60, 30, 15)] = 255
    shown = over_backgrounds(decode(raw_png(rgba, 6), max_pixels=10**6))
    (found,) = detected(Dark(), [shown], ["a"])
    assert any(np.array_equal(one.mask, disc(60, 30, 15)[15:46, 45:76]) for one in found)
    (found,) = detected(Dark(), [shown[:1]], ["a"])
    assert not any(one.mask.shape == (31, 31) for one in found)


def test_changes_of_alpha_are_measured() -> None:
    rgba = np.full((HEIGHT, WIDTH, 4), 255, np.uint8)
    rgba[:10, :, 3] = 0
    changed = rgba.copy()
    changed[20, 20, 3] = 155  # white over white
    before, after = (decode(raw_png(one, 6), max_pixels=10**6) for one in (rgba, changed))
    mask = np.zeros((HEIGHT, WIDTH), bool)
    assert np.array_equal(before.pixels, after.pixels)
    assert outside_difference(before, after, mask) == 100
    mask[20, 20] = True
    assert outside_difference(before, after, mask) == 0
    opaque = decode(raw_png(rgba[..., :3], 2), max_pixels=10**6)
    assert outside_difference(before, opaque, mask) == 255
    hole = disc(60, 40, 8)
    changed = rgba.copy()
    changed[hole, 3] = 0
    assert visible_seam(before, hole) == pytest.approx(1, abs=0.5)
    assert (visible_seam(decode(raw_png(changed, 6), max_pixels=10**6), hole) or 0) > 50


@pytest.mark.shared
@pytest.mark.parametrize("name", ["000000000446", "000000000569"], ids=["dark clothes", "light clothes"])
def test_a_photographed_person_cut_out_by_hand_leaves_nothing(shared_dir: Path, name: str) -> None:
    folder = shared_dir / "data" / "coco64-seg"
    photograph = np.asarray(Image.open(folder / "images" / f"{name}.jpg").convert("RGB"))
    height, width = photograph.shape[:2]
    lines = (folder / "labels" / f"{name}.txt").read_text().splitlines()
    outlines = [
        np.array(line.split()[1:], float).reshape(-1, 2) * (width, height) for line in lines if line[:2] == "0 "
    ]
    outline = max(outlines, key=lambda points: cv2.contourArea(points.astype(np.float32)))
    alpha = cv2.fillPoly(np.zeros((height, width), np.uint8), [outline.round().astype(np.int32)], 255)
    alpha = cv2.GaussianBlur(alpha, (0, 0), 1)
    detector = UltralyticsConfig(classes=("person",))
    weights = (shared_dir / "weights" / "yolov8n-seg.pt").read_bytes()
    device = torch.device("cpu")
    built = detector.build(weights, s3=CONFIG.s3, device=device, autocast=False)
    model = CONFIG.inpainter.build(None, device=device, autocast=False)
    remover = ObjectRemover(replace(CONFIG, detector=detector, mask=MaskConfig()), built, Inpainter(model, CONFIG.fill))
    for background in (0, 255):
        colours = np.where(alpha[..., None] > 0, photograph, background)
        output, record = remove_objects(raw_png(np.dstack([colours, alpha]).astype(np.uint8), 6), remover)
        assert (record.status, record.residual_objects, record.outside_max_diff) == ("cleaned", 0, 0)
        assert output is not None
        result = decode(output, max_pixels=10**7)
        assert result.rgba is not None
        assert result.rgba[..., 3].max() == 0
