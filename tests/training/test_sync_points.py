"""When workers exchange their state, and what they agree on."""

from itertools import pairwise

import pytest

from inpaint_core.training import sync_points as sync_points_module
from inpaint_core.training.sync_points import Notice, SyncPoint, SyncPoints
from tests.training.small import CPU


class Clock:
    """Seconds that pass as the test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(sync_points_module.time, "monotonic", lambda: self.now)


def steps_until_due(points: SyncPoints, clock: Clock, seconds: float) -> int:
    for step in range(1, 100):
        clock.now += seconds
        if points.due():
            points.synchronise(written=False, notice=Notice())
            return step
    raise AssertionError("never")


@pytest.mark.parametrize(("seconds", "steps"), [(0.001, 20), (0.5, 6), (1.6, 1), (16.0, 1)])
def test_slow_steps_are_synchronised_often_and_fast_ones_seldom(
    seconds: float, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    points = SyncPoints(CPU, None)
    assert [steps_until_due(points, clock, seconds) for _ in range(4)] == [1, steps, steps, steps]


def test_it_is_time_for_a_checkpoint_after_so_many_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    points = SyncPoints(CPU, 2.0)
    for seconds, due in ((60, False), (59, False), (1, True), (5, True)):
        clock.now += seconds
        assert points.synchronise(written=True, notice=Notice()) == SyncPoint(written=True, save=due)
    points.saved()
    clock.now += 119
    assert not points.synchronise(written=False, notice=Notice()).save
    assert not SyncPoints(CPU, None).synchronise(written=False, notice=Notice()).save


@pytest.mark.parametrize(("minutes", "gaps"), [(None, [10, 10]), (2.0, [10, 10]), (0.1, [6, 6])])
def test_checkpoints_are_frequent_while_a_machine_is_about_to_be_taken_away(
    minutes: float | None, gaps: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    points = SyncPoints(CPU, minutes)
    found = []
    clock.now += 50
    begun = clock.now
    for _ in range(25):
        if points.synchronise(written=True, notice=Notice(draining=True)).save:
            points.saved()
            found.append(clock.now)
        clock.now += 1
    assert found[0] == begun
    assert [after - before for before, after in pairwise(found)][:2] == gaps


def test_the_last_step_is_one_for_a_checkpoint() -> None:
    point = SyncPoints(CPU, None).synchronise(written=True, notice=Notice(terminated=True))
    assert point == SyncPoint(written=True, save=True, terminated=True)
