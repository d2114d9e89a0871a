"""What fine-tuning on photographs of one kind gains: `python benchmarks/fine_tuning.py MINIPLACES [--categories ...]`.

MINIPLACES holds `train-0.tar`, `train-1.tar` and `train-2.tar` with `images/train/<letter>/<category>/<n>.jpg`. The photographs
of the categories in the first two are trained on with `configs/train/fine_tune.yaml`, those in the third are filled by the
network before and after, with the same holes. The shipped network has seen all of them in its own training; the fine-tuned one
sees those of the third no more. `more` are settings of the training, such as `epochs=5`.

Of each metric: the mean before and after, and the gain with its standard error over the photographs. JSON on stdout.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow.parquet as pq

from inpaint_core.metrics.names import LOWER_IS_BETTER
from inpaint_core.networks.weights.pretrained import INPAINTER

ROOT = Path(__file__).resolve().parents[1]
SHOPS = ("bookstore", "candy_store", "clothing_store", "supermarket")
KINDS = ("medium", "thick")
METRICS = ("hole_l1", "hole_psnr", "hole_ssim_centred", "hole_detail")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("miniplaces", type=Path)
    parser.add_argument("--categories", nargs="+", default=SHOPS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("more", nargs="*", help="settings of the training")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        counts = {
            part: extract(
                [given.miniplaces / f"train-{shard}.tar" for shard in shards], folder / part, given.categories
            )
            for part, shards in {"train": (0, 1), "test": (2,)}.items()
        }
        start = time.monotonic()
        settings = ["--config", str(ROOT / "configs/train/fine_tune.yaml"), f"data={folder / 'train'}"]
        output = [f"output={folder / 'tuned'}", f"scaling.cpus_per_worker={given.threads}"]
        command("train", *settings, *output, "scaling.workers=1", *given.more)
        seconds = time.monotonic() - start
        result = {
            "categories": list(given.categories),
            "photographs": counts,
            "settings": given.more,
            "threads": given.threads,
            "seconds": round(seconds),
            "epochs": history(folder / "tuned"),
            "holes": {kind: gains(folder, kind, given.threads) for kind in KINDS},
        }
    print(json.dumps(result, indent=2))


def extract(shards: list[Path], folder: Path, categories: list[str]) -> int:
    """The photographs of the categories in shards, as files; returns their number."""
    count = 0
    for shard in shards:
        with tarfile.open(shard) as tar:
            for member in tar:
                path = PurePosixPath(member.name)
                if member.isfile() and path.parent.name in categories:
                    file = tar.extractfile(member)
                    assert file is not None
                    (folder / path.parent.name).mkdir(parents=True, exist_ok=True)
                    (folder / path.parent.name / path.name).write_bytes(file.read())
                    count += 1
    return count


def command(name: str, *arguments: str) -> None:
    """Run a command of `inpaint`; its lines go to stderr."""
    subprocess.run(
        [sys.executable, "-m", "inpaint_core", name, *arguments],
        check=True,
        stdout=sys.stderr,
        cwd=ROOT,
        env=os.environ,
    )


def history(run: Path) -> list[dict[str, float]]:
    rows = pq.read_table(run / "history.parquet", columns=["epoch", *METRICS]).to_pylist()
    return [{name: round(value, 4) for name, value in row.items()} for row in rows]


def gains(folder: Path, kind: str, threads: int) -> dict[str, dict[str, float]]:
    output = folder / f"evaluation-{kind}"
    command(
        "evaluate",
        f"data={folder / 'test'}",
        f"checkpoints=[{INPAINTER}, {folder / 'tuned'}]",
        "names=[before, after]",
        "fills=[]",
        f"holes={kind}",
        "pictures=0",
        f"threads={threads}",
        f"output={output}",
    )
    table = pq.read_table(output / "per_image.parquet")
    rows = np.array(table["row"].to_pylist())
    result = {}
    for name in METRICS:
        values = table[name].to_numpy()
        before, after = (values[rows == row].astype(float) for row in ("before", "after"))
        gain = (before - after) if name in LOWER_IS_BETTER else (after - before)
        result[name] = {
            "before": round(float(np.nanmean(before)), 4),
            "after": round(float(np.nanmean(after)), 4),
            "gain": round(float(np.nanmean(gain)), 4),
            "standard_error": round(float(np.nanstd(gain, ddof=1)) / math.sqrt(np.isfinite(gain).sum()), 4),
            "better": round(float((gain > 0).mean()), 3),
        }
    return result


if __name__ == "__main__":
    main()
