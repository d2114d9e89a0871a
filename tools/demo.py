"""The demo's photographs: `python -m tools.demo photographs FOLDER` copies them out of installed packages.

`python -m tools.demo picture BEFORE AFTER FILE` puts two images side by side, for the README.

Nothing is downloaded: ultralytics ships a street scene, scikit-image some photographs in the public
domain (an astronaut, a photographer, and a cat and a rocket, in which there is nothing to remove).
"""

from __future__ import annotations

import shutil
import sys
from importlib.resources import files
from pathlib import Path

from PIL import Image

_PHOTOGRAPHS = {
    "street/bus.jpg": ("ultralytics", "assets/bus.jpg"),
    "people/astronaut.png": ("skimage", "data/astronaut.png"),
    "people/photographer.png": ("skimage", "data/camera.png"),
    "nobody/cat.png": ("skimage", "data/chelsea.png"),
    "nobody/rocket.jpg": ("skimage", "data/rocket.jpg"),
}


def copy_photographs(folder: Path) -> list[Path]:
    """Copy the demo's photographs below a folder; returns their paths."""
    copied = []
    for key, (package, resource) in _PHOTOGRAPHS.items():
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(str(files(package).joinpath(resource)), path)
        copied.append(path)
    return copied


def side_by_side(before: Path, after: Path, file: Path, *, height: int = 480) -> None:
    """Write two images side by side, scaled to a height in pixels."""
    images = []
    for path in (before, after):
        with Image.open(path) as image:
            images.append(image.convert("RGB").resize((round(image.width * height / image.height), height)))
    gap = 8
    joined = Image.new("RGB", (sum(image.width for image in images) + gap, height), "white")
    joined.paste(images[0], (0, 0))
    joined.paste(images[1], (images[0].width + gap, 0))
    joined.save(file, quality=88)


def main(arguments: list[str]) -> str:
    """What the command line asks for; returns what to say about it."""
    match arguments:
        case ["photographs", folder]:
            return f"{len(copy_photographs(Path(folder)))} photographs in {folder}"
        case ["picture", before, after, file]:
            side_by_side(Path(before), Path(after), Path(file))
            return f"{before} and {after} side by side in {file}"
    return (__doc__ or "").strip()


if __name__ == "__main__":
    print(main(sys.argv[1:]))  # noqa: T201
