"""Small objects in large images: `python benchmarks/large.py DATASET [--weights yolov8n-seg.pt]`.

DATASET holds `images/*.jpg` and `labels/*.txt` in YOLO's polygon format with COCO's 80 class numbers. Its 20 landscapes with the
most labelled people and vehicles, each 640x480, are put together: ten side by side (6400x480), and twenty in a wall of 5x4
(3200x1920). Each picture is searched as a whole, with tiles, and in its parts one by one. The JSON holds, for each way:

- `objects`: the number found; `doubles`: pairs of one class of which one lies in the other by more than half
- `labelled_objects_found`: labelled objects that one found overlaps by half or more (intersection over union)
- `precision`: share of the found objects that overlap a labelled one so
- `mask_recall`, `mask_iou`: of all found pixels with all labelled pixels
- `passes`: inputs of the network; `seconds`: CPU time of the detection, one thread
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from outlines import outlines, union
from PIL import Image

from inpaint_core import load_remover
from inpaint_core.detection.detector import Detection, Detector
from inpaint_core.detection.tiles import levels_of

WIDTH, HEIGHT = 640, 480
SCENES = {"panorama": (1, 10), "wall": (4, 5)}
Labelled = list[tuple[str, NDArray[np.bool_]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--weights", default="yolov8n-seg.pt")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    common = {"detector.weights": arguments.weights, "scaling.precision": "float32"}
    whole, tiled = (load_remover({**common, "detector.tiles": tiles}).load().detector for tiles in ("off", "auto"))
    photographs = landscapes(arguments.dataset)
    result = {}
    for name, (rows, columns) in SCENES.items():
        part = photographs[: rows * columns]
        corners = [(HEIGHT * (index // columns), WIDTH * (index % columns)) for index in range(len(part))]
        image = np.concatenate(
            [np.concatenate([part[row * columns + column][0] for column in range(columns)], 1) for row in range(rows)]
        )
        truth = [
            (label, placed(mask, corner, image.shape[:2]))
            for (_, own), corner in zip(part, corners, strict=True)
            for label, mask in own
        ]
        passes = 1 + sum(len(level.tiles) for level in levels_of(*image.shape[:2], 640, 0.2))
        in_parts, seconds = timed(whole, [photograph for photograph, _ in part])
        moved = [
            replace(found, top=found.top + top, left=found.left + left)
            for objects, (top, left) in zip(in_parts, corners, strict=True)
            for found in objects
        ]
        result[name] = {
            "size": f"{image.shape[1]}x{image.shape[0]}",
            "labelled_objects": len(truth),
            "parts": measured(moved, truth, image.shape[:2]) | {"passes": len(part), "seconds": seconds},
        }
        for way, detector in (("whole", whole), ("tiles", tiled)):
            [found], seconds = timed(detector, [image])
            result[name][way] = measured(found, truth, image.shape[:2]) | {
                "passes": passes if way == "tiles" else 1,
                "seconds": seconds,
            }
    print(json.dumps(result, indent=2))


def landscapes(dataset: Path) -> list[tuple[NDArray[np.uint8], Labelled]]:
    """Photographs wider than high, at one size, and their labelled objects; those with the most first."""
    photographs = []
    for file in sorted((dataset / "images").glob("*.jpg")):
        image = Image.open(file).convert("RGB")
        if image.width > image.height:
            scaled = np.asarray(image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS))
            photographs.append((scaled, outlines(dataset / "labels" / f"{file.stem}.txt", (HEIGHT, WIDTH))))
    return sorted(photographs, key=lambda photograph: -len(photograph[1]))


def placed(mask: NDArray[np.bool_], corner: tuple[int, int], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """A mask of a part as one (H, W) of the whole picture."""
    result = np.zeros(shape, bool)
    result[corner[0] : corner[0] + mask.shape[0], corner[1] : corner[1] + mask.shape[1]] = mask
    return result


def timed(detector: Detector, images: list[NDArray[np.uint8]]) -> tuple[list[list[Detection]], float]:
    """What is found, and the CPU seconds that it took."""
    start = time.process_time()
    found = detector.detect(images, [str(index) for index in range(len(images))])
    return found, round(time.process_time() - start, 2)


def measured(found: list[Detection], truth: Labelled, shape: tuple[int, ...]) -> dict[str, Any]:
    """Counts and overlaps of what was found with what is labelled."""
    masks = [placed(one.mask, (one.top, one.left), shape) for one in found]
    taken: set[int] = set()
    for one, mask in sorted(zip(found, masks, strict=True), key=lambda pair: -pair[0].confidence):
        best, most = -1, 0.5
        for index, (label, outline) in enumerate(truth):
            if label == one.label and index not in taken and (share := iou(mask, outline)) >= most:
                best, most = index, share
        taken |= {best} - {-1}
    both = [
        (one.label == other.label, int((masks[i] & masks[j]).sum()) / min(one.pixels, other.pixels))
        for i, one in enumerate(found)
        for j, other in enumerate(found[:i])
    ]
    everything, labelled = union(masks, tuple(shape)), union([mask for _, mask in truth], tuple(shape))
    return {
        "objects": len(found),
        "doubles": sum(same and share > 0.5 for same, share in both),
        "labelled_objects_found": len(taken),
        "precision": round(len(taken) / max(1, len(found)), 3),
        "mask_recall": round(float((everything & labelled).sum() / labelled.sum()), 3),
        "mask_iou": round(iou(everything, labelled), 3),
    }


def iou(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Intersection over union of two masks (H, W)."""
    return float((one & other).sum() / max(1, (one | other).sum()))


if __name__ == "__main__":
    main()
