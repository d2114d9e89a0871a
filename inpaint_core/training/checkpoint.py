"""What a run leaves in its output, and how it is found again.

    config.yaml         the resolved config
    last.pt             everything that the run goes on from
    best.safetensors    the generator that was best by `checkpoint.metric`, for `inpaint evaluate` and the removal job
    last.safetensors    the generator after the last finished epoch
    top/                the best `checkpoint.top` generators by their epoch, where that is more than one
    history.parquet     a row for each epoch (`inpaint_core.training.history`)
    pictures/           a grid of input, output and truth for each epoch
    tensorboard/        the same for TensorBoard
    owner               the start of the run that may write here (`run_folder.OutputLease`)

`last.pt` is written after all others of its epoch: a run that dies in between does the epoch's end again. All of it is written
in the background (`saving`), one checkpoint at a time.
"""

from __future__ import annotations

import io
import json
import pickle
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from inpaint_core.config import to_tree
from inpaint_core.errors import ObjectError, StorageError, WeightsError
from inpaint_core.networks.generator import Generator
from inpaint_core.networks.weights.generator_file import CONFIG_KEY, TRAINING_KEY, save_generator
from inpaint_core.storage import MissingObject, Storage
from inpaint_core.training.config import TrainConfig
from inpaint_core.training.history import best_rows
from inpaint_core.training.run_folder import LAST

BEST_GENERATOR = "best.safetensors"
LAST_GENERATOR = "last.safetensors"
FORMAT = 2

_TOP = "top"

# What torch and its unpickler raise for files that are cut off, damaged or of another kind.
_DAMAGED = (
    RuntimeError,
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    struct.error,
)


def save_state(storage: Storage, state: Mapping[str, Any]) -> None:
    """Replace the run's state, whole or not at all.

    Args:
        storage: the run's output.
        state: tensors, numbers, texts, and lists and dicts of them.

    Raises:
        ObjectError, StorageError: it cannot be written.
    """
    with storage.open_write(LAST) as file:
        try:
            torch.save({"format": FORMAT, **state}, file)
        except RuntimeError as error:
            # torch ends its file even where writing failed, and hides that error behind one about positions.
            if isinstance(error.__context__, ObjectError | StorageError):
                raise error.__context__ from None
            raise


def load_state(storage: Storage, device: torch.device) -> dict[str, Any] | None:
    """The state of the run in an output, its tensors on a device; None where none was saved.

    Raises:
        WeightsError: there is one that is damaged or of another version.
        StorageError: it cannot be read.
    """
    try:
        with storage.open_read(LAST) as file:
            data = file.read()
    except MissingObject:
        return None
    except ObjectError as error:  # a run without it would begin again
        raise StorageError(f"{error}; fix that, or give another output") from error
    try:
        return state_of(data, device)
    except WeightsError as error:
        raise WeightsError(f"{storage.uri}/{LAST} {error}; give another output, or delete it") from error


def state_of(data: bytes, device: torch.device) -> dict[str, Any]:
    """The state in the content of a `last.pt`, its tensors on a device.

    Raises:
        WeightsError: it is damaged or of another version; the message is a predicate, to be said of the file.
    """
    try:
        state = torch.load(io.BytesIO(data), map_location=device, weights_only=True)
    except _DAMAGED as error:
        reason = " ".join(str(error).split())[:120]
        raise WeightsError(f"is not a checkpoint of a training run ({reason})") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise WeightsError("was not written by this version's training")
    return state


def save_judged(
    storage: Storage,
    key: str,
    network: Generator,
    config: TrainConfig,
    facts: Mapping[str, Any],
) -> None:
    """Write a generator that the other jobs load; its config and what is known of it go into its metadata."""
    extra = {CONFIG_KEY: json.dumps(to_tree(config)), TRAINING_KEY: json.dumps(dict(facts))}
    with storage.open_write(key) as file:
        save_generator(file, network, config.network, extra)


def save_top(
    storage: Storage,
    network: Generator,
    config: TrainConfig,
    facts: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
) -> None:
    """Keep the generator of an epoch if it is one of the best `checkpoint.top`, and delete those that no longer are.

    Args:
        storage: the run's output.
        network: the generator.
        config: the run's.
        facts: the row of its epoch.
        rows: those of the epochs before.
    """
    if config.checkpoint.top == 1:
        return
    wanted = {
        _top_key(row["epoch"]) for row in best_rows(config.checkpoint.metric, [*rows, facts], config.checkpoint.top)
    }
    key = _top_key(facts["epoch"])
    if key in wanted:
        save_judged(storage, key, network, config, facts)
    for found in list(storage.list(_TOP)):
        if found.key not in wanted:
            storage.delete(found.key)


def _top_key(epoch: int) -> str:
    return f"{_TOP}/epoch-{epoch:04}.safetensors"
