"""Whether the output of a run that was disturbed is the one of a run that was not: the history, the networks and the files.

With one worker of one thread and float32, the two agree bit for bit: samples depend on the seed and the step only, and a
checkpoint holds all that the next step follows from. Only times differ.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import torch

from inpaint_core.networks.weights.generator_file import TRAINING_KEY, load_generator
from inpaint_core.networks.weights.generator_header import read_metadata
from inpaint_core.storage import Storage
from inpaint_core.training.checkpoint import BEST_GENERATOR, LAST_GENERATOR, load_state
from inpaint_core.training.history import best_row, read_history
from inpaint_core.training.run_folder import LAST

TIMES = ("seconds", "images_per_second", "data_wait")
"""Columns of the history that differ from run to run."""

_EVENTS = re.compile(r"tensorboard/events\.out\.tfevents\.[^/]+")  # one of each start
_CPU = torch.device("cpu")


def differences(whole: Storage, disturbed: Storage, epochs: int, metric: Any = "table_psnr") -> list[str]:
    """What is wrong with a run; nothing: it has each epoch once, and is the same run.

    Args:
        whole: the output of the run that nothing disturbed.
        disturbed: that of the other, of the same config.
        epochs: that both have.
        metric: `checkpoint.metric`.
    """
    rows = {name: read_history(storage) for name, storage in (("undisturbed", whole), ("disturbed", disturbed))}
    wrong = [
        f"{name}: the epochs of the history are {[row['epoch'] for row in told]}"
        for name, told in rows.items()
        if [row["epoch"] for row in told] != list(range(1, epochs + 1))
    ]
    if wrong:
        return wrong
    for one, other in zip(*rows.values(), strict=True):
        for column in one:
            if column not in TIMES and one[column] != other[column]:
                wrong.append(f"epoch {one['epoch']}: {column} is {other[column]}, undisturbed {one[column]}")
    best = best_row(metric, rows["disturbed"])
    assert best is not None
    return [
        *wrong,
        *_generator(whole, disturbed, BEST_GENERATOR, best["epoch"]),
        *_generator(whole, disturbed, LAST_GENERATOR, epochs),
        *_state(whole, disturbed, epochs),
        *_files(whole, disturbed),
    ]


def largest_difference(whole: Storage, disturbed: Storage) -> float:
    """Of any value of the history besides times, relative to the undisturbed one."""
    largest = 0.0
    for one, other in zip(read_history(whole), read_history(disturbed), strict=False):
        for column in one.keys() - set(TIMES):
            if one[column] and other[column] is not None:
                largest = max(largest, abs(other[column] / one[column] - 1))
    return largest


def _generator(whole: Storage, disturbed: Storage, key: str, epoch: int) -> Iterator[str]:
    data = disturbed.read(key)
    told = json.loads(read_metadata(data)[TRAINING_KEY])["epoch"]
    if told != epoch:
        yield f"{key}: of epoch {told}, not {epoch}"
    networks = [load_generator(content)[0].state_dict() for content in (whole.read(key), data)]
    yield from (f"{key}: {name} differs" for name in _differing(*networks))


def _state(whole: Storage, disturbed: Storage, epochs: int) -> Iterator[str]:
    states = [load_state(storage, _CPU) for storage in (whole, disturbed)]
    if states[0] is None or states[1] is None:
        yield f"{LAST}: missing"
    elif states[1]["epoch"] != epochs:
        # Written after the history, by which a finished run is told.
        if states[1]["epoch"] != epochs - 1:
            yield f"{LAST}: of epoch {states[1]['epoch']}, not {epochs}"
    else:
        for part in ("generator", "discriminator", "average"):
            networks = [state["networks"][part] for state in states]
            yield from (f"{LAST}: {part}.{name} differs" for name in _differing(*networks))


def _differing(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> list[str]:
    """The first tensor that is not the same."""
    if one.keys() != other.keys():
        return ["the set of tensors"]
    return [name for name in one if not torch.equal(one[name], other[name])][:1]


def _files(whole: Storage, disturbed: Storage) -> Iterator[str]:
    keys = [{info.key for info in storage.list() if not _EVENTS.fullmatch(info.key)} for storage in (whole, disturbed)]
    yield from (f"{key}: missing" for key in sorted(keys[0] - keys[1]))
    yield from (f"{key}: stray" for key in sorted(keys[1] - keys[0]))
    for key in sorted(keys[0] & keys[1]):
        if key.startswith("pictures/") and whole.read(key) != disturbed.read(key):
            yield f"{key}: another picture"
