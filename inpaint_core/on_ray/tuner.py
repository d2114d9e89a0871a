"""Ray Tune, as a sweep uses it: search, scheduler, and what becomes of each trial."""

from __future__ import annotations

import logging
import os
import tempfile
from typing import Any

import numpy as np
import optuna
from ray import tune
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Repeater, Searcher
from ray.tune.search.optuna import OptunaSearch as OptunaSearcher

from inpaint_core.errors import ConfigError, ResourceError
from inpaint_core.on_ray.cluster import in_thread
from inpaint_core.on_ray.trial import Shared, TrialRun, release
from inpaint_core.progress import PrintLine
from inpaint_core.training.sweep.config import OptunaSearch, TuneConfig
from inpaint_core.training.sweep.outcomes import Status, is_done, known_trials, note_outcome, status_of

_TIMES_AGAIN = 3
# A trial's own process only waits for its workers: if it took a CPU, two trials could wait for each other's for ever. Ray Tune
# does not start one that takes nothing at all. Bytes.
_TRIAL_MEMORY = 2**28


class _Recorder(tune.Callback, tune.Stopper):
    """Records and prints how trials end, and stops all where one lacks what every trial needs."""

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


def run_trials(shared: Shared, at_once: int, print_line: PrintLine) -> None:
    """Run Ray Tune to its end.

    Args:
        shared: what the trials share.
        at_once: trials that run at the same time, at most.
        print_line: takes lines for a person.

    Raises:
        ConfigError: the outputs cannot be written by a trial.
        ResourceError: Ray Tune ended early.
    """
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
    """Optuna, which first gets the points that an earlier start tried: finished trials only report their results again."""
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
