"""What a sweep keeps of each trial beside its run: what it tries, and how it ended."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from inpaint_core.config import to_tree, validate
from inpaint_core.errors import ConfigError, WeightsError
from inpaint_core.storage import MissingObject, Storage
from inpaint_core.training.config import LossConfig
from inpaint_core.training.sweep.config import TuneConfig
from inpaint_core.training.sweep.points import Trial

Status = Literal["finished", "stopped", "diverged", "failed"]
"""All epochs; ended early because others were ahead; a loss was not finite; or the workers failed again and again."""

_TRIAL, _OUTCOME = "trial.json", "outcome.json"


@dataclass(frozen=True)
class KnownTrial:
    """A trial in a sweep's output.

    Args:
        trial: what it tries.
        values: what a search drew for it; None in a grid.
        status: how it ended; None: it has not.
        error: why it failed.
    """

    trial: Trial
    values: Mapping[str, Any] | None
    status: Status | None
    error: str | None = None


def note_trial(output: Storage, trial: Trial, values: Mapping[str, Any] | None) -> None:
    """Write what a trial tries, before it begins."""
    content = {"loss": to_tree(trial.loss), "seed": trial.seed, "values": dict(values) if values is not None else None}
    output.write(f"trials/{trial.name}/{_TRIAL}", json.dumps(content).encode())


def note_outcome(output: Storage, trial: Trial, status: Status, error: str | None = None) -> None:
    """Write how a trial ended."""
    output.write(f"trials/{trial.name}/{_OUTCOME}", json.dumps({"status": status, "error": error}).encode())


def status_of(output: Storage, trial: Trial) -> Status | None:
    """How a trial ended; None: it has not, or it failed, which is tried again."""
    content = _read(output, f"trials/{trial.name}/{_OUTCOME}")
    status: Status | None = content["status"] if content else None
    return None if status == "failed" else status


def is_done(sweep: TuneConfig, status: Status | None) -> bool:
    """Whether nothing is left to do for a trial that ended so."""
    return status in ("finished", "diverged") or (status == "stopped" and sweep.asha is not None)


def known_trials(output: Storage) -> list[KnownTrial]:
    """All trials in the output, by name.

    Raises:
        WeightsError: a file of one is damaged.
        StorageError: the store cannot be read.
    """
    return sorted(_known(output), key=lambda known: known.trial.name)


def _known(output: Storage) -> Iterator[KnownTrial]:
    for entry in output.list():
        folder, _, name = entry.key.rpartition("/")
        if name != _TRIAL or not folder.startswith("trials/") or folder.count("/") != 1:
            continue
        content = _read(output, entry.key)
        if content is None:
            continue
        try:
            trial = Trial(validate(LossConfig, content["loss"]), int(content["seed"]))
        except (ConfigError, KeyError, TypeError) as error:
            raise _damaged(output, entry.key) from error
        outcome = _read(output, f"{folder}/{_OUTCOME}") or {}
        yield KnownTrial(trial, content.get("values"), outcome.get("status"), outcome.get("error"))


def _read(output: Storage, key: str) -> dict[str, Any] | None:
    try:
        content = json.loads(output.read(key))
    except MissingObject:
        return None
    except ValueError as error:
        raise _damaged(output, key) from error
    if not isinstance(content, dict):
        raise _damaged(output, key)
    return content


def _damaged(output: Storage, key: str) -> WeightsError:
    return WeightsError(f"{output.uri}/{key} is damaged; delete its folder, and the trial runs again")
