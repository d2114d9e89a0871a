"""Whether a store answers: how long a request that fails is sent again, whose fault it is, and the lines that report it."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from types import TracebackType
from typing import Any, Self

log = logging.getLogger(__name__)

SECONDS_TO_FIRST_ANSWER = 5.0
"""How long requests to a store that has never answered are repeated: its address is more likely wrong than it is out of order."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 15.0  # seconds between attempts, doubling
_LONGEST_FIRST_PAUSE = 1.0  # of a store that has never answered
_SECONDS_UNTIL_TOLD = 20.0
_SECONDS_FOR_ONE_OBJECT = 60.0
_ATTEMPTS_FOR_ONE_OBJECT = 3


NO_ANSWER = "no answer in time"
"""The reason of a request that took too long."""


class Verdict(Enum):
    """What becomes of a request that failed for a passing reason."""

    AGAIN = "again"
    OBJECT = "object"
    """Given up: others of its kind are answered meanwhile."""
    STORE = "store"
    """Given up: none of its kind is answered."""


@dataclass
class _Kind:
    """Requests of one kind, such as `get_object`: of a store, some may be answered while others are not."""

    waiting: int = 0
    """Requests that failed and are to be sent again."""
    since: float | None = None
    """Since when none is answered, by the monotonic clock; None: they are, or nobody is waiting."""
    answers: int = 0
    failures: int = 0
    failed: set[Retries | None] = field(default_factory=set)
    """The requests that failed since the last answer; None: one that was not to be sent again."""


class Outages:
    """What one process knows of whether a store answers; used by many threads at once.

    Pickled, it keeps only whether the store has ever answered.

    Args:
        place: the store, as it is named in a sentence.
        patience: seconds for which a request is sent again. Of those with less, whose senders have another use for their
            failure, nobody is told.
        answered: whether the store has ever answered.
    """

    def __init__(self, place: str, patience: float, *, answered: bool = False) -> None:
        self.place = place
        self.patience = patience
        self.has_answered = answered
        self.tell: Callable[[str], None] = log.warning
        self._lock = threading.Lock()
        self._kinds: dict[str, _Kind] = {}
        self._told: float | None = None  # the outage that was told: its beginning
        self._down: float | None = None
        self._seconds = 0.0

    def seconds(self) -> float:
        """Seconds so far in which requests of some kind waited and none of that kind was answered."""
        with self._lock:
            return self._seconds + (0.0 if self._down is None else time.monotonic() - self._down)

    def retries(self, kind: str, patience: float) -> Retries:
        """The retries of one request of a kind, for so many seconds; see `Retries`."""
        return Retries(self, kind, patience)

    def answered(self, kind: str) -> None:
        """A request of this kind was answered, though perhaps not as its sender hoped."""
        line = None
        with self._lock:
            self.has_answered = True
            entry = self._kinds.setdefault(kind, _Kind())
            entry.answers += 1
            entry.failed.clear()
            entry.since = None
            self._note_down()
            if self._told is not None and self._down is None:
                line = f"{self.place} answers again, after {duration(time.monotonic() - self._told)}"
                self._told = None
        if line is not None:
            self.tell(line)

    def probe_failed(self, kind: str) -> None:
        """A request of this kind failed that is not sent again."""
        with self._lock:
            entry = self._kinds.setdefault(kind, _Kind())
            entry.failures += 1
            entry.failed.add(None)

    def after_fork(self) -> Outages:
        """The same for a process in which a lock of this one may be held for ever."""
        copy = Outages(self.place, self.patience, answered=self.has_answered)
        copy.tell = self.tell
        return copy

    def _begin(self, kind: str, began: float) -> _Kind:
        """Lock held: one more request of the kind is to be sent again."""
        entry = self._kinds.setdefault(kind, _Kind())
        entry.waiting += 1
        if entry.since is None:
            entry.since = began
        self._note_down()
        return entry

    def _end(self, entry: _Kind) -> None:
        with self._lock:
            entry.waiting -= 1
            if not entry.waiting:
                entry.since = None
            self._note_down()

    def _note_down(self) -> None:
        """Lock held: count the seconds in which some kind is not answered."""
        down = any(entry.since is not None for entry in self._kinds.values())
        if down and self._down is None:
            self._down = time.monotonic()
        elif not down and self._down is not None:
            self._seconds += time.monotonic() - self._down
            self._down = None

    def _tell_if_it_lasts(self, since: float | None, reason: str, patience: float) -> None:
        now = time.monotonic()
        with self._lock:
            if not self.has_answered or self._told is not None or since is None or patience < self.patience:
                return
            if now - since < seconds_until_told(patience):
                return
            self._told = since
        clock = datetime.now() - timedelta(seconds=now - since)
        self.tell(
            f"{self.place} has not answered since {clock:%H:%M:%S} ({reason}); retrying for up to {duration(patience)}"
        )

    def __getstate__(self) -> dict[str, Any]:
        return {"place": self.place, "patience": self.patience, "answered": self.has_answered}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(vars(Outages(**state)))


