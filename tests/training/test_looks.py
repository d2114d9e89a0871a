"""When workers look at the run together."""

import pytest

from inpaint_core.training import looks as looks_module
from inpaint_core.training.looks import Look, Looks
from tests.training.small import CPU


class Clock:
    """Seconds that pass as the test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(looks_module.time, "monotonic", lambda: self.now)


def steps_until_due(looks: Looks, clock: Clock, seconds: float) -> int:
    for step in range(1, 100):
        clock.now += seconds
        if looks.due():
            looks.look(written=False)
            return step
    raise AssertionError("never")


@pytest.mark.parametrize(("seconds", "steps"), [(0.001, 20), (0.5, 6), (1.6, 1), (16.0, 1)])
def test_slow_steps_are_looked_at_often_and_fast_ones_seldom(
    seconds: float, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    looks = Looks(CPU, None)
    assert [steps_until_due(looks, clock, seconds) for _ in range(4)] == [1, steps, steps, steps]


def test_it_is_time_for_a_checkpoint_after_so_many_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    looks = Looks(CPU, 2.0)
    for seconds, due in ((60, False), (59, False), (1, True), (5, True)):
        clock.now += seconds
        assert looks.look(written=True) == Look(written=True, save=due)
    looks.saved()
    clock.now += 119
    assert not looks.look(written=False).save
    assert not Looks(CPU, None).look(written=False).save
