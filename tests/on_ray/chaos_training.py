"""Training runs under kill -9 of the worker, the driver, Ray's processes and the store, compared with one that nothing disturbs."""

from __future__ import annotations

import contextlib
import math
import random
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from inpaint_core.errors import ObjectError, StorageError
from inpaint_core.storage import S3Options, open_storage
from tests.on_ray.chaos_job import ENDS_JOB, Kind, RunningJob, lives
from tests.s3.seaweedfs import SeaweedFS
from tests.samples import encoded, photograph

IMAGES = 40
SMALL = ("network.bottleneck=16", "network.width=4", "discriminator.width=4", "loss.l1=0.3", "loss.ssim=0.7")
SETTINGS = (*SMALL, "batch=8", "validation.images=8", "validation.pictures=2", "scaling.cpus_per_worker=1")
# Nothing but the kills may differ; each death of a worker counts, however many epochs lie between.
STEADY = ("checkpoint.steps=2", "scaling.precision=float32", "scaling.max_failures=1000")
RELATIVE, ABSOLUTE = 1e-3, 1e-2  # of the losses, and of the PSNR in dB
_SECONDS = 600.0  # for one epoch at most, with the start of the job
_ENDS = 20


@dataclass
class TrainingKill:
    """A kill and what followed; times in seconds."""

    kind: Kind
    epoch: int
    """Epochs that were done."""
    exit_code: int | None = None
    recovered_after: float | None = None
    """Until the next epoch was in the history."""


@dataclass
class TrainingChaos:
    """A run in `s3://BUCKET/whole` and the same in `s3://BUCKET/killed`, which is killed.

    Args:
        server: its credentials are the environment's.
        seed: of the order of the kinds and of the moments.
        kills: each after at least one more epoch.
        kinds: what is killed, in turn, and then shuffled.
        epochs: of both runs.
        folder: for what the jobs say.
    """

    server: SeaweedFS
    seed: int
    kills: int
    kinds: tuple[Kind, ...]
    epochs: int
    folder: Path
    events: list[TrainingKill] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    starts: int = 0

    def execute(self) -> None:
        """Do both, and compare their histories."""
        self._uri = f"s3://{self.server.make_bucket()}"
        self._options = S3Options(endpoint=self.server.endpoint)
        photos = open_storage(f"{self._uri}/photos", self._options)
        for number in range(IMAGES):
            photos.write(f"{number:04}.jpg", encoded(photograph((128, 128), seed=number), "JPEG", quality=90))
        self._left: list[psutil.Process] = []
        self._job = self._start("whole")
        try:
            self._until("whole", self.epochs)
            self._job = self._start("killed")
            self._kill_all()
            self._until("killed", self.epochs)
            self._job.process.wait(_SECONDS)
        finally:
            self._left += self._job.end()
            for process in filter(lives, self._left):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        self._compare()

    def _kill_all(self) -> None:
        rng = random.Random(self.seed)
        order = [self.kinds[number % len(self.kinds)] for number in range(self.kills)]
        rng.shuffle(order)
        for kind in order:
            done = self._until("killed", self.events[-1].epoch + 1 if self.events else 1)
            time.sleep(rng.uniform(0.0, 2.0))
            if done >= self.epochs or self._job.process.poll() is not None:
                self.wrong.append(f"only {len(self.events)} kills: {done} epochs were done; give more epochs")
                break
            self._kill(TrainingKill(kind, len(self._history("killed"))), rng.uniform(0.5, 5.0))

    def _kill(self, event: TrainingKill, outage: float) -> None:
        killed = time.monotonic()
        before = self._job.processes()
        if event.kind == "store":
            self.server.kill()
            time.sleep(outage)
            self.server.start(timeout=120)
        elif event.kind == "driver":
            self._job.process.kill()
        else:
            while not (found := self._job.of(event.kind)):
                time.sleep(0.1)
            found[0].kill()
        if event.kind in ENDS_JOB:
            try:
                event.exit_code = self._job.process.wait(90)
            except subprocess.TimeoutExpired:
                self._job.process.kill()
                event.exit_code = self._job.process.wait()
            if event.exit_code != ENDS_JOB[event.kind]:
                self.wrong.append(f"exit code {event.exit_code} after a kill of {event.kind}: {self._last_line()}")
            self._left += before
            self._job = self._start("killed")
        self.events.append(event)
        self._until("killed", event.epoch + 1)
        event.recovered_after = round(time.monotonic() - killed, 1)
        print(f"{event.kind} at epoch {event.epoch}: {event.recovered_after} s", file=sys.stderr)

    def _start(self, output: str) -> RunningJob:
        self.starts += 1
        places = [f"data={self._uri}/photos", f"output={self._uri}/{output}", f"s3.endpoint={self.server.endpoint}"]
        return RunningJob.start("train.py", [*places, *SETTINGS, *STEADY, f"epochs={self.epochs}"], self.folder)

    def _until(self, output: str, epochs: int) -> int:
        """Wait until so many epochs are done, and start the job again where it ends before; returns how many are done."""
        deadline = time.monotonic() + _SECONDS
        first = self.starts
        while (done := len(self._history(output))) < epochs:
            if self._job.process.poll() is not None:
                self.wrong.append(f"the job ended with {self._job.process.returncode}: {self._last_line()}")
                if self.starts > first + _ENDS:
                    raise RuntimeError(self.wrong[-1])
                self._job = self._start(output)
            if time.monotonic() > deadline and epochs < self.epochs:
                raise RuntimeError(f"no epoch in {_SECONDS:g} s; see {self.folder}")
            time.sleep(0.1)
        if epochs == self.epochs:
            self._job.process.wait(_SECONDS)
        return done

    def _history(self, output: str) -> list[dict[str, Any]]:
        try:
            data = open_storage(f"{self._uri}/{output}", self._options).read("history.parquet")
        except (ObjectError, StorageError):
            return []
        rows: list[dict[str, Any]] = pq.read_table(pa.BufferReader(data)).to_pylist()
        return rows

    def _last_line(self) -> str:
        return (self._job.said("err").strip().splitlines() or [""])[-1]

    def _compare(self) -> None:
        whole, killed = self._history("whole"), self._history("killed")
        for name, rows in (("whole", whole), ("killed", killed)):
            if [row["epoch"] for row in rows] != list(range(1, self.epochs + 1)):
                self.wrong.append(f"{name}: the epochs are {[row['epoch'] for row in rows]}")
        self.largest_difference = 0.0
        for first, second in zip(whole, killed, strict=False):
            self.largest_difference = max(self.largest_difference, abs(first["loss_total"] / second["loss_total"] - 1))
            if not math.isclose(first["loss_total"], second["loss_total"], rel_tol=RELATIVE):
                self.wrong.append(
                    f"epoch {first['epoch']}: loss {second['loss_total']}, undisturbed {first['loss_total']}"
                )
            if not math.isclose(first["table_psnr"], second["table_psnr"], abs_tol=ABSOLUTE):
                self.wrong.append(
                    f"epoch {first['epoch']}: PSNR {second['table_psnr']}, undisturbed {first['table_psnr']}"
                )
