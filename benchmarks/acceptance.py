"""What a record says of a result that a person would reject: `python benchmarks/acceptance.py FOLDER... [--weights yolov8n-seg.pt]`.

Removes objects of 25 classes from the labelled photographs (`*.jpg`) of the folders and compares the columns of their records with the labels
that a person gave by looking at the results beside the photographs (`benchmarks/acceptance-labels.json`, by file name).
The labelled photographs are those of COCO and of BSDS500 (Arbelaez et al., TPAMI 2011). The JSON holds, for each column, the
probability that a rejected result is worse by it than an accepted one (area under the ROC curve; 0.5: the column says nothing),
and for bounds of `accept.min_likeness` how many rejected and accepted results they hold back. `candidates` has the same for the measures of
`benchmarks/acceptance_candidates.py`, and `beside_likeness` what each adds to `likeness`: the area of a logistic regression on both,
cross-validated (10 folds), beside that of `likeness` alone.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from acceptance_candidates import CANDIDATES, LOW_CONFIDENCE, Result
from numpy.typing import NDArray

from inpaint_core import load_remover
from inpaint_core.detection.detector import AdjustableDetector, Detector
from inpaint_core.removal.image_task import ImageTask
from inpaint_core.removal.record import Record
from inpaint_core.removal.remover import ObjectRemover

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
    remover = load_remover({"detector.weights": arguments.weights, "detector.classes": labels["classes"]}).load()
    assert isinstance(remover.detector, AdjustableDetector)
    sensitive = remover.detector.adjusted(replace(remover.config.detector, confidence=LOW_CONFIDENCE))
    assert sensitive is not None
    groups: dict[str, list[Record]] = {"accepted": [], "rejected": []}
    values: dict[str, list[dict[str, float]]] = {"accepted": [], "rejected": []}
    for file in sorted(path for folder in arguments.folders for path in folder.rglob("*.jpg")):
        for label, records in groups.items():
            if file.name in labels[label]:
                record, result = removed(remover, sensitive, file)
                if result is not None:
                    records.append(record)
                    values[label].append({name: _number(measure(result)) for name, measure in CANDIDATES.items()})
    rejected = np.array([label == "rejected" for label, records in groups.items() for _ in records])
    likeness = np.array([_number(record.likeness) for records in groups.values() for record in records])
    mask = np.array([_number(record.mask_fraction) for records in groups.values() for record in records])
    candidates = {name: np.array([one[name] for rows in values.values() for one in rows]) for name in CANDIDATES}
    result = {
        "results": {label: len(records) for label, records in groups.items()},
        "columns": {name: round(separation(groups, name, large), 3) for name, large in WORSE_IF_LARGE.items()},
        "candidates": {name: round(area(column, rejected), 3) for name, column in candidates.items()},
        "beside_likeness": {
            name: round(together([-likeness, *column], rejected), 3)
            for name, column in {
                "nothing": [],
                "mask_fraction": [mask],
                **{name: [one] for name, one in candidates.items()},
            }.items()
        },
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
    sign = 1.0 if worse_if_large else -1.0
    rejected = np.array([label == "rejected" for label, records in groups.items() for _ in records])
    return area(sign * np.array([_number(getattr(one, column)) for rows in groups.values() for one in rows]), rejected)


def area(values: NDArray[np.float64], rejected: NDArray[np.bool_]) -> float:
    """Area under the ROC curve of a measure that is large where a result is rejected; NaN does not count."""
    known = ~np.isnan(values)
    bad, good = values[known & rejected], values[known & ~rejected]
    return float((bad[:, None] > good).mean() + 0.5 * (bad[:, None] == good).mean())


def together(measures: list[NDArray[np.float64]], rejected: NDArray[np.bool_]) -> float:
    """`area` of a logistic regression on several measures, each result by the regression without its fold of ten.

    NaN counts as the median. The regression has a ridge of 0.1; its steps are Newton's.
    """
    columns = [np.where(np.isnan(one), np.nanmedian(one), one) for one in measures]
    inputs = np.stack([np.ones(len(rejected)), *((one - one.mean()) / (one.std() + 1e-9) for one in columns)], axis=1)
    folds = np.random.default_rng(0).permutation(len(rejected)) % 10
    scores = np.zeros(len(rejected))
    for fold in range(10):
        known, weights = folds != fold, np.zeros(inputs.shape[1])
        for _ in range(30):
            chance = 1 / (1 + np.exp(-inputs[known] @ weights))
            curvature = (inputs[known].T * (chance * (1 - chance))) @ inputs[known] + 0.1 * np.eye(len(weights))
            weights += np.linalg.solve(curvature, inputs[known].T @ (rejected[known] - chance) - 0.1 * weights)
        scores[~known] = inputs[~known] @ weights
    return area(scores, rejected)


def removed(remover: ObjectRemover, sensitive: Detector, file: Path) -> tuple[Record, Result | None]:
    """The record of an image, and its result; None where nothing was removed."""
    task = ImageTask(Record(file.name, 0, "", "", "", datetime.now(UTC)), data=file.read_bytes())
    remover.decode(task)
    remover.fill([task])
    remover.encode(task)
    if task.target is None or not task.seen:
        return task.record, None
    pixels, mask = task.seen[0], task.target.mask
    remover.count_residuals([task])
    [found] = sensitive.detect([pixels], [file.name])
    return task.record, Result(pixels, mask, found)


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


if __name__ == "__main__":
    main()
