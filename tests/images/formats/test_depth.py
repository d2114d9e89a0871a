"""16 bits a sample: what is seen of fewer bits in them, and the depth and grain of a fill."""

from __future__ import annotations

import io
import zlib

import cv2
import numpy as np
import pytest
import tifffile

from inpaint_core.images.decode import decode
from inpaint_core.images.encode import encode
from inpaint_core.images.formats import depth
from tests.encoding import LIMIT, load
from tests.odd_files import picture, png_chunk

SIZE = (160, 240)


def scene(noise: float, seed: int = 0) -> np.ndarray:
    """Grey in 0..1 with slopes and some structure, (H, W) float."""
    rng = np.random.default_rng(seed)
    smooth = np.asarray(picture(SIZE[1], SIZE[0]).convert("L")).astype(float)
    smooth = cv2.GaussianBlur(smooth, (0, 0), 3)
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    return np.clip(smooth * 0.96 + 0.02 + rng.normal(0, noise, SIZE), 0, 1)


def file_of(samples: np.ndarray, format_: str) -> bytes:
    if format_ == "TIFF":
        file = io.BytesIO()
        tifffile.imwrite(file, samples, photometric="minisblack")
        return file.getvalue()
    if samples.ndim == 3 and samples.shape[2] == 2:
        height, width = samples.shape[:2]
        rows = np.pad(samples.astype(">u2").view(np.uint8).reshape(height, -1), ((0, 0), (1, 0)))
        header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([16, 4, 0, 0, 0])
        parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b"")]
        return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, content) for kind, content in parts)
    return cv2.imencode(".png", samples[..., ::-1] if samples.ndim == 3 else samples)[1].tobytes()


