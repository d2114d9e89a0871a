"""Following a training run from the process that started it: lines, errors and epochs; and its early end."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError
from ray.train import UserCallback

from inpaint_core.errors import UserError
from inpaint_core.on_ray.mailbox import Mailbox
from inpaint_core.progress import PrintLine

_SECONDS_TO_END = 30.0


@dataclass(frozen=True)
class Watch:
    """What a sweep wants of a training run.

    Args:
        on_epoch: told the row of each epoch (`training.history.SCHEMA`), in the process that started the run.
        on_start: called in the process of the first worker, whenever it starts; it is sent there.
        stop: set by the caller to end the run, which can go on later from its last checkpoint.
    """

    on_epoch: Callable[[Mapping[str, Any]], None]
    on_start: Callable[[], None]
    stop: threading.Event = field(default_factory=threading.Event)


class _Reports(UserCallback):
    """Passes reports of the workers on to the mailbox; lives in Ray Train's controller."""

    def __init__(self, mailbox: ActorHandle[Mailbox]) -> None:
        self._mailbox = mailbox

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        """See Ray Train."""
        self._mailbox.take.remote(metrics[0], ray.get_runtime_context().current_actor)


class RunMonitor:
    """Empties the mailbox at each call, and ends the run where its watch wants that."""

    def __init__(self, mailbox: ActorHandle[Mailbox], print_line: PrintLine, watch: Watch | None) -> None:
        self._mailbox, self._print_line, self._watch = mailbox, print_line, watch
        self.stopped = False
        """Whether it has ended the run."""

    def callbacks(self) -> list[UserCallback]:
        """What the run has to be given."""
        return [_Reports(self._mailbox)] if self._watch is not None else []

    def __call__(self) -> UserError | None:
        """Pass on what there is; returns the error that ended the run, if there is one."""
        lines, rows, error = cast(
            "tuple[list[str], list[Mapping[str, Any]], UserError | None]", ray.get(self._mailbox.hear.remote())
        )
        for line in lines:
            self._print_line(line)
        if self._watch is not None:
            for row in rows:
                self._watch.on_epoch(row)
            if self._watch.stop.is_set() and not self.stopped:
                self._stop()
        return error

    def _stop(self) -> None:
        """Abort as Ray Train does on Ctrl-C: killed from outside, it would leave the workers' CPUs reserved."""
        controller = cast("ActorHandle[Any] | None", ray.get(self._mailbox.controller.remote()))
        if controller is None:
            return  # before the first report nobody knows it; asked again at the next call
        self.stopped = True
        with contextlib.suppress(RayError):  # it ends with the call
            ray.get(controller.abort.remote(), timeout=_SECONDS_TO_END)
