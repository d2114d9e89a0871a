"""CMYK: what is seen of it, and with which inks a hole is filled. The colours are checked with LittleCMS alone."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageCms
from skimage.color import deltaE_ciede2000

from inpaint_core.images.decode import Decoded
from inpaint_core.images.encode import encode
from inpaint_core.images.formats.cmyk import conversion
from inpaint_core.images.metadata.segments import walk_jpeg
from tests.colour_profiles import ADOBE_RGB, press_profile, rgb_profile, seen
from tests.encoding import load, opened
from tests.odd_files import picture, saved

OBJECT = (20, 250, 240, 40)
FORMATS = {"TIFF": {}, "JPEG": {"quality": 95}}
INKS = {
    "grey": (101, 77, 78, 30),
    "black alone": (0, 0, 0, 140),
    "cyan, outside sRGB": (255, 0, 0, 0),
    "red": (0, 255, 255, 0),
    "rich black": (150, 140, 130, 255),
    "paper": (0, 0, 0, 0),
}


@pytest.fixture(scope="module")
def press() -> bytes:
    return press_profile()


def with_object(inks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """CMYK (H, W, 4) with an object painted on it, and the mask of the object and a ring."""
    painted, mask = inks.copy(), np.zeros(inks.shape[:2], bool)
    height, width = mask.shape
    painted[height // 3 : height // 2, width // 3 : width // 2] = OBJECT
    mask[height // 3 - 4 : height // 2 + 4, width // 3 - 4 : width // 2 + 4] = True
    return painted, mask


def file_of(inks: np.ndarray, format_: str, profile: bytes) -> bytes:
    options = {"icc_profile": profile} if profile else {}
    return saved(Image.fromarray(inks, "CMYK"), format_, **FORMATS[format_], **options)


def inks_of(data: bytes) -> np.ndarray:
    return np.asarray(opened(data))


def filled(source: Decoded, fill: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return inks_of(encode(source, fill, mask, lossy_quality=92).data)


def separated(image: Image.Image, profile: bytes) -> np.ndarray:
    """CMYK as press software makes it of sRGB."""
    transform = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.ImageCmsProfile(io.BytesIO(profile)), "RGB", "CMYK", renderingIntent=1
    )
    return np.asarray(ImageCms.applyTransform(image, transform))


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("with_profile", [True, False])
@pytest.mark.parametrize("inks", INKS.values(), ids=list(INKS))
def test_flat_field_gets_the_inks_around_it(
    format_: str, with_profile: bool, inks: tuple[int, ...], press: bytes
) -> None:
    field = np.broadcast_to(np.array(inks, np.uint8), (96, 120, 4))
    painted, mask = with_object(field)
    source = load(file_of(painted, format_, press if with_profile else b""))
    result = filled(source, np.broadcast_to(source.pixels[0, 0], source.pixels.shape).copy(), mask)
    assert np.abs(result[mask].astype(int) - inks).max() <= (0 if format_ == "TIFF" else 1)
    assert deltaE_ciede2000(seen(result, "CMYK", press), seen(field[:1, :1], "CMYK", press)).max() < 2


def test_the_profile_decides_what_is_seen(press: bytes) -> None:
    inks = separated(picture(), press)
    shown = load(file_of(inks, "TIFF", press)).pixels
    # Within the gamut the photograph itself comes back, which the formula misses by far.
    grey = np.full((4, 4, 3), 150, np.uint8)
    of_grey = load(file_of(separated(Image.fromarray(grey), press), "TIFF", press)).pixels
    assert np.abs(of_grey.astype(int) - 150).max() <= 2
    assert (
        np.abs(load(file_of(separated(Image.fromarray(grey), press), "TIFF", b"")).pixels.astype(int) - 150).max() > 5
    )
    lab, expected = (
        seen(shown, "RGB", ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()),
        seen(inks, "CMYK", press),
    )
    assert np.median(deltaE_ciede2000(lab, expected)) < 2


@pytest.mark.parametrize("format_", FORMATS)
def test_photograph_is_filled_with_its_own_inks(format_: str, press: bytes) -> None:
    inks = separated(picture(160, 120), press)
    painted, mask = with_object(inks)
    source = load(file_of(painted, format_, press))
    fill = load(file_of(inks, "TIFF", press)).pixels
    result = filled(source, fill, mask)
    differences = deltaE_ciede2000(seen(result, "CMYK", press), seen(inks, "CMYK", press))[mask]
    assert np.median(differences) < 1.5
    assert np.percentile(differences, 95) < 3.5
    around = painted[~mask].astype(int).sum(1).max()
    assert result[mask].astype(int).sum(1).max() <= around + (0 if format_ == "TIFF" else 12)


def test_black_alone_stays_black_alone(press: bytes) -> None:
    rng = np.random.default_rng(1)
    inks = np.zeros((96, 120, 4), np.uint8)
    inks[..., 3] = np.clip(120 + 60 * np.sin(np.arange(120) / 9) + rng.normal(0, 8, (96, 120)), 0, 255)
    inks[::12, :, 3] = 255
    painted, mask = with_object(inks)
    source = load(file_of(painted, "TIFF", press))
    # A network's grey is never quite neutral.
    fill = np.clip(load(file_of(inks, "TIFF", press)).pixels + rng.integers(-2, 3, (96, 120, 3)), 0, 255)
    result = filled(source, fill.astype(np.uint8), mask)
    assert (result[..., :3] == np.where(mask[..., None], 0, painted[..., :3])).all()
    assert np.abs(result[mask][:, 3].astype(int) - inks[mask][:, 3]).max() <= 6


def test_colours_that_are_nowhere_around_are_shown_as_far_as_the_inks_there_go(press: bytes) -> None:
    pale = Image.fromarray(np.asarray(picture(160, 120)) // 2 + 64)
    inks = separated(pale, press)
    source = load(file_of(inks, "TIFF", press))
    mask = with_object(inks)[1]
    wanted = np.zeros_like(source.pixels) + np.array([215, 90, 50], np.uint8)
    assert (np.abs(source.pixels.astype(int) - wanted).max(-1) > 8).all()
    result = load(encode(source, wanted, mask, lossy_quality=92).data)
    assert np.abs(result.pixels[mask].astype(int) - wanted[mask]).max() <= 4
    # Dark of all four inks where the surroundings are light: no more ink than they have.
    light = np.full((96, 120, 4), (60, 50, 50, 10), np.uint8)
    source = load(file_of(light, "TIFF", press))
    dark = filled(source, np.zeros_like(source.pixels), with_object(light)[1])
    assert dark.astype(int).sum(-1).max() <= 170
    assert dark[with_object(light)[1]][:, 3].min() > 100  # Black instead of the other three.


def test_whole_image_as_a_hole_gets_the_profiles_own_inks(press: bytes) -> None:
    grey = np.full((20, 30, 3), 150, np.uint8)
    inks = separated(Image.fromarray(grey), press)
    source = load(file_of(np.full_like(inks, 128), "TIFF", press))
    result = filled(source, grey, np.ones((20, 30), bool))
    assert deltaE_ciede2000(seen(result, "CMYK", press), seen(inks, "CMYK", press)).max() < 2


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("what", ["cut off", "of RGB", "noise", "without tables"])
def test_unusable_profile_counts_as_none_and_is_kept(format_: str, what: str, press: bytes) -> None:
    profile = {
        "cut off": press[:3000],
        "of RGB": rgb_profile(ADOBE_RGB),
        "noise": bytes(range(256)) * 3,
        "without tables": press[:128] + bytes(4),
    }[what]
    painted, mask = with_object(np.full((96, 120, 4), INKS["grey"], np.uint8))
    source, plain = load(file_of(painted, format_, profile)), load(file_of(painted, format_, b""))
    assert np.array_equal(source.pixels, plain.pixels)
    data = encode(source, np.broadcast_to(source.pixels[0, 0], source.pixels.shape).copy(), mask, lossy_quality=92).data
    assert np.abs(inks_of(data)[mask].astype(int) - INKS["grey"]).max() <= 1
    assert opened(data).info["icc_profile"] == profile


def test_profile_of_a_scanner_has_no_inks_for_a_colour_and_those_around_are_used() -> None:
    profile = press_profile(with_separation=False)
    assert conversion(profile).of_profile
    painted, mask = with_object(np.full((96, 120, 4), INKS["grey"], np.uint8))
    source = load(file_of(painted, "TIFF", profile))
    result = filled(source, np.broadcast_to(source.pixels[0, 0], source.pixels.shape).copy(), mask)
    assert (result == INKS["grey"])[mask].all()


def test_profile_spread_over_segments_in_any_order(press: bytes) -> None:
    field = np.full((16, 16, 4), INKS["grey"], np.uint8)
    data = file_of(field, "JPEG", press)
    first, second = (segment for segment in walk_jpeg(data) if segment.marker == 0xE2)  # 79 KB are two segments
    turned = data[: first.start] + data[second.start : second.end] + data[first.start : first.end] + data[second.end :]
    assert np.array_equal(load(turned).pixels, load(data).pixels)
    assert not np.array_equal(load(data).pixels, load(file_of(field, "JPEG", b"")).pixels)


def test_ycck_jpeg_is_filled_like_cmyk(press: bytes) -> None:
    painted, mask = with_object(np.full((96, 120, 4), INKS["grey"], np.uint8))
    # YCCK is YCbCr of 255 - CMY; the inks are inverted before, as Adobe does, and Pillow inverts what it writes.
    planes = np.concatenate(
        [255 - np.asarray(Image.fromarray(painted[..., :3]).convert("YCbCr")), painted[..., 3:]], -1
    )
    data = bytearray(file_of(planes, "JPEG", press))
    data[data.index(b"Adobe") + 11] = 2
    source = load(bytes(data))
    assert np.abs(source.file.raster.samples[0, 0].astype(int) - INKS["grey"]).max() <= 2
    result = filled(source, np.broadcast_to(source.pixels[0, 0], source.pixels.shape).copy(), mask)
    lab = seen(result, "CMYK", press)
    assert deltaE_ciede2000(lab[mask], lab[0, 0][None]).max() < 2
