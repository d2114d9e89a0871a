"""A training run, from its first step or from its checkpoint to its last epoch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from inpaint_core.config import to_tree
from inpaint_core.errors import ObjectError, StorageError, UserError, WeightsError
from inpaint_core.hole_masks.sampler import HoleSampler
from inpaint_core.hole_masks.shapes import ObjectShapes
from inpaint_core.metrics.names import MEANS
from inpaint_core.progress import PrintLine
from inpaint_core.storage import Storage
from inpaint_core.training.checkpoint import BEST_GENERATOR, LAST_GENERATOR, save_judged, save_state
from inpaint_core.training.config import TrainConfig
from inpaint_core.training.data.blocks import FileBlocks, ImageBlocks
from inpaint_core.training.data.samples import BatchStream
from inpaint_core.training.history import LOSSES, History, better
from inpaint_core.training.meter import Meter, not_finite
from inpaint_core.training.run_folder import check_workers
from inpaint_core.training.step import AdversarialStep
from inpaint_core.training.validation import Validation
from inpaint_core.training.worker_context import WorkerContext

T = TypeVar("T")

_SECONDS_BETWEEN_LINES = 10.0


@dataclass(frozen=True)
class TrainingData:
    """Training and validation data of a worker."""

    training: ImageBlocks | FileBlocks
    held_out: NDArray[np.int64]
    validation: ImageBlocks
    validation_indices: NDArray[np.int64]
    objects: ObjectShapes | None


class TrainingLoop:
    """One worker of a training run.

    Args:
        config: the run's config.
        context: this worker.
        storage: the run's output, which the first worker writes.
        data: the images.
        state: what `checkpoint.load_state` found in the output.
        print_line: takes lines for a person, from the first worker.
        report: takes the row of each epoch, on every worker.
        check: raises where the output is not this start's any more; asked before anything is written.
        feeders: processes that prepare the batches of this worker (`data.samples.BatchStream`).

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
        feeders: int = 0,
    ) -> None:
        check_workers(config, context.ranks)
        self._config = config
        self._context = context
        self._storage = storage
        self._print_line = print_line if context.rank == 0 else lambda line: None
        self._report = report
        self._check = check
        kinds = config.holes.kinds
        masked = config.network.output == "full"
        holes = HoleSampler(kinds, config.holes.weights, data.objects) if masked else None
        self._stream = BatchStream(
            data.training,
            held_out=data.held_out,
            batch=config.batch,
            rank=context.rank,
            ranks=context.ranks,
            seed=config.seed,
            holes=holes,
            feeders=feeders,
        )
        self._validation = Validation(
            data.validation,
            data.validation_indices,
            kinds=kinds,
            masked=masked,
            objects=data.objects,
            pictures=config.validation.pictures,
            context=context,
        )
        self._steps = self._stream.steps
        self._networks = AdversarialStep(config, context, steps=config.epochs * self._steps)
        self._epoch = 0
        self._step = 0
        self._seconds = 0.0
        self._waited = 0.0
        self._failures_told = 0
        self._best: float | None = None
        self._meter = Meter(context)
        self._restore(state)

    def _restore(self, state: Mapping[str, Any] | None) -> None:
        if state is None:
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
        """
        history: History | None = None

        def open_history() -> None:
            nonlocal history
            history = History(self._storage, epochs=self._epoch)

        self._on_first(open_history)
        try:
            while self._epoch < self._config.epochs:
                self._train_epoch()
                self._end_epoch(history)
        finally:
            self._stream.close()
            if history is not None:
                history.close()

    def _train_epoch(self) -> None:
        begun = said = time.monotonic()
        first = self._step
        before, waited_before = self._seconds, self._waited
        for batch, waited in _timed(self._stream.epoch(self._epoch, first)):
            self._meter.add(self._networks.done, self._networks(batch))
            self._step += 1
            now = time.monotonic()
            self._seconds, self._waited = before + now - begun, self._waited + waited
            if now - said >= _SECONDS_BETWEEN_LINES:
                said = now
                share = (self._waited - waited_before) / (now - begun)
                self._print_line(self._line((self._step - first) / (now - begun), share))
            every = self._config.checkpoint.steps
            if every is not None and self._networks.done % every == 0 and self._step < self._steps:
                self._settle()
                self._on_first(self._save)
        self._settle()

    def _settle(self) -> None:
        """Make what differs between workers the same, and keep nothing that is broken."""
        self._meter.flush()
        self._context.agree(_raised(self._stream.check_failures))
        self._networks.average_buffers()
        broken = self._networks.broken()
        if broken is not None:
            raise not_finite(self._networks.done - 1, f"the {broken} got a value that is not finite")

    def _end_epoch(self, history: History | None) -> None:
        metrics = self._validation.judge(self._networks)
        losses = self._meter.means()
        images = self._steps * self._config.batch
        row: dict[str, Any] = {
            "epoch": self._epoch + 1,
            "step": self._networks.done,
            "images": images,
            "seconds": self._seconds,
            "images_per_second": images / self._seconds,
            "workers": self._context.ranks,
            **{f"loss_{name}": losses.get(name) for name in LOSSES},
            **{name: metrics[name] for name in MEANS},
            # Workers wait for each other: each one's wait delays all.
            "data_wait": float(self._context.sum(torch.tensor([self._waited / self._seconds]))) / self._context.ranks,
        }
        value = metrics[self._config.checkpoint.metric]
        is_best = better(self._config.checkpoint.metric, value, self._best)
        if is_best:
            self._best = value

        def keep() -> None:
            for key in (LAST_GENERATOR, *((BEST_GENERATOR,) if is_best else ())):
                save_judged(self._storage, key, self._networks.judged, self._config, row)
            # After the generators: an epoch that the history tells is done, and the last one ends the run.
            if history is not None:
                history.add(row, self._validation.grid(self._networks))
            self._begin_epoch()
            self._save()

        self._on_first(keep)
        if self._context.rank != 0:
            self._begin_epoch()
        self._print_line(_summary(row, self._config, best=is_best))
        self._tell_failures()
        self._report(row)

    def _tell_failures(self) -> None:
        failures = self._stream.failures
        if len(failures) > self._failures_told:
            self._failures_told = len(failures)
            key, reason = next(iter(failures.values()))
            self._print_line(
                f"{len(failures):,} photographs cannot be used so far, and others take their places, such as {key}: {reason}"
            )

    def _begin_epoch(self) -> None:
        self._epoch, self._step, self._seconds, self._waited = self._epoch + 1, 0, 0.0, 0.0
        self._meter.clear()

    def _on_first(self, work: Callable[[], None]) -> None:
        """Write something, on the first worker; its error, if it has one, ends all of them."""
        error: UserError | None = None
        if self._context.rank == 0:
            try:
                self._check()
                work()
            except UserError as raised:
                error = raised
            except ObjectError as raised:
                error = StorageError(str(raised))
        self._context.agree(error)

    def _save(self) -> None:
        save_state(
            self._storage,
            {
                "networks": self._networks.state(),
                "epoch": self._epoch,
                "step": self._step,
                "images": self._stream.images,
                "seconds": self._seconds,
                "waited": self._waited,
                "best": self._best,
                "meter": self._meter.state(),
                "config": to_tree(self._config),
            },
        )

    def _line(self, steps_per_second: float, wait: float) -> str:
        left = (self._steps - self._step) / steps_per_second
        losses = ", ".join(f"{name} {value:.4f}" for name, value in self._meter.means().items()) or "no losses yet"
        return (
            f"epoch {self._epoch + 1} of {self._config.epochs}, step {self._step:,} of {self._steps:,}, "
            f"{steps_per_second * self._config.batch:.0f} images/s, {wait:.0%} of the time without data, {_duration(left)} left in the epoch: {losses}"
        )


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


def _summary(row: dict[str, Any], config: TrainConfig, *, best: bool) -> str:
    return (
        f"epoch {row['epoch']} of {config.epochs} done in {_duration(row['seconds'])} "
        f"({row['images_per_second']:.0f} images/s, {row['data_wait']:.0%} of the time without data): table L1 {row['table_l1']:.4f}, L2 {row['table_l2']:.4f}, "
        f"PSNR {row['table_psnr']:.2f}, SSIM {row['table_ssim']:.4f}; sharpness {row['sharpness']:.2f}"
        + (f"; best {config.checkpoint.metric}" if best else "")
    )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
