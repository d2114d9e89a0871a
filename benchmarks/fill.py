"""Time and quality of the default fill: `python benchmarks/fill.py DATASET [--curve] [--migan FILE] [--device cpu]`.

DATASET holds `images/*.jpg` and `labels/*.txt` in YOLO's polygon format with COCO's 80 class numbers. Holes have the
shapes of the labelled people and vehicles and lie anywhere in the photographs, two in each, so that the true pixels are
known. One thread fills them; the JSON holds, as means over the holes: milliseconds of CPU (of wall time on a GPU), L1, PSNR
and SSIM within the hole, the seam (see docs/records.md), and, as a median, the sharpness: the mean absolute Laplacian of the
fill as a multiple of that of the photograph.

`--curve` fills with larger and smaller searches for patches as well. `default` is what the job uses. `--migan` fills with
migan_pipeline_v2.onnx, too, as MI-GAN's authors published it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import cv2
import numpy as np
import torch
from migan import MIGAN
from numpy.typing import NDArray
from outlines import outlines
from PIL import Image

from inpaint_core.device import choose_device, in_bfloat16
from inpaint_core.inpainting.config import FillConfig, GeneratorConfig
from inpaint_core.inpainting.inpainter import Hole, Inpainter
from inpaint_core.inpainting.patch_match import exhaustive, fill
from inpaint_core.metrics.hole import hole_metrics
from inpaint_core.removal.measure import seam
from inpaint_core.storage import S3Options

RING = 7  # pixels by which a shape is grown, as the removal does
SMALLEST, LARGEST = 800, 0.12  # pixels of a shape; share of the photograph

CURVE = {
    "default": {},
    "4, 4, 2 rounds": {"rounds": (4, 4, 2)},
    "2, 2, 2 rounds": {"rounds": (2, 2, 2)},
    "all sources": {"step": 1},
    "every 2nd source": {"step": 2},
    "all sources, 4, 4, 2 rounds": {"rounds": (4, 4, 2), "step": 1},
    "every 4th source": {"step": 4},
    "every 16th source": {"step": 16},
    "21 numbers a patch": {"frequencies": (5, 2)},
    "16 numbers a patch": {"frequencies": (4, 2)},
    "no search at 128": {"rounds": (2, 2, 0)},
    "no finer level than 128": {"finest": 128},
    "no lines": {"lines": False},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--curve", action="store_true")
    parser.add_argument("--migan", type=Path, metavar="FILE")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--limit", type=int, help="holes in so many photographs at most")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    device = choose_device(arguments.device, "--device")
    config = GeneratorConfig()
    weights = config.weights_file().load(S3Options(), key="inpainter.weights").data
    model = config.build(weights, device=device, autocast=in_bfloat16("auto", device))
    inpainter = Inpainter(model, FillConfig())
    holes = list(placed(arguments.dataset, arguments.limit))
    inpainter.inpaint(holes[:1])
    result = {}
    for name, change in (CURVE if arguments.curve else {"default": {}}).items():
        with changed(**change):
            result[name] = measured(inpainter, holes, device)
    if arguments.migan:
        model = MIGAN.build(arguments.migan.read_bytes(), device=device, autocast=False)
        result["MI-GAN"] = measured(Inpainter(model, FillConfig()), holes, device)
    print(json.dumps({"device": str(device), "holes": len(holes), "fills": result}, indent=2))


def placed(dataset: Path, limit: int | None) -> Iterator[Hole]:
    """Two holes for each of the first photographs, of the shapes in all of them, at places drawn with a fixed seed."""
    files = sorted((dataset / "images").glob("*.jpg"))
    shapes = []
    for file in files:
        with Image.open(file) as picture:
            width, height = picture.size
        for _, mask in outlines(dataset / "labels" / f"{file.stem}.txt", (height, width)):
            if SMALLEST < mask.sum() < LARGEST * mask.size:
                rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
                shapes.append(np.pad(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], RING))
    generator = np.random.default_rng(5)
    for file in files[:limit]:
        pixels = np.asarray(Image.open(file).convert("RGB"))
        for _ in range(2):
            shape = shapes[generator.integers(len(shapes))]
            room = np.subtract(pixels.shape[:2], shape.shape)
            if room.min() < 0:
                continue
            top, left = (int(generator.integers(0, most + 1)) for most in room)
            core = np.zeros(pixels.shape[:2], bool)
            core[top : top + shape.shape[0], left : left + shape.shape[1]] = shape
            grown = cv2.dilate(core.view(np.uint8), np.ones((2 * RING + 1, 2 * RING + 1), np.uint8))
            yield Hole(pixels, core, grown.view(np.bool_))


def measured(inpainter: Inpainter, holes: list[Hole], device: torch.device) -> dict[str, float]:
    """The means of all holes, filled one by one."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    seconds, rows = 0.0, []
    for hole in holes:
        start = clock()
        (filled,) = inpainter.inpaint([hole])
        seconds += clock() - start
        metrics = hole_metrics(hole.image, filled, hole.mask)
        sharpness = [strength(image, hole.mask) for image in (filled, hole.image)]
        rows.append(
            (metrics.l1, metrics.psnr, metrics.ssim, seam(filled, hole.mask), sharpness[0] / max(sharpness[1], 0.5))
        )
    l1, psnr, ssim, seams, sharp = zip(*rows, strict=True)
    return {
        "milliseconds": round(1000 * seconds / len(holes), 1),
        "l1": round(statistics.fmean(l1), 4),
        "psnr": round(statistics.fmean(psnr), 3),
        "ssim": round(statistics.fmean(ssim), 4),
        "seam": round(statistics.fmean(seams), 4),
        "sharpness": round(statistics.median(sharp), 3),
    }


def strength(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> float:
    """Mean absolute Laplacian of the grey picture under a mask, in levels."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return float(np.abs(cv2.Laplacian(grey, cv2.CV_32F))[mask].mean())


@contextmanager
def changed(
    rounds: tuple[int, int, int] = (2, 2, 1),
    step: int = 8,
    frequencies: tuple[int, int] = (7, 2),
    finest: int = 512,
    lines: bool = True,
) -> Iterator[None]:
    """Another size of the search, as long as the `with` statement lasts."""
    before = exhaustive.ROUNDS, exhaustive.STEPS[128], exhaustive.FREQUENCIES, fill.FINEST
    find_lines = fill.find_lines
    fill.ROUNDS = exhaustive.ROUNDS = {32 << index: times for index, times in enumerate(rounds) if times}
    exhaustive.STEPS[128], exhaustive.FREQUENCIES, fill.FINEST = step, frequencies, finest
    if not lines:
        fill.find_lines = lambda photograph, mask: []
    try:
        yield
    finally:
        exhaustive.ROUNDS, exhaustive.STEPS[128], exhaustive.FREQUENCIES, fill.FINEST = before
        fill.ROUNDS = exhaustive.ROUNDS
        fill.find_lines = find_lines


if __name__ == "__main__":
    main()
