"""How a training worker is notified before its process or a machine of the run ends.

Two things reach a worker of Ray Train:

- SIGTERM, which Ray answers by ending the process at once. `WorkerSetup` puts `Termination` in its place, which notes it.
- The drain of a node: an autoscaler's or `ray drain-node`'s, with a deadline; and that of `ray start --block`, when it gets
  SIGTERM, for `RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S` (30 s). Ray Train looks for drains and tells all workers
  (`ray.train.get_preemption_info`); they go on until the deadline, and are started again then, on other nodes. That is no failure,
  unless the node ends before Ray Train has seen to it.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import ray
import ray.train
from ray.exceptions import RayError

if TYPE_CHECKING:
    from inpaint_core.training.sync_points import Notice

_SECONDS_TO_ANSWER = 5.0
_SECONDS_TO_LEAVE = 60.0


class Termination:
    """Takes SIGTERM in a worker's process: the first one while it trains is noted, others do what they did before.

    Args:
        before: the handler of before.
    """

    def __init__(self, before: Callable[[int, Any], Any]) -> None:
        self._before = before
        self.told = False
        """Whether the training is to end."""
        self.draining = False
        """Whether a machine of the run is being drained."""
        self.training = False
        """Whether it goes on."""
        self.ended = threading.Event()

    def __call__(self, number: int, frame: Any) -> None:
        """See `signal.signal`."""
        if self.told or not self.training:
            self._before(number, frame)
        self.told = True


@contextmanager
def hearing() -> Iterator[Callable[[], Notice]]:
    """For the time of the training: what tells this worker of its end. To be asked at the same step on every worker."""
    from inpaint_core.training.sync_points import Notice  # loads torch, which Ray Train's controller does without

    termination = _termination()

    def notice() -> Notice:
        draining = ray.train.get_preemption_info() is not None
        if termination is not None:
            termination.draining = draining
        return Notice(terminated=termination is not None and termination.told, draining=draining)

    if termination is None:
        yield notice
        return
    termination.training = True
    try:
        yield notice
    finally:
        termination.training = False
        termination.ended.set()


def take_sigterm() -> None:
    """Have this process, in its main thread, note SIGTERM while it trains."""
    before = signal.getsignal(signal.SIGTERM)
    assert callable(before)
    signal.signal(signal.SIGTERM, Termination(before))


def let_leave(worker_group: Any) -> None:
    """Have the training of all workers end with a checkpoint, where all of them still train.

    Not while a machine is being drained: it may be gone before, and checkpoints are frequent then.
    """
    try:
        if all(ray.get(worker_group.execute_async(_is_training), timeout=_SECONDS_TO_ANSWER)):
            ray.get(worker_group.execute_async(_leave), timeout=_SECONDS_TO_LEAVE + _SECONDS_TO_ANSWER)
    except RayError:
        return  # one has died, and the others wait for it


def _is_training() -> bool:
    termination = _termination()
    return termination is not None and termination.training and not termination.draining


def _leave() -> None:
    termination = _termination()
    if termination is not None:
        termination.told = True
        termination.ended.wait(_SECONDS_TO_LEAVE)


def _termination() -> Termination | None:
    """What takes SIGTERM in this process."""
    handler = signal.getsignal(signal.SIGTERM)
    return handler if isinstance(handler, Termination) else None
