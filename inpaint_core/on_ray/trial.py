"""One trial of a sweep: a training run with workers of its own, as Ray Tune sees it."""

from __future__ import annotations

import functools
import queue
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import ray
from ray import tune
from ray.actor import ActorHandle
from ray.util.placement_group import PlacementGroup, get_current_placement_group, remove_placement_group

from inpaint_core.errors import ResourceError, TrainingError, UserError
from inpaint_core.on_ray.monitor import Watch
from inpaint_core.on_ray.run_images import RunImages
from inpaint_core.on_ray.training import run_training
from inpaint_core.on_ray.trial_registry import TrialRegistry
from inpaint_core.storage import Storage, open_storage
from inpaint_core.training.history import NO_SCORE, read_history, score
from inpaint_core.training.sweep.config import OptunaSearch, TuneConfig
from inpaint_core.training.sweep.outcomes import is_done, note_trial, status_of
from inpaint_core.training.sweep.points import Trial, constants, drawn

_SECONDS_BETWEEN_LOOKS = 0.5
_SECONDS_TO_END = 60.0
_SEED = "__trial_index__"  # what Ray's Repeater calls the number of a repetition
_DIVERGED = {"diverged": True}


def release(registry: ActorHandle[TrialRegistry], trial: Trial) -> None:
    """Give back what dead workers of a trial still hold, if anything."""
    group = cast("PlacementGroup | None", ray.get(registry.pop.remote(trial.name)))
    if group is not None:
        remove_placement_group(group)


@dataclass(frozen=True)
class Shared:
    """What every trial is given."""

    sweep: TuneConfig
    output: Storage
    images: RunImages
    trials: list[Trial]
    """Of a grid or a random search, by number; empty for a model-based one."""
    registry: ActorHandle[TrialRegistry]

    def trial(self, values: Mapping[str, Any]) -> Trial:
        """What Ray Tune's config of a trial means."""
        if self.trials:
            number: int = values["trial"]
            return self.trials[number]
        search = self.sweep.search
        assert isinstance(search, OptunaSearch)
        loss = drawn(self.sweep.training.loss, {**constants(search.space), **values})
        return Trial(loss, self.sweep.seeds[values.get(_SEED, 0)])


class _TrialTraining:
    """The training of a trial, in a thread that begins when it is first asked for more than is known."""

    def __init__(self, shared: Shared, trial: Trial) -> None:
        self._shared, self._trial = shared, trial
        self._config = trial.config(shared.sweep)
        self._rows = queue.SimpleQueue[dict[str, Any]]()
        history = read_history(open_storage(self._config.output, self._config.s3))
        for row in history:  # of an earlier start: the scheduler and the search have to know them
            self._rows.put({**row, "known": True})
        status = status_of(shared.output, trial)
        if status == "diverged":
            self._rows.put(_DIVERGED)
        self.last = len(history) if is_done(shared.sweep, status) else self._config.epochs
        """Its last epoch."""
        self._watch = Watch(
            lambda row: self._rows.put(dict(row)), functools.partial(_register, shared.registry, trial.name)
        )
        self._thread = threading.Thread(target=self._train, name="trial", daemon=True)
        self._raised: BaseException | None = None

    def next(self) -> dict[str, Any]:
        """The next row; after the last epoch's, nothing of the run is left."""
        if self._rows.empty() and self._thread.ident is None:
            self._thread.start()
        while True:
            ended = not self._thread.is_alive()  # asked before the queue, which holds all of it then
            try:
                row = self._rows.get(timeout=_SECONDS_BETWEEN_LOOKS)
            except queue.Empty:
                if ended:
                    raise self._raised or ResourceError("training: it ended before its last epoch") from None
                continue
            if row.get("epoch", 0) >= self.last and self._thread.ident is not None:
                self._thread.join()
            return row

    def stop(self) -> None:
        """End the workers; the run can go on later from its last checkpoint."""
        self._watch.stop.set()
        if self._thread.ident is not None:
            self._thread.join(_SECONDS_TO_END)
            if self._thread.is_alive():
                release(self._shared.registry, self._trial)

    def _train(self) -> None:
        try:
            run_training(self._config, print_line=lambda line: None, images=self._shared.images, watch=self._watch)
        except TrainingError:
            self._rows.put(_DIVERGED)
        except ResourceError as error:  # the workers failed again and again
            self._rows.put({"failed": str(error)})
        except UserError as error:  # what all trials would meet
            self._rows.put({"unusable": str(error)})
        except BaseException as error:  # noqa: BLE001 - raised by the thread that Ray Tune knows
            self._raised = error


class TrialRun(tune.Trainable):
    """A trial, in an actor of its own that only waits for its workers."""

    def setup(self, config: dict[str, Any], shared: Shared) -> None:  # type: ignore[override]
        """See Ray Tune."""
        self._shared = shared
        self._run: _TrialTraining | None = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """See Ray Tune: another trial in this process, the start of which costs as much as a minute of a small training."""
        self.cleanup()
        self._run = None
        return True

    def step(self) -> dict[str, Any]:
        """See Ray Tune."""
        if self._run is None:  # here, since what fails in a step is tried again
            self._run = self._open()
        row = self._run.next()
        if "epoch" not in row:
            return {"epoch": 0, "objective": NO_SCORE, "done": True, **row}
        metric = self._shared.sweep.objectives[0]
        return {**row, "objective": score(metric, row[metric]), "done": row["epoch"] >= self._run.last}

    def cleanup(self) -> None:
        """See Ray Tune: ends the workers where the scheduler stops the trial."""
        if self._run is not None:
            self._run.stop()

    def _open(self) -> _TrialTraining:
        shared, trial = self._shared, self._shared.trial(self.config)
        while not ray.get(shared.registry.claim.remote(trial.name, self.trial_id)):
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        release(shared.registry, trial)  # of an attempt whose process was killed
        note_trial(shared.output, trial, None if shared.trials else self.config)
        return _TrialTraining(shared, trial)


def _register(registry: ActorHandle[TrialRegistry], trial: str) -> None:
    """Called by the first worker."""
    ray.get(registry.put.remote(trial, get_current_placement_group()))
