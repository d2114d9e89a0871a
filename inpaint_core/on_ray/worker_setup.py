"""How the processes of the workers of a training are set up and left: torch's process group, and SIGTERM.

As `TorchConfig` of Ray Train does it, which loads torch in the driver and in Ray Train's controller, too: 1.5 s of CPU time in each. They
compute nothing; here only the workers load it.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import ray
import ray.train
from ray.exceptions import GetTimeoutError
from ray.train.backend import Backend, BackendConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.util import get_node_ip_address

from inpaint_core.on_ray.leaving import let_leave, take_sigterm

_SECONDS_TO_LEAVE_GROUP = 30.0


class Trainer(DataParallelTrainer):
    """Ray Train's for workers that get their images otherwise: without the actor that hands out datasets of Ray Data."""

    def _create_default_callbacks(self) -> list[Any]:
        # By name: where another version of Ray has neither, its own callbacks stay.
        return [one for one in super()._create_default_callbacks() if type(one).__name__ != "DatasetsCallback"]


@dataclass
class WorkerSetup(BackendConfig):
    """Ray Train's settings of the workers' processes.

    Args:
        communication: torch's backend of the process group, `nccl` or `gloo`.
        timeout: seconds that a worker waits for the others in a collective.
        leave: before workers that all train are ended, have them write a checkpoint: their number changes. They must not report
            anything to Ray Train then, which does not listen any more.
    """

    communication: str
    timeout: float
    leave: bool = False

    @property
    def backend_cls(self) -> type[Backend]:
        """See Ray Train."""
        return _Backend


class _Backend(Backend):
    share_cuda_visible_devices = True
    """NCCL finds GPUs of the same machine by it."""

    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        address = worker_group.execute_single(0, _free_address)
        workers = len(worker_group)
        ray.get(
            [
                worker_group.execute_single_async(rank, _join_group, backend_config, address, rank, workers)
                for rank in range(workers)
            ]
        )

    def on_training_start(self, worker_group: Any, backend_config: Any) -> None:
        # Here and not in the training, which has a thread of its own: signals are the main thread's.
        worker_group.execute(take_sigterm)

    def on_shutdown(self, worker_group: Any, backend_config: Any) -> None:
        if backend_config.leave:
            let_leave(worker_group)
        if len(worker_group) > 1:
            try:
                ray.get(worker_group.execute_async(_leave_group), timeout=_SECONDS_TO_LEAVE_GROUP)
            except GetTimeoutError:
                return  # their processes are ended next


def _free_address() -> str:
    """Host and port of this process's machine for the store of a process group, as in a URL."""
    host: str = get_node_ip_address()  # type: ignore[no-untyped-call]
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as probe:
        port = probe.getsockname()[1]
    return f"[{host}]:{port}" if family == socket.AF_INET6 else f"{host}:{port}"


def _join_group(setup: WorkerSetup, address: str, rank: int, workers: int) -> None:
    """In a worker: wait for the others."""
    import torch.distributed as dist

    context = ray.train.get_context()
    os.environ |= {  # https://pytorch.org/docs/stable/elastic/run.html#environment-variables: NCCL's devices follow from them
        "LOCAL_RANK": str(context.get_local_rank()),
        "LOCAL_WORLD_SIZE": str(context.get_local_world_size()),
        "NODE_RANK": str(context.get_node_rank()),
        "RANK": str(rank),
        "WORLD_SIZE": str(workers),
    }
    if setup.communication == "nccl" and "TORCH_NCCL_BLOCKING_WAIT" not in os.environ:
        # A collective that takes too long ends the process, and Ray Train starts the workers again.
        os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1")
    dist.init_process_group(
        setup.communication,
        init_method=f"tcp://{address}",
        rank=rank,
        world_size=workers,
        timeout=timedelta(seconds=setup.timeout),
    )


def _leave_group() -> None:
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()
