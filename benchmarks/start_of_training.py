"""Time to the first step and memory of a training on many photographs: `python benchmarks/start_of_training.py SHARD [--images N ...]`.

SHARD is a tar file of JPEG files. Collections of N photographs are made of them, in shards of 30,000 with names of their own, and
a training with `reading.keep=bytes` is started on each (two workers where there are two CPUs) and ended after its first steps. The JSON
holds, for each N: bytes of the files; seconds from the start of the command until the photographs are listed, the held-out ones read and the first step done;
the largest sum of the memory of all its processes, Ray's included (Linux: `Pss`, which divides what processes share), and of Ray's object store,
until the second progress line. The largest collection of those by default has as many photographs as Places2, and needs 10 GB of temporary files.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
PER_SHARD = 30_000
SETTINGS = (
    *("network.bottleneck=64", "network.width=16", "discriminator.width=16", "loss.l1=1", "batch=64", "epochs=1"),
    *("reading.keep=bytes", "validation.images=128", "scaling.cpus_per_worker=1"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shard", type=Path)
    parser.add_argument("--images", type=int, nargs="+", default=[30_000, 120_000, 480_000, 1_800_000])
    parser.add_argument("settings", nargs="*", metavar="key=value", help="further settings of the training")
    arguments = parser.parse_intermixed_args()
    runs = []
    for count in sorted(arguments.images):
        with tempfile.TemporaryDirectory(prefix="start-") as folder:
            size = collection(arguments.shard, Path(folder, "data"), count)
            runs.append({"images": count, "bytes": size} | started(Path(folder), arguments.settings))
            print(json.dumps(runs[-1]), file=sys.stderr)
    print(json.dumps({"runs": runs}, indent=2))


def collection(shard: Path, folder: Path, count: int) -> int:
    """Write shards with `count` photographs; returns the bytes of their files."""
    folder.mkdir()
    with tarfile.open(shard) as archive:
        files = [extracted.read() for member in archive if (extracted := archive.extractfile(member)) is not None]
    total = 0
    for first in range(0, count, PER_SHARD):
        with tarfile.open(folder / f"{first // PER_SHARD:04}.tar", "w") as written:
            for number in range(first, min(first + PER_SHARD, count)):
                data = files[number % len(files)]
                member = tarfile.TarInfo(f"{number % 365:03}/{number:08}.jpg")
                member.size = len(data)
                written.addfile(member, io.BytesIO(data))
                total += len(data)
    return total


def started(folder: Path, settings: list[str]) -> dict[str, float]:
    """Start a training on `folder/data` and end it after its second progress line."""
    command = [sys.executable, str(ROOT / "jobs" / "train.py"), f"data={folder / 'data'}", f"output={folder / 'run'}"]
    environment = {**os.environ, "RAY_ADDRESS": "local", "PYTHONUNBUFFERED": "1"}
    begun = time.monotonic()
    run = subprocess.Popen([*command, *SETTINGS, *settings], stdout=subprocess.PIPE, text=True, env=environment)
    assert run.stdout is not None
    found: dict[str, float] = {}
    lines: list[str] = []
    memory = _Memory(run.pid)
    memory.start()
    try:
        for line in run.stdout:
            lines.append(line)
            for mark, name in (
                ("reading 128 photographs", "listed"),
                ("128 photographs read", "held_out_read"),
                ("epoch 1 of 1, step ", "first_step"),
            ):
                if line.startswith(mark):
                    found.setdefault(f"seconds_until_{name}", round(time.monotonic() - begun, 1))
            if sum(line.startswith("epoch 1 of 1, step ") for line in lines) == 2:
                break
    finally:
        memory.end()
        run.send_signal(signal.SIGTERM)
        run.communicate(timeout=120)
    if "seconds_until_first_step" not in found:
        sys.exit("".join(lines))
    return found | {"peak_gigabytes": round(memory.peak, 3), "object_store_gigabytes": round(memory.shared, 3)}


class _Memory(threading.Thread):
    """Watches the memory of a process and all that it starts, in GB."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._root = psutil.Process(pid)
        self._ended = threading.Event()
        self.peak = 0.0
        self.shared = 0.0

    def run(self) -> None:
        while not self._ended.wait(1):
            total, shared = 0, 0
            for process in [self._root, *self._root.children(recursive=True)]:
                try:
                    rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
                except OSError:  # it has ended
                    continue
                values = dict(line.split(":") for line in rollup.splitlines()[1:])
                total += int(values["Pss"].split()[0])
                shared += int(values["Pss_Shmem"].split()[0])
            self.peak = max(self.peak, total * 1024 / 1e9)
            self.shared = max(self.shared, shared * 1024 / 1e9)

    def end(self) -> None:
        self._ended.set()
        self.join()


if __name__ == "__main__":
    main()
