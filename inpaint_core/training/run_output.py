"""What the first worker writes, in the background: checkpoints, generators and the history."""

from __future__ import annotations

import copy
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from inpaint_core.networks.generator import Generator
from inpaint_core.storage import Storage
from inpaint_core.training.checkpoint import BEST_GENERATOR, LAST_GENERATOR, save_judged, save_state, save_top
from inpaint_core.training.config import TrainConfig
from inpaint_core.training.history import History

T = TypeVar("T")

_SECONDS_BETWEEN_BOARDS = 60.0


class BackgroundWriter:
    """Runs one piece of work at a time, in a thread, in the order in which it is given."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="writer")
        self._given: deque[Future[None]] = deque()

    @property
    def idle(self) -> bool:
        """Whether all work is done, or failed."""
        return all(work.done() for work in self._given)

    def submit(self, work: Callable[[], None]) -> None:
        """Do some work when the last is done, which is waited for.

        Raises:
            Exception: that of the last work, if it failed; the new one is not begun then.
        """
        self.wait()
        self.add(work)

    def add(self, work: Callable[[], None]) -> None:
        """Do some small work after the others, which are not waited for; an error of theirs is raised later."""
        self._given.append(self._pool.submit(work))

    def wait(self) -> None:
        """Wait for all work.

        Raises:
            Exception: that of the first that failed; once.
        """
        while self._given:
            self._given.popleft().result()

    def close(self) -> None:
        """Wait for the last work, and end the thread. What failed is not told any more."""
        self._pool.shutdown()


class RunOutput:
    """Writes the output of a run while the training goes on. What is given is copied before the call returns.

    Args:
        config: the run's.
        storage: its output.
        check: raises where the output is not this start's any more; asked before anything is written.
        epochs: epochs that are finished.
        step: steps that are done.

    Raises:
        UserError, ObjectError: the output cannot be used.
    """

    def __init__(
        self, config: TrainConfig, storage: Storage, check: Callable[[], None], *, epochs: int, step: int
    ) -> None:
        check()
        self._config = config
        self._storage = storage
        self._check = check
        self._history = History(storage, epochs=epochs if step else None, step=step)
        self._writer = BackgroundWriter()
        self._stored = time.monotonic()

    @property
    def idle(self) -> bool:
        """Whether all that was given is written, or failed."""
        return self._writer.idle

    def wait(self) -> None:
        """Wait until all is written.

        Raises:
            UserError, ObjectError: what was given last could not be written.
        """
        self._writer.wait()

    def save(self, state: Mapping[str, Any]) -> None:
        """Have a checkpoint written, when what was given before is.

        Raises:
            UserError, ObjectError: that could not be written.
        """
        copied = host_copy(state)
        self._writer.submit(self._checked(lambda: save_state(self._storage, copied)))

    def save_first(self, row: Mapping[str, Any], grid: NDArray[np.uint8]) -> None:
        """Have the validation before the first step written: as `save_epoch`, without generators and checkpoint."""
        self._writer.submit(self._checked(lambda: self._history.add(row, grid)))

    def save_trace(self, key: str, data: bytes) -> None:
        """Have a profile written."""
        self._writer.add(self._checked(lambda: self._storage.write(key, data)))

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Points of TensorBoard's curves, which are stored once a minute, and with each epoch."""
        self._history.scalars(values, step)
        if time.monotonic() - self._stored >= _SECONDS_BETWEEN_BOARDS and self.idle:
            self._stored = time.monotonic()
            self._writer.add(self._checked(self._history.store_board))

    def save_epoch(
        self,
        row: Mapping[str, Any],
        judged: Generator,
        grid: NDArray[np.uint8],
        state: Mapping[str, Any],
        *,
        best: bool,
    ) -> None:
        """Have what an epoch leaves written, when what was given before is.

        Args:
            row: with the columns of `history.SCHEMA`.
            judged: the generator that was validated.
            grid: pictures, (H, W, 3) uint8.
            state: from which the run goes on after the epoch.
            best: whether the generator is the best so far.

        Raises:
            UserError, ObjectError: what was given before could not be written.
        """
        copied, generator = host_copy(state), copy.deepcopy(judged).requires_grad_(False).to("cpu")

        def write() -> None:
            for key in (LAST_GENERATOR, *((BEST_GENERATOR,) if best else ())):
                save_judged(self._storage, key, generator, self._config, row)
            save_top(self._storage, generator, self._config, row, self._history.rows)
            # After the generators: an epoch that the history tells is done, and the last one ends the run.
            self._history.add(row, grid)
            save_state(self._storage, copied)

        self._writer.submit(self._checked(write))

    def close(self) -> None:
        """End when the last that was given is written."""
        self._writer.close()
        self._history.close()

    def _checked(self, write: Callable[[], None]) -> Callable[[], None]:
        def checked() -> None:
            self._check()
            write()

        return checked


def host_copy(state: T) -> T:
    """A copy of a state (tensors, numbers, texts, and lists and dicts of them) in the host's memory."""
    copied: T = _copied(state)
    return copied


def _copied(state: Any) -> Any:
    if isinstance(state, Tensor):
        return state.detach().to("cpu", copy=True)  # also of a tensor that lies there already
    if isinstance(state, Mapping):
        return {key: _copied(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [_copied(value) for value in state]
    return state
