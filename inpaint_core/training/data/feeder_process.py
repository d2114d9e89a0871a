"""A feeder: `python -m inpaint_core.training.data.feeder_process PIPE MEMORY`, two file descriptors. See `feeders`."""

from __future__ import annotations

import mmap
import os
import pickle
import queue
import signal
import sys
import threading
import traceback
from multiprocessing.connection import Connection
from typing import Any

import cv2

from inpaint_core.training.data.feeders import SLOTS
from inpaint_core.training.data.sample_maker import SampleMaker


def main() -> None:
    """Make samples until the pipe is closed."""
    for number in (signal.SIGINT, signal.SIGTERM):  # they are the other process's, which then closes the pipe
        signal.signal(number, signal.SIG_IGN)
    cv2.setNumThreads(1)
    pipe = Connection(int(sys.argv[1]))
    with open(int(sys.argv[2]), "r+b") as file:
        memory = memoryview(mmap.mmap(file.fileno(), os.fstat(file.fileno()).st_size))
    work: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(pipe, work), daemon=True).start()
    maker, slot, first = work.get()
    turn = 0
    while True:
        keys, files = work.get()
        start = (first + turn % SLOTS) * slot
        try:
            answer = _made(maker, keys, files, memory[start : start + slot])
        except Exception as error:  # noqa: BLE001 - raised again where the samples are taken
            answer = _carried(error)
        pipe.send(answer)
        turn += 1


def _receive(pipe: Connection, work: queue.SimpleQueue[Any]) -> None:
    """Take work as it comes, so that the other process never waits for this one; end with the pipe."""
    try:
        while True:
            work.put(pipe.recv())
    except (EOFError, OSError):
        os._exit(0)


def _made(maker: SampleMaker, keys: Any, files: Any, slot: memoryview) -> Any:
    made = maker.empty(len(keys), slot)
    maker(keys, files, made)
    return made.failures


def _carried(error: Exception) -> Exception:
    """The error as it can be sent, with where it was raised."""
    error.add_note(f"In a feeder process: {traceback.format_exc()}")
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - an error whose arguments are not those of its class
        return RuntimeError("".join(traceback.format_exception(error)))
    return error


if __name__ == "__main__":
    main()
