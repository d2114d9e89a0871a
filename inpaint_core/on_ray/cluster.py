"""Connecting to Ray, and what a job takes of the cluster."""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeVar, cast

import ray
from ray.actor import ActorHandle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from inpaint_core.errors import ClusterError, ResourceError
from inpaint_core.on_ray.address import cluster_address, first_line
from inpaint_core.on_ray.own_ray import start_ray
from inpaint_core.progress import PrintLine
from inpaint_core.removal.config import ScalingConfig

A = TypeVar("A")
R = TypeVar("R")

_SECONDS_BETWEEN_POLLS = 0.5
_CPUS_PER_GPU_ACTOR = 2
_LEAST_ACTORS_OF_A_GPU = 2
_MOST_ACTORS_OF_A_GPU = 8


@dataclass(frozen=True)
class ActorResources:
    """How many actors, and what each of them reserves."""

    actors: int
    cpus: float
    gpus: float

    def __str__(self) -> str:
        gpus = f" and {self.gpus:g} GPU" if self.gpus else ""
        return f"{self.actors} worker{'s' if self.actors > 1 else ''}, {self.cpus:g} CPU{gpus} each"


def connect() -> None:
    """Join the cluster that `RAY_ADDRESS` or a local `ray start` names; without one, start Ray on this machine.

    Ray's messages stay in its log files: what a user has to know is in the records and in what this project prints.

    Raises:
        ClusterError: the cluster does not answer, or Ray cannot be started.
    """
    if ray.is_initialized():
        return
    address = cluster_address()
    # Ray's C++ core prints an error about the restart of every Ray Data actor pool, in good runs too
    # (ray-project/ray#53727); what really fails reaches the driver as an exception.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    # Ray reports what it is used for to its makers, by a process of its own: not unless a user wants it.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    on_termination = signal.getsignal(signal.SIGTERM)
    try:
        if address is None:
            start_ray(lambda: _init("local"))
        else:
            _join(address)
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_termination)  # Ray puts its own in place, which ends the driver at once
    data_log = logging.getLogger("ray.data")
    for handler in list(data_log.handlers):
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
            data_log.removeHandler(handler)


def _join(address: str) -> None:
    try:
        _init(None)  # which finds this address itself
    except Exception as error:  # Ray raises `Exception` itself, too
        raise ClusterError(
            f"Ray: the cluster at {address} answers, but cannot be joined ({first_line(error)}); check that a node of it runs "
            "on this machine (ray status), with the same versions of Ray and Python, and run the same command again"
        ) from error


def _init(address: str | None) -> None:
    # It shows a driver what happens to nodes and tasks, traces included, without regard to `log_to_driver`.
    ray._private.worker.print_to_stdstream = _show_nothing
    with _without_log_level():
        ray.init(address, logging_level=logging.ERROR, log_to_driver=False, include_dashboard=False)


def _show_nothing(data: object, ignore_prefix: bool) -> None:
    """In place of what prints a message of Ray's."""


@contextmanager
def _without_log_level() -> Iterator[None]:
    """Suppress the line on standard error in which Ray's C++ core reports its level of logging.

    If an error is raised, its message is all that is shown.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as written:
        before = os.dup(2)
        os.dup2(written.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(before, 2)
            os.close(before)
        written.seek(0)
        for line in written:
            if b"Set ray log level" not in line:
                os.write(2, line)


def in_thread(work: Callable[[], None], name: str, meanwhile: Callable[[], object]) -> BaseException | None:
    """Do what Ray Train or Ray Tune would use the main thread for, where they take over Ctrl-C; returns what it raised.

    Args:
        work: called once, in a thread of that name.
        name: of the thread.
        meanwhile: called again and again here, twice a second.

    Raises:
        KeyboardInterrupt: this process's connection to Ray has been closed, which ends what the work had started.
    """
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - returned
            raised.append(error)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(_SECONDS_BETWEEN_POLLS)
            meanwhile()
    except KeyboardInterrupt:
        os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"  # or the thread's next call would start a Ray of its own
        ray.shutdown()
        raise
    return raised[0] if raised else None


def beside_driver(actor: type[A]) -> ActorHandle[A]:
    """A small actor on the driver's own machine: lost with it and not before, so that workers come and go around it.

    It is started again when it dies, without what it held; calls to it wait for that.

    Args:
        actor: a class whose module imports next to nothing: the actor's process loads that module.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options = ray.remote(actor).options(num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here)
    return cast("ActorHandle[A]", options.remote())


def node_resources() -> list[dict[str, float]]:
    """CPU and GPU of each living node."""
    return [
        {"CPU": node["Resources"].get("CPU", 0.0), "GPU": node["Resources"].get("GPU", 0.0)}
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"]
    ]


def check_assigned_gpus(device: Literal["auto", "cpu", "cuda"]) -> None:
    """Refuse a worker for which Ray reserved a GPU that torch does not see: it would compute on the CPU unnoticed.

    Args:
        device: the setting; with `cpu` nothing is checked.

    Raises:
        ResourceError: torch sees no GPU.
    """
    assigned = ray.get_gpu_ids()
    if not assigned or device == "cpu":
        return
    import torch  # only in workers, and only beside a GPU

    if torch.cuda.is_available():
        return
    build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    raise ResourceError(
        f"node {socket.gethostname()}: Ray assigned GPU {', '.join(map(str, assigned))} to this worker, but torch "
        f"{torch.__version__} ({build}) sees none; check the driver (nvidia-smi on that node) and that torch's CUDA is one "
        "that the driver supports, or set scaling.device=cpu"
    )


