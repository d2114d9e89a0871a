"""What was chosen when the results were begun, kept beside the runs: a continued command takes the same epochs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pydantic import with_config

from inpaint_core.config import STRICT, to_tree, validate
from inpaint_core.errors import ConfigError
from inpaint_core.storage import Storage
from tools.results.models import times_the_epochs

PLAN = "plan.json"


@with_config(STRICT)
@dataclass(frozen=True)
class Plan:
    """The budget, what it came to, and where.

    Args:
        minutes: training per model; None: `epochs_each` was given.
        epochs_each: epochs of every model; None: `minutes` was given.
        settings: overrides of every model, those of a CPU included.
        images: training photographs.
        measured: photographs of the short runs that measure speeds.
        machines: all that worked on it.
        speeds: training images a second, by `models.kind_of`.
        epochs: by model.
        evaluated: date of the evaluation; None: it is to be done.
    """

    minutes: float | None
    epochs_each: int | None
    settings: tuple[str, ...]
    images: int
    measured: int
    machines: tuple[str, ...] = ()
    speeds: dict[str, float] = field(default_factory=dict)
    epochs: dict[str, int] = field(default_factory=dict)
    evaluated: str | None = None

    @property
    def budget(self) -> str:
        """For a person."""
        if self.minutes is not None:
            return f"{self.minutes:g} minutes of training per model"
        return f"{self.epochs_each} epoch{'s' if self.epochs_each != 1 else ''} per model"

    def seconds(self, kind: str, epochs: int) -> float | None:
        """Of so many epochs, validation left out; None where the speed is not known."""
        speed = self.speeds.get(kind)
        return None if speed is None else epochs * self.images / speed


def read_plan(storage: Storage) -> Plan | None:
    """The plan in an output; None: there is none.

    Raises:
        ConfigError: it is damaged.
        ObjectError, StorageError: it cannot be read.
    """
    if not storage.exists(PLAN):
        return None
    try:
        tree = json.loads(storage.read(PLAN))
        if isinstance(tree, dict):
            return validate(Plan, tree)
    except (ValueError, ConfigError):
        pass
    raise ConfigError(f"{storage.uri}/{PLAN} is damaged, or of another version; give another --output, or delete it")


def write_plan(storage: Storage, plan: Plan) -> None:
    """Keep a plan.

    Raises:
        ObjectError, StorageError: it cannot be written.
    """
    storage.write(PLAN, (json.dumps(to_tree(plan), indent=2) + "\n").encode())


def continued(there: Plan | None, here: Plan, uri: str) -> Plan:
    """The plan to go on with: what is there, if it has the same budget, with the machine of this call.

    Raises:
        ConfigError: it has another budget, or is of other photographs or networks; the message names what differs.
    """
    if there is None:
        return here
    for name, option in (
        ("minutes", "--minutes"),
        ("epochs_each", "--epochs"),
        ("settings", "the settings"),
        ("images", "the training photographs"),
    ):
        old, new = getattr(there, name), getattr(here, name)
        if old != new:
            raise ConfigError(
                f"--output: {uri} was begun with another budget ({option}: {_told(old)} there and {_told(new)} here); "
                "give the same, or another --output"
            )
    return replace(there, machines=tuple(dict.fromkeys((*there.machines, *here.machines))))


def with_epochs(plan: Plan, kinds: Mapping[str, str], most: Mapping[str, int]) -> Plan:
    """The plan with the epochs of each model: those that fit into its minutes, at least one, as often as its
    name says.

    Args:
        plan: with the speed of every kind, if it has minutes.
        kinds: of the models.
        most: epochs of the models' configs, which a budget of minutes does not exceed.
    """
    found = dict(plan.epochs)
    for model, kind in kinds.items():
        if model in found:
            continue
        if plan.epochs_each is not None:
            found[model] = plan.epochs_each * times_the_epochs(model)
        elif plan.minutes is not None:
            fitting = math.floor(60 * plan.minutes * plan.speeds[kind] / plan.images)
            found[model] = min(most[model], max(1, fitting) * times_the_epochs(model))
    return replace(plan, epochs=found)


def _told(value: object) -> str:
    if value is None:
        return "none"
    return " ".join(map(str, value)) or "none" if isinstance(value, tuple) else f"{value:,}"
