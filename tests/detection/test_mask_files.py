"""Masks made elsewhere: found by key, decoded from every mode, matched in size."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from inpaint_core.detection.config import MaskFilesConfig
from inpaint_core.detection.detector import Detector, FilesByKey
from inpaint_core.detection.mask_files import connected_objects
from inpaint_core.errors import ConfigError, ImageError, StorageError
from inpaint_core.storage import S3Options

TRUTH = np.zeros((40, 60), dtype=bool)
TRUTH[5:15, 10:30] = True
TRUTH[30:, 50:] = True
PHOTO = np.zeros((40, 60, 3), dtype=np.uint8)


def png(picture: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return buffer.getvalue()


def grey() -> Image.Image:
    return Image.fromarray(np.where(TRUTH, 128, 127).astype(np.uint8))


def detector(root: Path, **options: str) -> Detector:
    config = MaskFilesConfig(root=str(root), **options)  # type: ignore[arg-type]
    return config.build(None, s3=S3Options(), device=torch.device("cpu"), autocast=False)


def put(root: Path, key: str, data: bytes) -> None:
    path = root / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def union(detections: list, shape: tuple[int, int]) -> NDArray[np.bool_]:  # type: ignore[type-arg]
    mask = np.zeros(shape, dtype=bool)
    for item in detections:
        height, width = item.mask.shape
        mask[item.top : item.top + height, item.left : item.left + width] |= item.mask
    return mask


@pytest.mark.parametrize(
    ("key", "pattern", "expected"),
    [
        ("a/b.jpg", "{stem}.png", "a/b.png"),
        ("a/b.jpg", "{key}.png", "a/b.jpg.png"),
        ("a.b/c", "{stem}_mask.png", "a.b/c_mask.png"),
        ("a/.b", "m/{stem}.png", "m/a/.b.png"),
        ("{key}/{stem}.jpg", "{stem}.png", "{key}/{stem}.png"),
        ("a b/é%20.tar.gz", "{stem}/{key}", "a b/é%20.tar/a b/é%20.tar.gz"),
    ],
)
def test_mask_key(key: str, pattern: str, expected: str) -> None:
    assert FilesByKey("masks", pattern).key_of(key) == expected


def sixteen_bits() -> Image.Image:
    return Image.fromarray(np.where(TRUTH, 128 * 256, 128 * 256 - 1).astype(np.uint16))


def palette() -> Image.Image:
    # Index 0 is white: it is the colour that counts, not the index.
    picture = Image.fromarray(np.where(TRUTH, 0, 1).astype(np.uint8), "P")
    picture.putpalette([255, 255, 255, 0, 0, 0])
    return picture


def with_alpha() -> Image.Image:
    picture = grey().convert("RGBA")
    picture.putalpha(Image.fromarray(np.where(TRUTH, 0, 255).astype(np.uint8)))
    return picture


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (grey, "PNG"),
        (lambda: Image.fromarray(TRUTH), "PNG"),  # 1 bit
        (lambda: grey().convert("RGB"), "BMP"),
        (lambda: grey().convert("LA"), "PNG"),
        (with_alpha, "PNG"),
        (palette, "PNG"),
        (palette, "GIF"),
        (sixteen_bits, "PNG"),
        (sixteen_bits, "TIFF"),
        (lambda: Image.fromarray(np.where(TRUTH, 255, 0).astype(np.uint8)), "JPEG"),
    ],
)
def test_every_mode_gives_the_same_mask(tmp_path: Path, make, kind: str) -> None:  # type: ignore[no-untyped-def]
    put(tmp_path, "x/a.png", png(make(), kind))
    [found] = detector(tmp_path).detect([PHOTO], ["x/a.jpg"])
    np.testing.assert_array_equal(union(found, TRUTH.shape), TRUTH)
    assert {(item.label, item.confidence) for item in found} == {("mask", 1.0)}
    assert sorted((item.box, item.pixels) for item in found) == [
        ((10.0, 5.0, 30.0, 15.0), 200),
        ((50.0, 30.0, 60.0, 40.0), 100),
    ]


def test_regions_that_touch_at_a_corner_are_one_object() -> None:
    mask = np.zeros((6, 8), dtype=bool)
    mask[0, 0] = mask[1, 1] = mask[5, 7] = True
    found = connected_objects(mask, "a.png")
    assert [(item.top, item.left, item.pixels) for item in found] == [(0, 0, 2), (5, 7, 1)]
    assert connected_objects(np.zeros((4, 4), dtype=bool), "a.png") == []


def test_nested_regions_stay_apart() -> None:
    mask = np.ones((9, 9), dtype=bool)
    mask[2:7, 2:7] = False
    mask[4, 4] = True
    ring, point = connected_objects(mask, "a.png")
    assert (ring.pixels, point.pixels) == (81 - 25, 1)
    assert not ring.mask[4, 4]


def test_a_batch_keeps_its_order(tmp_path: Path) -> None:
    keys = [f"{index}.jpg" for index in range(20)]
    for index in range(20):
        picture = np.zeros((10, 30), dtype=np.uint8)
        picture[:, index] = 255
        put(tmp_path, f"{index}.png", png(Image.fromarray(picture)))
    found = detector(tmp_path).detect([np.zeros((10, 30, 3), dtype=np.uint8)] * 20, keys)
    assert [items[0].left for items in found] == list(range(20))


def test_a_missing_mask(tmp_path: Path) -> None:
    assert detector(tmp_path).detect([PHOTO], ["a.jpg"]) == [[]]
    with pytest.raises(ImageError, match=r"there is no mask a\.png in ") as caught:
        detector(tmp_path, missing="failed").detect([PHOTO], ["a.jpg"])
    assert caught.value.stage == "detect"


def test_an_unreadable_mask_is_not_a_missing_one(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    with pytest.raises(ImageError, match=r"the mask a\.png cannot be read"):
        detector(tmp_path).detect([PHOTO], ["a.jpg"])


def test_a_missing_root_stops_the_job(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        detector(tmp_path / "nowhere").detect([PHOTO], ["a.jpg"])


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((60, 40), r"mask a\.png is 40 x 60 pixels, but its image is 60 x 40 as displayed: .*EXIF orientation"),
        ((20, 30), r"mask a\.png is 30 x 20 pixels, but its image is 60 x 40 as displayed: a mask must have the size"),
    ],
)
def test_another_size(tmp_path: Path, shape: tuple[int, int], message: str) -> None:
    put(tmp_path, "a.png", png(Image.fromarray(np.zeros(shape, dtype=np.uint8))))
    with pytest.raises(ImageError, match=message):
        detector(tmp_path).detect([PHOTO], ["a.jpg"])


@pytest.mark.parametrize("data", [b"", b"<html>no mask</html>", png(grey())[:60]], ids=["empty", "html", "truncated"])
def test_not_an_image(tmp_path: Path, data: bytes) -> None:
    put(tmp_path, "a.png", data)
    with pytest.raises(ImageError, match=r"the mask a\.png is not an image that can be decoded"):
        detector(tmp_path).detect([PHOTO], ["a.jpg"])


@pytest.mark.parametrize("kind", ["EPS", "PPM", "ICO"])
def test_other_formats_are_not_opened(tmp_path: Path, kind: str) -> None:
    put(tmp_path, "a.png", png(grey(), kind))
    with pytest.raises(
        ImageError, match=r"the mask a\.png is not an image .*: its format is not one of PNG, JPEG, WEBP, TIFF, BMP"
    ):
        detector(tmp_path).detect([PHOTO], ["a.jpg"])


@pytest.mark.parametrize("raised", [struct.error, zlib.error, EOFError, KeyError, TypeError])
def test_what_decoders_raise_on_damaged_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: type[Exception]
) -> None:
    put(tmp_path, "a.png", png(grey()))

    def load(self: Image.Image) -> None:
        raise raised("damaged")

    monkeypatch.setattr(PngImageFile, "load", load)
    with pytest.raises(ImageError, match=r"the mask a\.png is not an image that can be decoded: .*damaged"):
        detector(tmp_path).detect([PHOTO], ["a.jpg"])


def test_noise_is_no_mask(tmp_path: Path) -> None:
    dots = np.zeros((202, 200), dtype=np.uint8)
    dots[:200:2, ::2] = 255
    photo = np.zeros((202, 200, 3), dtype=np.uint8)
    put(tmp_path, "a.png", png(Image.fromarray(dots)))
    assert len(detector(tmp_path).detect([photo], ["a.jpg"])[0]) == 10_000
    dots[201, 0] = 255
    put(tmp_path, "a.png", png(Image.fromarray(dots)))
    with pytest.raises(
        ImageError, match=r"mask a\.png has 10,001 separate regions, more than 10,000; .*white on"
    ) as caught:
        detector(tmp_path).detect([photo], ["a.jpg"])
    assert caught.value.stage == "detect"


def test_floating_point_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "a.png", png(Image.fromarray(TRUTH.astype(np.float32)), "TIFF"))
    with pytest.raises(ImageError, match="floating-point"):
        detector(tmp_path).detect([PHOTO], ["a.jpg"])


def test_the_store_is_that_of_the_root() -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        MaskFilesConfig(root="nowhere://masks").build(None, s3=S3Options(), device=torch.device("cpu"), autocast=False)
