"""Time and agreement of a detector in float32 and bfloat16: `python benchmarks/precision.py DATASET [--weights FILE]`.

DATASET holds `images/*.jpg`. CPU milliseconds per image, one thread, medians of several rounds in turn, of batches of 8; and how
far the masks of all objects agree between both: intersection over union of all pixels, and the mean of the images that have some.
`mask` holds the pixels of objects, `uncertain` those that may belong to one as well. JSON on stdout.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from inpaint_core.detection.config import UltralyticsConfig
from inpaint_core.detection.detector import Detection
from inpaint_core.detection.ultralytics import UltralyticsDetector
from inpaint_core.networks.weights.load import load_weights
from inpaint_core.storage import S3Options

BATCH = 8
Mask = NDArray[np.bool_]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--weights", default=UltralyticsConfig.weights)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "8192")  # as in a worker
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    images = [
        np.asarray(Image.open(path).convert("RGB")) for path in sorted((arguments.dataset / "images").glob("*.jpg"))
    ]
    config = UltralyticsConfig(weights=arguments.weights)
    weights = load_weights(config.weights, None, S3Options(), key="weights").data
    detectors = {
        name: UltralyticsDetector(config, weights, device=torch.device("cpu"), autocast=name == "bfloat16")
        for name in ("float32", "bfloat16")
    }
    times: dict[str, list[float]] = {name: [] for name in detectors}
    found: dict[str, list[list[Detection]]] = {}
    for _ in range(arguments.rounds + 1):  # the first is not counted
        for name, detector in detectors.items():
            start = time.process_time()
            found[name] = [
                objects
                for first in range(0, len(images), BATCH)
                for objects in detector.detect(images[first : first + BATCH], [""] * len(images[first : first + BATCH]))
            ]
            times[name].append(1000 * (time.process_time() - start) / len(images))
    result = {
        "images": len(images),
        "milliseconds": {name: round(statistics.median(each[1:]), 1) for name, each in times.items()},
        "objects": {name: sum(map(len, each)) for name, each in found.items()},
        "iou": {
            kind: agreement(images, *found.values(), uncertain=kind == "uncertain") for kind in ("mask", "uncertain")
        },
    }
    print(json.dumps(result, indent=2))


def agreement(
    images: list[NDArray[np.uint8]], ones: list[list[Detection]], others: list[list[Detection]], *, uncertain: bool
) -> dict[str, float]:
    """Intersection over union of two detectors' masks."""
    intersections, unions = [], []
    for image, one, other in zip(images, ones, others, strict=True):
        a, b = (union(objects, image.shape[:2], uncertain) for objects in (one, other))
        intersections.append(int((a & b).sum()))
        unions.append(int((a | b).sum()))
    ratios = [part / whole for part, whole in zip(intersections, unions, strict=True) if whole]
    return {"all": round(sum(intersections) / sum(unions), 4), "mean": round(statistics.fmean(ratios), 4)}


def union(objects: list[Detection], size: tuple[int, int], uncertain: bool) -> Mask:
    mask = np.zeros(size, bool)
    for item in objects:
        region = item.uncertain if uncertain and item.uncertain is not None else item
        height, width = region.mask.shape
        mask[region.top : region.top + height, region.left : region.left + width] |= region.mask
    return mask


if __name__ == "__main__":
    main()
