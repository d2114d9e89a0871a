"""Lossy WebP and AVIF are written at the quality that they had; sizes and pixels are compared with the source's."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inpaint_core.images.encode import encode
from inpaint_core.images.formats.av1_quality import base_quantiser
from inpaint_core.images.formats.quality import encoded_like
from inpaint_core.images.formats.vp8_quality import webp_quality
from tests.encoding import load
from tests.odd_files import saved
from tests.samples import photograph


def vp8(data: bytes) -> bytes:
    return data[data.index(b"VP8 ") + 8 :]


def middle(shape: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape[:2], bool)
    mask[shape[0] // 4 : 3 * shape[0] // 4, shape[1] // 3 : 2 * shape[1] // 3] = True
    return mask


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / ((a.astype(float) - b) ** 2).mean()))


def growth_and_psnr(picture: np.ndarray, format_: str, quality: int, lossy_quality: int | None) -> tuple[float, float]:
    """Size over the source's, and PSNR outside the mask against the decoded source; the fill is the mirrored picture."""
    data = saved(Image.fromarray(picture), format_, quality=quality)
    source = load(data)
    mask = middle(picture.shape)
    output = encode(source, np.ascontiguousarray(source.pixels[:, ::-1]), mask, lossy_quality=lossy_quality).data
    return len(output) / len(data), psnr(load(output).pixels[~mask], source.pixels[~mask])


@pytest.mark.parametrize("segments", [1, 4])
@pytest.mark.parametrize("quality", [5, 30, 60, 75, 90, 100])
def test_quality_of_webp_is_read_from_its_quantisers(quality: int, segments: int) -> None:
    image = Image.fromarray(photograph((320, 240)))
    # Method 0 has no segments; others have four, of different quantisers.
    data = saved(image, "WEBP", quality=quality, method=0 if segments == 1 else 4)
    assert webp_quality(vp8(data)) == pytest.approx(quality, abs=2)


@pytest.mark.parametrize("content", [b"", bytes(40), vp8(saved(Image.new("RGB", (9, 9)), "WEBP"))[:10]])
def test_webp_without_a_readable_header_has_no_quality(content: bytes) -> None:
    assert webp_quality(content) is None


@pytest.mark.parametrize(
    ("format_", "quality", "least"),
    [("WEBP", 30, 32), ("WEBP", 60, 35), ("WEBP", 90, 42), ("AVIF", 35, 32), ("AVIF", 60, 36), ("AVIF", 90, 42)],
)
def test_file_neither_grows_nor_loses_its_quality(format_: str, quality: int, least: float) -> None:
    growth, outside = growth_and_psnr(photograph((320, 240)), format_, quality, None)
    assert 0.75 < growth < 1.25
    assert outside > least


def test_given_quality_is_used_as_it_is() -> None:
    for format_, quality in (("WEBP", 30), ("AVIF", 35)):
        growth, _ = growth_and_psnr(photograph((320, 240)), format_, quality, 92)
        assert growth > 2


@pytest.mark.shared
@pytest.mark.parametrize(("format_", "quality"), [("WEBP", 30), ("WEBP", 60), ("WEBP", 90), ("AVIF", 35), ("AVIF", 60)])
def test_real_photographs_do_not_grow(shared_dir: Path, format_: str, quality: int) -> None:
    for path in sorted((shared_dir / "data/coco64-seg/images").iterdir())[:1]:
        growth, outside = growth_and_psnr(np.asarray(Image.open(path).convert("RGB")), format_, quality, None)
        assert growth <= 1.25
        assert outside > 31


@pytest.mark.parametrize("size", [(16, 16), (640, 100), (4200, 48)])
def test_quantiser_of_avif_is_read_for_pictures_of_one_and_of_several_tiles(size: tuple[int, int]) -> None:
    image = Image.fromarray(photograph((200, 100))).resize(size)
    found = []
    for quality in (100, 80, 60, 30):
        source = load(saved(image, "AVIF", quality=quality, speed=10, tile_cols=1, tile_rows=1))
        again = encode(source, source.pixels, np.zeros(size[::-1], bool), lossy_quality=None).data
        assert load(again).file.quantiser == source.file.quantiser
        found.append(source.file.quantiser)
    assert found[0] == 0
    assert found == sorted(set(found))


def test_avif_with_alpha_has_the_quantiser_of_its_colours() -> None:
    image = Image.fromarray(photograph((64, 48)))
    plain = load(saved(image, "AVIF", quality=50)).file.quantiser
    image.putalpha(128)
    assert load(saved(image, "AVIF", quality=50)).file.quantiser == plain


@pytest.mark.parametrize(
    "data", [b"", b"\x0a", b"\x0a\xff\xff\xff\xff\xff", bytes(50), b"\x0a\x02\x18\x19\x32\x01\x00"]
)
def test_units_without_readable_headers_have_no_quantiser(data: bytes) -> None:
    assert base_quantiser(data) is None


def sized(quality: int) -> bytes:
    return bytes(round(1000 * 1.025**quality))


@pytest.mark.parametrize(
    ("quality", "size", "expected"),
    [
        (60, len(sized(60)), 60),  # as estimated
        (60, len(sized(60)) // 2, 40),  # grows: lower, and no more than 20
        (None, len(sized(75)), 75),
        (None, len(sized(30)), 30),
        (None, len(sized(95)), 95),
    ],
)
def test_search_of_a_quality(quality: int | None, size: int, expected: int) -> None:
    asked = []

    def encoded(quality: int) -> bytes:
        asked.append(quality)
        return sized(quality)

    coded = encoded_like(encoded, quality, size)
    assert len(coded) == pytest.approx(len(sized(expected)), rel=0.2)
    assert 1 <= len(asked) <= 4
    assert len(set(asked)) == len(asked)
    assert quality is None or min(asked) >= quality - 20
