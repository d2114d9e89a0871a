"""Training under kill -9 of the worker, its node, the driver and the store, compared with a run that nothing disturbs.

The store is an S3 server behind a proxy with faults, and Ray a head with two nodes of one CPU, only one of which the worker
needs. After a kill of the driver the same command is started again, after one of a node another node. All draws are seeded.
"""

from __future__ import annotations

import contextlib
import io
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import psutil
import pyarrow.parquet as pq

from inpaint_core.errors import ObjectError, StorageError
from inpaint_core.storage import S3Options, Storage, open_storage
from tests.on_ray.chaos_job import ROOT
from tests.on_ray.chaos_site import faults
from tests.on_ray.nodes import HEAD, Nodes
from tests.s3.proxy import FaultyProxy
from tests.s3.seaweedfs import SeaweedFS
from tests.samples import encoded, photograph
from tests.training.same_run import differences, largest_difference

TrainingKind = Literal["worker", "driver", "node", "store"]
TRAINING_KINDS: tuple[TrainingKind, ...] = ("worker", "driver", "node", "store")

IMAGES = 40
_NODES = (HEAD + 1, HEAD + 2)
_WORKER = "ray::RayTrainWorker"
_SETTINGS = (
    *("network.bottleneck=16", "network.width=4", "discriminator.width=4", "loss.l1=0.3", "loss.ssim=0.7"),
    *("batch=8", "validation.images=8", "validation.pictures=2", "checkpoint.steps=2"),
    # Nothing but the kills may differ; each death of a worker counts, however many epochs lie between.
    *("scaling.workers=1", "scaling.cpus_per_worker=1", "scaling.precision=float32", "scaling.max_failures=-1"),
)
_SECONDS_OF_AN_EPOCH = 600.0  # at most, a start of the job included
_STARTS_OF_AN_EPOCH = 5
_MAY_END_WITH = (2,)  # without a kill: a store whose first answers all fail


@dataclass
class TrainingKill:
    """A kill and what followed; times in seconds."""

    kind: TrainingKind
    at: float
    """Since the start of the run."""
    epochs: int
    """That were done."""
    recovered_after: float | None = None
    """Until the next epoch was in the history."""


