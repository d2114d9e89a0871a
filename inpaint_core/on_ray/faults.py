"""What becomes of a command when Ray fails it: one line, exit code 3, and nothing of Ray's after that."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray.exceptions import (
    AsyncioActorExit,
    CrossLanguageError,
    ObjectRefStreamEndOfStreamError,
    RayError,
    RayTaskError,
    TaskCancelledError,
    UserCodeException,
)

from inpaint_core.cli import CLUSTER_FAULT, end_process
from inpaint_core.errors import ClusterError, UserError
from inpaint_core.on_ray.address import cluster_address, first_line
from inpaint_core.on_ray.errors import layers
from inpaint_core.on_ray.liveness import AGAIN, Cluster, LivenessWatch

# Of the errors of Ray, those that come from the work itself, and not from the cluster.
_OF_THE_WORK = (
    RayTaskError,
    UserCodeException,
    CrossLanguageError,
    TaskCancelledError,
    AsyncioActorExit,
    ObjectRefStreamEndOfStreamError,
)


@contextmanager
def cluster_faults() -> Iterator[None]:
    """Raise the errors of Ray as a `ClusterError`, and end this process with one line when Ray has gone or hangs.

    Gone: a process of this job's own Ray, or the cluster that the job joins (`liveness`). The main thread may then wait for
    an answer that never comes.

    Raises:
        ClusterError: at once where the cluster that the job would join does not answer; later, what the work raised.
    """
    watch = LivenessWatch(cluster_address())
    watch.start()
    try:
        yield
    except ClusterError:
        raise
    except Exception as error:
        fault = _fault_of(error)
        if fault is None:
            raise
        raise fault from error
    finally:
        watch.stop()


def leave(code: int) -> int:
    """End a command that has printed its last line, after which nothing of Ray's is to come.

    Args:
        code: its exit code, returned where Ray can be left in good order; what follows is not shown then.
    """
    if code == 0 or not ray.is_initialized():
        return code
    if code == CLUSTER_FAULT:
        end_process(code)  # to leave a cluster that does not answer takes Ray minutes
    sys.stdout.flush()
    sys.stderr.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    return code


def _fault_of(error: BaseException) -> ClusterError | None:
    """The fault of the cluster that an error comes from; None: it comes from the work."""
    gone = Cluster.joined().gone() if ray.is_initialized() else None
    if gone is not None:
        return ClusterError(gone.line)
    if isinstance(error, UserError):
        return None
    for layer in layers(error):
        of_the_work = isinstance(layer, _OF_THE_WORK) or getattr(layer, "actor_init_failed", False)
        if isinstance(layer, RayError) and not of_the_work:
            return ClusterError(f"Ray: {type(layer).__name__}: {first_line(layer)}; {AGAIN}")
    return None
