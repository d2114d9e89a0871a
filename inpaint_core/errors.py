"""The errors that reach a user.

Three families, because they end differently: a `UserError` stops the job at once (exit code 2, or 3 for a
`ClusterError`), an `ImageError` becomes the record of one image and the job goes on, and a `DeviceFault` ends the worker
process, whose images are done by another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum


class Stage(StrEnum):
    """The stages of one image, in their order; the values are those of the records' column `stage`."""

    LIST = "list"
    READ = "read"
    DECODE = "decode"
    DETECT = "detect"
    MASK = "mask"
    INPAINT = "inpaint"
    ENCODE = "encode"
    MEASURE = "measure"
    WRITE = "write"
    WORKER = "worker"
    """The process that worked on the image died."""


class UserError(Exception):
    """A problem that the user has to fix before the job can continue: one line that names it and the remedy."""


class ConfigError(UserError):
    """A config key or value is wrong."""


class StorageError(UserError):
    """A store cannot be used: credentials refused, bucket missing, or endpoint not reachable."""


class WeightsError(UserError):
    """Weights are missing, do not match their SHA-256, or belong to another network."""


class ResourceError(UserError):
    """The cluster can never provide the requested resources."""


class ClusterError(UserError):
    """Ray does not answer, has ended, or cannot be started (exit code 3). When it runs, the same command goes on."""


class TrainingError(UserError):
    """A training run cannot continue: a loss became NaN or infinite."""


class DeviceFault(Exception):
    """The GPU computes nothing more for this process: illegal memory access, uncorrectable ECC error, device-side assert.

    No image is to blame, and every later call to the GPU fails too, so that the process has to end.
    """


class ObjectError(Exception):
    """One object of a store cannot be read, written or deleted; the store itself answers."""


class ImageError(Exception):
    """One image cannot be processed.

    Args:
        stage: the stage that failed.
        reason: one sentence for a person: what is wrong, and what to do where that is known.
    """

    def __init__(self, stage: Stage, reason: str) -> None:
        super().__init__(stage, reason)
        self.stage = stage
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.stage}: {self.reason}"


def causes(
    error: BaseException, links: Callable[[BaseException], Iterable[BaseException | None]]
) -> Iterator[BaseException]:
    """An error and all that it comes from, each once, the nearest first.

    Args:
        error: where to begin.
        links: what an error comes from directly.
    """
    seen: set[int] = set()
    queue: list[BaseException | None] = [error]
    while queue:
        current = queue.pop(0)
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        queue += links(current)
