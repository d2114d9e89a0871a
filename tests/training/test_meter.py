"""Losses over an epoch, and the guard against those that are no numbers."""

import math

import pytest
import torch
from torch import Tensor

from inpaint_core.errors import TrainingError
from inpaint_core.training.meter import Meter
from tests.training.small import CPU


def parts(total: float, l1: float) -> dict[str, Tensor]:
    return {"total": torch.tensor(total), "l1": torch.tensor(l1)}


def test_means_are_over_all_steps_however_they_were_flushed() -> None:
    meter = Meter(CPU)
    for step in range(50):
        meter.add(step, parts(step, 2.0))
    assert meter.means() == pytest.approx({"total": 19.5, "l1": 2.0}), "two flushes of 20 steps each"
    meter.flush()
    meter.flush()
    assert meter.means() == pytest.approx({"total": 24.5, "l1": 2.0})


def test_a_new_epoch_begins_with_nothing() -> None:
    meter = Meter(CPU)
    assert meter.means() == {}
    meter.add(0, parts(5, 5))
    meter.flush()
    meter.clear()
    meter.add(1, parts(1, 3))
    meter.flush()
    assert meter.means() == {"total": 1.0, "l1": 3.0}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_the_first_step_and_part_that_broke_are_named(value: float) -> None:
    meter = Meter(CPU)
    meter.add(7, parts(1, 1))
    meter.add(8, parts(1, value))
    meter.add(9, parts(value, value))
    with pytest.raises(TrainingError, match=r"at step 8 the loss part 'l1' is not finite .*generator_rate") as raised:
        meter.flush()
    assert "\n" not in str(raised.value)
    assert str(value) in str(raised.value)


def test_a_broken_loss_is_found_within_20_steps() -> None:
    meter = Meter(CPU)
    for step in range(19):
        meter.add(step, parts(math.nan, 1))
    with pytest.raises(TrainingError, match="at step 0 "):
        meter.add(19, parts(math.nan, 1))


def test_a_large_sum_of_finite_losses_is_no_fault() -> None:
    meter = Meter(CPU)
    for step in range(20):
        meter.add(step, parts(3e38, 1))
    assert meter.means()["total"] == pytest.approx(3e38, rel=1e-6)


def test_a_state_goes_on() -> None:
    meter, other, whole = Meter(CPU), Meter(CPU), Meter(CPU)
    for step in range(7):
        for one in (meter, whole):
            one.add(step, parts(step / 3, step))
    meter.flush()
    whole.flush()
    other.load(meter.state())
    for step in range(7, 30):
        for one in (other, whole):
            one.add(step, parts(step / 3, step))
    for one in (other, whole):
        one.flush()
    assert other.means() == whole.means()
    state = meter.state()
    meter.add(99, parts(1e6, 1e6))
    meter.flush()
    assert state["steps"] == {"total": 7, "l1": 7}, "a state does not change with its meter"
    assert state["sums"]["l1"] == 21.0
