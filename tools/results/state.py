"""State of the results, kept beside the runs: a continued command takes the same epochs."""

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

STATE_FILE = "plan.json"


@with_config(STRICT)
@dataclass(frozen=True)
class State:
    """State of the results: their budget, the epochs that it came to, and what is done.

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


def read_state(storage: Storage) -> State | None:
    """The state in an output; None: there is none.

    Raises:
        ConfigError: it is damaged.
        ObjectError, StorageError: it cannot be read.
    """
    if not storage.exists(STATE_FILE):
        return None
    try:
        tree = json.loads(storage.read(STATE_FILE))
        if isinstance(tree, dict):
            return validate(State, tree)
    except (ValueError, ConfigError):
        pass
    raise ConfigError(
        f"{storage.uri}/{STATE_FILE} is damaged, or of another version; give another --output, or delete it"
    )


def write_state(storage: Storage, state: State) -> None:
    """Keep the state.

    Raises:
        ObjectError, StorageError: it cannot be written.
    """
    storage.write(STATE_FILE, (json.dumps(to_tree(state), indent=2) + "\n").encode())


def continued(there: State | None, here: State, uri: str) -> State:
    """The state to go on with: what is there, if it has the same budget, with the machine of this call.

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


def with_epochs(state: State, kinds: Mapping[str, str], most: Mapping[str, int]) -> State:
    """The state with the epochs of each model: those that fit into its minutes, at least one, as often as its
    name says.

    Args:
        state: with the speed of every kind, if it has minutes.
        kinds: of the models.
        most: epochs of the models' configs, which a budget of minutes does not exceed.
    """
    found = dict(state.epochs)
    for model, kind in kinds.items():
        if model in found:
            continue
        if state.epochs_each is not None:
            found[model] = state.epochs_each * times_the_epochs(model)
        elif state.minutes is not None:
            fitting = math.floor(60 * state.minutes * state.speeds[kind] / state.images)
            found[model] = min(most[model], max(1, fitting) * times_the_epochs(model))
    return replace(state, epochs=found)


def _told(value: object) -> str:
    if value is None:
        return "none"
    return " ".join(map(str, value)) or "none" if isinstance(value, tuple) else f"{value:,}"
