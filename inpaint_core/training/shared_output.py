"""The output of a run as all workers see it: the first one writes it, and what goes wrong there ends all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from inpaint_core.errors import ObjectError, StorageError, UserError
from inpaint_core.storage import Storage
from inpaint_core.training.config import TrainConfig
from inpaint_core.training.run_output import RunOutput
from inpaint_core.training.worker_context import WorkerContext


class SharedOutput:
    """To be used by all workers at the same steps, except for `first`.

    Args:
        config: the run's.
        storage: its output.
        context: this worker.
        check: raises where the output is not this start's any more; asked before anything is written.
        report: takes the row of each epoch when it is written, on every worker.
    """

    def __init__(
        self,
        config: TrainConfig,
        storage: Storage,
        context: WorkerContext,
        *,
        check: Callable[[], None],
        report: Callable[[dict[str, Any]], None],
    ) -> None:
        self._config = config
        self._storage = storage
        self._context = context
        self._check = check
        self._report = report
        self._unreported: list[dict[str, Any]] = []
        self.first: RunOutput | None = None
        """On the first worker, after `open`."""

    def open(self, *, epochs: int, step: int) -> None:
        """Take the output of a run of which so many epochs are finished, and so many steps done.

        Raises:
            UserError: it cannot be used.
        """

        def work() -> None:
            self.first = RunOutput(self._config, self._storage, self._check, epochs=epochs, step=step)

        self._on_first(work)

    def write(self, save: Callable[[RunOutput], None], *, epoch: dict[str, Any] | None = None) -> None:
        """Have the first worker write something in the background, when the last is written.

        Args:
            save: what it does; called there only.
            epoch: a row to report when that is written.

        Raises:
            UserError: the last could not be written.
        """
        self.wait()
        self._on_first(lambda: save(self.first) if self.first is not None else None)
        if epoch is not None:
            self._unreported.append(epoch)

    @property
    def idle(self) -> bool:
        """Whether all is written, or failed; False on others than the first worker."""
        return self.first is not None and self.first.idle

    def wait(self) -> None:
        """Wait until all is written, and report its epochs: not before, since a sweep may end the run at once.

        Raises:
            UserError: the last could not be written.
        """
        self._on_first(lambda: self.first.wait() if self.first is not None else None)
        for row in self._unreported:
            self._report(row)
        self._unreported.clear()

    def close(self) -> None:
        """End when the last is written. What failed is not told any more."""
        if self.first is not None:
            self.first.close()

    def _on_first(self, work: Callable[[], None]) -> None:
        """Do something on the first worker; its error, if it has one, ends all of them."""
        error: UserError | None = None
        if self._context.rank == 0:
            try:
                work()
            except UserError as raised:
                error = raised
            except ObjectError as raised:
                error = StorageError(str(raised))
        self._context.agree(error)