def hole_in(samples: np.ndarray) -> np.ndarray:
    height, width = samples.shape[:2]
    mask = np.zeros((height, width), bool)
    mask[height // 4 : 3 * height // 4, width // 2 : 3 * width // 4] = True
    return mask


def with_object(samples: np.ndarray, mask: np.ndarray, value: int) -> np.ndarray:
    """The samples with an object of one value in the middle of the hole."""
    core = cv2.erode(mask.astype(np.uint8), np.ones((17, 17), np.uint8)).view(bool)
    painted = samples.copy()
    painted[core] = value
    return painted


def filled(samples: np.ndarray, format_: str, value: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(mask, what is seen before, filled samples) where the fill is what is seen without the object."""
    mask = hole_in(samples)
    source = load(file_of(with_object(samples, mask, value), format_))
    channels = samples.reshape(*mask.shape, -1)
    colours = channels if channels.shape[2] == 3 else np.repeat(channels[..., :1], 3, -1)
    fill = depth.to_8_bits(colours, source.file.raster.range)
    data = encode(source, fill, mask, lossy_quality=92).data
    result = decode(data, max_pixels=LIMIT, shown_as=source)
    assert np.array_equal(result.pixels[mask], fill[mask])
    assert np.array_equal(result.pixels[~mask], source.pixels[~mask])
    return mask, source.pixels, result.file.raster.samples


def grain(samples: np.ndarray, where: np.ndarray) -> float:
    values = samples.astype(np.float32)
    return float((values - cv2.blur(values, (3, 3)))[where].std())


@pytest.mark.parametrize("format_", ["PNG", "TIFF"])
@pytest.mark.parametrize("noise", [0.0005, 0.002, 0.02])
@pytest.mark.parametrize("shift", [0, 4])
def test_12_bits_in_16_keep_their_levels_and_their_grain(format_: str, noise: float, shift: int) -> None:
    samples = np.rint(scene(noise) * 4095).astype(np.uint16) << shift
    mask, shown, result = filled(samples, format_)
    assert shown.min() <= 5
    assert shown.max() >= 250
    values = result[..., 0][mask]
    assert len(np.unique(values)) >= 0.8 * len(np.unique(samples[mask]))
    assert values.min() >= samples[~mask].min()
    assert values.max() <= samples[~mask].max()
    assert not (values % 2**shift).any()
    inner = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)).view(bool)
    assert 0.85 < grain(result[..., 0], inner) / grain(samples, inner) < 1.35
    assert np.abs(values.astype(int) - samples[mask]).max() <= 2 * 4096 * 2**shift / 255


def test_12_bits_of_colour_and_of_grey_with_alpha() -> None:
    colour = np.stack([np.rint(scene(0.002, seed) * 4095).astype(np.uint16) for seed in range(3)], -1)
    mask, _, result = filled(colour, "PNG")
    for channel in range(3):
        levels = len(np.unique(result[..., channel][mask]))
        assert levels >= 0.8 * len(np.unique(colour[..., channel][mask]))
    grey = np.stack([colour[..., 0], np.full(SIZE, 65535, np.uint16)], -1)
    mask, shown, result = filled(grey, "PNG", 65535)
    assert np.ptp(shown) >= 250
    assert len(np.unique(result[..., 0][mask])) >= 0.8 * len(np.unique(grey[..., 0][mask]))
    assert (result[..., 1] == 65535).all()


@pytest.mark.parametrize("format_", ["PNG", "TIFF"])
def test_flat_field_stays_flat(format_: str) -> None:
    samples = np.rint(scene(0.002) * 4095).astype(np.uint16)
    samples[20:150, 80:220] = 1234  # Its level is not in the middle of one of the 256, and the noise beside has it too.
    mask, _, result = filled(samples, format_)
    assert (result[..., 0][mask] == 1234).all()


def test_slope_without_noise_stays_one() -> None:
    slope = np.tile(np.rint(np.linspace(200, 3900, 1600)).astype(np.uint16)[400:1200], (120, 1))
    mask, shown, result = filled(slope, "PNG")
    step = (int(slope.max()) - int(slope.min())) / 255
    error = (result[..., 0].astype(float) - slope)[mask]
    assert shown.max() == 255
    # A fill of 256 levels alone has an error that is equally distributed within one level.
    assert error.std() < 0.6 * step * 12**-0.5
    assert np.abs(error).max() <= step


def test_photograph_of_the_whole_range_is_as_before_within_half_a_level() -> None:
    samples = np.rint(scene(0.003) * 65535).astype(np.uint16)
    mask, shown, result = filled(samples, "PNG")
    outside = shown[~mask][:, 0]
    assert np.array_equal(outside, np.rint(samples[~mask] / 257))
    level = np.rint(samples[mask] / 257) * 257
    assert np.abs(result[..., 0][mask] - level).max() <= 128
    assert len(np.unique(result[..., 0][mask])) > 20 * len(np.unique(level))


def test_8_bits_in_16_get_no_levels_between() -> None:
    samples = np.rint(scene(0.01) * 255).astype(np.uint16)
    for scaled in (samples, samples * 257):
        mask, shown, result = filled(scaled, "PNG")
        assert np.ptp(shown) >= 240
        assert np.isin(result[..., 0][mask], np.unique(scaled)).all()


def test_transparent_colour_is_neither_made_nor_lost() -> None:
    samples = np.rint(scene(0.002) * 4095).astype(np.uint16)
    common = int(np.bincount(samples.ravel()).argmax())
    mask = hole_in(samples)
    data = file_of(samples, "PNG")
    data = data[:33] + png_chunk(b"tRNS", common.to_bytes(2, "big")) + data[33:]
    source = load(data)
    fill = np.repeat(depth.to_8_bits(samples, source.file.raster.range)[..., None], 3, -1)
    result = load(encode(source, fill, mask, lossy_quality=92).data).file.raster.samples[..., 0]
    assert np.array_equal(result == common, samples == common)


def test_output_is_shown_by_the_range_of_its_source() -> None:
    samples = np.rint(scene(0.002) * 2000).astype(np.uint16)
    mask = hole_in(samples)
    source = load(file_of(with_object(samples, mask, 4095), "PNG"))
    assert source.file.raster.range[1] == 4095
    fill = np.repeat(depth.to_8_bits(samples, source.file.raster.range)[..., None], 3, -1)
    data = encode(source, fill, mask, lossy_quality=92).data
    assert not np.array_equal(load(data).pixels[~mask], source.pixels[~mask])
    again = decode(data, max_pixels=LIMIT, shown_as=source)
    assert np.array_equal(again.pixels[~mask], source.pixels[~mask])


def test_same_arguments_give_the_same_samples() -> None:
    samples = np.rint(scene(0.002) * 4095).astype(np.uint16)
    assert np.array_equal(filled(samples, "PNG")[2], filled(samples, "TIFF")[2])


def test_range_leaves_out_hot_pixels_and_keeps_wide_ones() -> None:
    rng = np.random.default_rng(2)
    twelve = rng.integers(100, 4000, (200, 300, 1)).astype(np.uint16)
    low, high = depth.own_range(twelve, 1)
    assert 100 <= low <= 110
    assert 3990 <= high <= 3999
    twelve[:10, :5] = 65535
    assert depth.own_range(twelve, 1)[1] <= 3999
    assert depth.own_range(np.full((9, 9, 1), 700, np.uint16), 1) == depth.WHOLE
    assert depth.own_range(np.array([[[0], [32768]]], np.uint16), 1) == depth.WHOLE
    assert depth.own_range(np.array([[[0], [32767]]], np.uint16), 1) == (0, 32767)
    # Alpha does not count, and images larger than what is counted at a time do.
    assert depth.own_range(np.array([[[5, 65535], [900, 0]]], np.uint16), 1) == (5, 900)
    large = np.zeros((2100, 2100, 1), np.uint16)
    large[:30] = 1500
    assert depth.own_range(large, 1) == (0, 1500)