class Retries:
    """One request that is sent until it is answered or given up; a context manager around all its attempts.

    Given up as the object's fault: requests of the same kind for other objects are answered meanwhile, at least as many as
    fail, in three attempts and for a quarter of the patience or a minute. Given up as the store's: none are, for the whole patience.
    """

    def __init__(self, outages: Outages, kind: str, patience: float) -> None:
        self._outages = outages
        self._kind = kind
        self._given = patience
        self._started = time.monotonic()
        self._entry: _Kind | None = None
        self._began = self._started
        self._answers = self._failures = self._own = 0
        self._pause = _FIRST_PAUSE
        self.reason = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._entry is not None:
            self._outages._end(self._entry)

    @property
    def patience(self) -> float:
        """Seconds for which the request is sent again."""
        return self._given if self._outages.has_answered else min(self._given, SECONDS_TO_FIRST_ANSWER)

    @property
    def waited(self) -> str:
        """How long the request has been failing."""
        return duration(time.monotonic() - self._began)

    @property
    def limit(self) -> float | None:
        """Seconds that the next attempt may take; None: as many as it likes, since the store has answered before."""
        if self._outages.has_answered:
            return None
        return max(0.5, self._started + SECONDS_TO_FIRST_ANSWER - time.monotonic())

    @property
    def lasts(self) -> bool:
        """Whether it is time for another request to the store, to see whether it answers that."""
        return time.monotonic() - self._began >= seconds_until_told(self._given)

    @property
    def others_fail(self) -> bool:
        """Whether requests of the same kind for other objects failed, and none was answered since."""
        return self._entry is not None and bool(self._entry.failed - {self})

    def failed(self, reason: str, *, silence: float, of_object: bool = False) -> Verdict:
        """An attempt failed; `reason` becomes that of this one, where it is not merely that the time of a first contact was up.

        Args:
            reason: for a person.
            silence: seconds after which a request counts as failed.
            of_object: the store did answer, and what it gave of this object was no good.
        """
        now = time.monotonic()
        outages = self._outages
        with outages._lock:
            outages.has_answered |= of_object
            if outages.has_answered or not self.reason or reason != NO_ANSWER:
                self.reason = reason
            if self._entry is None:
                self._began = max(self._started, now - silence) if outages.has_answered else self._started
                self._entry = outages._begin(self._kind, self._began)
                self._answers, self._failures = self._entry.answers, self._entry.failures
            entry = self._entry
            self._own += 1
            entry.failures += 1
            entry.failed.add(self)
            if entry.since is None:
                entry.since = now
                outages._note_down()
            answers = entry.answers - self._answers
            failures = entry.failures - self._failures - self._own
            since = entry.since
        if answers >= max(failures, 1) or (of_object and not failures):
            enough = self._own >= _ATTEMPTS_FOR_ONE_OBJECT
            if enough and now + self._pause > self._began + seconds_for_one_object(self._given):
                return Verdict.OBJECT
        else:
            outages._tell_if_it_lasts(since, reason, self.patience)
        return Verdict.STORE if now + self._pause > self._began + self.patience else Verdict.AGAIN

    def wait(self) -> None:
        """Wait before the next attempt: longer each time, and for a random part of that, so that many do not come at once."""
        time.sleep(self._pause * random.SystemRandom().uniform(0.5, 1.0))  # no state that a forked process would share
        longest = _LONGEST_PAUSE if self._outages.has_answered else _LONGEST_FIRST_PAUSE
        self._pause = min(2 * self._pause, longest)


def seconds_until_told(patience: float) -> float:
    """How long an outage lasts before it is reported."""
    return min(_SECONDS_UNTIL_TOLD, patience / 10)


def seconds_for_one_object(patience: float) -> float:
    """How long a request is sent again while others like it are answered."""
    return min(_SECONDS_FOR_ONE_OBJECT, patience / 4)


def duration(seconds: float) -> str:
    """`45 s`, `10 min`, `3 min 20 s`; below ten seconds with one decimal."""
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if rest else f"{minutes} min"
