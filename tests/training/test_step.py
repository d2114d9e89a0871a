"""One adversarial step, and what it changes."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from inpaint_core.hole_masks.sampler import evaluation_holes
from inpaint_core.networks.compositing import CHANNEL_MEANS, hide
from inpaint_core.networks.spec import ContextEncoderSpec, GeneratorSpec, UnetSpec
from inpaint_core.training.config import LossConfig, OptimiserConfig, TrainConfig
from inpaint_core.training.data.samples import Batch
from inpaint_core.training.step import AdversarialStep, prepared, rate_factor
from inpaint_core.training.worker_context import WorkerContext
from tests.training.small import CPU, batch_of, config, copied, photographs, same

FULL = ContextEncoderSpec(output="full", bottleneck=16, width=4)
UNET = UnetSpec(width=4, gated=True)


def step_of(settings: TrainConfig, context: WorkerContext = CPU, steps: int = 100) -> AdversarialStep:
    return AdversarialStep(settings, context, steps=steps)


def masked_batch(count: int = 4) -> Batch:
    return batch_of(photographs(count), evaluation_holes("box", range(count), seed=0))


def parameters(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.named_parameters()}


@pytest.mark.parametrize("network", [config().network, FULL, UNET])
def test_each_optimiser_moves_its_own_network_only(network: GeneratorSpec) -> None:
    networks = step_of(config(network=network))
    batch = masked_batch() if network.output == "full" else batch_of(photographs(4))
    states = [(parameters(networks.generator), parameters(networks.discriminator))]
    gradients: list[list[Tensor]] = []

    def hook(optimiser: Any, *_: Any) -> None:
        states.append((parameters(networks.generator), parameters(networks.discriminator)))
        gradients.append(
            [value.grad.clone() for value in networks.discriminator.parameters() if value.grad is not None]
        )

    handle = register_optimizer_step_post_hook(hook)
    try:
        networks(batch)
    finally:
        handle.remove()
    before, after_discriminator, after_generator = states
    assert same(after_discriminator[0], before[0])
    assert not any(torch.equal(after_discriminator[1][name], before[1][name]) for name in before[1])
    assert same(after_generator[1], after_discriminator[1])
    assert not any(torch.equal(after_generator[0][name], before[0][name]) for name in before[0])
    # The generator's gradient goes through the discriminator and leaves none there.
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))
    assert all(value.requires_grad for value in networks.discriminator.parameters())


@pytest.mark.parametrize("kind", ["bce", "lsgan"])
def test_the_discriminator_learns_to_tell_a_fixed_batch(kind: Any) -> None:
    still = OptimiserConfig(generator_rate=1e-12, discriminator_rate=2e-3, warmup_steps=0)
    networks = step_of(config(loss=LossConfig(adversarial=kind, l1=1.0), optimiser=still))
    batch = batch_of(photographs(4))
    losses = [float(networks(batch)["discriminator"]) for _ in range(12)]
    assert losses[-1] < 0.5 * losses[0]


def test_a_few_photographs_are_learnt() -> None:
    fast = OptimiserConfig(generator_rate=4e-3, warmup_steps=5, decay="none")
    settings = config(network=ContextEncoderSpec(bottleneck=32, width=8), loss=LossConfig(l1=1.0), optimiser=fast)
    networks = step_of(settings)
    batch = batch_of(photographs(8))
    losses = [float(networks(batch)["l1"]) for _ in range(60)]
    assert networks.done == 60
    assert np.mean(losses[-3:]) < 0.4 * np.mean(losses[:3])


@pytest.mark.parametrize("adversarial", ["bce", "lsgan"])
def test_losses_by_hand_from_the_logits(adversarial: Any) -> None:
    loss = LossConfig(adversarial=adversarial, adversarial_weight=0.25, reconstruction_weight=0.5, l1=2.0, l2=4.0)
    networks = step_of(config(loss=loss))
    logits: list[Tensor] = []
    networks.discriminator.register_forward_hook(lambda module, inputs, output: logits.append(output.detach()))
    predictions: list[Tensor] = []
    networks.generator.register_forward_hook(lambda module, inputs, output: predictions.append(output.detach()))
    batch = batch_of(photographs(4))
    parts = {name: float(value) for name, value in networks(batch).items()}
    real, fake, against = (values.double().numpy() for values in logits)
    if adversarial == "bce":
        discriminator = np.log1p(np.exp(-real)).mean() + np.log1p(np.exp(fake)).mean()
        generator = np.log1p(np.exp(-against)).mean()
    else:
        discriminator = ((real - 1) ** 2).mean() + (fake**2).mean()
        generator = ((against - 1) ** 2).mean()
    error = predictions[0].double().numpy() - prepared(batch, CPU)[0][:, :, 32:96, 32:96].double().numpy()
    weights = np.full((64, 64), 10.0)
    weights[4:60, 4:60] = 1
    l1, l2 = (np.abs(error) * weights).mean(), (error**2 * weights).mean()
    expected = {"discriminator": discriminator, "adversarial": generator, "l1": l1, "l2": l2}
    expected["total"] = 0.25 * generator + 0.5 * (2 * l1 + 4 * l2)
    assert parts == pytest.approx(expected, rel=1e-5)


def test_parts_are_detached_scalars() -> None:
    parts = step_of(config())(batch_of(photographs(4)))
    assert sorted(parts) == ["adversarial", "discriminator", "l1", "ssim", "total"]
    assert all(value.shape == () and not value.requires_grad for value in parts.values())


def test_center_hides_exactly_the_inner_56_pixels() -> None:
    networks = step_of(config())
    images, masks = prepared(batch_of(photographs(4)), CPU)
    before = images.clone()
    shown = hide(images, masks)
    assert torch.equal(images, before)
    hole = torch.zeros(128, 128, dtype=torch.bool)
    hole[36:92, 36:92] = True
    assert torch.equal(shown[:, :, ~hole], images[:, :, ~hole])
    for channel, mean in enumerate(CHANNEL_MEANS):
        assert torch.allclose(shown[:, channel, hole], torch.tensor(2 * mean - 1))
    seen: list[Tensor] = []
    networks.generator.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].clone()))
    networks(batch_of(photographs(4)))
    assert torch.equal(seen[0], shown), "the step shows the generator something else"


def test_center_fills_the_middle_64_pixels_with_its_prediction() -> None:
    networks = step_of(config())
    networks(batch_of(photographs(4)))
    images, _ = prepared(batch_of(photographs(4)), CPU)
    filled = networks.fill(images, None)
    predicted = networks.judged.eval()(hide(images, None))
    assert predicted.shape == (4, 3, 64, 64)
    assert torch.equal(filled[:, :, 32:96, 32:96], predicted)
    outside = torch.ones(128, 128, dtype=torch.bool)
    outside[32:96, 32:96] = False
    assert torch.equal(filled[:, :, outside], images[:, :, outside])
    assert filled.dtype == torch.float32
    assert not filled.requires_grad


def test_full_takes_only_masked_pixels_from_the_network() -> None:
    networks = step_of(config(network=FULL))
    batch = masked_batch()
    networks(batch)
    images, masks = prepared(batch, CPU)
    assert masks is not None
    filled = networks.fill(images, masks)
    everywhere = masks.expand_as(images)
    assert torch.equal(filled[~everywhere], images[~everywhere])
    assert not torch.isclose(filled[everywhere], images[everywhere]).all()
    # What lies under the mask cannot be seen: not in what is shown, and not in the fill.
    other = torch.where(masks, -images, images)
    assert torch.equal(hide(other, masks), hide(images, masks))
    assert torch.equal(networks.fill(other, masks)[everywhere], filled[everywhere])


def test_filling_is_evaluation_and_leaves_training_as_it_was() -> None:
    networks = step_of(config(optimiser=OptimiserConfig(ema=None)))
    networks(batch_of(photographs(4)))
    images, _ = prepared(batch_of(photographs(4)), CPU)
    before = copied(networks.generator)
    alone = networks.fill(images[:1], None)
    assert torch.allclose(alone, networks.fill(images, None)[:1], atol=1e-5), "BatchNorm took the batch's statistics"
    assert networks.generator.training
    assert same(copied(networks.generator), before)


def test_the_average_is_that_computed_by_hand() -> None:
    networks = step_of(config(optimiser=OptimiserConfig(ema=0.15, warmup_steps=0, generator_rate=1e-2)))
    average = {name: value.double() for name, value in networks.judged.state_dict().items()}
    assert same(copied(networks.judged), copied(networks.generator))
    for decay in (1 / 10, 0.15, 0.15):  # (1 + step) / (10 + step), and no more than what is set
        networks(batch_of(photographs(4)))
        for name, value in networks.generator.state_dict().items():
            average[name] = average[name] * decay + value.double() * (1 - decay)
    for name, value in networks.judged.state_dict().items():
        if value.is_floating_point():
            assert torch.allclose(value.double(), average[name], rtol=1e-5, atol=1e-7), name
        else:
            assert int(value) == 3
    assert not same(copied(networks.judged), copied(networks.generator))
    assert not any(value.requires_grad for value in networks.judged.parameters())


def test_without_an_average_the_generator_itself_is_judged() -> None:
    networks = step_of(config(optimiser=OptimiserConfig(ema=None)))
    assert networks.judged is networks.generator
    assert "average" not in networks.state()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (OptimiserConfig(warmup_steps=0, decay="none"), [1] * 10),
        (OptimiserConfig(warmup_steps=4, decay="none"), [0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1, 1]),
        (
            OptimiserConfig(warmup_steps=0, decay="linear", decay_from=0.5, final_rate=0.0),
            [1, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2],
        ),
        (
            OptimiserConfig(warmup_steps=2, decay="linear", decay_from=0.5, final_rate=0.5),
            [0.5, 1, 1, 1, 1, 1, 0.9, 0.8, 0.7, 0.6],
        ),
        (
            OptimiserConfig(warmup_steps=0, decay="cosine", decay_from=0.0, final_rate=0.1),
            [0.1 + 0.9 * (1 + math.cos(math.pi * step / 10)) / 2 for step in range(10)],
        ),
        (OptimiserConfig(warmup_steps=0, decay="linear", decay_from=1.0), [1] * 10),
    ],
)
def test_rates_by_hand(settings: OptimiserConfig, expected: list[float]) -> None:
    assert [rate_factor(settings, step, 10) for step in range(10)] == pytest.approx(expected)


def test_the_rates_never_rise_again_and_never_fall_below_the_last() -> None:
    settings = OptimiserConfig(warmup_steps=5, decay="cosine", decay_from=0.3, final_rate=0.2)
    factors = [rate_factor(settings, step, 50) for step in range(60)]
    assert all(later <= earlier for earlier, later in pairwise(factors[5:]))
    assert factors[50:] == pytest.approx([0.2] * 10)


def test_each_network_is_stepped_with_its_own_rate_of_the_moment() -> None:
    rates: list[float] = []
    handle = register_optimizer_step_post_hook(lambda optimiser, *_: rates.append(optimiser.param_groups[0]["lr"]))
    try:
        networks = step_of(
            config(
                optimiser=OptimiserConfig(
                    generator_rate=1e-3, discriminator_rate=1e-4, warmup_steps=2, decay="linear", decay_from=0.5
                )
            ),
            steps=4,
        )
        for _ in range(4):
            networks(batch_of(photographs(2)))
    finally:
        handle.remove()
    assert rates[0::2] == pytest.approx([5e-5, 1e-4, 1e-4, 5e-5])
    assert rates[1::2] == pytest.approx([5e-4, 1e-3, 1e-3, 5e-4])


def gradient_norm(network: nn.Module) -> float:
    return math.sqrt(sum(float(value.grad.square().sum()) for value in network.parameters() if value.grad is not None))


def test_clipping_bounds_the_norms_of_both_gradients() -> None:
    free = step_of(config(optimiser=OptimiserConfig(clip=None)))
    bound = step_of(config(optimiser=OptimiserConfig(clip=1e-3)))
    for networks in (free, bound):
        networks(batch_of(photographs(4)))
    for network in ("generator", "discriminator"):
        assert gradient_norm(getattr(free, network)) > 2e-3
        assert gradient_norm(getattr(bound, network)) == pytest.approx(1e-3, rel=1e-2)


def test_without_an_adversarial_part_the_discriminator_never_runs() -> None:
    networks = step_of(config(loss=LossConfig(adversarial_weight=0.0, l1=1.0)))
    before = copied(networks.discriminator)
    ran: list[str] = []
    networks.discriminator.register_forward_pre_hook(lambda module, inputs: ran.append("ran"))
    parts = networks(batch_of(photographs(4)))
    assert sorted(parts) == ["l1", "total"]
    assert ran == []
    assert same(copied(networks.discriminator), before)


@pytest.mark.parametrize("network", [config().network, FULL, UNET])
def test_bfloat16_computes_convolutions_and_keeps_weights(network: GeneratorSpec) -> None:
    settings = config(network=network, loss=LossConfig(l1=0.3, ssim=0.7))
    batch = masked_batch() if network.output == "full" else batch_of(photographs(4))
    exact, rough = step_of(settings), step_of(settings, replace(CPU, precision=torch.bfloat16))
    dtypes: list[torch.dtype] = []
    rough.generator.encoder[0].register_forward_hook(lambda module, inputs, output: dtypes.append(output.dtype))
    expected, parts = exact(batch), rough(batch)
    assert dtypes == [torch.bfloat16]
    assert all(value.dtype == torch.float32 for value in parts.values())
    assert all(value.dtype == torch.float32 for value in rough.generator.parameters())
    for name, value in expected.items():
        assert float(parts[name]) == pytest.approx(float(value), rel=0.03), name
    assert not any(float(parts[name]) == float(expected[name]) for name in expected), "nothing was computed roughly"
    images, masks = prepared(batch, CPU)
    assert rough.fill(images, masks).dtype == torch.float32


@pytest.mark.parametrize("ema", [None, 0.9])
def test_a_state_continues_bit_for_bit(ema: float | None) -> None:
    settings = config(optimiser=OptimiserConfig(ema=ema, warmup_steps=4))
    networks = step_of(settings)
    batches = [batch_of(photographs(12)[start : start + 4]) for start in (0, 4, 8)]
    networks(batches[0])
    networks(batches[1])
    state = torch_copy(networks.state())
    parts = networks(batches[2])
    other = step_of(replace(settings, seed=9))
    assert not same(copied(other.generator), copied(networks.generator))
    other.load(state)
    assert other.done == 2
    again = other(batches[2])
    assert {name: float(value) for name, value in again.items()} == {
        name: float(value) for name, value in parts.items()
    }
    for name in ("generator", "discriminator", "judged"):
        assert same(copied(getattr(other, name)), copied(getattr(networks, name))), name


def torch_copy(value: Any) -> Any:
    """A state as it is now: `state` gives the live tensors."""
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {key: torch_copy(inner) for key, inner in value.items()}
    return [torch_copy(inner) for inner in value] if isinstance(value, list) else value


def test_the_seed_alone_decides_the_first_weights() -> None:
    torch.manual_seed(1)
    one = step_of(config(seed=3))
    torch.manual_seed(2)
    random = torch.get_rng_state()
    other, different = step_of(config(seed=3)), step_of(config(seed=4))
    other(batch_of(photographs(4)))
    assert torch.equal(torch.get_rng_state(), random), "training draws from torch's global generator"
    assert same(copied(one.generator), copied(step_of(config(seed=3)).generator))
    assert same(copied(one.discriminator), copied(step_of(config(seed=3)).discriminator))
    assert not same(copied(one.generator), copied(different.generator))


def test_channels_last_changes_nothing_but_the_layout() -> None:
    plain = step_of(config(), replace(CPU, channels_last=False))
    last = step_of(config(), replace(CPU, channels_last=True))
    weight = last.generator.encoder[2].weight
    assert isinstance(weight, Tensor)
    assert weight.is_contiguous(memory_format=torch.channels_last)
    one, other = plain(batch_of(photographs(4))), last(batch_of(photographs(4)))
    for name, value in one.items():
        assert float(other[name]) == pytest.approx(float(value), rel=1e-4), name


def spoil_weight(networks: AdversarialStep) -> None:
    next(networks.generator.parameters()).data[0] = math.nan


def spoil_statistics(networks: AdversarialStep) -> None:
    next(networks.discriminator.buffers()).fill_(math.inf)


@pytest.mark.parametrize(("spoil", "name"), [(spoil_weight, "generator"), (spoil_statistics, "discriminator")])
def test_a_network_with_a_value_that_is_not_finite_is_found(
    spoil: Callable[[AdversarialStep], None], name: str
) -> None:
    networks = step_of(config())
    assert networks.broken() is None
    spoil(networks)
    assert networks.broken() == name
