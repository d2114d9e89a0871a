"""Where chaos runs: a store, a proxy with faults before it, photographs and their masks in a bucket."""

from __future__ import annotations

import io
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from inpaint_core.storage import S3Options, Storage, open_storage
from tests.s3.proxy import Fault, FaultyProxy
from tests.s3.seaweedfs import SeaweedFS
from tests.samples import encoded, photograph

INPUT, MASKS, OUTPUT = "in", "masks", "out"
_ALL = ("GET", "PUT", "HEAD", "DELETE", "POST")
_EVERY_UNCHANGED = 5


def faults() -> list[Fault]:
    """About one request in five: 503, a reset before or after the request is done, half a body, silence, and now and then 403."""
    return [
        Fault("busy", methods=_ALL, probability=0.05),
        Fault("reset", methods=_ALL, probability=0.05),
        Fault("lose", methods=("PUT", "DELETE"), probability=0.04),
        Fault("cut", methods=("GET",), probability=0.04),
        Fault("stall", methods=_ALL, probability=0.08, seconds=0.6),
        Fault("refuse", methods=("GET",), keys=f"{INPUT}/.+", probability=0.002),
    ]


@dataclass(frozen=True)
class Site:
    """Store, proxy and the images in a bucket: `images[key]` is the number of its file in `files`."""

    server: SeaweedFS
    proxy: FaultyProxy
    bucket: str
    files: Sequence[bytes]
    images: dict[str, int]

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}"

    def storage(self, part: str) -> Storage:
        """A part of the bucket, without the proxy."""
        return open_storage(f"{self.uri}/{part}", S3Options(endpoint=self.server.endpoint))

    def is_unchanged(self, key: str) -> bool:
        """Whether an image has no mask."""
        return self.images[key] % _EVERY_UNCHANGED == 0

    @property
    def settings(self) -> list[str]:
        """Of the job: those of the cheapest detector and fill."""
        return ["detector.kind=masks", f"detector.root={self.uri}/{MASKS}", "inpainter.kind=opencv"]


def photographs(folder: Path | None, count: int = 20) -> list[bytes]:
    """Files of `folder`, or small photographs of JPEG and PNG."""
    if folder is not None:
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
        return [path.read_bytes() for path in files]
    pictures = [photograph((192, 144), seed=seed) for seed in range(count)]
    return [
        encoded(picture, "PNG") if number % 4 == 3 else encoded(picture, "JPEG", quality=90)
        for number, picture in enumerate(pictures)
    ]


def make_site(server: SeaweedFS, files: Sequence[bytes], images: int, seed: int) -> Site:
    """A new bucket with the files, again and again, under `images` keys; the server's credentials are the environment's."""
    proxy = FaultyProxy(server.endpoint, seed=seed)
    rng = random.Random(seed)
    numbers = {
        f"{number % 9}/photo {number:05}.{_suffix(files[number % len(files)])}": number % len(files)
        for number in range(images)
    }
    site = Site(server, proxy, server.make_bucket(), files, numbers)
    masks = [_mask(data, rng) for data in files]
    source, target = site.storage(INPUT), site.storage(MASKS)

    def write(key: str) -> None:
        source.write(key, files[numbers[key]])
        if not site.is_unchanged(key):
            target.write(f"{key.rpartition('.')[0]}.png", masks[numbers[key]])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, numbers))
    proxy.faults = faults()
    return site


def _suffix(data: bytes) -> str:
    return "png" if data.startswith(b"\x89PNG") else "jpg"


def _mask(data: bytes, rng: random.Random) -> bytes:
    """A box of a sixth of the picture's width and height, anywhere inside."""
    with Image.open(io.BytesIO(data)) as picture:
        width, height = picture.size
    hole = np.zeros((height, width, 3), np.uint8)
    left, top = rng.randrange(width // 8, width // 2), rng.randrange(height // 8, height // 2)
    hole[top : top + height // 6, left : left + width // 6] = 255
    return encoded(hole)
