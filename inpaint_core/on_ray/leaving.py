"""How a training worker hears that its process or a machine of the run will be taken away, before it is.

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
from dataclasses import dataclass
from typing import Any

import ray
import ray.train
from ray.exceptions import RayError
from ray.train.torch import TorchConfig

from inpaint_core.training.looks import Notice

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
        """Whether a machine of the run will be taken away."""
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


@dataclass
class WorkerSetup(TorchConfig):
    """Ray Train's set-up of the workers for torch, and what takes SIGTERM in their processes.

    Args:
        leave: before workers that all train are ended, have them write a checkpoint: their number changes. They must not report
            anything to Ray Train then, which does not listen any more.
    """

    leave: bool = False

    @property
    def backend_cls(self) -> type:
        """See Ray Train."""
        return _Backend


class _Backend(TorchConfig().backend_cls):  # type: ignore[misc]  # Ray's own, which has no public name
    def on_training_start(self, worker_group: Any, backend_config: Any) -> None:
        super().on_training_start(worker_group, backend_config)
        # Here and not in the training, which has a thread of its own: signals are the main thread's.
        worker_group.execute(_take_sigterm)

    def on_shutdown(self, worker_group: Any, backend_config: Any) -> None:
        if backend_config.leave:
            _let_leave(worker_group)
        super().on_shutdown(worker_group, backend_config)


def _take_sigterm() -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert callable(before)
    signal.signal(signal.SIGTERM, Termination(before))


def _let_leave(worker_group: Any) -> None:
    """Have the training of all workers end with a checkpoint, where all of them still train.

    Not while a machine is about to be taken away: that may be gone before, and checkpoints are frequent then.
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
