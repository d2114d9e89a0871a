"""JPEGs by DCT coefficients and coded again: `python benchmarks/jpeg.py DATASET > benchmarks/jpeg.json`.

DATASET holds `images/*.jpg` and `labels/*.txt` in YOLO's polygon format. All labelled objects of each photograph are filled with
OpenCV's Telea, in the union of their polygons dilated by 5 pixels, and the file is encoded both ways. The JSON holds for each way: the
number of files whose outside is identical (`outside_exact`), the change of samples outside the mask (`outside_max_diff`: mean and
maximum over the files), the same outside the touched blocks, the size of the output as a multiple of the input's, and the median time
of encoding in one thread, in milliseconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from outlines import outlines, union

from inpaint_core.images.decode import decode
from inpaint_core.images.encode import encode
from inpaint_core.removal.measure import outside_exact, outside_max_diff

GROWN = 5
ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--files", type=Path, help="folder for the outputs by coefficients")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    rows: dict[bool, list[dict[str, float]]] = {True: [], False: []}
    for path in sorted((arguments.dataset / "images").glob("*.jpg")):
        data = path.read_bytes()
        source = decode(data, max_pixels=10**9)
        shape = source.pixels.shape[:2]
        labels = arguments.dataset / "labels" / f"{path.stem}.txt"
        objects = union([mask for _, mask in outlines(labels, shape, all_classes=True)], shape)
        ring = np.ones((2 * GROWN + 1, 2 * GROWN + 1), np.uint8)
        mask = cv2.dilate(objects.view(np.uint8), ring)
        if not mask.any():
            continue
        fill = cv2.inpaint(source.pixels, mask, 3, cv2.INPAINT_TELEA)
        touched = None
        for by_coefficients in (True, False):
            seconds = []
            with available(by_coefficients):
                for _ in range(ROUNDS):
                    start = time.process_time()
                    result = encode(source, fill, mask.view(bool), lossy_quality=90)
                    seconds.append(time.process_time() - start)
            assert bool(result.notes) != by_coefficients, result.notes
            touched = result.changed if touched is None else touched
            written = decode(result.data, max_pixels=10**9)
            rows[by_coefficients].append(
                {
                    "exact": outside_exact(source, written, result.changed),
                    "outside": outside_max_diff(source.pixels, written.pixels, mask.view(bool)),
                    "outside_blocks": outside_max_diff(source.pixels, written.pixels, touched),
                    "size": len(result.data) / len(data),
                    "milliseconds": 1000 * statistics.median(seconds),
                }
            )
            if by_coefficients and arguments.files is not None:
                (arguments.files / path.name).write_bytes(result.data)
    print(json.dumps([summary(found, by_coefficients) for by_coefficients, found in rows.items()], indent=2))


@contextmanager
def available(by_coefficients: bool) -> Iterator[None]:
    """Whether the package that reads coefficients can be imported."""
    import jpegio

    sys.modules["jpegio"] = jpegio if by_coefficients else None  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.modules["jpegio"] = jpegio


def summary(rows: list[dict[str, float]], by_coefficients: bool) -> dict[str, object]:
    def of(name: str) -> list[float]:
        return [row[name] for row in rows]

    return {
        "by_coefficients": by_coefficients,
        "files": len(rows),
        "outside_exact": sum(map(bool, of("exact"))),
        "outside_max_diff": {"mean": round(statistics.mean(of("outside")), 1), "max": max(of("outside"))},
        "outside_blocks_max_diff": {
            "mean": round(statistics.mean(of("outside_blocks")), 1),
            "max": max(of("outside_blocks")),
        },
        "size": {
            "median": round(statistics.median(of("size")), 3),
            "min": round(min(of("size")), 3),
            "max": round(max(of("size")), 3),
        },
        "encode_milliseconds": round(statistics.median(of("milliseconds")), 1),
    }


if __name__ == "__main__":
    main()
