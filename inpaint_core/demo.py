"""The demo's photographs: `python -m inpaint_core.demo FOLDER` copies them out of installed packages.

Nothing is downloaded: ultralytics ships two street and stage scenes, scikit-image some photographs in the public
domain (an astronaut, a photographer, a motorcycle, and a cat and a cup of coffee, in which there is nothing to remove).
"""

from __future__ import annotations

import shutil
import sys
from importlib.resources import files
from pathlib import Path

_PHOTOGRAPHS = {
    "street/bus.jpg": ("ultralytics", "assets/bus.jpg"),
    "street/motorcycle.png": ("skimage", "data/motorcycle_left.png"),
    "people/zidane.jpg": ("ultralytics", "assets/zidane.jpg"),
    "people/astronaut.png": ("skimage", "data/astronaut.png"),
    "people/photographer.png": ("skimage", "data/camera.png"),
    "nobody/cat.png": ("skimage", "data/chelsea.png"),
    "nobody/coffee.png": ("skimage", "data/coffee.png"),
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


if __name__ == "__main__":
    print(f"{len(copy_photographs(Path(sys.argv[1])))} photographs in {sys.argv[1]}")  # noqa: T201
