"""How many workers a training run has, and what each of them reserves."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ray.train import ScalingConfig

from inpaint_core.errors import ResourceError
from inpaint_core.training.scaling_config import TrainScalingConfig

# How often Ray Train asks whether there is room for more workers of a range: all of them start again then.
_SECONDS_BETWEEN_RESIZES = 60.0


@dataclass(frozen=True)
class WorkerResources:
    """How many workers a run has, and what each of them reserves."""

    workers: int
    """At its start."""
    cpus: int
    """Of each."""
    gpus: float
    """Of each, 0 to 1."""
    numbers: tuple[int, int] | None = None
    """Least and most workers, where they may become fewer or more."""

    @property
    def gpu(self) -> bool:
        """Whether the workers are on GPUs."""
        return self.gpus > 0

    def __str__(self) -> str:
        gpu = f" and {self.gpus:g} GPU" if self.gpu else ""
        text = f"{self.workers} worker{'s' if self.workers > 1 else ''}, {self.cpus} CPU{gpu} each"
        return (
            text if self.numbers is None else f"{text}; {self.numbers[0]} to {self.numbers[1]} as machines come and go"
        )

    def scaling_config(self) -> ScalingConfig:
        """What is requested from Ray Train."""
        resources: dict[str, float] = {"CPU": self.cpus} | ({"GPU": self.gpus} if self.gpu else {})
        return ScalingConfig(  # type: ignore[call-arg]  # annotated as that of Ray Train before its version 2
            num_workers=self.numbers or self.workers,  # type: ignore[arg-type]
            use_gpu=self.gpu,
            resources_per_worker=resources,
            elastic_resize_monitor_interval_s=_SECONDS_BETWEEN_RESIZES,
        )


def worker_resources(scaling: TrainScalingConfig, nodes: list[dict[str, float]]) -> WorkerResources:
    """Choose what is not set so that the cluster is used, and refuse what it can never give.

    Args:
        scaling: the settings; None means chosen here: a worker for each GPU (one that has a part of a GPU), or one on the
            CPU, and all CPUs divided. Of a range of workers, as many are taken as there is room for.
        nodes: CPU and GPU of each node.

    Raises:
        ResourceError: a setting requests more than the cluster has.
    """
    gpus_there = sum(math.floor(node["GPU"]) for node in nodes)
    gpu = gpus_there > 0 and scaling.device != "cpu"
    if scaling.device == "cuda" and not gpu:
        raise ResourceError("scaling.device: cuda was requested, but the cluster has no GPU; use auto or cpu")
    if scaling.sync_batchnorm is True and not gpu:
        raise ResourceError("scaling.sync_batchnorm: torch has it for GPUs only, and the workers get none; turn it off")
    gpus = _gpus_per_worker(scaling) if gpu else 0.0
    least_cpus = scaling.cpus_per_worker or 1
    if isinstance(scaling.workers, int):
        workers = scaling.workers
    elif scaling.worker_range is not None:
        least, most = scaling.worker_range
        workers = max(least, min(most, room_for_workers(nodes, least_cpus, gpus)))
    else:
        workers = gpus_there if gpu and gpus == 1 else 1

    most_cpus = max((math.floor(node["CPU"]) for node in nodes), default=0)
    chosen = [scaling.cpus_per_worker] if scaling.cpus_per_worker else range(most_cpus, 0, -1)
    for cpus in chosen:
        if room_for_workers(nodes, cpus, gpus) >= workers:
            return WorkerResources(workers, cpus, gpus, scaling.worker_range)
    cpus_there = sum(node["CPU"] for node in nodes)
    raise ResourceError(
        f"scaling: {workers} worker{'s' if workers > 1 else ''} of {least_cpus} CPU{f' and {gpus:g} GPU' if gpu else ''} each were "
        f"requested, and the cluster ({cpus_there:g} CPU and {gpus_there} GPU on {len(nodes)} node{'s' if len(nodes) != 1 else ''}) "
        f"has room for {room_for_workers(nodes, least_cpus, gpus)}; lower scaling.workers or scaling.cpus_per_worker"
    )


def room_for_workers(nodes: list[dict[str, float]], cpus: int, gpus: float) -> int:
    """How many workers of so many CPUs, and of a GPU or a part of one where `gpus` is above 0, the nodes have room for."""
    by_cpus = [math.floor(node["CPU"] / cpus) for node in nodes]
    if not gpus:
        return sum(by_cpus)
    a_gpu_holds = math.floor(1 / gpus + 1e-6)  # parts of different GPUs are never joined
    by_gpus = [math.floor(node["GPU"]) * a_gpu_holds for node in nodes]
    return sum(map(min, by_cpus, by_gpus))


def worker_bundles(scaling: TrainScalingConfig) -> list[dict[str, float]]:
    """What a run's workers take at least, for an autoscaler."""
    bundle = {"CPU": float(scaling.cpus_per_worker or 1)}
    if scaling.device == "cuda":
        bundle["GPU"] = _gpus_per_worker(scaling)
    least = scaling.worker_range[0] if scaling.worker_range is not None else scaling.workers or 1
    assert isinstance(least, int)
    return [bundle] * least


def cpus_beside_gpus(nodes: list[dict[str, float]], gpus: float) -> int:
    """CPUs for each worker such that as many workers fit a node by CPUs as by GPUs; at least one.

    Args:
        nodes: CPU and GPU of each node.
        gpus: of each worker.
    """
    a_gpu_holds = math.floor(1 / gpus + 1e-6)
    shares = [math.floor(node["CPU"] / (math.floor(node["GPU"]) * a_gpu_holds)) for node in nodes if node["GPU"] >= 1]
    return max(1, min(shares, default=1))


def _gpus_per_worker(scaling: TrainScalingConfig) -> float:
    return scaling.gpus_per_worker or 1.0
