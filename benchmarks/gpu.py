"""What a GPU does for the project: `python benchmarks/gpu.py [--photos FOLDER] [--weights FILE] [key.path=value ...]`.

Runs on any machine, without Ray and without a network, and prints JSON; what cannot be measured on it is null. On a CPU in less than
a minute: `--images 4 --sizes 640x480 --actors 1 --batches 4 --steps 2 --weights people-vehicles.pt detector.image_size=320`.

- `removal`    images/s, and milliseconds per stage and image, of 1, 2 and 4 worker processes that share the device; each is the worker of
  the job, with its I/O threads. Use and memory of the GPU while they work.
- `host`       one batch through detection and filling in one thread: CPU time in torch's operators, which a GPU takes over, and beside
  them, which stays. `bound`: what one worker reaches at most on an infinitely fast GPU, relative to a worker without one.
- `agreement`  masks and fills of the GPU against those of the CPU; without a GPU, of bfloat16 against float32. With patches and without:
  of two equally good patches either may be copied, so that pixels differ that are both right.
- `fault`      a device-side assert in a process of its own: the error's class, and whether the next process works.
- `training`   steps/s on one batch in memory.
- `nccl`       steps/s of two processes that share each batch, where there are two GPUs.

Settings (`key.path=value`) are those of the removal job. The photographs are cut to the sizes asked for; without `--photos`, those of the demo.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from itertools import cycle
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

SIZES = ["640x480", "4000x3000"]
WARM_UP_STEPS = 3
MODES = {
    "float32": ["scaling.precision=float32"],
    "bfloat16": ["scaling.precision=bfloat16"],
    "bfloat16, compile": ["scaling.precision=bfloat16", "scaling.compile=true"],
}
STARTS = multiprocessing.get_context("spawn")  # a process that has used CUDA cannot be forked


@dataclass(frozen=True)
class Share:
    """The part of one worker process in a measurement."""

    rank: int
    ranks: int
    overrides: list[str]
    threads: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", metavar="key.path=value")
    parser.add_argument("--images", type=int, default=64, help="of each size")
    parser.add_argument("--sizes", type=separated, default=SIZES, metavar="WxH,...")
    parser.add_argument("--actors", type=numbers, default=[1, 2, 4], metavar="N,...")
    parser.add_argument("--batches", type=numbers, default=[64, 256, 1024], metavar="N,...")
    parser.add_argument("--steps", type=int, default=20, help="training steps that are timed")
    parser.add_argument(
        "--modes", type=modes, help="of training, separated by semicolons; without a GPU all but compile"
    )
    parser.add_argument("--photos", type=Path, help="folder of photographs; without it, those of the demo")
    parser.add_argument("--weights", default=os.environ.get("YOLO_WEIGHTS", "yolov8n-seg.pt"))
    parser.add_argument("--skip", type=separated, default=[], metavar="PART,...", help="parts to leave out")
    arguments = parser.parse_intermixed_args()
    stdout = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print, here and in the processes that are started, is not part of the JSON
    overrides = [f"detector.weights={arguments.weights}", *arguments.overrides]
    with tempfile.TemporaryDirectory() as scratch:
        folders = {
            size: photographs(Path(scratch), arguments.photos, size, arguments.images) for size in arguments.sizes
        }
        parts: dict[str, Callable[[], Any]] = {
            "removal": lambda: {
                size: {str(actors): removal(folder, overrides, actors) for actors in arguments.actors}
                for size, folder in folders.items()
            },
            "host": lambda: {size: alone(host, folder, overrides) for size, folder in folders.items()},
            "agreement": lambda: {size: alone(agreement, folder, overrides) for size, folder in folders.items()},
            "fault": lambda: fault() if gpus() else null("no GPU"),
            "training": lambda: training(arguments.batches, arguments.steps, arguments.modes),
            "nccl": lambda: (
                nccl(max(arguments.batches), arguments.steps) if gpus() > 1 else null(f"{gpus()} GPUs; two are needed")
            ),
        }
        result: dict[str, Any] = {"machine": machine(), "images": arguments.images, "weights": arguments.weights}
        for name, part in parts.items():
            if name not in arguments.skip:
                print(f"{name} ...", file=sys.stderr, flush=True)
                result[name] = part()
                print(json.dumps(result[name]), file=sys.stderr, flush=True)  # for a run that is cut short
    print(json.dumps(result, indent=2), file=stdout, flush=True)


def separated(text: str) -> list[str]:
    return text.split(",")


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def modes(text: str) -> list[str]:
    chosen = [part.strip() for part in text.split(";")]
    if unknown := [name for name in chosen if name not in MODES]:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: choose from {'; '.join(MODES)}")
    return chosen


def null(reason: str) -> dict[str, object]:
    return {"result": None, "reason": reason}


def gpus() -> int:
    """GPUs that torch sees; counted without a CUDA context, which would take memory from what is measured."""
    return torch.cuda.device_count()


def machine() -> dict[str, object]:
    name = nvidia_smi("name,driver_version,memory.total")
    return {
        "cpus": os.cpu_count(),
        "architecture": platform.machine(),
        "gpus": gpus(),
        "gpu": None if name is None else name[0],
        "torch": torch.__version__,
        "cuda": torch.version.cuda if gpus() else None,
    }


def nvidia_smi(query: str) -> list[str] | None:
    """What nvidia-smi says of each GPU that this process uses, a line each; None where there is none."""
    if not gpus():
        return None
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    command = [
        "nvidia-smi",
        f"--query-gpu={query}",
        "--format=csv,noheader,nounits",
        *(["-i", visible] if visible else []),
    ]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines() or None
    except (OSError, subprocess.CalledProcessError):
        return None


@dataclass
class Watch:
    """Use of the first GPU in percent and its memory in MiB, all processes together, twice a second."""

    use: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)

    @contextmanager
    def running(self) -> Iterator[None]:
        over = threading.Event()

        def look() -> None:
            while not over.wait(0.5):
                for line in (nvidia_smi("utilization.gpu,memory.used") or [])[:1]:
                    use, memory = line.split(",")
                    self.use.append(float(use))
                    self.memory.append(float(memory))

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def photographs(scratch: Path, source: Path | None, size: str, count: int) -> Path:
    """A folder of `count` JPEG files of one size: the source's photographs, scaled and cut, every other round mirrored."""
    from PIL import Image, ImageOps

    if source is None:
        from tools.demo import copy_photographs

        files = [path for path in copy_photographs(scratch / "originals") if "nobody" not in path.parts]
    else:
        files = sorted(path for path in source.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not files:
        sys.exit(f"no photographs in {source}")
    width, height = (int(side) for side in size.split("x"))
    folder = scratch / size / "in"
    folder.mkdir(parents=True)
    for number, file in zip(range(count), cycle(files)):
        with Image.open(file) as opened:
            image = ImageOps.fit(opened.convert("RGB"), (width, height), centering=(0.5, 0.3))
        if number // len(files) % 2:
            image = ImageOps.mirror(image)
        image.save(folder / f"{number:05}.jpg", quality=90)
    return folder


def config_of(folder: Path, overrides: list[str]):  # type: ignore[no-untyped-def]
    from inpaint_core.config import load_config
    from inpaint_core.removal.config import RemoveConfig

    output = tempfile.mkdtemp(dir=folder.parent)
    return load_config(RemoveConfig, None, [f"input={folder}", f"output={output}", *overrides])


@cache
def shared_process() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, STARTS)


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """The function's result in a process of its own, whose memory of the GPU is free afterwards; one process for all without one."""
    if not gpus():
        return shared_process().submit(function, *arguments).result()
    with ProcessPoolExecutor(1, STARTS) as pool:
        return pool.submit(function, *arguments).result()


