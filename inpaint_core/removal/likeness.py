"""Similarity of a fill to its surroundings, in the features of the network that finds the objects.

Judging a removal without a reference: features of the filled pixels are compared with those of their surroundings (Chandrasekar
et al., "ReMOVE: A Reference-free Metric for Object Erasure", CVPR workshops 2024, with features of another network). The
detector looks at every output anyway, so its own features cost nothing.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from inpaint_core.detection.detector import Features

_INSIDE = 0.6  # least share of a cell under the mask that makes it one of the fill
_AROUND = 0.3  # width of what is around, in square roots of the fill's area


def likeness(features: Features, mask: NDArray[np.bool_]) -> float | None:
    """Cosine between the mean features of the fill and of its surroundings, each less the mean of the whole image.

    Args:
        features: of the image after the fill.
        mask: (H, W) bool, True = filled.

    Returns:
        -1 to 1: the more, the more alike; below 0 the fill is unlike its surroundings. None where the mask covers everything
        or nothing.
    """
    height, width = features.values.shape[1:]
    share = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    outside = share == 0
    if not share.any() or not outside.any():
        return None
    inside = share >= min(_INSIDE, 0.8 * float(share.max()))
    reach = max(3, math.floor(_AROUND * math.sqrt(np.count_nonzero(inside))))
    near = cv2.dilate((share > 0).view(np.uint8), np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)).view(np.bool_)
    around = near & outside
    centred = features.values - features.values.mean(axis=(1, 2), keepdims=True)
    lengths = np.sqrt(np.square(centred).sum(axis=0))
    directions = centred / np.maximum(lengths, 1e-6)
    fill, surroundings = directions[:, inside].mean(axis=1), directions[:, around].mean(axis=1)
    product = float(np.linalg.norm(fill) * np.linalg.norm(surroundings))
    return float(fill @ surroundings) / product if product > 1e-6 else None
