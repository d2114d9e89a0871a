"""The sweep on Ray Tune: each trial is a training run with workers of its own."""

from __future__ import annotations

import logging
import os
import tempfile
from dataclasses import replace
from typing import Any

import numpy as np
import optuna
from ray import tune
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Repeater, Searcher
from ray.tune.search.optuna import OptunaSearch as OptunaSearcher

from inpaint_core.errors import ConfigError, ResourceError
from inpaint_core.on_ray.cluster import beside_driver, connect, in_thread, node_resources, settled
from inpaint_core.on_ray.run_images import read_images
from inpaint_core.on_ray.training import check_run, initial_weights
from inpaint_core.on_ray.trial import Shared, TrialRegistry, TrialRun, release
from inpaint_core.on_ray.workers import (
    WorkerPlan,
    cpus_beside_gpus,
    plan_workers,
    room_for_workers,
    worker_bundles,
)
from inpaint_core.progress import PrintLine
from inpaint_core.storage import Storage, open_storage
from inpaint_core.training.run_folder import LAST, claim_output
from inpaint_core.training.scaling_config import TrainScalingConfig
from inpaint_core.training.sharing import check_scaling, check_workers, with_batch
from inpaint_core.training.sweep.config import OptunaSearch, TuneConfig
from inpaint_core.training.sweep.outcomes import Status, is_done, known_trials, note_outcome, status_of
from inpaint_core.training.sweep.points import Trial, check_space, constants, drawn, fixed_points, trials_of

_TIMES_AGAIN = 3
# A trial's own process only waits for its workers: if it took a CPU, two trials could wait for each other's for ever. Ray Tune
# does not start one that takes nothing at all. Bytes.
_TRIAL_MEMORY = 2**28

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
    scaling, plan, at_once = settled_trials(config, undone, print_line)
    check_workers(config.training, plan.workers, gpu=plan.gpu)
    # `output.uri` is absolute: trials run in other processes, and in other folders.
    config = replace(config, output=output.uri, training=replace(config.training, scaling=scaling))
    print_line(f"{count} trials, up to {at_once} at once, of {plan}")
    images = read_images(config.training, print_line, initial)
    shared = Shared(config, output, images, trials, beside_driver(TrialRegistry))
    _fit(shared, at_once, print_line)


def settled_trials(
    config: TuneConfig, trials: int, print_line: PrintLine
) -> tuple[TrainScalingConfig, WorkerPlan, int]:
    """`plan_trials` for the nodes that there are, or that an autoscaler brings for as many trials as shall run at once.

    Args:
        config: the sweep's.
        trials: how many are to be run.
        print_line: takes lines for a person.

    Raises:
        ResourceError: one trial asks for more than there is.
    """
    scaling = config.training.scaling
    wanted = min(config.concurrent or 1, trials)

    def enough(nodes: list[dict[str, float]]) -> tuple[TrainScalingConfig, WorkerPlan, int]:
        chosen, plan, room = plan_trials(scaling, nodes)
        if room < wanted:
            raise ResourceError(f"there is room for {room} of {wanted} trials at once")
        return chosen, plan, min(room, config.concurrent or room)

    try:
        return settled(enough, worker_bundles(scaling) * wanted, scaling.wait_for_nodes, print_line)
    except ResourceError:
        chosen, plan, room = plan_trials(scaling, node_resources())  # fewer at once take longer, and that is all
        return chosen, plan, min(room, wanted)


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


def plan_trials(
    scaling: TrainScalingConfig, nodes: list[dict[str, float]]
) -> tuple[TrainScalingConfig, WorkerPlan, int]:
    """What is not set, chosen so that as many trials as possible run at once; and how many that are.

    A trial has one worker, on a GPU or the part of one that is set, where there is one; several small trials make better use of CPUs than one with
    many threads.

    Raises:
        ResourceError: one trial asks for more than there is.
    """
    gpu = any(node["GPU"] >= 1 for node in nodes) and scaling.device != "cpu"
    cpus = scaling.cpus_per_worker or (cpus_beside_gpus(nodes, scaling.gpus_per_worker or 1.0) if gpu else 1)
    scaling = replace(scaling, workers=scaling.workers or 1, cpus_per_worker=cpus)
    plan = plan_workers(scaling, nodes)
    return scaling, plan, room_for_workers(nodes, plan.cpus, plan.gpus) // plan.workers


