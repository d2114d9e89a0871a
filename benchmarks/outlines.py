"""Human outlines of objects: YOLO's polygon format with COCO's 80 class numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from skimage.draw import polygon

CLASSES = {0: "person", 1: "bicycle", 2: "car", 3: "motorcycle", 5: "bus", 7: "truck"}


def outlines(labels: Path, shape: tuple[int, int], *, all_classes: bool = False) -> list[tuple[str, NDArray[np.bool_]]]:
    """The class and the (H, W) mask of each object of `CLASSES`, or of all with their number; none where there is no file."""
    found = []
    for line in labels.read_text().splitlines() if labels.exists() else []:
        category, *values = line.split()
        if all_classes or int(category) in CLASSES:
            mask = np.zeros(shape, bool)
            points = np.array(values, float).reshape(-1, 2) * (shape[1], shape[0]) - 0.5
            mask[polygon(points[:, 1], points[:, 0], shape)] = True
            found.append((CLASSES.get(int(category), category), mask))
    return found


def union(masks: list[NDArray[np.bool_]], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """(H, W): what any of them covers."""
    return np.any(masks, axis=0) if masks else np.zeros(shape, bool)
