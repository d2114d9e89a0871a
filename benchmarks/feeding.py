"""How many samples a second the CPUs of a worker prepare: `python benchmarks/feeding.py --data URI --shapes FILE.parquet`.

Images per second of CPU time, which the load of the machine does not change: of the worker's thread, which gathers
images, and of a feeder, which draws the holes and, with `files`, decodes the photographs. What a worker with N feeders
reaches is the smaller of the thread's rate and N times a feeder's; `feeders for 20,000/s` is that N. `alone` is one thread
that does all. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import sys
import time
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
KINDS = ("center", "box", "strokes", "thin", "medium", "thick", "objects")
WANTED = 20_000


def main() -> None:
    import psutil

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder, bucket or tar of photographs")
    parser.add_argument("--shapes", required=True, help="Parquet file of `inpaint shapes`")
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--epochs", type=int, default=6, help="over these images, in a round")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    pixels, files = both(arguments.data, arguments.images)
    here = psutil.Process()
    found: dict[str, dict[str, float]] = {}
    for kind in KINDS:
        found[kind] = measured(kind, pixels, arguments, here)
    found["center, files"] = measured("center", files, arguments, here)
    print(
        json.dumps(
            {
                "images": arguments.images,
                "rounds": arguments.rounds,
                "machine": f"{os.cpu_count()} CPUs, {platform.machine()}",
                "images_per_cpu_second": found,
            },
            indent=2,
        )
    )


def both(uri: str, count: int):  # type: ignore[no-untyped-def]
    """The photographs decoded, and as files."""
    from inpaint_core.images.collections.config import ReadingConfig
    from inpaint_core.images.collections.photographs import load_photographs
    from inpaint_core.images.collections.sources import as_sources, list_photographs, read_bytes
    from inpaint_core.storage import S3Options
    from inpaint_core.training.data.blocks import File, FileBlocks, ImageBlocks

    reading = ReadingConfig(limit=count)
    pixels = ImageBlocks.of(load_photographs(uri, S3Options(), reading, 128).pixels)
    storage, photographs = list_photographs(uri, S3Options(), reading.extensions, count)
    sources = as_sources(storage, photographs, reading.max_pixels, per_block=256)
    blocks = [[File(photograph.key, data) for photograph, data in read_bytes(source)] for source in sources]
    options = {"size": 128, "max_pixels": reading.max_pixels, "max_failed": 0.01}
    return pixels, FileBlocks([len(block) for block in blocks], blocks.__getitem__, **options)


def measured(kind: str, blocks, arguments: argparse.Namespace, here) -> dict[str, float]:  # type: ignore[no-untyped-def]
    alone, thread, feeder = [], [], []
    for number in range(arguments.rounds):
        alone.append(rates(kind, blocks, arguments, here, 0, number)[0])
        own, others = rates(kind, blocks, arguments, here, 1, number)
        thread.append(own)
        feeder.append(others)
    per_feeder = statistics.median(feeder)
    return {
        "alone": round(statistics.median(alone)),
        "thread": round(statistics.median(thread)),
        "feeder": round(per_feeder),
        f"feeders for {WANTED:,}/s": math.ceil(WANTED / per_feeder),
    }


def rates(kind: str, blocks, arguments: argparse.Namespace, here, feeders: int, number: int) -> tuple[float, float]:  # type: ignore[no-untyped-def]
    """Images per second of CPU time of this process, and of its feeder."""
    import cv2
    import numpy as np

    from inpaint_core.hole_masks.sampler import HoleSampler
    from inpaint_core.hole_masks.shape_file import load_object_shapes
    from inpaint_core.storage import S3Options
    from inpaint_core.training.data.samples import BatchStream

    cv2.setNumThreads(1)
    holes = HoleSampler([kind], None, load_object_shapes(arguments.shapes, S3Options()))
    nothing = np.zeros(0, np.int64)
    stream = BatchStream(blocks, held_out=nothing, batch=64, rank=0, ranks=1, seed=0, holes=holes, feeders=feeders)
    steps = 0
    batches = chain.from_iterable(
        stream._batches(arguments.epochs * number + epoch, 0) for epoch in range(arguments.epochs)
    )
    next(batches)  # starts the feeder
    child = next((child for child in here.children() if "feeder_process" in " ".join(child.cmdline())), None)
    own, others = time.process_time(), sum(child.cpu_times()[:2]) if child else 0.0
    for _ in batches:
        steps += 1
    own = time.process_time() - own
    others = sum(child.cpu_times()[:2]) - others if child else math.inf
    stream.close()
    return steps * 64 / own, steps * 64 / others


if __name__ == "__main__":
    main()
