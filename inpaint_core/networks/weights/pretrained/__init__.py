"""The weights that come with the package, each with a model card beside it.

Settings take them by their bare names, such as `detector.weights=people-vehicles.pt`.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files

from inpaint_core.errors import WeightsError

INPAINTER = "inpaint-unet.safetensors"
"""A U-Net that fills holes of any form: see `inpaint-unet.md`."""

DETECTOR = "people-vehicles.pt"
"""A YOLOv8 segmentation network for people and vehicles: see `people-vehicles.md`."""

SHA256 = {
    INPAINTER: "bf0b3ad7b152c8c5f078afda4e3db967284974128d1ca27e70173fbd177659f9",
    DETECTOR: "884b7fb166e89d7ac76f4e9018558d629d4fbf05fafb0639b94fdc586cd0f8f0",
}
"""What each file has to hash to, in hex."""


def read_pretrained(name: str) -> bytes:
    """The content of a file of weights that comes with the package.

    Args:
        name: one of `SHA256`.

    Raises:
        WeightsError: the file is missing, or not the one that was installed.
    """
    try:
        data = files(__name__).joinpath(name).read_bytes()
    except OSError as error:
        raise WeightsError(
            f"{name}: the file shipped with the package is missing ({error}); reinstall the package"
        ) from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != SHA256[name]:
        raise WeightsError(
            f"{name}: the file shipped with the package is damaged: it has SHA-256 {digest} instead of {SHA256[name]}; "
            "reinstall the package"
        )
    return data
