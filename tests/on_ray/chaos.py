"""Removal jobs under kill -9: of workers, drivers, Ray's processes and the store, behind a proxy with faults; all seeded.

A run starts the job, kills something, and starts the same command again wherever the job has ended, until nothing is left to
do. What the store holds then is checked by `chaos_checks`.
"""

from __future__ import annotations

import contextlib
import random
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from tests.on_ray.chaos_job import ENDS_JOB, KINDS, Kind, RunningJob, lives
from tests.on_ray.chaos_site import INPUT, OUTPUT, Site
from tests.on_ray.processes import title_of

# Without a kill that ends the job: too many failed images, and a store that fails for too long.
_MAY_END_WITH = (0, 1, 2)
_JOURNALS = re.compile(rf"{OUTPUT}/_removal/journal/([^/]+)/")
_SECONDS_TO_APPEAR = 300.0
_SECONDS_TO_END = 90.0
_SECONDS_BETWEEN_LOOKS = 0.5
_RUNS_AFTER_THE_KILLS = 20
_LONGEST_SILENCE = 600.0  # without a record, after which a job is held for stuck


@dataclass(frozen=True)
class Plan:
    """What is killed, and when. All draws come from `seed`."""

    seed: int = 0
    kills: int = 40
    kinds: tuple[Kind, ...] = KINDS
    early: float = 0.2
    """Share of the kills that come at any moment, such as while the job starts; the others come after a new record."""
    seconds: tuple[float, float] = (0.2, 4.0)
    """Between that record, or the start, and the kill."""
    outage: tuple[float, float] = (0.5, 6.0)
    """Seconds for which a killed store stays away."""
    longest: float = float("inf")
    """Seconds after which nothing more is killed."""

    def order(self, rng: random.Random) -> list[Kind]:
        """The kinds of all kills: each as often as the others, in random order."""
        order = [self.kinds[number % len(self.kinds)] for number in range(self.kills)]
        rng.shuffle(order)
        return order


@dataclass
class Event:
    """A kill and what followed; times in seconds."""

    kind: Kind
    at: float
    """Since the start of the run."""
    early: bool
    exit_code: int | None = None
    """Of the job; None: it went on."""
    ended_after: float | None = None
    recovered_after: float | None = None
    """Until the next record in a journal, of a new run where the kill ends the job; None: the next kill came first."""
    worker_back_after: float | None = None
    left_for: float | None = None
    """Until the last process of the ended job had ended."""
    last_line: str = ""


@dataclass
class Left:
    """Processes of an ended job."""

    event: Event | None
    since: float
    processes: list[psutil.Process]


