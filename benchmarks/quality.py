"""What the removal job does to labelled photographs: `python benchmarks/quality.py DATASET [key.path=value ...]`.

DATASET holds `images/*.jpg` and `labels/*.txt` in YOLO's polygon format with COCO's 80 class numbers. The job runs on
the images (settings as for the job itself, such as `detector.weights=` or `inpainter.kind=`); the JSON says how many
images ended how, what the detector still finds, the means of the measures, and how the masks agree with the human
polygons of person, bicycle, car, motorcycle, bus and truck: intersection over union, and recall, of all pixels of the
data set and as a mean over the images that have such an object, for the grown masks that are filled.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from outlines import outlines, union
from PIL import Image

from inpaint_core.removal.record import SHIFTED_HOLE_COLUMNS

ROOT = Path(__file__).resolve().parents[1]
MEASURES = ("residual_objects", "seam", "outside_max_diff", "mask_fraction", *SHIFTED_HOLE_COLUMNS[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key.path=value")
    arguments = parser.parse_args()
    images = arguments.dataset / "images"
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "out"
        command = [sys.executable, str(ROOT / "jobs" / "remove_objects.py"), f"input={images}", f"output={output}"]
        subprocess.run([*command, *arguments.overrides], check=True, stdout=sys.stderr)
        rows = pq.read_table(output / "_removal" / "records").to_pylist()
        assert len(rows) == sum(path.suffix == ".jpg" for path in images.iterdir())
        cleaned = [row for row in rows if row["status"] in ("cleaned", "held")]
        agreement = [agree(arguments.dataset, row, output) for row in rows]
    with_object = [pair for pair in agreement if pair["truth"]]
    total = {name: sum(pair[name] for pair in agreement) for name in ("both", "either", "truth")}
    result = {
        "images": dict(Counter(row["status"] for row in rows)),
        "objects": dict(Counter(item["label"] for row in cleaned for item in row["objects"])),
        "mean": {name: mean([row[name] for row in cleaned]) for name in MEASURES},
        "images_with_residual_objects": sum(bool(row["residual_objects"]) for row in cleaned),
        "images_with_shifted_hole": sum(row["l1"] is not None for row in cleaned),
        "grown_mask_iou": {
            "of_all_pixels": total["both"] / total["either"],
            "mean_of_images": mean([pair["both"] / pair["either"] for pair in with_object]),
        },
        "grown_mask_recall": {
            "of_all_pixels": total["both"] / total["truth"],
            "mean_of_images": mean([pair["both"] / pair["truth"] for pair in with_object]),
        },
        "images_with_such_an_object": len(with_object),
    }
    print(json.dumps(result, indent=2))


def agree(dataset: Path, row: dict[str, object], output: Path) -> dict[str, int]:
    """Pixels of the human polygons, and those that they share with the mask."""
    shape = (int(str(row["height"])), int(str(row["width"])))
    found = outlines(dataset / "labels" / f"{Path(str(row['key'])).stem}.txt", shape)
    truth = union([mask for _, mask in found], shape)
    file = output / "_removal" / "masks" / f"{row['key']}.png"
    mask = np.asarray(Image.open(file).convert("1")) if file.exists() else np.zeros(shape, bool)
    return {"both": int((truth & mask).sum()), "either": int((truth | mask).sum()), "truth": int(truth.sum())}


def mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


if __name__ == "__main__":
    main()
