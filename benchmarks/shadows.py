"""How often `mask.shadows` is right: `python benchmarks/shadows.py FOLDER... [--weights yolov8n-seg.pt] [--pictures FOLDER]`.

Searches the shadows of all objects of 25 classes in the photographs (`*.jpg`) of the folders, and compares the photographs in which one is found
with labels that a person gave by looking at the outlines (`benchmarks/shadows-labels.json`, by file name: right, wrong, or a
hard shadow that was missed). The labelled photographs are those of COCO and of BSDS500 (Arbelaez et al., TPAMI 2011). The
thresholds were chosen on the same photographs. Photographs without a label in which a shadow is found are listed:
look at their outlines, which `--pictures` writes.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from inpaint_core import load_remover
from inpaint_core.removal.object_mask import object_mask
from inpaint_core.removal.shadows import cast_shadows

LABELS = Path(__file__).parent / "shadows-labels.json"
LARGEST_MASK = 0.35


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--weights", default="yolov8n-seg.pt")
    parser.add_argument("--pictures", type=Path, help="folder for pictures of the outlines")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    labels = json.loads(LABELS.read_text())
    remover = load_remover({"detector.weights": arguments.weights, "detector.classes": labels["classes"]})
    models, options = remover.load(), remover.config.mask
    found, milliseconds = [], []
    for file in sorted(path for folder in arguments.folders for path in folder.rglob("*.jpg")):
        image = np.asarray(Image.open(file).convert("RGB"))
        mask = object_mask(models.detector.detect([image], [file.name])[0], image.shape[:2], options).mask
        if not 0 < mask.mean() < LARGEST_MASK:
            continue
        start = time.process_time()
        shadows = cast_shadows(image, mask)
        milliseconds.append(1000 * (time.process_time() - start))
        if shadows.any():
            found.append(file.name)
            if arguments.pictures:
                arguments.pictures.mkdir(parents=True, exist_ok=True)
                Image.fromarray(outlined(image, mask, shadows)).save(arguments.pictures / f"{file.stem}.png")
    hard = {*labels["right"], *labels["missed"]}
    result = {
        "photographs": len(milliseconds),
        "right": sorted({*found} & {*labels["right"]}),
        "wrong": sorted({*found} & {*labels["wrong"]}),
        "without_label": sorted({*found} - {*labels["right"], *labels["wrong"]}),
        "hard_shadows": len(hard),
        "cpu_milliseconds": round(float(np.median(milliseconds)), 1),
    }
    print(json.dumps(result, indent=1))
    LABELS.with_name("shadows.json").write_text(json.dumps(result, indent=1) + "\n")


def outlined(image: np.ndarray, mask: np.ndarray, shadows: np.ndarray) -> np.ndarray:
    """The photograph with a red line around the objects, and a wider cyan one around their shadows."""
    picture = image.copy()
    for region, colour, width in ((mask, (255, 0, 0), 1), (shadows, (0, 255, 255), 2)):
        lines, _ = cv2.findContours(region.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, lines, -1, colour, width)
    return picture


if __name__ == "__main__":
    main()