@dataclass
class Chaos:
    """One run; `execute` gives what happened.

    Args:
        site: store, proxy and images.
        plan: the kills.
        settings: of the job, besides those of the site.
        folder: for what the jobs say.
        on_event: called after each kill.
    """

    site: Site
    plan: Plan
    settings: Sequence[str]
    folder: Path
    on_event: Callable[[], None] = lambda: None
    events: list[Event] = field(default_factory=list)
    own_ends: list[dict[str, object]] = field(default_factory=list)
    """Of jobs that ended with images left and without a kill that ends them: exit code and last line."""
    findings: list[str] = field(default_factory=list)
    starts: int = 0

    def __post_init__(self) -> None:
        self._job: RunningJob | None = None
        self._begun = 0.0
        self._left: list[Left] = []
        self._next_look = 0.0
        self._seen = 0
        self._runs: set[str] = set()
        self._known: set[str] = set()
        self._workers = 0
        self._done = False
        self._moved = 0.0

    def execute(self) -> None:
        """Kill and start again until the job has nothing left to do."""
        rng = random.Random(self.plan.seed)
        try:
            self._begun = time.monotonic()
            self._start()
            for kind in self.plan.order(rng):
                early, pause = rng.random() < self.plan.early, rng.uniform(*self.plan.seconds)
                outage = rng.uniform(*self.plan.outage)
                if not self._wait(early, pause) or time.monotonic() > self._begun + self.plan.longest:
                    break
                self._kill(kind, early, outage)
            self._finish()
        finally:
            self._end_all()

    def _start(self) -> None:
        site = self.site
        arguments = [f"input={site.uri}/{INPUT}", f"output={site.uri}/{OUTPUT}", f"s3.endpoint={site.proxy.endpoint}"]
        self._journalled()  # what the job before it wrote last
        self._known = set(self._runs)
        self._job = RunningJob.start("remove_objects.py", [*arguments, *self.settings], self.folder)
        self.starts += 1
        self._moved = time.monotonic()

    @property
    def _running(self) -> RunningJob:
        assert self._job is not None
        return self._job

    # Waiting

    def _wait(self, early: bool, pause: float) -> bool:
        """Wait until the moment of a kill; False: there is nothing left to do."""
        recovered, since = early, time.monotonic()
        while not (recovered and time.monotonic() >= since + pause):
            if not self._step():
                return False
            if not recovered and self._has_recovered():
                recovered, since = True, time.monotonic()
        return True

    def _has_recovered(self) -> bool:
        """Whether there is a record since the last kill, or since the start."""
        return self.events[-1].recovered_after is not None if self.events else bool(self._runs)

    def _step(self) -> bool:
        """A moment of waiting: note what has happened, and start the job again where it has ended; False: it is done."""
        time.sleep(0.05)
        self._note()
        if self._running.process.poll() is not None:
            self._ended_by_itself()
        elif time.monotonic() > self._moved + _LONGEST_SILENCE:
            self._end_stuck()
        return not self._done

    def _note(self) -> None:
        last = self.events[-1] if self.events else None
        for run, moment in self._journalled():
            after = None if last is None else moment - self._begun - last.at
            if last is None or after is None or after < 0 or last.recovered_after is not None:
                continue
            if last.kind not in ENDS_JOB or run not in self._known:
                last.recovered_after = after
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + _SECONDS_BETWEEN_LOOKS
        for left in self._left:
            left.processes = [process for process in left.processes if lives(process)]
            if not left.processes and left.event is not None:
                left.event.left_for = time.monotonic() - left.since
        self._left = [left for left in self._left if left.processes]
        waits = last is not None and last.kind == "worker" and last.worker_back_after is None
        if last is not None and waits and len(self._running.of("worker")) >= self._workers:
            last.worker_back_after = time.monotonic() - self._begun - last.at

    def _journalled(self) -> list[tuple[str, float]]:
        """Run and moment of each write of a journal since the last call."""
        answers = self.site.proxy.answers
        new = answers[self._seen :]
        self._seen += len(new)
        writes = [answer for answer in new if answer.method == "PUT" and answer.status == 200]
        found = [(match[1], answer.answered) for answer in writes if (match := _JOURNALS.match(answer.key))]
        if found:
            self._moved = time.monotonic()
        self._runs |= {run for run, _ in found}
        return [(run, moment) for run, moment in found if moment is not None]

    def _ended_by_itself(self) -> None:
        code, last = self._code_and_line()
        out = self._running.said("out")
        failed = re.search(r"([\d,]+) failed", out)
        self._done = code == 0 and (failed is None or failed[1] == "0")
        if not self._done:
            if code not in _MAY_END_WITH:
                self.findings.append(f"start {self.starts} ended with {code}: {last}")
            self.own_ends.append({"at": round(time.monotonic() - self._begun, 1), "exit_code": code, "line": last})
            self._start()

    def _end_stuck(self) -> None:
        self.findings.append(f"start {self.starts}: no record in {_LONGEST_SILENCE:g} s; ended and started again")
        self._left.append(Left(None, time.monotonic(), self._running.end()))
        self._start()

    def _code_and_line(self) -> tuple[int, str]:
        code = self._running.process.returncode
        errors = self._running.said("err")
        lines = errors.strip().splitlines() or [""]
        if "Traceback" in errors:
            self.findings.append(f"start {self.starts} ended with {code} and a traceback: {lines[-1]}")
        return code, lines[-1]

    # Killing

    def _kill(self, kind: Kind, early: bool, outage: float) -> None:
        target = self._target(kind)
        if self._done or (target is None and kind != "store"):
            return
        event = Event(kind, time.monotonic() - self._begun, early)
        processes = self._running.processes()
        self._workers = len(self._running.of("worker"))
        if kind == "store":
            self.site.server.kill()
            event.at = time.monotonic() - self._begun
            self.events.append(event)
            time.sleep(outage)
            self.site.server.start(timeout=120)
        else:
            assert target is not None
            target.kill()
            event.at = time.monotonic() - self._begun
            self.events.append(event)
        if kind in ENDS_JOB:
            self._await_end(event, 0 if target is None else target.pid, processes)
        print(f"{event.at:7.1f} s  kill {len(self.events)}: {kind}, exit code {event.exit_code}", file=sys.stderr)
        self.on_event()

    def _target(self, kind: Kind) -> psutil.Process | None:
        """The process to kill, once there is one; None: the store's, or there is none in time, or nothing left to do."""
        deadline = time.monotonic() + _SECONDS_TO_APPEAR
        while kind != "store":
            with contextlib.suppress(psutil.NoSuchProcess):
                found = [psutil.Process(self._running.process.pid)] if kind == "driver" else self._running.of(kind)
                if found:
                    return min(found, key=lambda process: process.pid)
            if time.monotonic() > deadline:
                self.findings.append(f"no {kind} in {_SECONDS_TO_APPEAR:g} s, and none was killed")
                return None
            if not self._step():
                break
        return None

    def _await_end(self, event: Event, victim: int, processes: list[psutil.Process]) -> None:
        """Wait until the job has ended, or has started Ray once more, which it does where a start of Ray fails."""
        killed = time.monotonic()
        job = self._running.process
        while job.poll() is None and time.monotonic() < killed + _SECONDS_TO_END:
            time.sleep(0.05)
            if event.kind != "driver" and any(other.pid != victim for other in self._running.of(event.kind)):
                return
        if job.poll() is None:
            self.findings.append(
                f"kill {len(self.events)} ({event.kind}): the job had not ended {_SECONDS_TO_END:g} s later"
            )
            job.kill()
        job.wait()
        event.ended_after = time.monotonic() - killed
        event.exit_code, event.last_line = self._code_and_line()
        if event.exit_code != ENDS_JOB[event.kind]:
            self.findings.append(
                f"kill {len(self.events)} ({event.kind}): exit code {event.exit_code}, not {ENDS_JOB[event.kind]}: {event.last_line}"
            )
        self._left.append(Left(event, time.monotonic(), processes))
        self._start()

    # The end

    def _finish(self) -> None:
        """Without further kills, until the job is done and nothing of earlier ones is left."""
        first = self.starts
        while not self._done:
            if self.starts > first + _RUNS_AFTER_THE_KILLS:
                raise RuntimeError(f"the job is not done after {_RUNS_AFTER_THE_KILLS} more runs; see {self.folder}")
            self._step()
        deadline = time.monotonic() + 60
        while self._left and time.monotonic() < deadline:
            time.sleep(0.1)
            self._note()
        for left in self._left:
            titles = [title_of(process) for process in left.processes]
            self.findings.append(f"{time.monotonic() - left.since:.0f} s after the end of a job: {titles}")

    def _end_all(self) -> None:
        """Whatever happened: nothing that was started stays."""
        if self._job is not None:
            self._left.append(Left(None, time.monotonic(), self._job.end()))
        for process in (process for left in self._left for process in left.processes):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def as_dict(self) -> dict[str, object]:
        """What happened, for JSON."""
        return {"events": [_rounded(asdict(event)) for event in self.events], "ended_otherwise": self.own_ends}


def _rounded(values: dict[str, object]) -> dict[str, object]:
    return {name: round(value, 2) if isinstance(value, float) else value for name, value in values.items()}
