"""What fine-tuning gains: `python benchmarks/fine_tuning.py --train FOLDER [FOLDER ...] --test FOLDER [--size 256] [settings]`.

The photographs of the first folders are trained on with `configs/train/fine_tune.yaml`; those of the last are filled by the
shipped network (before) and the best one of the training (after), with the same holes. `settings` are more settings of the
training, such as `epochs=5`. The figures in the documents are of BSDS500 (Arbelaez et al., TPAMI 2011): trained on its folders
`train` and `val`, 300 photographs of 481x321 pixels, tested on the 200 of `test`, with holes of the kind `medium`.

Of each metric: the mean before and after, the gain with its standard error over the photographs, and the share of
photographs that gained. JSON on stdout.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from inpaint_core.metrics.names import LOWER_IS_BETTER
from inpaint_core.networks.weights.pretrained import INPAINTER

ROOT = Path(__file__).resolve().parents[1]
HOLES = "medium"
METRICS = ("hole_l1", "hole_psnr", "hole_ssim_centred", "hole_detail")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, nargs="+", required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("settings", nargs="*", help="of the training")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, source in enumerate(given.train):
            shutil.copytree(source, folder / "train" / str(number))
        command(
            "train",
            *("--config", str(ROOT / "configs/train/fine_tune.yaml")),
            *(f"data={folder / 'train'}", f"output={folder / 'tuned'}"),
            *(f"network.size={given.size}", f"reading.stored_size={given.size}"),
            *("scaling.workers=1", f"scaling.cpus_per_worker={given.threads}"),
            *given.settings,
        )
        result = {
            "size": given.size,
            "settings": given.settings,
            "threads": given.threads,
            "validation": history(folder / "tuned"),
            "test": gains(evaluated(folder, given.test, given.size, given.threads)),
        }
    print(json.dumps(result, indent=2))


def command(name: str, *arguments: str) -> None:
    """Run a command of `inpaint`; its lines go to stderr."""
    subprocess.run([sys.executable, "-m", "inpaint_core", name, *arguments], check=True, stdout=sys.stderr, cwd=ROOT)


def history(run: Path) -> list[dict[str, float]]:
    """The metrics of each epoch; epoch 0 is the shipped network."""
    rows = pq.read_table(run / "history.parquet", columns=["epoch", *METRICS, "sharpness"]).to_pylist()
    return [{name: round(value, 4) for name, value in row.items()} for row in rows]


def evaluated(folder: Path, test: Path, size: int, threads: int) -> Path:
    """Fill the test photographs by both networks; returns the figures of each."""
    output = folder / "evaluation"
    command(
        "evaluate",
        *(f"data={test.absolute()}", f"holes={HOLES}", f"size={size}", f"output={output}"),
        *(f"checkpoints=[{INPAINTER}, {folder / 'tuned'}]", "names=[before, after]", "fills=[]"),
        *("pictures=0", f"threads={threads}"),
    )
    return output / "per_image.parquet"


def gains(per_image: Path) -> dict[str, dict[str, float]]:
    """What the photographs gained, by metric."""
    table = pq.read_table(per_image)
    rows = np.array(table["row"].to_pylist())

    def of(name: str) -> list[np.ndarray]:
        values = table[name].to_numpy().astype(float)
        return [values[rows == row] for row in ("before", "after")]

    result = {}
    for name in METRICS:
        before, after = of(name)
        gain = before - after if name in LOWER_IS_BETTER else after - before
        result[name] = {
            "photographs": len(gain),
            "before": round(float(before.mean()), 4),
            "after": round(float(after.mean()), 4),
            "gain": round(float(gain.mean()), 4),
            "standard_error": round(float(gain.std(ddof=1)) / math.sqrt(len(gain)), 4),
            "better": round(float((gain > 0).mean()), 3),
        }
    fills, truths = of("sharpness_fill"), of("sharpness_truth")
    before, after = (float(fill.sum() / truth.sum()) for fill, truth in zip(fills, truths, strict=True))
    result["sharpness"] = {"before": round(before, 4), "after": round(after, 4)}
    return result


if __name__ == "__main__":
    main()
