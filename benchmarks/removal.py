"""The removal job against a plain loop: `python benchmarks/removal.py [--images 500] [--photos FOLDER] [--weights FILE]`.

Six ways over the same photographs, each in a process of its own, in turn, several rounds; medians and ratios as JSON:

- `hand`   what a user would write: YOLO.predict, dilate the union, cv2.inpaint, save. No records, no measures.
- `loop`   this project's own flow, image by image in one process with all threads, all measures.
- `job`    the job on Ray, all measures.
- `job_plain`  the job without the measures that cost a second fill and a second detection.
- `job_network`  the same with the default fill, the network that comes with the project.
- `job_default`  the job as it comes: that fill, and all measures.

All but the last two fill as the first does, with Telea.

Rates count from the moment the models are loaded; start-up (until then) is reported apart. `--memory N` instead runs
the job once over N images and prints the resident memory of driver and workers as it goes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import cycle
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TELEA = ["inpainter.kind=opencv"]
CLASSES = ["person", "bicycle", "car", "motorcycle", "bus", "truck"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--photos", type=Path, help="folder of photographs; without it, those of the demo")
    parser.add_argument("--weights", default=os.environ.get("YOLO_WEIGHTS", "yolov8n-seg.pt"))
    parser.add_argument("--memory", type=int, metavar="N", help="watch memory over N images instead")
    parser.add_argument("--way", choices=["hand", "loop"], help=argparse.SUPPRESS)
    parser.add_argument("--folders", nargs=2, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        {"hand": by_hand, "loop": plain_loop}[arguments.way](*arguments.folders, arguments.weights)
        return
    with tempfile.TemporaryDirectory() as scratch:
        if arguments.memory:
            photographs(Path(scratch) / "in", arguments.photos, arguments.memory)
            watch_memory(Path(scratch), arguments.weights)
        else:
            photographs(Path(scratch) / "in", arguments.photos, arguments.images)
            print(json.dumps(compare(Path(scratch), arguments.weights, arguments.rounds), indent=2))


def photographs(folder: Path, source: Path | None, count: int) -> None:
    """`count` files: the source's photographs over and over, under names of their own."""
    if source is None:
        from tools.demo import copy_photographs

        files = copy_photographs(folder.parent / "originals")
    else:
        files = sorted(path for path in source.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not files:
        sys.exit(f"no photographs in {source}")
    for number, file in zip(range(count), cycle(files)):
        target = folder / f"{number // 100:03}" / f"{number:06}{file.suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)


def compare(scratch: Path, weights: str, rounds: int) -> dict[str, object]:
    """Run all ways in turn, `rounds` times."""
    measures = ["measure.residual_objects=false", "measure.shifted_hole=false"]
    jobs = {"job": TELEA, "job_plain": [*TELEA, *measures], "job_network": measures, "job_default": []}
    results: dict[str, list[dict[str, float]]] = {}
    for _ in range(rounds):
        for way in ("hand", "loop", *jobs):
            output = scratch / "out"
            if way in jobs:
                result = run_job(scratch / "in", output, weights, jobs[way])
            else:
                command = [sys.executable, __file__, "--way", way, "--weights", weights]
                command += ["--folders", str(scratch / "in"), str(output)]
                result = last_json(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            shutil.rmtree(output)
            print(way, result, file=sys.stderr, flush=True)
            results.setdefault(way, []).append(result)
    rate = {way: statistics.median(run["images_per_second"] for run in runs) for way, runs in results.items()}
    return {
        "cpus": os.cpu_count(),
        "images": len([path for path in (scratch / "in").rglob("*") if path.is_file()]),
        "images_per_second": rate,
        "startup_seconds": {
            way: statistics.median(run["startup_seconds"] for run in runs) for way, runs in results.items()
        },
        "ratio": {
            "job / loop (same models, same threads, all measures)": rate["job"] / rate["loop"],
            "job_plain / hand (no measures)": rate["job_plain"] / rate["hand"],
            "job_network / hand (no measures, a network instead of Telea)": rate["job_network"] / rate["hand"],
            "job_default / hand (all measures, the default fill)": rate["job_default"] / rate["hand"],
        },
        "runs": results,
    }


def job_command(source: Path, output: Path, weights: str, overrides: list[str]) -> list[str]:
    keys = [f"input={source}", f"output={output}", f"detector.weights={weights}", *overrides]
    return [sys.executable, str(ROOT / "jobs" / "remove_objects.py"), *keys]


def run_job(source: Path, output: Path, weights: str, overrides: list[str]) -> dict[str, float]:
    """The job as a user starts it; its rate and start-up from its own last lines, seconds per stage from the records."""
    run = subprocess.run(job_command(source, output, weights, overrides), capture_output=True, text=True, check=True)
    line = next(line for line in run.stdout.splitlines() if "images/s) after" in line)
    rate, startup = line.split("(")[1].split(" ")[0], line.split("after ")[1].split(" ")[0]
    import pyarrow.parquet as pq

    seconds = pq.read_table(output / "_removal" / "records")["seconds"].to_pylist()
    stages = {f"{stage}_ms": 1000 * statistics.fmean(row[stage] or 0.0 for row in seconds) for stage in seconds[0]}
    return {"images_per_second": float(rate), "startup_seconds": float(startup)} | stages


def by_hand(source: Path, output: Path, weights: str) -> None:
    """What a user would write in an afternoon."""
    start = time.perf_counter()
    import cv2
    import numpy as np
    from ultralytics import YOLO

    model = YOLO(weights)
    model.predict(np.zeros((480, 640, 3), np.uint8), verbose=False)
    ready = time.perf_counter()
    files = sorted(path for path in source.rglob("*") if path.is_file())
    for file in files:
        target = output / file.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        image = cv2.imread(str(file))
        found = model.predict(image, verbose=False, retina_masks=True)[0]
        chosen = [index for index, label in enumerate(found.boxes.cls) if found.names[int(label)] in CLASSES]
        if not chosen:
            shutil.copyfile(file, target)
            continue
        mask = (found.masks.data[chosen].amax(0).cpu().numpy() > 0).astype(np.uint8)
        mask = cv2.dilate(mask, np.ones((15, 15), np.uint8))
        cv2.imwrite(str(target), cv2.inpaint(image, mask, 3, cv2.INPAINT_TELEA))
    report(len(files), ready - start, time.perf_counter() - ready)


def plain_loop(source: Path, output: Path, weights: str) -> None:
    """The project's own flow, one image after the other, with all threads."""
    start = time.perf_counter()
    from inpaint_core.config import load_config
    from inpaint_core.removal.config import RemoveConfig
    from inpaint_core.removal.job import open_job
    from inpaint_core.removal.remover import remove_objects
    from inpaint_core.removal.worker import build_worker

    output.mkdir()
    config = load_config(
        RemoveConfig, None, [f"input={source}", f"output={output}", f"detector.weights={weights}", *TELEA]
    )
    worker = build_worker(open_job(config), threads=os.cpu_count() or 1)
    ready = time.perf_counter()
    files = sorted(path for path in source.rglob("*") if path.is_file())
    for file in files:
        target = output / file.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        cleaned, record = remove_objects(file.read_bytes(), worker.remover, key=str(file))
        if cleaned is None:
            sys.exit(f"{file}: {record.error}")
        target.write_bytes(cleaned)
    report(len(files), ready - start, time.perf_counter() - ready)


def report(images: int, startup: float, seconds: float) -> None:
    print(json.dumps({"images_per_second": images / seconds, "startup_seconds": startup}))


def last_json(text: str) -> dict[str, float]:
    result: dict[str, float] = json.loads(text.splitlines()[-1])
    return result


def watch_memory(scratch: Path, weights: str) -> None:
    """Resident memory of driver and workers, in MB, each time another tenth of the images is done."""
    import psutil

    output = scratch / "out"
    process = subprocess.Popen(job_command(scratch / "in", output, weights, []), stdout=subprocess.DEVNULL)
    driver = psutil.Process(process.pid)
    total = sum(path.is_file() for path in (scratch / "in").rglob("*"))
    step = max(1, total // 10)
    reported = 0
    while process.poll() is None:
        time.sleep(2)
        done = sum(path.is_file() and "_removal" not in path.parts for path in output.rglob("*"))
        if done >= reported + step:
            reported = done
            workers = [
                child.memory_info().rss >> 20
                for child in driver.children(recursive=True)
                if "ray::" in " ".join(child.cmdline()) and "RemovalActor" in " ".join(child.cmdline())
            ]
            print(
                json.dumps({"images": done, "driver_mb": driver.memory_info().rss >> 20, "workers_mb": workers}),
                flush=True,
            )
    if process.returncode:
        sys.exit(f"the job ended with {process.returncode}")


if __name__ == "__main__":
    main()
