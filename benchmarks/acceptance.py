"""What a record says of a result that a person would reject: `python benchmarks/acceptance.py FOLDER... [--weights yolov8n-seg.pt]`.

Removes objects of 25 classes from the labelled photographs (`*.jpg`) of the folders and compares the columns of their records with the labels
that a person gave by looking at the results beside the photographs (`benchmarks/acceptance-labels.json`, by file name).
The labelled photographs are those of COCO and of BSDS500 (Arbelaez et al., TPAMI 2011). The JSON holds, for each column, the
probability that a rejected result is worse by it than an accepted one (area under the ROC curve; 0.5: the column says nothing),
and for bounds of `accept.min_likeness` how many rejected and accepted results they hold back.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from inpaint_core import load_remover
from inpaint_core.removal.record import Record

HERE = Path(__file__).parent
WORSE_IF_LARGE = {
    "mask_fraction": True,
    "residual_objects": True,
    "seam": True,
    "likeness": False,
    "psnr": False,
    "ssim": False,
}
BOUNDS = (-0.4, -0.3, -0.2, -0.1, 0.0, 0.1, 0.2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--weights", default="yolov8n-seg.pt")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    labels = json.loads((HERE / "acceptance-labels.json").read_text())
    remover = load_remover({"detector.weights": arguments.weights, "detector.classes": labels["classes"]})
    groups: dict[str, list[Record]] = {"accepted": [], "rejected": []}
    for file in sorted(path for folder in arguments.folders for path in folder.rglob("*.jpg")):
        for label, records in groups.items():
            if file.name in labels[label]:
                _, record = remover(file.read_bytes(), key=file.name)
                if record.status == "cleaned":
                    records.append(record)
    result = {
        "results": {label: len(records) for label, records in groups.items()},
        "columns": {name: round(separation(groups, name, large), 3) for name, large in WORSE_IF_LARGE.items()},
        "held_by_min_likeness": {
            str(bound): {
                label: sum(record.likeness is not None and record.likeness < bound for record in records)
                for label, records in groups.items()
            }
            for bound in BOUNDS
        },
    }
    print(json.dumps(result, indent=1))
    (HERE / "acceptance.json").write_text(json.dumps(result, indent=1) + "\n")


def separation(groups: dict[str, list[Record]], column: str, worse_if_large: bool) -> float:
    """Area under the ROC curve of a column; records in which it is null do not count."""
    accepted, rejected = (
        np.array([value for record in groups[label] if (value := getattr(record, column)) is not None], float)
        for label in ("accepted", "rejected")
    )
    larger = (rejected[:, None] > accepted).mean() + 0.5 * (rejected[:, None] == accepted).mean()
    return float(larger if worse_if_large else 1 - larger)


if __name__ == "__main__":
    main()
