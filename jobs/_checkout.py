"""Starts a command of `inpaint` from this checkout, installed or not: what `ray job submit -- python jobs/...` needs."""

import os
import sys
from pathlib import Path
from typing import NoReturn


def start(command: str) -> NoReturn:
    """Replace this process by `python -m inpaint_core COMMAND`, with the script's own arguments.

    Process id, signals, exit code and working directory stay the same. The checkout is on `PYTHONPATH`, from which a
    Ray that this process starts, and so its workers, import the package too. `-P`: not from the working directory.
    """
    root = Path(__file__).resolve().parents[1]
    path = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    arguments = [sys.executable, "-P", "-m", "inpaint_core", command, *sys.argv[1:]]
    os.execve(sys.executable, arguments, {**os.environ, "PYTHONPATH": path})
