"""What the tests of encoding share: sources, a fill, a mask, and one round trip."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from inpaint_core.images.decode import Decoded, decode
from inpaint_core.images.encode import encode
from tests.odd_files import odd_files, saved

LIMIT = 10**8
FILL = (200, 60, 30)
SECRET = saved(Image.effect_noise((16, 16), 90), "JPEG", quality=95)
SECRET_TEXT = b"c2VjcmV0cGljdHVyZQ" * 8
STILL = {key: data for key, (data, expected) in odd_files().items() if expected == "ok" and not key.startswith("name/")}
LOSSY = ("JPEG", "AVIF")


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def load(data: bytes) -> Decoded:
    return decode(data, max_pixels=LIMIT)


def hole(decoded: Decoded) -> np.ndarray:
    """A mask whose upright position tells orientations apart."""
    height, width = decoded.pixels.shape[:2]
    mask = np.zeros((height, width), bool)
    mask[: -(-height // 4), width // 5 : max(1, width // 2)] = True
    return mask


def filled(decoded: Decoded) -> np.ndarray:
    return np.full_like(decoded.pixels, 0) + np.array(FILL, np.uint8)


def cleaned(data: bytes, quality: int = 92) -> tuple[Decoded, bytes, Decoded, np.ndarray]:
    source = load(data)
    mask = hole(source)
    output = encode(source, filled(source), mask, lossy_quality=quality).data
    return source, output, load(output), mask


def is_lossy(source: Decoded) -> bool:
    return source.format in LOSSY or (source.format == "WEBP" and not source.file.lossless)
