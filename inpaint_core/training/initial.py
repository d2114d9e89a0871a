"""The network that a run starts from, where that is not one with new weights."""

from __future__ import annotations

import io
import json
from dataclasses import asdict
from typing import Any

import torch

from inpaint_core.errors import WeightsError
from inpaint_core.networks.build import empty_generator
from inpaint_core.networks.generator import Generator
from inpaint_core.networks.spec import GeneratorSpec
from inpaint_core.networks.weights.generator_file import load_generator, save_generator
from inpaint_core.networks.weights.generator_header import SPEC_KEY, read_spec
from inpaint_core.networks.weights.load import load_weights
from inpaint_core.networks.weights.pretrained import SHA256
from inpaint_core.training.checkpoint import BEST_GENERATOR, state_of
from inpaint_core.training.config import TrainConfig

_GENERATOR, _STATE = ".safetensors", ".pt"
_ZIP = b"PK\x03\x04"
"""What torch's files begin with."""


def read_initial(config: TrainConfig) -> bytes | None:
    """The network that `initial` names, as the content of a generator's file; None where it names none.

    Of a run's `last.pt` that is the moving average, or the generator itself where the run has none.

    Raises:
        WeightsError: there is no such file, it is no network of this project, or not one of the form of `network`: the
            message names the keys that differ.
        StorageError: its store cannot be used.
    """
    if config.initial is None:
        return None
    data = load_weights(_file(config.initial), None, config.s3, key="initial").data
    try:
        network, spec = _network(data)
    except WeightsError as error:
        raise WeightsError(f"initial: {config.initial}: {error}") from error
    _check_form(config.initial, spec, config.network)
    file = io.BytesIO()
    save_generator(file, network, spec, {})
    return file.getvalue()


def _file(reference: str) -> str:
    if reference.endswith((_GENERATOR, _STATE)):
        return reference
    shipped = f"{reference}{_GENERATOR}"
    return shipped if shipped in SHA256 else f"{reference.rstrip('/')}/{BEST_GENERATOR}"


def _network(data: bytes) -> tuple[Generator, GeneratorSpec]:
    if not data.startswith(_ZIP):
        return load_generator(data)
    try:
        state = state_of(data, torch.device("cpu"))
    except WeightsError as error:
        raise WeightsError(f"it {error}; give a .safetensors file, or the last.pt of a run") from error
    spec = read_spec({SPEC_KEY: json.dumps(state["config"]["network"])})
    networks: dict[str, Any] = state["networks"]
    network = empty_generator(spec)
    network.load_state_dict(networks["average"] if "average" in networks else networks["generator"], assign=True)
    return network, spec


def _check_form(reference: str, there: GeneratorSpec, here: GeneratorSpec) -> None:
    old, new = asdict(there), asdict(here)
    if there.kind == here.kind == "unet":
        del old["size"]  # weights of a U-Net do not depend on it
    differing = {key: value for key, value in old.items() if new.get(key) != value}
    if not differing:
        return
    named = ["kind"] if "kind" in differing else list(differing)
    facts = ", ".join(f"network.{key} is {_text(old[key])} there and {_text(new[key])} here" for key in named)
    settings = " ".join(f"network.{key}={_text(value)}" for key, value in differing.items())
    raise WeightsError(f"initial: {reference} is a network of another form ({facts}); set {settings}")


def _text(value: object) -> str:
    """As it is written in a setting."""
    return str(value).lower() if isinstance(value, bool) else str(value)
