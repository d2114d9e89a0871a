"""Student network, and its training towards the outputs of the teacher."""

from __future__ import annotations

import copy
import hashlib
import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from inpaint_core.detection.checkpoints import checkpoint, class_names, load_network, new_network
from inpaint_core.errors import ConfigError, TrainingError, WeightsError
from inpaint_core.images.tensors import to_unit
from inpaint_core.prefetch import prefetch
from inpaint_core.progress import PrintLine
from inpaint_core.storage import Storage
from inpaint_core.training.checkpoint import load_state, save_state
from inpaint_core.training.detector.config import DistillationConfig
from inpaint_core.training.detector.losses import distillation_loss
from inpaint_core.training.detector.mosaics import Mosaics
from inpaint_core.training.detector.teacher import SECONDS_BETWEEN_LINES, Answering, Teacher

DETECTOR = "detector.pt"

# What may change from one start of a run to the next.
FREE = ("output", "s3", "data", "teacher.weights", "initial", "device", "steps", "save_every", "max_failed")

LEAST_WEIGHT = 0.05
"""A photograph is drawn as often as the teacher is sure that one of the classes is in it, plus this."""

_WARMUP = 200
_AVERAGE = 0.998
_LARGEST_GRADIENT = 10.0
_PREFETCHED_PICTURES = 4


