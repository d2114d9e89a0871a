"""Detectors against human outlines: `python benchmarks/detectors.py DATASET CHECKPOINT[:size[+size ...][m]] ...`.

DATASET holds `images/*.jpg` and `labels/*.txt` in YOLO's polygon format with COCO's 80 class numbers. Each checkpoint (a path,
or the name of one that comes with the project) is judged at its input size (640 without one; several, and `m` for mirror images as well: what any of them shows), on person, bicycle, car,
motorcycle, bus and truck:

- pixels: of the union of all objects of an image, intersection over union, recall and precision, over the pixels of the data
  set; and the mean over the images that have such an object of their intersection over union;
- objects: the part of the human outlines of at least 64 pixels that a detection of the same class meets with a mask
  intersection over union of 0.5 or more; and the part of which the union covers at least three quarters, which is what a
  removal needs. Both also by size (COCO's: below 32x32 pixels, up to 96x96, above);
- images in which nothing is to be found and something is.

JSON on stdout. Before that, on stderr, a line for each checkpoint.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from outlines import CLASSES, outlines, union
from PIL import Image

from inpaint_core.detection.config import UltralyticsConfig
from inpaint_core.detection.detector import Detection
from inpaint_core.detection.ultralytics import UltralyticsDetector
from inpaint_core.networks.weights.load import load_weights
from inpaint_core.storage import S3Options

MIN_PIXELS = 64
SIZES = (("small", 32**2), ("medium", 96**2), ("large", 10**9))
Mask = NDArray[np.bool_]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("checkpoints", nargs="+", metavar="CHECKPOINT[:size[+size ...][m]]")
    parser.add_argument("--confidence", type=float, default=UltralyticsConfig.confidence)
    arguments = parser.parse_args()
    result = {}
    for checkpoint in arguments.checkpoints:
        name, _, passes = checkpoint.rpartition(":")
        if not re.fullmatch(r"\d+(\+\d+)*m?", passes):
            name, passes = checkpoint, "640"
        size, *more = (int(number) for number in passes.removesuffix("m").split("+"))
        config = UltralyticsConfig(
            weights=name,
            image_size=size,
            more_sizes=tuple(more),
            mirror=passes.endswith("m"),
            confidence=arguments.confidence,
        )
        row = judge(config, arguments.dataset)
        result[f"{Path(name).name}:{passes}"] = row
        print(checkpoint, json.dumps(row["pixels"]), row["objects"]["all"], file=sys.stderr)
    print(json.dumps(result, indent=2))


def photographs(dataset: Path) -> Iterator[tuple[NDArray[np.uint8], list[tuple[str, Mask]]]]:
    """Each photograph, and its human outlines by class."""
    for path in sorted((dataset / "images").glob("*.jpg")):
        image = np.asarray(Image.open(path).convert("RGB"))
        yield image, outlines(dataset / "labels" / f"{path.stem}.txt", (image.shape[0], image.shape[1]))


def judge(config: UltralyticsConfig, dataset: Path) -> dict[str, Any]:
    weights = load_weights(config.weights, None, S3Options(), key="checkpoint")
    detector = UltralyticsDetector(config, weights.data, device=torch.device("cpu"), autocast=False)
    both = either = truth_pixels = found_pixels = 0
    of_images: list[float] = []
    objects: list[tuple[int, bool, bool]] = []
    images = false_images = 0
    seconds = 0.0
    for image, drawn in photographs(dataset):
        shape = (image.shape[0], image.shape[1])
        images += 1
        begun = time.perf_counter()
        [detections] = detector.detect([image], [""])
        seconds += time.perf_counter() - begun
        found = [(detection.label, whole(detection, shape)) for detection in detections]
        truth = union([mask for _, mask in drawn], shape)
        mask = union([mask for _, mask in found], shape)
        both += int((truth & mask).sum())
        either += int((truth | mask).sum())
        truth_pixels += int(truth.sum())
        found_pixels += int(mask.sum())
        if truth.any():
            of_images.append(float((truth & mask).sum() / (truth | mask).sum()))
        elif mask.any():
            false_images += 1
        for label, outline in drawn:
            pixels = int(outline.sum())
            if pixels >= MIN_PIXELS:
                met = any(label == its and iou(outline, one) >= 0.5 for its, one in found)
                objects.append((pixels, met, bool((outline & mask).sum() >= 0.75 * pixels)))
    if not truth_pixels:
        sys.exit(f"{dataset}: no outline of {', '.join(CLASSES.values())} in labels/*.txt beside images/*.jpg")
    by_size, least = {}, 0
    for name, most in SIZES:
        by_size[name] = parts([one for one in objects if least <= one[0] < most])
        least = most
    return {
        "pixels": {
            "iou": round(both / either, 4),
            "recall": round(both / truth_pixels, 4),
            "precision": round(both / found_pixels, 4) if found_pixels else None,
            "iou_mean_of_images": round(statistics.fmean(of_images), 4),
        },
        "objects": {"all": parts(objects), **by_size},
        "images": images,
        "images_with_such_an_object": len(of_images),
        "images_without_one_in_which_one_is_found": false_images,
        "milliseconds_per_image": round(1000 * seconds / images, 1),
    }


def parts(objects: list[tuple[int, bool, bool]]) -> dict[str, float | int | None]:
    count = len(objects)
    met, covered = sum(one[1] for one in objects), sum(one[2] for one in objects)
    return {
        "outlines": count,
        "met": round(met / count, 4) if count else None,
        "covered": round(covered / count, 4) if count else None,
    }


def whole(detection: Detection, shape: tuple[int, int]) -> Mask:
    mask = np.zeros(shape, bool)
    height, width = detection.mask.shape
    mask[detection.top : detection.top + height, detection.left : detection.left + width] = detection.mask
    return mask


def iou(first: Mask, second: Mask) -> float:
    return float((first & second).sum() / max(1, (first | second).sum()))


if __name__ == "__main__":
    main()
