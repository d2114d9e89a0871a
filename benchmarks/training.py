"""The training job against its bare step: `python benchmarks/training.py --data URI [--images 4096] [--rounds 3]`.

Four ways over the same images, in turn, several rounds; medians and ratios as JSON. Images a second of an epoch after
the first, validation left out:

- `bare`   the step alone, fed with one batch that lies in memory, all threads.
- `hand`   what a user would write: torch's DataLoader over files that PIL decodes, two processes, the same step.
- `job`    the job on Ray: one worker with all threads.
- `split`  the job on Ray: as many workers with one thread each, which share each batch.

`job / bare` says what reading costs; `split / job` how well the work is shared.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
NETWORK = [
    "network.bottleneck=512",
    "network.width=32",
    "discriminator.width=32",
    "loss.l1=0.3",
    "loss.ssim=0.7",
]
WARM_UP_STEPS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder, bucket or tar of photographs")
    parser.add_argument("--images", type=int, default=4096)
    parser.add_argument("--epochs", type=int, default=3, help="the first is not counted")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--way", choices=["bare", "hand"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        print(json.dumps({"bare": bare, "hand": by_hand}[arguments.way](arguments)))
        return
    rates: dict[str, list[float]] = {"bare": [], "hand": [], "job": [], "split": []}
    for _ in range(arguments.rounds):
        for way, found in rates.items():
            found.append(measured(way, arguments))
            print(f"{way}: {found[-1]:.1f} images/s", file=sys.stderr)
    medians = {way: statistics.median(found) for way, found in rates.items()}
    print(
        json.dumps(
            {
                "images": arguments.images,
                "threads": arguments.threads,
                "rounds": arguments.rounds,
                "machine": f"{os.cpu_count()} CPUs, {platform.machine()}",
                "images_per_second": medians,
                "all": rates,
                "job / bare": ratio(rates, "job", "bare"),
                "job / hand": ratio(rates, "job", "hand"),
                "split / job": ratio(rates, "split", "job"),
            },
            indent=2,
        )
    )


def ratio(rates: dict[str, list[float]], way: str, other: str) -> float:
    """Median over the rounds of the ratio within each: what drifts from round to round falls out."""
    return round(statistics.median(a / b for a, b in zip(rates[way], rates[other], strict=True)), 3)


def measured(way: str, arguments: argparse.Namespace) -> float:
    if way in ("bare", "hand"):
        command = [sys.executable, __file__, "--way", way, "--data", arguments.data, "--images", str(arguments.images)]
        command += ["--epochs", str(arguments.epochs), "--threads", str(arguments.threads)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads)}
        run = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
        return float(json.loads(run.stdout))
    import pyarrow.parquet as pq

    workers = arguments.threads if way == "split" else 1
    with tempfile.TemporaryDirectory() as output:
        subprocess.run(
            [
                *(sys.executable, str(ROOT / "jobs" / "train.py"), *NETWORK),
                *(f"data={arguments.data}", f"reading.limit={arguments.images}", f"output={output}/run"),
                *(f"epochs={arguments.epochs}", "validation.images=64"),
                *(f"scaling.workers={workers}", f"scaling.cpus_per_worker={arguments.threads // workers}"),
            ],
            check=True,
            stdout=sys.stderr,
        )
        rows = pq.read_table(f"{output}/run/history.parquet").to_pylist()
    return statistics.median(row["images_per_second"] for row in rows[1:])


def the_step(threads: int, steps: int, overrides: Sequence[str] = (), device: str = "cpu"):  # type: ignore[no-untyped-def]
    import torch

    from inpaint_core.config import load_config
    from inpaint_core.training.config import TrainConfig
    from inpaint_core.training.step import AdversarialStep
    from inpaint_core.training.worker_context import WorkerContext, set_up_device

    torch.set_num_threads(threads)
    config = load_config(TrainConfig, None, [*NETWORK, *overrides])
    set_up_device(config.scaling, torch.device(device))
    return config, AdversarialStep(config, WorkerContext.of(config.scaling, torch.device(device)), steps=steps)


def one_batch(size: int):  # type: ignore[no-untyped-def]
    """Noise of `size` pictures, in memory."""
    import numpy as np
    import torch

    from inpaint_core.training.data.samples import Batch

    pixels = np.random.default_rng(0).integers(0, 256, (size, 128, 128, 3), dtype=np.uint8)
    return Batch(
        images=torch.from_numpy(pixels).permute(0, 3, 1, 2),
        flips=torch.zeros(size, dtype=torch.bool),
        corners=torch.zeros(size, 2, dtype=torch.int64),
        masks=None,
    )


def bare(arguments: argparse.Namespace) -> float:
    """The step on one batch over and over, for as many steps as the job's counted epochs have."""
    steps = (arguments.epochs - 1) * (arguments.images // 64)
    config, step = the_step(arguments.threads, steps)
    batch = one_batch(config.global_batch)
    for _ in range(WARM_UP_STEPS):
        step(batch)
    begun = time.perf_counter()
    for _ in range(steps):
        step(batch)
    return steps * config.global_batch / (time.perf_counter() - begun)


def by_hand(arguments: argparse.Namespace) -> float:
    """A DataLoader that decodes each file each time it is seen; the first epoch, with its start-up, is not counted."""
    import numpy as np
    import torch
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset

    from inpaint_core.images.collections.config import ReadingConfig
    from inpaint_core.images.collections.sources import as_sources, list_photographs, read_bytes
    from inpaint_core.storage import S3Options
    from inpaint_core.training.data.samples import Batch

    storage, photographs = list_photographs(arguments.data, S3Options(), ReadingConfig.extensions, arguments.images)
    files = list(encoded(as_sources(storage, photographs, ReadingConfig().max_pixels, per_block=256), read_bytes))

    class Files(Dataset[torch.Tensor]):
        def __len__(self) -> int:
            return len(files)

        def __getitem__(self, index: int) -> torch.Tensor:
            with Image.open(io.BytesIO(files[index])) as image:
                square = image.convert("RGB").resize((128, 128))
            return torch.from_numpy(np.asarray(square).copy()).permute(2, 0, 1)

    config, step = the_step(arguments.threads, arguments.epochs * (len(files) // 64))
    loader = DataLoader(Files(), config.global_batch, shuffle=True, drop_last=True, num_workers=2)
    rates = []
    for _ in range(arguments.epochs):
        begun = time.perf_counter()
        for images in loader:
            flips = torch.rand(len(images)) < 0.5
            step(Batch(images, flips, torch.zeros(len(images), 2, dtype=torch.int64), None))
        rates.append(len(loader) * config.global_batch / (time.perf_counter() - begun))
    return statistics.median(rates[1:])


def encoded(sources, read_bytes) -> Iterator[bytes]:  # type: ignore[no-untyped-def]
    for source in sources:
        for _, data in read_bytes(source):
            if isinstance(data, bytes):
                yield data


if __name__ == "__main__":
    main()
