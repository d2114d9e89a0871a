"""Workers of the removal job that fail before they have built anything; apart, so that their processes load no torch."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from inpaint_core.errors import WeightsError

if TYPE_CHECKING:
    from inpaint_core.removal.job import Job
    from inpaint_core.removal.worker import Worker


def refuse(job: Job, threads: int) -> Worker:
    raise WeightsError("detector.weights: another network")


def die(job: Job, threads: int) -> Worker:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError
