"""What the trials of a sweep hold: an actor beside the driver, whose process loads nothing besides this."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray.util.placement_group import PlacementGroup


class TrialRegistry:
    """Owner and placement group of each trial.

    Two of Ray Tune's trials can be the same one here, when a search proposes a loss twice: the second waits, and tells the
    results of the first. What workers hold, Ray gives back when they end in good order. When the trial's own process dies, its
    workers do too, but their placement group stays until the whole job ends, or until Ray's dashboard, where there is one,
    finds it.
    """

    def __init__(self) -> None:
        self._groups: dict[str, PlacementGroup] = {}
        self._owners: dict[str, str] = {}

    def claim(self, trial: str, owner: str) -> bool:
        """Take a trial for one of Ray Tune's; returns whether it is that one's now."""
        return self._owners.setdefault(trial, owner) == owner

    def free(self, trial: str, owner: str) -> None:
        """A trial has ended."""
        if self._owners.get(trial) == owner:
            del self._owners[trial]

    def put(self, trial: str, group: PlacementGroup) -> None:
        """The workers of a trial have started."""
        self._groups[trial] = group

    def pop(self, trial: str) -> PlacementGroup | None:
        """What the last workers of a trial held; None: it had none."""
        return self._groups.pop(trial, None)
