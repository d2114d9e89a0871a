"""How much of an object its mask covers: `python benchmarks/edges.py DATASET [--weights yolov8n-seg.pt]`.

DATASET holds `images/*.jpg` and `labels/*.txt` in YOLO's polygon format with COCO's 80 class numbers. Each labelled object of
500 pixels or more is compared with the detection whose pixels overlap it most (intersection over union above 0.5), for several
values of `detector.uncertain` and `mask.grow`. The JSON holds, over these objects: the mean share of the object's pixels that the
mask covers, the share that 9 in 10 objects exceed, the share of objects covered to 99 %, and the area of the mask outside the
object as a mean multiple of the object's.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from outlines import outlines
from PIL import Image

from inpaint_core import load_remover
from inpaint_core.detection.detector import Detection
from inpaint_core.removal.object_mask import object_mask

LEAST_PIXELS = 500
SAME_OBJECT = 0.5
SETTINGS = [(0.5, 0.0), (0.5, 0.06), (0.5, 0.1), (0.25, 0.04), (0.25, 0.05), (0.25, 0.06), (0.35, 0.05), (0.15, 0.05)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--weights", default="yolov8n-seg.pt")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    files = sorted((arguments.dataset / "images").glob("*.jpg"))
    result = []
    for uncertain, grow in SETTINGS:
        remover = load_remover(
            {
                "detector.weights": arguments.weights,
                "detector.uncertain": uncertain,
                "mask.grow": grow,
                "mask.grow_min": 4 if grow else 0,
                "mask.max_mask_fraction": 1.0,
                "scaling.precision": "float32",
            }
        )
        models = remover.load()
        rows = []
        for file in files:
            image = np.asarray(Image.open(file).convert("RGB"))
            found = models.detector.detect([image], [file.name])[0]
            for _, truth in outlines(arguments.dataset / "labels" / f"{file.stem}.txt", image.shape[:2]):
                detection = best(found, truth)
                if truth.sum() >= LEAST_PIXELS and detection is not None:
                    mask = object_mask([detection], truth.shape, remover.config.mask).mask
                    rows.append(((mask & truth).sum() / truth.sum(), (mask & ~truth).sum() / truth.sum()))
        recall, outside = np.array(rows).T
        result.append(
            {
                "uncertain": uncertain,
                "grow": grow,
                "objects": len(rows),
                "recall": round(float(recall.mean()), 4),
                "recall_of_9_in_10": round(float(np.percentile(recall, 10)), 4),
                "covered_to_99_percent": round(float((recall > 0.99).mean()), 3),
                "area_outside": round(float(outside.mean()), 3),
            }
        )
    print(json.dumps(result, indent=2))


def best(found: list[Detection], truth: NDArray[np.bool_]) -> Detection | None:
    """The detection whose pixels are most those of the object; None where none is."""
    overlaps = [overlap(detection, truth) for detection in found]
    index = int(np.argmax(overlaps)) if overlaps else 0
    return found[index] if overlaps and overlaps[index] > SAME_OBJECT else None


def overlap(detection: Detection, truth: NDArray[np.bool_]) -> float:
    """Intersection over union."""
    height, width = detection.mask.shape
    part = truth[detection.top : detection.top + height, detection.left : detection.left + width]
    both = int((part & detection.mask).sum())
    return both / (int(truth.sum()) + detection.pixels - both)


if __name__ == "__main__":
    main()
