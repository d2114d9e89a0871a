"""ICC profiles made in code (ICC.1:2001-04): a press with four inks, and RGB of other primaries than sRGB's."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
from PIL import Image, ImageCms
from skimage.color import xyz2lab

D50 = (0.9642, 1.0, 0.8249)
ADOBE_RGB = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
DISPLAY_P3 = ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06))
# Optical densities (red, green, blue) of full cyan, magenta and yellow; black has 1.6 in each.
_DENSITIES = np.array([[1.3, 0.35, 0.12], [0.15, 1.25, 0.5], [0.02, 0.1, 1.1]])
_BLACK = 1.6
# Of the grey that cyan, magenta and yellow could print, so much is printed with black.
_REPLACED = 0.3
_GRID_OF_INKS, _GRID_OF_LAB = 9, 17
_TO_XYZ = np.array([[0.4361, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606], [0.0139, 0.0971, 0.7141]])  # sRGB at D50


def press_profile(*, with_separation: bool = True) -> bytes:
    """A CMYK profile (lut16, Lab) of inks whose densities add up; its own separation replaces some grey by black.

    Args:
        with_separation: without, it has no table from colours to inks.
    """
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, _GRID_OF_INKS)] * 4, indexing="ij"), -1).reshape(-1, 4)
    density = grid[:, :3] @ _DENSITIES + grid[:, 3:] * _BLACK
    lab = np.asarray(xyz2lab(10**-density @ _TO_XYZ.T / _TO_XYZ.sum(1) * D50, "D50", "2"))
    tags = {b"A2B0": _lut16(_coded_lab(lab), 4, 3, _GRID_OF_INKS)}
    if with_separation:
        tags[b"B2A0"] = _lut16(_separation(), 3, 4, _GRID_OF_LAB)
    return _profile(b"prtr", b"CMYK", b"Lab ", {**tags, b"desc": _description(b"Press of the tests")})


def _separation() -> np.ndarray:
    """(17^3, 4) uint16 inks of the grid of Lab."""
    codes = np.linspace(0, 65535, _GRID_OF_LAB) / 256
    lightness, a, b = np.meshgrid(codes * 100 / 255, codes - 128, codes - 128, indexing="ij")
    of_y = (lightness + 16) / 116
    roots = np.stack([of_y + a / 500, of_y, of_y - b / 200], -1).reshape(-1, 3)
    relative = np.where(roots > 6 / 29, roots**3, 3 * (6 / 29) ** 2 * (roots - 4 / 29))
    light = np.linalg.solve(_TO_XYZ, (relative * _TO_XYZ.sum(1)).T).T
    density = -np.log10(np.clip(light, 10**-2.6, 1))
    black = _REPLACED * density.min(1, keepdims=True) / _BLACK
    colours = np.linalg.solve(_DENSITIES.T, (density - black * _BLACK).T).T
    return np.rint(np.clip(np.concatenate([colours, black], 1), 0, 1) * 65535).astype(np.uint16)


def _coded_lab(lab: np.ndarray) -> np.ndarray:
    """Lab as lut16 stores it: 0xFF00 = L* 100, 0x8000 = 0 of a* and b*."""
    scaled = np.stack([lab[:, 0] * 652.8, (lab[:, 1] + 128) * 256, (lab[:, 2] + 128) * 256], -1)
    return np.rint(np.clip(scaled, 0, 65535)).astype(np.uint16)


def _lut16(table: np.ndarray, inputs: int, outputs: int, grid: int) -> bytes:
    identity = struct.pack(">9l", *(65536 * (n % 4 == 0) for n in range(9)))
    curves = struct.pack(">2H", 0, 65535)
    return b"".join(
        [
            b"mft2" + bytes(4) + bytes([inputs, outputs, grid, 0]) + identity,
            struct.pack(">2H", 2, 2) + curves * inputs + table.astype(">u2").tobytes() + curves * outputs,
        ]
    )


def rgb_profile(primaries: tuple[tuple[float, float], ...], gamma: float = 2.2) -> bytes:
    """A profile of three primaries (x, y), white D65 and one gamma."""
    xyz = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    white = np.array([0.9504, 1.0, 1.0889])
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    cones = bradford @ np.array(D50) / (bradford @ white)
    columns = np.linalg.inv(bradford) @ np.diag(cones) @ bradford @ xyz * np.linalg.solve(xyz, white)
    tags = {name: _xyz(column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns.T, strict=True)}
    curve = b"curv" + struct.pack(">2LH", 0, 1, round(gamma * 256))
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    return _profile(b"mntr", b"RGB ", b"XYZ ", {**tags, b"desc": _description(b"Screen of the tests")})


def grey_profile(gamma: float) -> bytes:
    """A profile of grey with one gamma."""
    curve = b"curv" + struct.pack(">2LH", 0, 1, round(gamma * 256))
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": curve, b"desc": _description(b"Grey of the tests")})


def _xyz(values: Any) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3l", *(round(float(value) * 65536) for value in values))


def _description(text: bytes) -> bytes:
    return b"desc" + struct.pack(">2L", 0, len(text) + 1) + text + b"\x00" + bytes(78)


def _profile(class_: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    tags = {**tags, b"wtpt": _xyz(D50), b"cprt": b"text" + bytes(4) + b"none\x00"}
    table, body, offset = b"", b"", 132 + 12 * len(tags)
    for name, content in tags.items():
        table += struct.pack(">4s2L", name, offset + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    header = struct.pack(">L4sL4s4s4s6H4s", offset + len(body), bytes(4), 0x02400000, class_, space, connection,
                         2020, 1, 1, 0, 0, 0, b"acsp")  # fmt: skip
    return header.ljust(68, b"\x00") + _xyz(D50)[8:].ljust(60, b"\x00") + struct.pack(">L", len(tags)) + table + body


def seen(colours: np.ndarray, mode: str, profile: bytes) -> np.ndarray:
    """Lab of samples (H, W, C) uint8 as a colour-managed viewer shows them, by LittleCMS alone: relative colorimetric."""
    transform: Any = ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("LAB"), mode, "LAB", renderingIntent=1
    )
    height, width = colours.shape[:2]
    image = ImageCms.applyTransform(Image.frombytes(mode, (width, height), colours.tobytes()), transform)
    assert image is not None
    lab = np.asarray(image)
    return np.stack([lab[..., 0] * (100 / 255), lab[..., 1].view(np.int8), lab[..., 2].view(np.int8)], -1)