def removal(folder: Path, overrides: list[str], actors: int) -> dict[str, object]:
    """The rate of several workers that begin together once all are ready."""
    threads = max(1, (os.cpu_count() or 1) // actors)
    watch = Watch()
    barrier = STARTS.Barrier(actors, timeout=600)
    with ProcessPoolExecutor(actors, STARTS, initializer=remember, initargs=(barrier,)) as pool, watch.running():
        shares = [Share(rank, actors, overrides, threads) for rank in range(actors)]
        found = list(pool.map(worked, [folder] * actors, shares))
    rows = [row for each in found for row in each["seconds"]]
    statuses = [status for each in found for status in each["statuses"]]
    if not rows:
        sys.exit(f"--images: {actors} workers have no image to share after the first batch of each")
    return {
        "images_per_second": len(rows) / (max(each["ended"] for each in found) - min(each["begun"] for each in found)),
        "images": len(rows),
        "cleaned": statuses.count("cleaned") + statuses.count("held"),
        "failed": statuses.count("failed"),
        "threads": threads,
        "milliseconds": {stage: 1000 * fmean(row[stage] or 0.0 for row in rows) for stage in rows[0]},
        "gpu_use_percent": fmean(watch.use) if watch.use else None,
        "gpu_memory_mib": max(watch.memory, default=None),
        "torch_memory_mib_per_worker": max((each["memory"] for each in found if each["memory"]), default=None),
    }


_barrier: Any = None


def remember(barrier: Any) -> None:
    global _barrier  # how a pool hands a barrier to its processes
    _barrier = barrier


def worked(folder: Path, share: Share) -> dict[str, Any]:
    """One worker's images, every `ranks`th, after one batch that is not counted; times are those of the machine's clock."""
    from inpaint_core.removal.catalogue.entries import as_entries
    from inpaint_core.removal.catalogue.journal import Journal
    from inpaint_core.removal.catalogue.listing import list_images
    from inpaint_core.removal.job import open_job
    from inpaint_core.removal.worker import build_worker

    config = config_of(folder, share.overrides)
    job = open_job(config)
    worker = build_worker(job, threads=share.threads)
    entries = as_entries(list_images(job.source, job.target, config.listing, None).manifest.read())
    for _ in worker.process(worker.batches(entries)[:1], Journal(job.target, worker.journal_key(entries, "warm-up"))):
        pass
    _barrier.wait()
    begun = time.time()
    mine = entries[share.rank :: share.ranks]
    tables = list(worker.process(worker.batches(mine), Journal(job.target, worker.journal_key(mine, "1"))))
    ended = time.time()
    return {
        "begun": begun,
        "ended": ended,
        "seconds": [row for table in tables for row in table["seconds"].to_pylist()],
        "statuses": [status for table in tables for status in table["status"].to_pylist()],
        "memory": torch.cuda.max_memory_reserved() / 2**20 if torch.cuda.is_available() else None,
    }


def decoded_tasks(folder: Path, remover: Any, count: int) -> list[Any]:
    from inpaint_core.removal.image_task import ImageTask
    from inpaint_core.removal.record import Record

    tasks = []
    for file in sorted(folder.iterdir())[:count]:
        data = file.read_bytes()
        task = ImageTask(Record(file.name, len(data), "", "", "", datetime.now(UTC)), data=data)
        remover.decode(task)
        tasks.append(task)
    return tasks


def remover_of(folder: Path, overrides: list[str], device: str):  # type: ignore[no-untyped-def]
    from inpaint_core.removal.build import build_remover
    from inpaint_core.removal.job import model_weights

    config = config_of(folder, overrides)
    return build_remover(config, *model_weights(config), device=torch.device(device))


def host(folder: Path, overrides: list[str]) -> dict[str, object]:
    """CPU time of one thread for a batch on the CPU, in torch's operators and beside them; the second of two passes."""
    import cv2
    from torch.utils._python_dispatch import TorchDispatchMode

    class Operators(TorchDispatchMode):
        calls = 0
        seconds = 0.0
        values = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            begun = time.thread_time()
            result = func(*args, **(kwargs or {}))
            self.seconds += time.thread_time() - begun
            self.calls += 1
            self.values += "_local_scalar_dense" in str(func)
            return result

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    remover = remover_of(folder, [*overrides, "scaling.precision=float32"], "cpu")
    seconds: list[float] = []
    operators = Operators()
    for counted in (False, False, True):
        tasks = decoded_tasks(folder, remover, 8)
        begun = time.thread_time()
        if counted:
            with operators:
                remover.fill(tasks)
        else:
            remover.fill(tasks)
        seconds.append(time.thread_time() - begun)
    images = len(tasks)
    # The pass that counts takes longer than the one before: what the counting costs is not the host's.
    beside = max(seconds[1] - operators.seconds, 0.0)
    return {
        "milliseconds_per_image": 1000 * seconds[1] / images,
        "in_operators": 1000 * operators.seconds / images,
        "beside_operators": 1000 * beside / images,
        "operators_per_image": operators.calls / images,
        "values_read_per_image": operators.values / images,
        "bound": seconds[1] / beside if beside else None,
    }


def agreement(folder: Path, overrides: list[str]) -> dict[str, object]:
    """Masks and fills of the device, against those of the CPU in float32; the fills of the same masks."""
    import numpy as np

    from inpaint_core.inpainting.inpainter import Hole

    compared = [("cuda", "float32"), ("cuda", "auto")] if torch.cuda.is_available() else [("cpu", "bfloat16")]
    reference = remover_of(folder, [*overrides, "scaling.precision=float32"], "cpu")
    tasks = decoded_tasks(folder, reference, 8)
    reference.fill(tasks)
    with_hole = [task for task in tasks if task.target is not None]
    if not with_hole:
        return null("the detector finds nothing to remove in these photographs")
    holes = [Hole(task.decoded.pixels, task.target.core, task.target.mask) for task in with_hole]
    smooth = remover_of(folder, [*overrides, "scaling.precision=float32", "inpainter.detail=0"], "cpu")
    fills = {"patches": reference.inpainter.inpaint(holes), "no patches": smooth.inpainter.inpaint(holes)}
    result: dict[str, object] = {}
    for device, precision in compared:
        found: dict[str, object] = {}
        for name, detail in (("patches", []), ("no patches", ["inpainter.detail=0"])):
            other = remover_of(folder, [*overrides, f"scaling.precision={precision}", *detail], device)
            again = other.inpainter.inpaint(holes)
            differences = [
                np.abs(one.astype(int) - two)[hole.mask].max(axis=1)
                for one, two, hole in zip(fills[name], again, holes, strict=True)
            ]
            every = np.concatenate(differences)
            found[name] = {"within_1_level": float((every <= 1).mean()), "mean_difference": float(every.mean())}
        theirs = decoded_tasks(folder, other, 8)
        other.fill(theirs)
        overlaps = []
        for one, two in zip(tasks, theirs, strict=True):
            masks = [
                np.zeros(each.decoded.pixels.shape[:2], bool) if each.target is None else each.target.mask
                for each in (one, two)
            ]
            if either := np.count_nonzero(masks[0] | masks[1]):
                overlaps.append(np.count_nonzero(masks[0] & masks[1]) / either)
        found["mask_iou"] = fmean(overlaps)
        result[f"{device} {precision} / cpu float32"] = found
    return result


def fault() -> dict[str, object]:
    return {"first": alone(assert_on_device), "next_process_works": alone(works)}


def assert_on_device() -> dict[str, object]:
    """Read beyond a tensor on the device, as a defect in a kernel would, within the step of an image."""
    from inpaint_core.errors import DeviceFault, Stage
    from inpaint_core.removal.image_task import ImageTask
    from inpaint_core.removal.record import Record

    shown = []
    for index in (9, 0):  # the second is right, and fails all the same
        task = ImageTask(Record("image", 0, "", "", "", datetime.now(UTC)))
        try:
            with task.timed(Stage.DETECT):
                torch.zeros(4, device="cuda")[torch.tensor([index], device="cuda")].cpu()
            shown.append(task.record.error)
        except DeviceFault as error:
            shown.append(f"{type(error).__name__}: {error}")
    return {"raised": shown[0], "raised_by_a_correct_step_afterwards": shown[1]}


def works() -> bool:
    return torch.ones(4, device="cuda").sum().item() == 4


def training(batches: list[int], steps: int, chosen: list[str] | None) -> dict[str, object]:
    result: dict[str, object] = {}
    for mode, overrides in MODES.items():
        if mode not in (chosen or MODES):
            continue
        if chosen is None and not gpus() and "scaling.compile=true" in overrides:
            result[mode] = null("compiling takes minutes on a CPU; ask for it with --modes")
            continue
        result[mode] = {str(batch): alone(training_rate, batch, steps, overrides) for batch in batches}
    return result


def training_rate(batch: int, steps: int, overrides: list[str], *, device: str | None = None) -> dict[str, object]:
    from training import one_batch, the_step

    where = device or ("cuda" if torch.cuda.is_available() else "cpu")
    threads = os.cpu_count() or 1
    try:
        _, step = the_step(threads, steps + WARM_UP_STEPS, [f"batch={batch}", *overrides], where)
        pictures = one_batch(batch)
        for _ in range(WARM_UP_STEPS):
            step(pictures)
        synchronise(where)
        begun = time.perf_counter()
        for _ in range(steps):
            step(pictures)
        synchronise(where)
        seconds = time.perf_counter() - begun
    except (RuntimeError, ImportError) as error:  # lack of memory, or no compiler
        return null(f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")
    memory = torch.cuda.max_memory_reserved() / 2**20 if where != "cpu" else None
    return {
        "steps_per_second": steps / seconds,
        "images_per_second": steps * batch / seconds,
        "torch_memory_mib": memory,
    }


def synchronise(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def nccl(batch: int, steps: int) -> dict[str, object]:
    """Two processes with half of the batch each, one GPU each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with ProcessPoolExecutor(2, STARTS) as pool:
        pairs = [pool.submit(rank_of_two, rank, port, batch // 2, steps) for rank in range(2)]
        return {"batch": batch, "each": [pair.result() for pair in pairs]}


def rank_of_two(rank: int, port: int, batch: int, steps: int) -> dict[str, object]:
    import torch.distributed as dist

    torch.cuda.set_device(rank)
    dist.init_process_group("nccl", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    try:
        return training_rate(batch, steps, MODES["bfloat16"], device=f"cuda:{rank}")
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