def settled(
    choose: Callable[[list[dict[str, float]]], R],
    bundles: list[dict[str, float]],
    wait: float,
    print_line: PrintLine,
) -> R:
    """What is chosen for the nodes that there are, or for those that an autoscaler brings in time.

    Args:
        choose: takes CPU and GPU of each node; raises `ResourceError` where they are not enough.
        bundles: what is requested from the autoscaler then.
        wait: seconds until that error is raised.
        print_line: takes a line for a person.

    Raises:
        ResourceError: there is still too little.
    """
    from ray.autoscaler.sdk import request_resources  # loads all of the autoscaler, and workers import this module, too

    deadline = time.monotonic() + wait
    asked = False
    try:
        while True:
            try:
                return choose(node_resources())
            except ResourceError as error:
                if time.monotonic() >= deadline:
                    raise
                if not asked:
                    print_line(f"waiting up to {wait:g} s for nodes: {error}")
            request_resources(bundles=bundles)
            asked = True
            time.sleep(_SECONDS_BETWEEN_POLLS)
    finally:
        if asked:
            request_resources(bundles=[])  # or the autoscaler would keep them after the job


def actor_resources(scaling: ScalingConfig, nodes: list[dict[str, float]], *, batches: int) -> ActorResources:
    """Choose what is not set so that the cluster is used, and refuse what it can never give.

    Without GPUs an actor has one CPU: two networks with one thread each beat one with two. With GPUs, several actors share
    each (`_actors_of_a_gpu`), and divide the node's CPUs for their threads. Nodes without a GPU are not used then.

    Args:
        scaling: the settings; None means chosen here.
        nodes: CPU and GPU of each node.
        batches: batches of images there are to process; more actors than that would only start and stop.

    Raises:
        ResourceError: a setting requests more than the cluster has.
    """
    cpus_there = sum(node["CPU"] for node in nodes)
    gpus_there = sum(node["GPU"] for node in nodes)
    if scaling.device == "cuda" and not gpus_there:
        raise ResourceError("scaling.device: cuda was requested, but the cluster has no GPU; use auto or cpu")
    on_gpu = gpus_there > 0 and scaling.device != "cpu"
    gpus = (
        scaling.gpus_per_actor
        if scaling.gpus_per_actor is not None
        else (1 / _actors_of_a_gpu(nodes) if on_gpu else 0.0)
    )
    cpus = scaling.cpus_per_actor or (_cpus_beside_gpus(nodes, gpus) if gpus else 1.0)
    room = sum(_room(node, cpus, gpus) for node in nodes)
    wanted = scaling.actors or max(1, min(room, batches))
    if room < wanted:
        raise ResourceError(
            f"scaling: {wanted} worker{'s' if wanted > 1 else ''} of {cpus:g} CPU and {gpus:g} GPU each were requested, and "
            f"the cluster ({cpus_there:g} CPU and {gpus_there:g} GPU on {len(nodes)} node{'s' if len(nodes) != 1 else ''}) "
            f"has room for {room}; lower scaling.actors, scaling.cpus_per_actor or scaling.gpus_per_actor"
        )
    return ActorResources(wanted, cpus, gpus)


def _actors_of_a_gpu(nodes: list[dict[str, float]]) -> int:
    """Actors that share a GPU, a power of 2: at least one for each two CPUs that a node has for it.

    What an actor does on its CPUs, one image after the other, bounds its rate, however fast the GPU is. With the default
    models it is between a seventh (640x480) and two fifths (12 megapixels) of the work of an actor without a GPU
    (`docs/performance.md`): with few actors, a node with many CPUs would be slower with its GPU than without. At least two,
    so that one prepares images while the other computes; at most eight, because each takes memory of the GPU.
    """
    cpus = max(node["CPU"] / node["GPU"] for node in nodes if node["GPU"])
    actors = _LEAST_ACTORS_OF_A_GPU
    while actors < _MOST_ACTORS_OF_A_GPU and actors * _CPUS_PER_GPU_ACTOR < cpus:
        actors *= 2  # Ray takes no more than four decimals of a GPU
    return actors


def _cpus_beside_gpus(nodes: list[dict[str, float]], gpus: float) -> float:
    """CPUs for each actor such that the actors that a node's GPUs have room for also fit by CPUs; at least one."""
    shares = [node["CPU"] // (node["GPU"] / gpus) for node in nodes if node["GPU"]]
    return max(1.0, min(shares, default=1.0))


def _room(node: dict[str, float], cpus: float, gpus: float) -> int:
    """Actors that fit on one node."""
    rooms = [math.floor(node["CPU"] / cpus + 1e-6)]
    if gpus:
        # An actor of one GPU or more takes whole GPUs; fractions of different GPUs are never joined.
        rooms.append(
            math.floor(node["GPU"]) * math.floor(1 / gpus + 1e-6) if gpus < 1 else math.floor(node["GPU"] / gpus)
        )
    return min(rooms)