class _Recorder(tune.Callback, tune.Stopper):
    """Writes down how trials end, tells a person, and stops all where one finds what no trial can do without."""

    def __init__(self, shared: Shared, print_line: PrintLine) -> None:
        self._sweep, self._output, self._print_line, self._of = shared.sweep, shared.output, print_line, shared.trial
        self._registry = shared.registry
        self._ended = 0
        self.unusable: str | None = None

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether one trial is to end: that is the scheduler's to say."""
        return False

    def stop_all(self) -> bool:
        """Whether the sweep is to end."""
        return self.unusable is not None

    def on_trial_result(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, result: dict[str, Any], **info: Any
    ) -> None:
        """A line for each epoch of each trial."""
        self.unusable = self.unusable or result.get("unusable")
        if result["epoch"] and not result.get("known"):
            known_values = ((name, result.get(name)) for name in self._sweep.objectives)
            figures = ", ".join(f"{name} {value:.4f}" for name, value in known_values if value is not None)
            self._tell(trial, f"epoch {result['epoch']}, {figures}")

    def on_trial_complete(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        """Finished, stopped by the scheduler, diverged, or its workers failed too often."""
        last = trial.last_result or {}
        if last.get("diverged"):
            self._end(trial, "diverged")
        elif last.get("failed"):
            self._end(trial, "failed", last["failed"])
        elif self.unusable is None:
            self._end(trial, "finished" if last.get("epoch", 0) >= self._sweep.training.epochs else "stopped")

    def on_trial_recover(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        """Its own process died, or something in it."""
        self._tell(trial, f"{_reason(trial)}; it resumes from its last checkpoint")

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        """The same, more often than it is tried again."""
        release(self._registry, self._of(trial.config))
        self._end(trial, "failed", _reason(trial))

    def _end(self, trial: TuneTrial, status: Status, error: str | None = None) -> None:
        known = self._of(trial.config)
        before = status_of(self._output, known)
        if is_done(self._sweep, before):  # the scheduler may judge what is told again in another way
            assert before is not None
            status = before
        else:
            note_outcome(self._output, known, status, error)
        self._registry.free.remote(known.name, trial.trial_id)
        self._ended += 1
        self._tell(trial, f"{status} ({self._ended} trials have ended){f': {error}' if error else ''}")

    def _tell(self, trial: TuneTrial, what: str) -> None:
        known = self._of(trial.config)
        self._print_line(f"{known.point}, seed {known.seed}: {what}")


def _reason(trial: TuneTrial) -> str:
    """Why the process of a trial failed, in a line."""
    lines = [line.strip() for line in str(trial.get_error() or "").splitlines() if line.strip()]
    died = next((line for line in lines if "ActorDiedError" in line), None)
    return "its process died" if died or not lines else lines[-1]


def _fit(shared: Shared, at_once: int, print_line: PrintLine) -> None:
    """Run Ray Tune to its end."""
    recorder = _Recorder(shared, print_line)

    def fit() -> None:
        with tempfile.TemporaryDirectory(prefix="ray-tune-") as folder:
            _tuner(shared, at_once, print_line, folder, recorder).fit()

    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # what happens to trials is said by the recorder
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"  # what trials tell is kept by their runs
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # the other way, `verbose=0` is not quiet
    raised = in_thread(fit, "ray-tune", lambda: None)
    if recorder.unusable is not None:
        raise ConfigError(recorder.unusable)
    if raised is not None:
        raise ResourceError(f"the sweep ended: {raised}; the same command resumes it") from raised


def _tuner(shared: Shared, at_once: int, print_line: PrintLine, folder: str, recorder: _Recorder) -> tune.Tuner:
    sweep, search = shared.sweep, shared.sweep.search
    space: dict[str, Any] = {"trial": tune.grid_search(list(range(len(shared.trials))))}
    searcher: Searcher | None = None
    samples = 1
    if isinstance(search, OptunaSearch):
        space, samples = {}, search.points * len(sweep.seeds)
        searcher = _searcher(shared, search)
    return tune.Tuner(
        tune.with_resources(tune.with_parameters(TrialRun, shared=shared), {"CPU": 0, "memory": _TRIAL_MEMORY}),
        param_space=space,
        tune_config=tune.TuneConfig(
            metric="objective",
            mode="max",
            search_alg=searcher,
            scheduler=_scheduler(sweep, print_line),
            num_samples=samples,
            max_concurrent_trials=at_once,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="sweep",
            storage_path=folder,
            callbacks=[recorder],
            stop=recorder,
            failure_config=tune.FailureConfig(max_failures=_TIMES_AGAIN),
            verbose=0,
            # Its checkpoints are in the runs: Ray Tune has none to keep.
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )


def _scheduler(sweep: TuneConfig, print_line: PrintLine) -> TrialScheduler:
    if sweep.asha is None or sweep.asha.grace >= sweep.training.epochs:
        return FIFOScheduler()  # type: ignore[no-untyped-call]
    if isinstance(sweep.search, OptunaSearch) and len(sweep.seeds) > 1:
        print_line(
            "search.kind=optuna with several seeds: all trials run to their end, since it learns from means over the seeds"
        )
        return FIFOScheduler()  # type: ignore[no-untyped-call]
    return ASHAScheduler(
        time_attr="epoch",
        max_t=sweep.training.epochs,
        grace_period=sweep.asha.grace,
        reduction_factor=sweep.asha.reduction,
    )


def _searcher(shared: Shared, search: OptunaSearch) -> Searcher:
    """Optuna, told first of the points that an earlier start tried: done trials only tell their results again."""
    limits: dict[str, Any] = {}
    for key, make in (("l1_share", tune.uniform), ("adversarial_weight", tune.loguniform)):
        least, greatest = getattr(search.space, key)
        if least < greatest:
            limits[key] = make(least, greatest)
    for key in ("structure", "adversarial"):
        choices = getattr(search.space, key)
        if len(choices) > 1:
            limits[key] = tune.choice(list(choices))
    before = [
        {key: known.values[key] for key in limits}
        for known in known_trials(shared.output)
        if known.values is not None
        and limits.keys() <= known.values.keys()
        and known.trial.seed == shared.sweep.seeds[0]
    ]
    searcher: Searcher = OptunaSearcher(
        OptunaSearcher.convert_search_space(limits),
        metric="objective",
        mode="max",
        # Other draws than those that made the points of before.
        seed=int(np.random.SeedSequence([search.seed, len(before)]).generate_state(1)[0]),
        points_to_evaluate=before or None,
    )
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    seeds = len(shared.sweep.seeds)
    return Repeater(searcher, repeat=seeds, set_index=True) if seeds > 1 else searcher
