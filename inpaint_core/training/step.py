"""One step of adversarial training, and everything it changes."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from inpaint_core.images.tensors import scaled
from inpaint_core.networks.build import build_generator
from inpaint_core.networks.compositing import composite, predict, predicted_part
from inpaint_core.networks.discriminator import PatchDiscriminator, build_discriminator
from inpaint_core.networks.generator import Generator
from inpaint_core.networks.spec import IMAGE_SIZE, hole_size
from inpaint_core.training.adversary import R1_STEPS, Judged, RealAndFake
from inpaint_core.training.config import LossConfig, OptimiserConfig, Term, TrainConfig
from inpaint_core.training.data.samples import Batch
from inpaint_core.training.feature_distance import FeatureDistance
from inpaint_core.training.losses import discriminator_loss, feature_matching_loss, generator_loss
from inpaint_core.training.sharing import scaled_optimiser
from inpaint_core.training.worker_context import WorkerContext

_M = TypeVar("_M", bound=nn.Module)


class _Averaged(NamedTuple):
    """Tensors of the average beside those of the generator, which keep their memory for the whole run."""

    floats: tuple[list[Tensor], list[Tensor]]
    counts: tuple[list[Tensor], list[Tensor]]
    """BatchNorm's numbers of batches, which are copied."""


def _averaged_pairs(average: nn.Module, network: nn.Module) -> _Averaged:
    pairs = list(zip(average.state_dict().values(), network.state_dict().values(), strict=True))

    def those(floating: bool) -> tuple[list[Tensor], list[Tensor]]:
        chosen = [pair for pair in pairs if pair[0].is_floating_point() == floating]
        return [own for own, _ in chosen], [other for _, other in chosen]

    return _Averaged(those(True), those(False))


