"""How workers share a batch, and what follows from its size."""

from dataclasses import replace
from typing import Any

import pytest

from inpaint_core.errors import ConfigError
from inpaint_core.training.config import LossConfig, OptimiserConfig, TrainConfig
from inpaint_core.training.run_folder import check_config
from inpaint_core.training.scaling_config import TrainScalingConfig
from inpaint_core.training.sharing import check_workers, scaled_optimiser, synchronised, with_batch

BASE = TrainConfig(loss=LossConfig(l2=1.0))


def test_workers_that_cannot_share_the_batch() -> None:
    check_workers(replace(BASE, batch=64), 32, gpu=False)
    with pytest.raises(ConfigError, match="batch: 64 images cannot be divided among 3 workers; give a multiple of 3"):
        check_workers(BASE, 3, gpu=False)
    small = replace(BASE, batch=4)
    with pytest.raises(ConfigError, match="batch: 4 images leave one for each of 4 workers, but BatchNorm needs two"):
        check_workers(small, 4, gpu=False)
    check_workers(replace(small, scaling=TrainScalingConfig(sync_batchnorm=True)), 4, gpu=True)
    auto = replace(small, scaling=TrainScalingConfig(sync_batchnorm="auto"))
    check_workers(auto, 4, gpu=True)
    with pytest.raises(ConfigError, match="BatchNorm needs two"):
        check_workers(auto, 4, gpu=False)


def test_a_batch_per_worker_makes_the_batch() -> None:
    assert with_batch(BASE, 3) == BASE
    settings = replace(BASE, batch=None, batch_per_worker=24)
    for workers, batch in ((1, 24), (4, 96)):
        found = with_batch(settings, workers)
        assert found == replace(BASE, batch=batch)
        assert found.global_batch == batch
        assert with_batch(replace(settings, batch=batch), workers) == found, "which may be said twice"


@pytest.mark.parametrize(
    ("settings", "scaling", "message"),
    [
        ({"batch": None}, {}, "batch: null requires batch_per_worker"),
        (
            {"batch_per_worker": 32},
            {"workers": 4},
            "batch: 64 contradicts batch_per_worker=32, which is 128 with 4 workers; set batch=null, or batch_per_worker=null",
        ),
        ({}, {"workers": "1-4"}, "batch: 64 images .* each number of scaling.workers=1-4; give a multiple of 12"),
        ({"batch": None, "batch_per_worker": 8}, {"workers": "1-2"}, "batch_per_worker: .* give batch alone"),
        ({}, {"workers": 2, "gpus_per_worker": 0.5}, "scaling.gpus_per_worker: 0.5 is for runs of one worker"),
        ({}, {"workers": "1-2", "gpus_per_worker": 0.5}, "scaling.gpus_per_worker: 0.5 is for runs of one worker"),
    ],
)
def test_settings_that_do_not_go_together(settings: dict[str, Any], scaling: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_config(replace(BASE, **settings, scaling=TrainScalingConfig(**scaling)))


@pytest.mark.parametrize(
    ("settings", "scaling"),
    [
        ({"batch": 48}, {"workers": "1-4"}),
        ({}, {"workers": "1-2"}),
        ({"batch": None, "batch_per_worker": 8}, {}),
        ({"batch": 32, "batch_per_worker": 8}, {"workers": 4}),
        ({}, {"gpus_per_worker": 0.25}),
        ({}, {"gpus_per_worker": 1.0, "workers": 4}),
    ],
)
def test_settings_that_go_together(settings: dict[str, Any], scaling: dict[str, Any]) -> None:
    check_config(replace(BASE, **settings, scaling=TrainScalingConfig(**scaling)))


@pytest.mark.parametrize(
    ("setting", "batch", "workers", "gpu", "expected"),
    [
        (False, 8, 8, True, False),
        (True, 1024, 2, True, True),
        ("auto", 64, 4, True, False),  # 16 images each
        ("auto", 64, 8, True, True),
        ("auto", 8, 1, True, False),
        ("auto", 8, 2, False, False),
    ],
)
def test_batchnorm_of_small_shares_sees_the_whole_batch(
    setting: Any, batch: int, workers: int, gpu: bool, expected: bool
) -> None:
    assert synchronised(TrainScalingConfig(sync_batchnorm=setting), batch, workers, gpu=gpu) is expected


@pytest.mark.parametrize(
    ("rule", "batch", "factor", "ema"),
    [
        ("none", 256, 1.0, 0.999),
        ("linear", 256, 4.0, 0.999**4),
        ("sqrt", 256, 2.0, 0.999**4),
        ("linear", 64, 1.0, 0.999),
        ("sqrt", 16, 0.5, 0.999**0.25),
    ],
)
def test_rates_and_average_follow_the_batch(rule: Any, batch: int, factor: float, ema: float) -> None:
    optimiser = OptimiserConfig(generator_rate=1e-3, discriminator_rate=1e-4, batch_scaling=rule)
    scaled = scaled_optimiser(replace(BASE, batch=batch, optimiser=optimiser))
    assert (scaled.generator_rate, scaled.discriminator_rate) == pytest.approx((1e-3 * factor, 1e-4 * factor))
    assert scaled.ema == pytest.approx(ema)
    assert replace(scaled, generator_rate=1e-3, discriminator_rate=1e-4, ema=0.999) == optimiser
    without = scaled_optimiser(replace(BASE, batch=batch, optimiser=replace(optimiser, ema=None)))
    assert without.ema is None


def test_rates_are_those_of_the_reference_batch() -> None:
    optimiser = OptimiserConfig(generator_rate=1e-3, batch_scaling="linear", reference_batch=32)
    assert scaled_optimiser(replace(BASE, optimiser=optimiser)).generator_rate == pytest.approx(2e-3)


def test_an_average_forgets_as_much_of_an_image_at_any_batch() -> None:
    """1,024 images are 16 steps of 64 or 4 of 256: of what was there before, the same part is left."""
    for batch in (16, 64, 256):
        scaled = scaled_optimiser(replace(BASE, batch=batch, optimiser=OptimiserConfig(batch_scaling="sqrt")))
        assert scaled.ema is not None
        assert scaled.ema ** (1024 // batch) == pytest.approx(0.999**16)
