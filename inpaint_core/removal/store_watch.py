"""Whether the stores of a job answer, checked by the process that prints the job's lines: workers only log outages."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextlib import suppress
from types import TracebackType
from typing import Self

from inpaint_core.errors import ObjectError, StorageError
from inpaint_core.progress import PrintLine
from inpaint_core.storage import Storage


class StoreWatch:
    """Checks each store now and then, so that outages are reported while the driver has no requests; a context manager.

    Args:
        stores: of the job.
        print_line: takes the lines on outages: these and those of the driver's own requests.
        seconds: between two questions, one small request each.
    """

    def __init__(self, stores: Iterable[Storage], print_line: PrintLine, seconds: float = 15.0) -> None:
        self._seconds = seconds
        self._ended = threading.Event()
        self._threads = []
        for store in stores:
            store.on_outage(print_line)
            self._threads.append(threading.Thread(target=self._ask, args=(store,), name="store-watch", daemon=True))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()  # not waited for: a store may be out of reach

    def _ask(self, store: Storage) -> None:
        while not self._ended.wait(self._seconds):
            with suppress(ObjectError, StorageError):  # what can be done without it goes on
                store.check_readable()
