"""A student network, its teacher, and the run that brings one to the other's answers."""

from __future__ import annotations

import copy
import math
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from inpaint_core.detectors.yolov8_files import checkpoint, class_ids, class_names, load_network, new_network
from inpaint_core.distillation.config import DistillationConfig
from inpaint_core.distillation.losses import distillation_loss
from inpaint_core.distillation.mosaics import Mosaics, grid
from inpaint_core.errors import ConfigError, TrainingError, WeightsError
from inpaint_core.storage import Storage
from inpaint_core.training.checkpoint import load_state, save_state
from inpaint_core.training.run_folder import claim_output

DETECTOR = "detector.pt"

# What may change from one start of a run to the next.
FREE = ("output", "s3", "data", "teacher", "device", "steps", "save_every", "reading.max_failed")

LEAST_WEIGHT = 0.05
"""A photograph is drawn as often as the teacher is sure that one of the classes is in it, plus this."""

_WARMUP = 200
_AVERAGE = 0.998
_LARGEST_GRADIENT = 10.0
_SECONDS_BETWEEN_LINES = 20.0
_RATED_TOGETHER = 2  # photographs a side of the pictures that the teacher rates
_PICTURES_AHEAD = 4

Say = Callable[[str], None]


class Answering:
    """A network whose answers are those of its head in training mode, with the feature maps that later layers look at.

    Args:
        network: a segmentation network of ultralytics.
    """

    def __init__(self, network: Any) -> None:
        self.network = network
        self._maps: dict[int, Tensor] = {}
        for layer in network.save:
            network.model[layer].register_forward_hook(self._keep(layer))

    def _keep(self, layer: int) -> Callable[[nn.Module, Any, Tensor], None]:
        def keep(module: nn.Module, given: Any, maps: Tensor) -> None:
            self._maps[layer] = maps

        return keep

    def __call__(self, pictures: Tensor) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Answers (see `losses`) and feature maps; pictures (B, 3, H, W) float32 RGB in [0, 1]."""
        with torch.autocast(pictures.device.type, dtype=torch.bfloat16):
            answers = self.network(pictures)
        maps = [self._maps[layer] for layer in sorted(self._maps)]
        self._maps.clear()
        return answers, maps


def teacher_of(weights: bytes, config: DistillationConfig, device: torch.device) -> tuple[Answering, list[int]]:
    """The teacher, and its channels of the wanted classes.

    Raises:
        WeightsError: not a segmentation checkpoint.
        ConfigError: it lacks a class.
    """
    network = load_network(weights, config.teacher, "teacher")
    classes = class_ids(class_names(network), config.classes, "classes")
    network.fuse(verbose=False)
    network = network.eval().requires_grad_(False).to(device).to(memory_format=torch.channels_last)
    network.model[-1].training = True  # the flag alone: raw answers, and BatchNorm as in evaluation
    return Answering(network), classes


def rate(
    photographs: NDArray[np.uint8], teacher: Answering, classes: Sequence[int], config: DistillationConfig, say: Say
) -> NDArray[np.float64]:
    """How sure the teacher is that a wanted object is in each photograph.

    Args:
        photographs: (n, s, s, 3) uint8 RGB.
        teacher, classes: see `teacher_of`.
        config: the run's.
        say: takes lines for a person.

    Returns:
        (n,) 0 to 1: its highest confidence, seeing each photograph in a corner of a picture of four.
    """
    device = next(teacher.network.parameters()).device
    side, each = config.size // _RATED_TOGETHER, _RATED_TOGETHER**2
    rates = np.zeros(len(photographs))
    said = time.monotonic()
    per_pass = each * config.batch
    for begin in range(0, len(photographs), per_pass):
        part = photographs[begin : begin + per_pass]
        pictures = [grid(part[at : at + each], side, _RATED_TOGETHER) for at in range(0, len(part), each)]
        pictures = [_padded(picture, config.size) for picture in pictures]
        with torch.no_grad():
            answers, _ = teacher(_to_tensor(np.stack(pictures), device))
        found = _by_corner(answers["scores"][:, list(classes)].float().sigmoid().amax(1), config.size)
        rates[begin : begin + len(part)] = found.reshape(-1)[: len(part)]
        if time.monotonic() - said >= _SECONDS_BETWEEN_LINES:
            said = time.monotonic()
            say(f"the teacher has looked at {begin + len(part):,} of {len(photographs):,} photographs")
    return rates


def _padded(picture: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    height, width = picture.shape[:2]
    return np.pad(picture, ((0, size - height), (0, size - width), (0, 0)), constant_values=114)


def _by_corner(confidences: Tensor, size: int) -> NDArray[np.float32]:
    """(B, A) to (B, 4): the highest of each quarter of the picture, row by row."""
    found = torch.zeros(len(confidences), _RATED_TOGETHER**2, device=confidences.device)
    begin = 0
    for stride in (8, 16, 32):
        side = size // stride
        level = confidences[:, begin : begin + side * side].view(-1, 1, side, side)
        begin += side * side
        found = torch.maximum(found, nn.functional.adaptive_max_pool2d(level, _RATED_TOGETHER).flatten(1))
    return found.cpu().numpy()


class DistillationRun:
    """A run, from its beginning or from where the one before it ended.

    Args:
        config: the run's.
        photographs: (n, s, s, 3) uint8 RGB.
        teacher: content of its checkpoint.
        storage: where the run lies.
        device: where the networks run.
        say: takes lines for a person.

    Raises:
        ConfigError: the architecture or a class is unknown, or the output holds a run of another config.
        WeightsError: the teacher, or the state that is there, cannot be used.
        StorageError: the state cannot be read or written.
    """

    def __init__(
        self,
        config: DistillationConfig,
        photographs: NDArray[np.uint8],
        teacher: bytes,
        storage: Storage,
        device: torch.device,
        say: Say,
    ) -> None:
        self._config, self._storage, self._device, self._say = config, storage, device, say
        self._teacher, self._classes = teacher_of(teacher, config, device)
        torch.manual_seed(config.seed)
        student = new_network(config.architecture, config.classes)
        self._average = copy.deepcopy(student).requires_grad_(False).to(device)
        student = student.train().to(device).to(memory_format=torch.channels_last)
        self._student = Answering(student)
        self._optimiser = torch.optim.AdamW(student.parameters(), lr=config.rate, weight_decay=1e-3)
        self._done, self._seconds = 0, 0.0
        state = load_state(storage, device) if claim_output(storage, config, FREE) else None
        if state is None:
            rates = rate(photographs, self._teacher, self._classes, config, say)
            self._rates = torch.from_numpy(rates)
            say(f"{int((rates > 0.25).sum()):,} of {len(rates):,} photographs show one of {', '.join(config.classes)}")
        else:
            self._restore(state, len(photographs))
        weights = LEAST_WEIGHT + self._rates.numpy()
        self._mosaics = Mosaics(photographs, weights, config.size, config.smallest_tile)

    def _restore(self, state: dict[str, Any], photographs: int) -> None:
        if len(state["rates"]) != photographs:
            raise WeightsError(
                f"{self._storage.uri} holds a run with {len(state['rates']):,} photographs, and the data now have "
                f"{photographs:,}: they are not the same; give the same ones, or another output"
            )
        self._student.network.load_state_dict(state["student"])
        self._average.load_state_dict(state["average"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._rates, self._done, self._seconds = state["rates"].cpu(), state["step"], state["seconds"]
        self._say(f"going on from step {self._done:,}")

    def __call__(self) -> None:
        """Train to the last step, and write the network.

        Raises:
            ConfigError: feature maps are of other shapes than the teacher's.
            TrainingError: a loss is not finite.
            StorageError: the output cannot be written.
        """
        begun = said = time.monotonic()
        before, first = self._seconds, self._done
        for pictures in self._pictures():
            total, parts = self._step(pictures)
            self._done += 1
            now = time.monotonic()
            self._seconds = before + now - begun
            last = self._done == self._config.steps
            if last or self._done % self._config.save_every == 0:
                if not math.isfinite(float(total)):
                    raise TrainingError(
                        f"step {self._done}: the loss is not finite; the run stands at its last save, "
                        "give a lower rate and another output"
                    )
                self._save()
            if last or now - said >= _SECONDS_BETWEEN_LINES:
                said = now
                speed = (self._done - first) * self._config.batch / (now - begun)
                losses = ", ".join(f"{name} {float(value):.3f}" for name, value in parts.items())
                self._say(f"step {self._done:,} of {self._config.steps:,}, {speed:.1f} pictures/s: {losses}")

    def _pictures(self) -> Iterator[Tensor]:
        """The batches of the steps that are left, drawn ahead on a thread; each step's follow from the seed and its number."""
        ahead: queue.Queue[NDArray[np.uint8]] = queue.Queue(_PICTURES_AHEAD)
        ended = threading.Event()
        steps = range(self._done, self._config.steps)

        def draw() -> None:
            for step in steps:
                rng = np.random.default_rng((self._config.seed, step))
                batch = np.stack([self._mosaics(rng) for _ in range(self._config.batch)])
                while not ended.is_set():
                    try:
                        ahead.put(batch, timeout=1.0)
                        break
                    except queue.Full:
                        continue

        thread = threading.Thread(target=draw, daemon=True)
        thread.start()
        try:
            for _ in steps:
                yield _to_tensor(ahead.get(), self._device)
        finally:
            ended.set()

    def _step(self, pictures: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        for group in self._optimiser.param_groups:
            group["lr"] = self._rate()
        with torch.no_grad():
            answers, maps = self._teacher(pictures)
        mine, my_maps = self._student(pictures)
        features = self._config.features
        if features > 0 and [one.shape for one in my_maps] != [one.shape for one in maps]:
            raise ConfigError(
                f"features: the maps of {self._config.architecture} are not of the teacher's shapes; say features=0"
            )
        total, parts = distillation_loss(mine, answers, self._classes, my_maps, maps, features=features)
        self._optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._student.network.parameters(), _LARGEST_GRADIENT)
        self._optimiser.step()
        self._follow()
        return total.detach(), parts

    def _rate(self) -> float:
        """Rises for 200 steps, then falls to 1 % by a cosine."""
        warm = min(1.0, (self._done + 1) / _WARMUP)
        return self._config.rate * warm * (0.505 + 0.495 * math.cos(math.pi * self._done / self._config.steps))

    @torch.no_grad()
    def _follow(self) -> None:
        """The moving average of the weights, shorter at the beginning."""
        keep = min(_AVERAGE, (1 + self._done) / (10 + self._done))
        mine = self._student.network.state_dict()
        for name, value in self._average.state_dict().items():
            if value.is_floating_point():
                value.mul_(keep).add_(mine[name], alpha=1 - keep)
            else:
                value.copy_(mine[name])

    def _save(self) -> None:
        save_state(
            self._storage,
            {
                "student": self._student.network.state_dict(),
                "average": self._average.state_dict(),
                "optimiser": self._optimiser.state_dict(),
                "rates": self._rates,
                "step": self._done,
                "seconds": self._seconds,
            },
        )
        with self._storage.open_write(DETECTOR) as file:
            file.write(checkpoint(self._average))


def _to_tensor(pictures: NDArray[np.uint8], device: torch.device) -> Tensor:
    """(B, H, W, 3) uint8 to (B, 3, H, W) float32 in [0, 1], in memory channel by channel of a pixel."""
    return torch.from_numpy(pictures).to(device).permute(0, 3, 1, 2).float() / 255
