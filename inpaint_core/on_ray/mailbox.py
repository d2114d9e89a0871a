"""Messages from the workers of a training to its driver: an actor beside it, whose process loads nothing besides this."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from inpaint_core.errors import UserError

if TYPE_CHECKING:
    from ray.actor import ActorHandle


class Mailbox:
    """Carries lines and errors from the workers to the driver; outlives the workers."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._error: UserError | None = None
        self._rows: list[Mapping[str, Any]] = []
        self._controller: ActorHandle[Any] | None = None

    def print_line(self, line: str) -> None:
        """Take a line for a person."""
        self._lines.append(line)

    def fail(self, error: UserError) -> None:
        """Take the error that ended the run."""
        self._error = self._error or error

    def take(self, row: Mapping[str, Any], controller: ActorHandle[Any]) -> None:
        """Take the row of an epoch, and the actor that can end the run."""
        self._rows.append(row)
        self._controller = controller

    def hear(self) -> tuple[list[str], list[Mapping[str, Any]], UserError | None]:
        """Lines and rows since the last call, and the error if there is one."""
        lines, self._lines = self._lines, []
        rows, self._rows = self._rows, []
        return lines, rows, self._error

    def controller(self) -> ActorHandle[Any] | None:
        """The actor that can end the run; None before the first epoch."""
        return self._controller