class AdversarialStep:
    """Generator, discriminator, their optimisers and the generator's moving average.

    Args:
        config: the run's config.
        context: the device and the other workers.
        steps: steps of the whole run, which the decay of the learning rates and the beginning of the adversarial terms are
            measured by.
        features: what measures the distance in feature maps; needed where `loss.features` has a weight.

    Attributes:
        generator, discriminator: the bare networks.
        judged: the network that is validated and saved: the moving average, or the generator itself without one.
        done: steps taken so far.
    """

    def __init__(
        self, config: TrainConfig, context: WorkerContext, *, steps: int, features: FeatureDistance | None = None
    ) -> None:
        self._loss = config.loss
        self._features = features if config.loss.features else None
        self._adversarial_from = math.ceil(config.loss.adversarial_from * steps)
        self._optimiser = scaled_optimiser(config)
        self._context = context
        self._steps = steps
        # Drawn on the CPU, so that a run starts from the same weights on every device.
        random = torch.Generator().manual_seed(config.seed)
        self._size = config.network.size
        side = self._size if config.network.output == "full" else hole_size(self._size)
        self.generator = self._placed(build_generator(config.network, random))
        self.discriminator = self._placed(
            build_discriminator(side, config.discriminator.width, random, config.discriminator.kind)
        )
        self.judged = self.generator
        if config.optimiser.ema is not None:
            self.judged = copy.deepcopy(self.generator).requires_grad_(False)
        self._averaged = _averaged_pairs(self.judged, self.generator)
        if context.compile:
            # The discriminator itself, not the module around it: the generator's step calls it too.
            self.generator.compile()
            self.discriminator.compile()
        self._train_generator = self._parallel(self.generator)
        self._train_discriminator = self._parallel(RealAndFake(self.discriminator))
        self._optimisers = {
            "generator": _adam(self.generator, self._optimiser, self._optimiser.generator_rate),
            "discriminator": _adam(self.discriminator, self._optimiser, self._optimiser.discriminator_rate),
        }
        self.done = 0

    def _placed(self, network: _M) -> _M:
        if self._context.sync_batchnorm:
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        layout = torch.channels_last if self._context.channels_last else torch.preserve_format
        placed: _M = network.to(self._context.device, memory_format=layout)  # type: ignore[call-overload]
        return placed

    def _parallel(self, network: nn.Module) -> nn.Module:
        if self._context.ranks == 1:
            return network
        # Buffers are not sent around at each step: they only matter when the network is judged (`average_buffers`), and
        # a discriminator's would change between its two passes.
        parallel = DistributedDataParallel(
            network, broadcast_buffers=False, gradient_as_bucket_view=True, bucket_cap_mb=100
        )
        if self._context.gradients == torch.bfloat16:
            from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook

            parallel.register_comm_hook(None, bf16_compress_hook)
        return parallel

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step: the discriminator's on truth and fill, then the generator's against the new discriminator.

        Returns:
            Scalars on the device, without gradient: `total` (the generator's), its parts without their weights, and
            `discriminator`.
        """
        images, masks = prepared(batch, self._context, self._size)
        self._set_rates()
        self.generator.train()
        self.discriminator.train()
        with self._context.autocast():
            prediction = predict(self._train_generator, images, masks)
        truth = predicted_part(images, masks)
        fake = prediction if masks is None else composite(prediction, images, masks)
        parts: dict[str, Tensor] = {}
        loss_config = self._loss
        if self.done < self._adversarial_from:
            loss_config = replace(loss_config, adversarial_weight=0.0, feature_matching=0.0)
        adversarial = loss_config.adversarial_weight > 0 or loss_config.feature_matching > 0
        if adversarial:
            parts |= self._step_discriminator(truth, fake.detach(), masks)
        self.discriminator.requires_grad_(False)
        logits, distances = None, dict[Term, Tensor]()
        with self._context.autocast():
            if adversarial:
                logits = self._judge(loss_config, fake, truth, distances)
            if self._features is not None:
                distances["features"] = self._features(fake, truth, masks)
        loss = generator_loss(loss_config, prediction, truth, logits, masks, distances)
        self._descend("generator", self.generator, loss.total)
        self.discriminator.requires_grad_(True)
        self._average()
        self.done += 1
        parts |= loss.parts
        parts["total"] = loss.total
        return {name: value.detach() for name, value in parts.items()}

    def _judge(self, loss: LossConfig, fake: Tensor, truth: Tensor, distances: dict[Term, Tensor]) -> Tensor:
        """The discriminator's logits of the fills; adds the distance in its maps, where that has a weight."""
        if not isinstance(self.discriminator, PatchDiscriminator):
            logits: Tensor = self.discriminator(fake)
            return logits
        maps = self.discriminator.features(fake)
        if loss.feature_matching:
            with torch.no_grad():
                expected = self.discriminator.features(truth)
            distances["feature_matching"] = feature_matching_loss(maps, expected)
        return maps[-1]

    def _step_discriminator(self, real: Tensor, fake: Tensor, masks: Tensor | None) -> dict[str, Tensor]:
        penalised = self._loss.r1 > 0 and self.done % R1_STEPS == 0
        with self._context.autocast():
            judged: Judged = self._train_discriminator(real, fake, penalised)
        patches = masks if judged.fake.ndim == 4 else None
        parts = {"discriminator": discriminator_loss(self._loss.adversarial, judged.real, judged.fake, patches)}
        total = parts["discriminator"]
        if penalised:
            parts["r1"] = judged.penalty
            total = total + R1_STEPS * self._loss.r1 / 2 * judged.penalty
        self._descend("discriminator", self.discriminator, total)
        return parts

    def _descend(self, name: str, network: nn.Module, loss: Tensor) -> None:
        optimiser = self._optimisers[name]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self._optimiser.clip is not None:
            nn.utils.clip_grad_norm_(network.parameters(), self._optimiser.clip)
        optimiser.step()

    def _set_rates(self) -> None:
        factor = rate_factor(self._optimiser, self.done, self._steps)
        rates = {"generator": self._optimiser.generator_rate, "discriminator": self._optimiser.discriminator_rate}
        for name, optimiser in self._optimisers.items():
            for group in optimiser.param_groups:
                group["lr"] = rates[name] * factor

    @torch.no_grad()
    def _average(self) -> None:
        if self._optimiser.ema is None:
            return
        # The first weights are noise: the average starts as a mean over the steps so far.
        decay = min(self._optimiser.ema, (1 + self.done) / (10 + self.done))
        torch._foreach_lerp_(*self._averaged.floats, 1 - decay)
        torch._foreach_copy_(*self._averaged.counts)

    @torch.no_grad()
    def fill(self, images: Tensor, masks: Tensor | None) -> Tensor:
        """Images (B, 3, size, size) in [-1, 1] with their holes filled by the judged network, in evaluation mode."""
        training = self.judged.training
        self.judged.eval()
        with self._context.autocast():
            prediction = predict(self.judged, images, masks)
        self.judged.train(training)
        return composite(prediction, images, masks)

    def broken(self) -> str | None:
        """The first network that has a value which is not finite, such as after a gradient that overflowed.

        The same on every worker after `average_buffers`.
        """
        for name, network in (("generator", self.generator), ("discriminator", self.discriminator)):
            values = [value for value in network.state_dict().values() if value.is_floating_point()]
            if not bool(torch.stack([value.isfinite().all() for value in values]).all()):
                return name
        return None

    def average_buffers(self) -> None:
        """Make the BatchNorm statistics of all workers the mean of theirs."""
        for network in (self.generator, self.discriminator, self.judged):
            self._context.average([buffer for buffer in network.buffers() if buffer.is_floating_point()])

    def state(self) -> dict[str, Any]:
        """Tensors and numbers from which `load` makes this state again, on the device."""
        state: dict[str, Any] = {
            "step": self.done,
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self._optimisers.items()},
        }
        if self.judged is not self.generator:
            state["average"] = self.judged.state_dict()
        return state

    def start_from(self, network: Generator) -> None:
        """Give the generator, and its average, the weights of another one of the same form."""
        self.generator.load_state_dict(network.state_dict())
        if self.judged is not self.generator:
            self.judged.load_state_dict(network.state_dict())

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state` of a run with the same networks and optimisers."""
        self.generator.load_state_dict(state["generator"])
        self.discriminator.load_state_dict(state["discriminator"])
        for name, optimiser in self._optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        if self.judged is not self.generator:
            self.judged.load_state_dict(state["average"])
        self.done = state["step"]


def prepared(batch: Batch, context: WorkerContext, size: int = IMAGE_SIZE) -> tuple[Tensor, Tensor | None]:
    """The batch on the device: crops, mirrored where drawn, (B, 3, size, size) float32 in [-1, 1], and its masks."""
    images = batch.images.to(context.device, non_blocking=True)
    if images.shape[-1] != size:
        corners = batch.corners.to(context.device, non_blocking=True)
        span = torch.arange(size, device=context.device)
        rows = (corners[:, :1] + span)[:, None, :, None]
        columns = (corners[:, 1:] + span)[:, None, None, :]
        which = torch.arange(len(images), device=context.device)[:, None, None, None]
        channels = torch.arange(images.shape[1], device=context.device)[None, :, None, None]
        images = images[which, channels, rows, columns]
    flips = batch.flips.to(context.device, non_blocking=True)[:, None, None, None]
    images = torch.where(flips, images.flip(-1), images)
    layout = torch.channels_last if context.channels_last else torch.contiguous_format
    pictures = scaled(images).contiguous(memory_format=layout)
    return pictures, None if batch.masks is None else batch.masks.to(context.device, non_blocking=True)


def rate_factor(optimiser: OptimiserConfig, step: int, steps: int) -> float:
    """What the learning rates are multiplied by at a step (from 0) of a run of `steps` steps."""
    if step < optimiser.warmup_steps:
        return (step + 1) / optimiser.warmup_steps
    begin = optimiser.decay_from * steps
    if optimiser.decay == "none" or step <= begin:
        return 1.0
    progress = min(1.0, (step - begin) / max(1.0, steps - begin))
    fall = 1 - progress if optimiser.decay == "linear" else (1 + math.cos(math.pi * progress)) / 2
    return optimiser.final_rate + (1 - optimiser.final_rate) * fall


def _adam(network: nn.Module, config: OptimiserConfig, rate: float) -> torch.optim.Adam:
    return torch.optim.Adam(network.parameters(), lr=rate, betas=(config.beta1, 0.999), fused=True)
