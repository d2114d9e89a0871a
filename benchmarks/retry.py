"""What further attempts give and cost: `python benchmarks/retry.py FOLDER... [--weights yolov8n-seg.pt] [--migan FILE]`.

Removes objects of 25 classes (those of `benchmarks/acceptance-labels.json`) from the photographs (`*.jpg`) of the folders with
`accept.min_likeness=-0.2` as the only rule, and tries those that are held again with each of `ATTEMPTS` alone, and with all in this order. One thread. The JSON
holds, for each list, the number of images that are held without it, how many of these pass, how many are better, and the mean gain in `likeness`
of all.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from migan import MIGAN

from inpaint_core import load_remover
from inpaint_core.config import to_tree
from inpaint_core.removal.record import Record

HERE = Path(__file__).parent
BOUND = -0.2
ATTEMPTS = {
    "more context": {"fill": {"context": 3}},
    "larger mask": {"mask": {"grow": 0.08}},
    "no detail": {"inpainter": {"detail": 0}},
    "two sizes": {"detector": {"more_sizes": [448], "confidence": 0.15}},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--weights", default="yolov8n-seg.pt")
    parser.add_argument("--migan", metavar="FILE", help="migan_pipeline_v2.onnx of MI-GAN's authors: one more list")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    settings = {
        "detector.weights": arguments.weights,
        "detector.classes": json.loads((HERE / "acceptance-labels.json").read_text())["classes"],
        "accept.defaults": False,
        "accept.min_likeness": BOUND,
    }
    files = sorted(path for folder in arguments.folders for path in folder.rglob("*.jpg"))
    first = load_remover(settings)
    held: dict[Path, Record] = {}
    cleaned = 0
    for file in files:
        _, record = first(file.read_bytes(), key=file.name)
        cleaned += record.status in ("cleaned", "held")
        if record.status == "held":
            held[file] = record
    result = {"cleaned": cleaned, "held": len(held), "lists": {}}
    lists = {**{name: [one] for name, one in ATTEMPTS.items()}, "all": list(ATTEMPTS.values())}
    if arguments.migan:
        lists["MI-GAN"] = [{"inpainter": {**to_tree(MIGAN), "weights": arguments.migan}}]
    for name, attempts in lists.items():
        remover = load_remover(settings | {"retry": attempts})
        records = [remover(file.read_bytes(), key=file.name)[1] for file in held]
        gains = [(new.likeness or 0) - (old.likeness or 0) for new, old in zip(records, held.values(), strict=True)]
        result["lists"][name] = {
            "pass": sum(record.status == "cleaned" for record in records),
            "better": sum(record.retry_kept is not None for record in records),
            "gain": round(float(np.mean(gains)), 3),
        }
    print(json.dumps(result, indent=1))
    (HERE / "retry.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