class DistillationRun:
    """A run, from its beginning or from where the one before it ended.

    Args:
        config: the run's.
        teacher: content of its checkpoint.
        initial: content of the checkpoint that the student begins with; None: random weights.
        device: where the networks run.
        print_line: takes lines for a person.

    Raises:
        ConfigError: the architecture or a class is unknown, or the student's feature maps are not of the teacher's shapes.
        WeightsError: the teacher is no segmentation network, or `initial` is not one of the student's form and classes.
    """

    def __init__(
        self,
        config: DistillationConfig,
        teacher: bytes,
        initial: bytes | None,
        device: torch.device,
        print_line: PrintLine,
    ) -> None:
        self._config, self._device, self._print_line = config, device, print_line
        self._teacher = Teacher(teacher, config, device)
        self._teacher_sha256 = hashlib.sha256(teacher).hexdigest()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            student = new_network(config.architecture, config.classes)
        if initial is not None:
            _begin_with(student, initial, config)
        self._average = copy.deepcopy(student).requires_grad_(False).to(device)
        student = student.train().to(device).to(memory_format=torch.channels_last)
        self._student = Answering(student, f"architecture: {config.architecture}")
        if config.features > 0 and self._student.shapes != self._teacher.shapes:
            raise ConfigError(
                f"features: the feature maps of {config.architecture} differ in shape from the teacher's; set features=0"
            )
        student.load_state_dict(self._average.state_dict())  # the look at its shapes has moved its BatchNorm
        self._optimiser = torch.optim.AdamW(student.parameters(), lr=config.rate, weight_decay=1e-3)
        self._done = 0

    def __call__(self, photographs: NDArray[np.uint8], keys: Sequence[str], storage: Storage, *, goes_on: bool) -> None:
        """Train to the last step, saving on the way, and write the network.

        Args:
            photographs: (n, s, s, 3) uint8 RGB.
            keys: what each is called.
            storage: the run's output.
            goes_on: whether a run may be there to go on from.

        Raises:
            WeightsError: the run that is there is damaged, or of other photographs or another teacher.
            TrainingError: a loss is not finite.
            StorageError: the output cannot be read or written.
        """
        digest = hashlib.sha256("\n".join(keys).encode("utf-8", "surrogateescape")).hexdigest()
        origin = {"teacher": self._teacher_sha256, "photographs": digest}
        state = load_state(storage, self._device) if goes_on else None
        if state is None:
            rates = self._teacher.rate(photographs, self._config.size, self._config.batch, self._print_line)
            shown = int((rates > 0.25).sum())
            self._print_line(f"{shown:,} of {len(rates):,} photographs show one of {', '.join(self._config.classes)}")
            self._save(storage, origin, rates)
        else:
            rates = self._restore(state, origin, storage)
        self._train(
            Mosaics(photographs, LEAST_WEIGHT + rates, self._config.size, self._config.smallest_tile),
            storage,
            origin,
            rates,
        )

    def _restore(self, state: dict[str, Any], origin: dict[str, str], storage: Storage) -> NDArray[np.float64]:
        for name, digest in origin.items():
            if state["origin"][name] != digest:
                raise WeightsError(
                    f"{storage.uri} holds a run with another teacher or other photographs ({name} differ); give the same, or "
                    "another output"
                )
        self._student.network.load_state_dict(state["student"])
        self._average.load_state_dict(state["average"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._done = state["step"]
        self._print_line(f"resuming from step {self._done:,}")
        rates: NDArray[np.float64] = state["rates"].cpu().numpy()
        return rates

    def _train(self, mosaics: Mosaics, storage: Storage, origin: dict[str, str], rates: NDArray[np.float64]) -> None:
        begun = said = time.monotonic()
        first, last = self._done, self._config.steps
        for pictures in prefetch(self._pictures(mosaics), _PREFETCHED_PICTURES):
            total, parts = self._step(to_unit(pictures, self._device))
            self._done += 1
            if self._done == last or self._done % self._config.save_every == 0:
                if not math.isfinite(float(total)):
                    raise TrainingError(
                        f"step {self._done}: the loss became NaN or infinite; set a lower rate and another output"
                    )
                self._save(storage, origin, rates)
            now = time.monotonic()
            if self._done == last or now - said >= SECONDS_BETWEEN_LINES:
                said = now
                speed = (self._done - first) * self._config.batch / (now - begun)
                losses = ", ".join(f"{name} {float(value):.3f}" for name, value in parts.items())
                self._print_line(f"step {self._done:,} of {last:,}, {speed:.1f} images/s: {losses}")

    def _pictures(self, mosaics: Mosaics) -> Iterator[NDArray[np.uint8]]:
        """The batches of the steps that are left; each follows from the seed and its step's number."""
        for step in range(self._done, self._config.steps):
            rng = np.random.default_rng((self._config.seed, step))
            yield np.stack([mosaics(rng) for _ in range(self._config.batch)])

    def _step(self, pictures: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        for group in self._optimiser.param_groups:
            group["lr"] = self._rate()
        with torch.no_grad():
            answers, maps = self._teacher(pictures)
        mine, my_maps = self._student(pictures)
        total, parts = distillation_loss(
            mine, answers, self._teacher.classes, my_maps, maps, features=self._config.features
        )
        self._optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._student.network.parameters(), _LARGEST_GRADIENT)
        self._optimiser.step()
        self._follow()
        return total.detach(), parts

    def _rate(self) -> float:
        """A cosine from `rate` to 1 % of it, times a linear rise over the first 200 steps."""
        warm = min(1.0, (self._done + 1) / _WARMUP)
        return self._config.rate * warm * (0.505 + 0.495 * math.cos(math.pi * self._done / self._config.steps))

    @torch.no_grad()
    def _follow(self) -> None:
        """The moving average of the weights, shorter at the beginning."""
        keep = min(_AVERAGE, (1 + self._done) / (10 + self._done))
        mine = self._student.network.state_dict()
        for name, value in self._average.state_dict().items():
            if value.is_floating_point():
                value.lerp_(mine[name], 1 - keep)
            else:
                value.copy_(mine[name])

    def _save(self, storage: Storage, origin: dict[str, str], rates: NDArray[np.float64]) -> None:
        # The network first: a state that tells the last step means that the network is there.
        with storage.open_write(DETECTOR) as file:
            file.write(checkpoint(self._average))
        save_state(
            storage,
            {
                "origin": origin,
                "student": self._student.network.state_dict(),
                "average": self._average.state_dict(),
                "optimiser": self._optimiser.state_dict(),
                "rates": torch.from_numpy(rates),
                "step": self._done,
            },
        )


def _begin_with(student: Any, initial: bytes, config: DistillationConfig) -> None:
    """Give the student the weights of an earlier one."""
    network = load_network(initial, str(config.initial), "initial")
    if class_names(network) != class_names(student):
        known = ", ".join(class_names(network).values())
        raise WeightsError(
            f"initial: {config.initial} finds {known}; give a network with the same classes in the same order, or set classes"
        )
    try:
        student.load_state_dict(network.state_dict())
    except RuntimeError as error:
        raise WeightsError(
            f"initial: {config.initial} does not have the architecture {config.architecture}; give another network, or set architecture"
        ) from error
