"""The sweep on Ray Tune: each trial is a training run with workers of its own."""

from __future__ import annotations

from dataclasses import replace

from inpaint_core.errors import ConfigError, ResourceError
from inpaint_core.on_ray.cluster import beside_driver, connect, node_resources, settled
from inpaint_core.on_ray.run_images import read_images
from inpaint_core.on_ray.training import check_run, initial_weights
from inpaint_core.on_ray.trial import Shared
from inpaint_core.on_ray.trial_registry import TrialRegistry
from inpaint_core.on_ray.tuner import run_trials
from inpaint_core.on_ray.workers import (
    WorkerResources,
    cpus_beside_gpus,
    room_for_workers,
    worker_bundles,
    worker_resources,
)
from inpaint_core.progress import PrintLine
from inpaint_core.storage import Storage, open_storage
from inpaint_core.training.run_folder import LAST, claim_output
from inpaint_core.training.scaling_config import TrainScalingConfig
from inpaint_core.training.sharing import check_scaling, check_workers, with_batch
from inpaint_core.training.sweep.config import OptunaSearch, TuneConfig
from inpaint_core.training.sweep.outcomes import is_done, known_trials, status_of
from inpaint_core.training.sweep.points import Trial, check_space, constants, drawn, fixed_points, trials_of

# What may change from one start of a sweep to the next: what is tried, how it is judged, and where it runs. Not how a trial is
# trained, its number of epochs included (the learning rates follow from it): their results would stand in one table.
_PLACES = ("s3", "scaling", "checkpoint.steps", "validation.pictures", "data", "reading.max_failed", "reading.keep")
_WATCHED = ("checkpoint.minutes", "checkpoint.top", "watch", "validation.first")
_FREE = (
    "output",
    "search",
    "seeds",
    "objectives",
    "asha",
    "concurrent",
    *(f"training.{key}" for key in (*_PLACES, *_WATCHED)),
)


def run_sweep(config: TuneConfig, *, print_line: PrintLine = print) -> None:
    """Run all trials, or those that an earlier start with the same output left undone.

    Args:
        config: the sweep's.
        print_line: takes lines for a person.

    Raises:
        UserError: config, stores, data or resources do not allow it.
    """
    config = _with_batch(config)
    output = open_storage(config.output, config.training.s3)
    trials: list[Trial] = []
    if isinstance(config.search, OptunaSearch):
        check_space(config.search.space)
        middle = drawn(config.training.loss, {**constants(config.search.space), "l1_share": 0.5})
        check_run(Trial(middle, config.seeds[0]).config(config))
    else:
        trials = trials_of(fixed_points(config), config.seeds)
        for trial in trials:
            check_run(trial.config(config))
    initial = initial_weights(config.training)  # once: trials run in other processes, and in other folders
    claim_output(output, config, _FREE, _has_checkpoints)
    if isinstance(config.search, OptunaSearch):
        count = config.search.points * len(config.seeds)
        # Never none: a search that has all its points says so itself.
        undone = max(1, count - sum(is_done(config, known.status) for known in known_trials(output)))
    else:
        count, undone = len(trials), sum(not is_done(config, status_of(output, trial)) for trial in trials)
        if not undone:
            print_line(f"{output.uri}: all trials are done already")
            return
    connect()
    scaling, resources, at_once = settled_trials(config, undone, print_line)
    check_workers(config.training, resources.workers, gpu=resources.gpu)
    # `output.uri` is absolute: trials run in other processes, and in other folders.
    config = replace(config, output=output.uri, training=replace(config.training, scaling=scaling))
    print_line(f"{count} trials, up to {at_once} at once, of {resources}")
    images = read_images(config.training, print_line, initial)
    shared = Shared(config, output, images, trials, beside_driver(TrialRegistry))
    run_trials(shared, at_once, print_line)


def settled_trials(
    config: TuneConfig, trials: int, print_line: PrintLine
) -> tuple[TrainScalingConfig, WorkerResources, int]:
    """`trial_resources` for the nodes that there are, or that an autoscaler brings for as many trials as shall run at once.

    Args:
        config: the sweep's.
        trials: how many are to be run.
        print_line: takes lines for a person.

    Raises:
        ResourceError: one trial requests more than the cluster has.
    """
    scaling = config.training.scaling
    wanted = min(config.concurrent or 1, trials)

    def enough(nodes: list[dict[str, float]]) -> tuple[TrainScalingConfig, WorkerResources, int]:
        chosen, resources, room = trial_resources(scaling, nodes)
        if room < wanted:
            raise ResourceError(f"there is room for {room} of {wanted} trials at once")
        return chosen, resources, min(room, config.concurrent or room)

    try:
        return settled(enough, worker_bundles(scaling) * wanted, scaling.wait_for_nodes, print_line)
    except ResourceError:
        # Fewer at once take longer, and that is all.
        chosen, resources, room = trial_resources(scaling, node_resources())
        return chosen, resources, min(room, wanted)


def _with_batch(config: TuneConfig) -> TuneConfig:
    """With the batch of the trials as a number."""
    workers = config.training.scaling.workers or 1
    if isinstance(workers, str):
        raise ConfigError(
            f"training.scaling.workers: {workers} is for a single run; the trials of a sweep take a number"
        )
    check_scaling(config.training)
    return replace(config, training=with_batch(config.training, workers))


def _has_checkpoints(output: Storage) -> bool:
    return any(entry.key.endswith(f"/{LAST}") for entry in output.list())


def trial_resources(
    scaling: TrainScalingConfig, nodes: list[dict[str, float]]
) -> tuple[TrainScalingConfig, WorkerResources, int]:
    """What is not set, chosen so that as many trials as possible run at once; and how many that are.

    A trial has one worker, on a GPU or the part of one that is set, where there is one; several small trials make better use of CPUs than one with
    many threads.

    Raises:
        ResourceError: one trial requests more than the cluster has.
    """
    gpu = any(node["GPU"] >= 1 for node in nodes) and scaling.device != "cpu"
    cpus = scaling.cpus_per_worker or (cpus_beside_gpus(nodes, scaling.gpus_per_worker or 1.0) if gpu else 1)
    scaling = replace(scaling, workers=scaling.workers or 1, cpus_per_worker=cpus)
    resources = worker_resources(scaling, nodes)
    return scaling, resources, room_for_workers(nodes, resources.cpus, resources.gpus) // resources.workers