@dataclass
class TrainingChaos:
    """A run in `whole`, and the same in `killed`.

    Args:
        server: its credentials are the environment's.
        seed: of the order of the kinds, the moments and the faults of the proxy.
        kinds: of all kills, in turn, and then shuffled.
        kills: each after at least one more epoch.
        epochs: of both runs.
        folder: for what the jobs and nodes say.
        longest: seconds after which nothing more is killed.
        on_event: called after each kill.
    """

    server: SeaweedFS
    seed: int
    kinds: Sequence[TrainingKind]
    kills: int
    epochs: int
    folder: Path
    longest: float = float("inf")
    on_event: Callable[[], None] = lambda: None
    events: list[TrainingKill] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    own_ends: list[dict[str, object]] = field(default_factory=list)
    """Of jobs that ended before their last epoch without a kill: exit code and last line."""
    starts: int = 0
    undisturbed_seconds: float | None = None
    seconds: float | None = None
    wrong: list[str] | None = None
    """What is wrong with the output; None: it is not compared yet."""

    def __post_init__(self) -> None:
        self._job: subprocess.Popen[bytes] | None = None
        self._begun = 0.0
        self._bucket = self.server.make_bucket()
        self._nodes = Nodes(self.folder)
        self._proxy = FaultyProxy(self.server.endpoint, seed=self.seed)

    def execute(self) -> None:
        """Do both runs, and compare them."""
        photos = self.storage("photos")
        for number in range(IMAGES):
            photos.write(f"{number:04}.jpg", encoded(photograph((128, 128), seed=number), "JPEG", quality=90))
        try:
            for number in (HEAD, *_NODES):
                self._nodes.start(number)
            begun = time.monotonic()
            self._start("whole", self.server.endpoint)
            self._until("whole", self.epochs, restart=False)
            self.undisturbed_seconds = time.monotonic() - begun
            self._proxy.faults = faults()
            self._begun = time.monotonic()
            self._start("killed", self._proxy.endpoint)
            self._kill_all()
            self._until("killed", self.epochs)
            self.seconds = time.monotonic() - self._begun
        finally:
            self._end_job()
            self._nodes.close()
            self._proxy.close()
        self.wrong = differences(self.storage("whole"), self.storage("killed"), self.epochs)

    def storage(self, part: str) -> Storage:
        """A part of the bucket, without the proxy."""
        return open_storage(f"s3://{self._bucket}/{part}", S3Options(endpoint=self.server.endpoint))

    def as_dict(self) -> dict[str, Any]:
        """What happened so far, for JSON."""
        compared = self.wrong is not None
        requests = self._proxy.requests
        return {
            "epochs": self.epochs,
            "undisturbed_seconds": _rounded(self.undisturbed_seconds),
            "seconds": _rounded(self.seconds),
            "starts_of_the_job": self.starts - 1,  # but for the undisturbed one
            "kills": len(self.events),
            "requests": len(requests),
            "requests_with_fault": round(
                sum(request.fault is not None for request in requests) / max(1, len(requests)), 3
            ),
            "largest_relative_difference": largest_difference(self.storage("whole"), self.storage("killed"))
            if compared
            else None,
            "wrong": self.wrong,
            "findings": self.findings,
            "ended_otherwise": self.own_ends,
            "events": [
                {name: _rounded(value) if isinstance(value, float) else value for name, value in asdict(event).items()}
                for event in self.events
            ],
        }

    # The job

    def _start(self, output: str, endpoint: str) -> None:
        self.starts += 1
        uri = f"s3://{self._bucket}"
        places = [f"data={uri}/photos", f"output={uri}/{output}", f"s3.endpoint={endpoint}", f"epochs={self.epochs}"]
        command = [sys.executable, str(ROOT / "jobs" / "train.py"), *places, *_SETTINGS]
        with (self.folder / "job.out").open("wb") as out, (self.folder / "job.err").open("wb") as err:
            self._job = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=self._nodes.environment(),
                start_new_session=True,
            )

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        assert self._job is not None
        return self._job

    def _end_job(self) -> None:
        if self._job is not None:
            self._job.kill()
            self._job.wait()

    def _until(self, output: str, epochs: int, *, restart: bool = True) -> int:
        """Wait until so many epochs are done; returns how many are. The job is started again where it ends before."""
        deadline = time.monotonic() + _SECONDS_OF_AN_EPOCH * (1 if epochs < self.epochs else 10)
        first = self.starts
        while True:
            ended = self._running.poll() is not None  # asked before the history, which holds all of it then
            done = len(self._history(output))
            if done >= epochs and (ended or epochs < self.epochs):
                if ended and self._running.returncode:
                    self.findings.append(f"the last start ended with {self._running.returncode}: {self._last_line()}")
                return done
            if ended:
                self._note_end()
                if not restart or self.starts > first + _STARTS_OF_AN_EPOCH:
                    raise RuntimeError(f"start {self.starts} ended, too: {self._last_line()}")
                self._start(output, self._proxy.endpoint)
            if time.monotonic() > deadline:
                raise RuntimeError(f"epoch {done + 1} was not done in time: {self._last_line('out')}")
            time.sleep(0.25)  # each look reads the history from the store

    def _note_end(self) -> None:
        code, line = self._running.returncode, self._last_line()
        if code in _MAY_END_WITH:
            self.own_ends.append({"at": round(time.monotonic() - self._begun, 1), "exit_code": code, "line": line})
        else:
            self.findings.append(f"start {self.starts} ended with {code}: {line}")

    def _history(self, output: str) -> list[dict[str, Any]]:
        try:
            data = self.storage(output).read("history.parquet")
        except (ObjectError, StorageError):  # not there yet, or the store is away
            return []
        rows: list[dict[str, Any]] = pq.read_table(io.BytesIO(data)).to_pylist()
        return rows

    def _last_line(self, where: str = "err") -> str:
        said = (self.folder / f"job.{where}").read_text(errors="replace")
        if "Traceback" in said:
            self.findings.append(f"start {self.starts}: a traceback")
        return (said.strip().splitlines() or [""])[-1]

    # The kills

    def _kill_all(self) -> None:
        rng = random.Random(self.seed)
        order = [self.kinds[number % len(self.kinds)] for number in range(self.kills)]
        rng.shuffle(order)
        for kind in order:
            pause, outage = rng.uniform(0.0, 2.0), rng.uniform(0.5, 6.0)
            self._until("killed", self.events[-1].epochs + 1 if self.events else 1)
            time.sleep(pause)
            done = len(self._history("killed"))
            if done >= self.epochs - 1 or time.monotonic() > self._begun + self.longest:
                return
            event = TrainingKill(kind, time.monotonic() - self._begun, done)
            self._kill(kind, outage)
            self.events.append(event)
            self._until("killed", event.epochs + 1)
            event.recovered_after = time.monotonic() - self._begun - event.at
            print(
                f"{event.at:7.1f} s  kill {len(self.events)}: {kind} after epoch {done}, {event.recovered_after:.1f} s",
                file=sys.stderr,
            )
            self.on_event()

    def _kill(self, kind: TrainingKind, outage: float) -> None:
        match kind:
            case "store":
                self.server.kill()
                time.sleep(outage)
                self.server.start(timeout=120)
            case "driver":
                self._end_job()
                self._start("killed", self._proxy.endpoint)
            case "worker":
                _, process = self._worker()
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            case "node":
                number, _ = self._worker()
                self._nodes.kill(number)
                time.sleep(outage)
                self._nodes.start(number)

    def _worker(self) -> tuple[int, psutil.Process]:
        """The worker and its node, once there is one."""
        deadline = time.monotonic() + _SECONDS_OF_AN_EPOCH
        while not (found := self._nodes.holding(_WORKER)):
            if time.monotonic() > deadline or self._running.poll() is not None:
                raise RuntimeError(f"there is no worker: {self._last_line()}")
            time.sleep(0.1)
        return next(iter(found.items()))


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 2)
