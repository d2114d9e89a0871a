"""Columns of the records against a person's judgement of the results: `python benchmarks/acceptance.py FOLDER... [--weights yolov8n-seg.pt]`.

Removes objects of 25 classes from the labelled photographs (`*.jpg`) of the folders and compares the columns of their records with the labels
that a person gave by looking at the results beside the photographs (`benchmarks/acceptance-labels.json`, by file name).
The labelled photographs are those of COCO and of BSDS500 (Arbelaez et al., TPAMI 2011). The JSON holds, for each column, the
probability that a rejected result is worse by it than an accepted one (area under the ROC curve; 0.5: the column says nothing),
and for bounds of `accept.min_likeness` how many rejected and accepted results they hold. `default_rules` has these counts for the rules that
apply without settings, together, each alone, by folder, and with what other detectors measure of the same results; and the time
that the rules take. `default_classes` is about results with the default classes of photographs that have no other label: the rules were chosen
without them. `candidates` has the same for the measures of
`benchmarks/acceptance_candidates.py`, and `beside_likeness` what each adds to `likeness`: the area of a logistic regression on both,
cross-validated (10 folds), beside that of `likeness` alone.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from acceptance_candidates import CANDIDATES, LOW_CONFIDENCE, Result
from numpy.typing import NDArray

from inpaint_core import load_remover
from inpaint_core.detection.detector import AdjustableDetector, DescribingDetector, Detector
from inpaint_core.removal.acceptance import DEFAULT_RULES, Rule
from inpaint_core.removal.image_task import ImageTask
from inpaint_core.removal.likeness import likeness
from inpaint_core.removal.measure import residual_objects
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
OTHER_DETECTORS: dict[str, dict[str, Any]] = {
    "weights of the job, 320 pixels": {"detector.image_size": 320},
    "people-vehicles.pt, 640 pixels": {"detector.weights": "people-vehicles.pt"},
    "people-vehicles.pt, 320 pixels": {"detector.weights": "people-vehicles.pt", "detector.image_size": 320},
}


@dataclass(frozen=True)
class Labelled:
    """A result with its label, its record, and the folder that its photograph is from."""

    rejected: bool
    folder: str
    record: Record
    result: Result
    candidates: dict[str, float]
    seconds: float
    """That the rules took."""


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
    results = labelled(remover, arguments.folders, labels, sensitive)
    others = labelled(
        load_remover({"detector.weights": arguments.weights}).load(), arguments.folders, labels["default_classes"]
    )
    rejected = np.array([one.rejected for one in results])
    alike = np.array([_number(one.record.likeness) for one in results])
    mask = np.array([_number(one.record.mask_fraction) for one in results])
    candidates = {name: np.array([one.candidates[name] for one in results]) for name in CANDIDATES}
    result = {
        "results": {"accepted": int((~rejected).sum()), "rejected": int(rejected.sum())},
        "columns": {name: round(separation(results, name, large), 3) for name, large in WORSE_IF_LARGE.items()},
        "candidates": {name: round(area(column, rejected), 3) for name, column in candidates.items()},
        "beside_likeness": {
            name: round(together([-alike, *column], rejected), 3)
            for name, column in {
                "nothing": [],
                "mask_fraction": [mask],
                **{name: [one] for name, one in candidates.items()},
            }.items()
        },
        "held_by_min_likeness": {
            str(bound): counts(results, [Rule("likeness", ">=", bound)], lambda one: one.record) for bound in BOUNDS
        },
        "default_rules": by_default_rules(results, arguments.weights, labels["classes"]),
        "default_classes": {
            "results": {
                "accepted": sum(not one.rejected for one in others),
                "rejected": sum(one.rejected for one in others),
            },
            "columns": {name: round(separation(others, name, large), 3) for name, large in WORSE_IF_LARGE.items()},
            "default_rules": counts(others, DEFAULT_RULES, lambda one: one.record),
        },
    }
    print(json.dumps(result, indent=1))
    (HERE / "acceptance.json").write_text(json.dumps(result, indent=1) + "\n")


def by_default_rules(results: Sequence[Labelled], weights: str, classes: list[str]) -> dict[str, Any]:
    """What the default rules hold, of all results and in parts."""

    def held(some: Sequence[Labelled], rules: Sequence[Rule] = DEFAULT_RULES) -> dict[str, int]:
        return counts(some, rules, lambda one: one.record)

    assert sum(one.record.status == "held" for one in results) == sum(held(results).values())
    of_others = {}
    for name, settings in OTHER_DETECTORS.items():
        base = {"detector.weights": weights} | ({} if "detector.weights" in settings else {"detector.classes": classes})
        detector = load_remover(base | settings).load().detector
        assert isinstance(detector, DescribingDetector)
        of_others[name] = counts(results, DEFAULT_RULES, measured_by(detector))
    return {
        "all": held(results),
        "alone": {str(rule): held(results, [rule]) for rule in DEFAULT_RULES},
        "folders": {
            name: held([one for one in results if one.folder == name])
            for name in dict.fromkeys(one.folder for one in results)
        },
        "other_detectors": of_others,
        "milliseconds_per_image": round(1000 * float(np.mean([one.seconds for one in results])), 3),
    }


def measured_by(detector: DescribingDetector) -> Callable[[Labelled], Record]:
    """The record of a result with what another detector measures of it."""

    def record_of(one: Labelled) -> Record:
        [(found, features)] = detector.detect_and_describe([one.result.pixels], [one.record.key])
        mask = one.result.mask
        return replace(one.record, likeness=likeness(features, mask), residual_objects=residual_objects(found, mask))

    return record_of


def counts(
    results: Sequence[Labelled], rules: Sequence[Rule], record_of: Callable[[Labelled], Record]
) -> dict[str, int]:
    """Number of accepted and of rejected results that a rule holds."""
    held = [
        (one.rejected, any(rule.is_broken_by(record) for rule in rules))
        for one in results
        for record in [record_of(one)]
    ]
    return {
        label: sum(broken for bad, broken in held if bad is rejected)
        for label, rejected in (("accepted", False), ("rejected", True))
    }


def labelled(
    remover: ObjectRemover,
    folders: Sequence[Path],
    labels: Mapping[str, Sequence[str]],
    sensitive: Detector | None = None,
) -> list[Labelled]:
    """The results of the photographs of some folders that have a label. Without a sensitive detector, candidates are not measured."""
    known = {name: label == "rejected" for label in ("accepted", "rejected") for name in labels[label]}
    results = []
    for folder in folders:
        for file in sorted(path for path in folder.rglob("*.jpg") if path.name in known):
            record, result, seconds = removed(remover, sensitive, file)
            if result is not None:
                measures = CANDIDATES if sensitive else {}
                values = {name: _number(measure(result)) for name, measure in measures.items()}
                results.append(Labelled(known[file.name], folder.name, record, result, values, seconds))
    return results


def separation(results: Sequence[Labelled], column: str, worse_if_large: bool) -> float:
    """Area under the ROC curve of a column; records in which it is null do not count."""
    sign = 1.0 if worse_if_large else -1.0
    values = np.array([_number(getattr(one.record, column)) for one in results])
    return area(sign * values, np.array([one.rejected for one in results]))


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


def removed(remover: ObjectRemover, sensitive: Detector | None, file: Path) -> tuple[Record, Result | None, float]:
    """The record of an image, its result (None where nothing was removed), and the seconds that the rules took."""
    task = ImageTask(Record(file.name, 0, "", "", "", datetime.now(UTC)), data=file.read_bytes())
    remover.decode(task)
    remover.fill([task])
    remover.encode(task)
    if task.target is None or not task.output_views:
        return task.record, None, 0.0
    pixels, mask = task.output_views[0], task.target.mask
    remover.count_residuals([task])
    start = time.perf_counter()
    remover.judge([task])
    seconds = time.perf_counter() - start
    [found] = sensitive.detect([pixels], [file.name]) if sensitive else [[]]
    return task.record, Result(pixels, mask, found), seconds


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


if __name__ == "__main__":
    main()
