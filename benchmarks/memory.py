"""Peak memory of one worker with large photographs: `python benchmarks/memory.py [--images 12] [--same] DATASET [key=value ...]`.

DATASET holds `images/*.jpg` and `labels/*.txt`. JPEG files of 24 to 50 megapixels are made of the landscapes with the most labelled
people and vehicles: in turn, 6x4 of them side by side, and one alone, enlarged. A process of its own, one thread, works through them as a worker of the removal job does, without Ray. The JSON
holds its resident memory with the models loaded, the peak (Linux: `VmHWM`), what of it are mapped files (`RssFile`: libraries, which the workers
of a node share), CPU seconds, the number of further attempts (`retry`), and the number of images by status.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from large import landscapes
from PIL import Image

SIZES = [(6000, 4000), (6720, 4480), (7360, 4912), (8192, 6144)]
COLUMNS, ROWS = 6, 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--same", action="store_true", help="the first photograph each time, of 24 megapixels")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("settings", nargs="*", metavar="key=value", help="settings of the removal job")
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(worked(arguments.dataset, arguments.settings), indent=2))
        return
    with tempfile.TemporaryDirectory() as folder:
        pixels = photographs(arguments.dataset, Path(folder, "in"), arguments.images, same=arguments.same)
        command = [sys.executable, __file__, "--worker", folder, *arguments.settings]
        run = subprocess.run(command, check=True, capture_output=True, text=True)
        megapixels = [round(count / 1e6, 1) for count in pixels]
        print(json.dumps({"megapixels": megapixels, "settings": arguments.settings} | json.loads(run.stdout), indent=2))


def photographs(dataset: Path, folder: Path, count: int, *, same: bool = False) -> list[int]:
    """Make the files; returns their numbers of pixels."""
    folder.mkdir()
    scenes = [Image.fromarray(image) for image, _ in landscapes(dataset)]
    pixels = []
    for number in range(count):
        index = 0 if same else number
        size = SIZES[index % len(SIZES)]
        if index % 2:
            image = scenes[index % len(scenes)]
        else:
            chosen = [scenes[(index + place) % len(scenes)] for place in range(COLUMNS * ROWS)]
            rows = [np.concatenate(chosen[COLUMNS * row : COLUMNS * (row + 1)], axis=1) for row in range(ROWS)]
            image = Image.fromarray(np.concatenate(rows))
        image.resize(size, Image.Resampling.BICUBIC).save(folder / f"{number:02}.jpg", quality=90)
        pixels.append(size[0] * size[1])
    return pixels


def worked(folder: Path, settings: list[str]) -> dict[str, Any]:
    """Work through the files of `folder/in` in this process."""
    import cv2
    import torch

    from inpaint_core.config import load_config
    from inpaint_core.removal.build import build_remover
    from inpaint_core.removal.catalogue.entries import Entry, RunId
    from inpaint_core.removal.catalogue.journal import Journal
    from inpaint_core.removal.config import RemoveConfig
    from inpaint_core.removal.job import attempt_weights, model_weights
    from inpaint_core.removal.worker import Worker
    from inpaint_core.storage import open_storage

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    config = load_config(RemoveConfig, None, [f"input={folder}/in", f"output={folder}/out", *settings])
    weights = model_weights(config)
    further = attempt_weights(config, weights)
    remover = build_remover(config, *weights, device=torch.device("cpu"), attempts=further)
    worker = Worker(remover, open_storage(config.input), open_storage(config.output), RunId("run", "hash"))
    entries = [Entry(file.name, file.stat().st_size, "1", None) for file in sorted((folder / "in").iterdir())]
    loaded, start = status("VmHWM"), time.process_time()
    tables = list(worker.process(worker.batches(entries), Journal(worker.target, "journal.parquet")))
    rows = [row for table in tables for row in table.to_pylist()]
    assert [row["key"] for row in rows] == [entry.key for entry in entries]
    statuses = [row["status"] for row in rows]
    return {
        "loaded_gb": loaded,
        "peak_gb": status("VmHWM"),
        "mapped_files_gb": status("RssFile"),
        "cpu_seconds": round(time.process_time() - start),
        "attempts": sum(row["retries"] or 0 for row in rows),
        "statuses": {status: statuses.count(status) for status in sorted(set(statuses))},
        "mask_fractions": [round(row["mask_fraction"] or 0, 2) for row in rows],
    }


def status(name: str) -> float:
    """A size in GB that Linux tells of this process; `VmHWM` is its largest resident memory so far."""
    # Not `ru_maxrss`, which counts the memory of the process that started this one.
    return round(int(Path("/proc/self/status").read_text().split(f"{name}:")[1].split()[0]) * 1024 / 1e9, 2)


if __name__ == "__main__":
    main()
