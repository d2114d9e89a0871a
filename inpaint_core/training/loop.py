"""A training run, from its first step or from its checkpoint to its last epoch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import torch

from inpaint_core.config import to_tree
from inpaint_core.errors import UserError, WeightsError
from inpaint_core.networks.weights.generator_file import load_generator
from inpaint_core.progress import PrintLine
from inpaint_core.storage import Storage
from inpaint_core.training.config import TrainConfig
from inpaint_core.training.feature_distance import FeatureDistance
from inpaint_core.training.history import better, epoch_row
from inpaint_core.training.lines import epoch_line, progress_line
from inpaint_core.training.meter import Meter, not_finite
from inpaint_core.training.run_output import RunOutput
from inpaint_core.training.shared_output import SharedOutput
from inpaint_core.training.sharing import check_workers
from inpaint_core.training.step import AdversarialStep
from inpaint_core.training.sync_points import Notice, SyncPoints, WorkerTerminated
from inpaint_core.training.training_data import TrainingData
from inpaint_core.training.watching import StepWatch
from inpaint_core.training.worker_context import WorkerContext

T = TypeVar("T")

_SECONDS_BETWEEN_LINES = 10.0


class TrainingLoop:
    """One worker of a training run.

    Args:
        config: the run's config.
        context: this worker.
        storage: the run's output, which the first worker writes.
        data: the images.
        state: what `checkpoint.load_state` found in the output.
        initial: content of the generator's file that a run without a state starts from; None: new weights.
        print_line: takes lines for a person, from the first worker.
        report: takes the row of each epoch when it is written, on every worker.
        check: raises where the output is not this start's any more; asked before anything is written.
        feeders: processes that prepare the batches of this worker (`data.samples.BatchStream`).
        features: what measures the distance in feature maps, where `loss.features` has a weight.
        notice: returns this worker's notice of its end; called at synchronisation points.

    Raises:
        UserError: the output's checkpoint cannot be used, or the data are too few.
    """

    def __init__(
        self,
        config: TrainConfig,
        context: WorkerContext,
        storage: Storage,
        data: TrainingData,
        state: Mapping[str, Any] | None,
        *,
        print_line: PrintLine,
        report: Callable[[dict[str, Any]], None],
        check: Callable[[], None],
        initial: bytes | None = None,
        feeders: int = 0,
        features: FeatureDistance | None = None,
        notice: Callable[[], Notice] = Notice,
    ) -> None:
        check_workers(config, context.ranks, gpu=context.device.type == "cuda")
        self._config = config
        self._context = context
        self._storage = storage
        self._print_line = print_line if context.rank == 0 else lambda line: None
        if context.rank == 0:
            storage.on_outage(print_line)
        self._stream = data.build_stream(config, context, feeders)
        self._validation = data.build_validation(config, context)
        self._steps = self._stream.steps
        steps = config.epochs * self._steps
        self._networks = AdversarialStep(config, context, steps=steps, features=features)
        self._epoch = 0
        self._step = 0
        self._seconds = 0.0
        self._waited = 0.0
        self._failures_told = 0
        self._best: float | None = None
        self._meter = Meter(context)
        self._watch = StepWatch(config, context, steps=steps, output=lambda: self._output.first)
        self._sync_points = SyncPoints(context, config.checkpoint.minutes)
        self._notice = notice
        self._draining = self._terminated = False
        self._output = SharedOutput(config, storage, context, check=check, report=report)
        self._restore(state, initial)
        self._begun = self._networks.done

    def _restore(self, state: Mapping[str, Any] | None, initial: bytes | None) -> None:
        if state is None:
            if initial is not None:
                self._networks.start_from(load_generator(initial)[0])
                self._print_line(f"starting from {self._config.initial}")
            self._print_line(f"{self._stream.images:,} training images, {self._steps:,} steps per epoch")
            return
        try:
            self._networks.load(state["networks"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise WeightsError(
                f"{self._storage.uri} contains a checkpoint of another network ({' '.join(str(error).split())[:120]}); "
                "give another output"
            ) from error
        if state["images"] != self._stream.images:
            # One image more or less moves all after it, held-out ones into the training too.
            raise WeightsError(
                f"{self._storage.uri} holds a run with {state['images']:,} training images, but the data now have "
                f"{self._stream.images:,}; give the same images, or another output"
            )
        self._epoch, self._step = state["epoch"], state["step"]
        self._seconds, self._best = state["seconds"], state["best"]
        self._waited = state.get("waited", 0.0)  # states of earlier versions have none
        self._meter.load(state["meter"])
        self._print_line(f"resuming from epoch {self._epoch}, step {self._step} of the next")

    def __call__(self) -> None:
        """Train to the last epoch.

        Raises:
            TrainingError: a loss is not finite.
            StorageError: the output cannot be written.
            WorkerTerminated: a worker received SIGTERM; the last checkpoint is written.
        """
        self._output.open(epochs=self._epoch, step=self._networks.done)
        try:
            if self._config.validation.first and not self._networks.done:
                self._validate_first()
            while self._epoch < self._config.epochs:
                self._train_epoch()
                self._end_epoch()
                self._leave_if_told()
            self._output.wait()
        finally:
            self._stream.close()
            self._watch.close()
            self._output.close()

    def _train_epoch(self) -> None:
        begun = said = time.monotonic()
        first = self._step
        before, waited_before = self._seconds, self._waited
        for batch, waited in _timed(self._stream.epoch(self._epoch, first)):
            self._meter.add(self._networks.done, self._watch(self._networks, batch, waited))
            self._step += 1
            now = time.monotonic()
            self._seconds, self._waited = before + now - begun, self._waited + waited
            every = self._config.checkpoint.steps
            save = every is not None and self._networks.done % every == 0
            if self._sync_points.due():
                save |= self._synchronise()
                if now - said >= _SECONDS_BETWEEN_LINES or self._networks.done == self._begun + 1:
                    said = now
                    seconds, share = now - begun, (self._waited - waited_before) / (now - begun)
                    self._print_progress((self._step - first) / seconds, share)
            if save and self._step < self._steps:
                self._settle()
                self._output.write(lambda output: output.save(self._state()))
                self._sync_points.saved()
                self._leave_if_told()
        self._settle()

    def _synchronise(self) -> bool:
        """Check the losses and what is written in the background, with all workers; returns whether a checkpoint is due."""
        self._meter.flush()
        notice = self._notice()
        point = self._sync_points.synchronise(written=self._output.idle, notice=notice)
        if point.written:
            self._output.wait()
        if notice.draining and not self._draining:
            self._print_line("a machine of this run is being drained: until it ends, a checkpoint every 10 seconds")
        self._draining, self._terminated = notice.draining, point.terminated
        return point.save

    def _leave_if_told(self) -> None:
        if not self._terminated or self._epoch == self._config.epochs:
            return
        self._output.wait()
        where = f"epoch {self._epoch}, step {self._step} of the next"
        self._print_line(f"the workers end after SIGTERM: the last checkpoint is that of {where}")
        raise WorkerTerminated(f"a worker received SIGTERM, after {where}")

    def _settle(self) -> None:
        """Make what differs between workers the same, and keep nothing that is broken."""
        self._meter.flush()
        self._context.agree(_raised(self._stream.check_failures))
        self._networks.average_buffers()
        broken = self._networks.broken()
        if broken is not None:
            raise not_finite(self._networks.done - 1, f"the {broken} got a value that is not finite")

    def _end_epoch(self) -> None:
        row = self._row()
        metric = self._config.checkpoint.metric
        is_best = better(metric, row[metric], self._best)
        if is_best:
            self._best = row[metric]
        self._epoch, self._step, self._seconds, self._waited = self._epoch + 1, 0, 0.0, 0.0
        self._meter.clear()

        def save(output: RunOutput) -> None:
            grid = self._validation.grid(self._networks)
            output.save_epoch(row, self._networks.judged, grid, self._state(), best=is_best)

        self._output.write(save, epoch=row)
        self._sync_points.saved()
        self._print_line(epoch_line(row, self._config, best=is_best))
        self._tell_failures()

    def _row(self) -> dict[str, Any]:
        images = self._steps * self._config.global_batch
        # Workers wait for each other: each one's wait delays all.
        waits = self._context.sum(torch.tensor([self._waited / self._seconds], dtype=torch.float64))
        return epoch_row(
            self._validation.judge(self._networks),
            self._meter.means(),
            epoch=self._epoch + 1,
            step=self._networks.done,
            workers=self._context.ranks,
            images=images,
            seconds=self._seconds,
            images_per_second=images / self._seconds,
            data_wait=float(waits) / self._context.ranks,
        )

    def _validate_first(self) -> None:
        """Judge the network before its first step: epoch 0."""
        metrics = self._validation.judge(self._networks)
        row = epoch_row(metrics, {}, epoch=0, step=0, workers=self._context.ranks, images=0, seconds=0.0)
        self._output.write(lambda output: output.save_first(row, self._validation.grid(self._networks)))
        self._print_line(epoch_line(row, self._config, best=False))

    def _tell_failures(self) -> None:
        failures = self._stream.failures
        if len(failures) > self._failures_told:
            self._failures_told = len(failures)
            key, reason = next(iter(failures.values()))
            self._print_line(
                f"{len(failures):,} photographs unusable so far, replaced by others; for example {key}: {reason}"
            )

    def _state(self) -> dict[str, Any]:
        return {
            "networks": self._networks.state(),
            "epoch": self._epoch,
            "step": self._step,
            "images": self._stream.images,
            "seconds": self._seconds,
            "waited": self._waited,
            "best": self._best,
            "meter": self._meter.state(),
            "config": to_tree(self._config),
        }

    def _print_progress(self, steps_per_second: float, data_wait: float) -> None:
        where = progress_line(
            self._config,
            epoch=self._epoch,
            step=self._step,
            steps=self._steps,
            steps_per_second=steps_per_second,
            data_wait=data_wait,
            losses=self._meter.means(),
        )
        self._print_line(where)


def _raised(check: Callable[[], None]) -> UserError | None:
    try:
        check()
    except UserError as error:
        return error
    return None


def _timed(items: Iterator[T]) -> Iterator[tuple[T, float]]:
    """The items, each with the seconds that were waited for it."""
    while True:
        begun = time.monotonic()
        try:
            item = next(items)
        except StopIteration:
            return
        yield item, time.monotonic() - begun
