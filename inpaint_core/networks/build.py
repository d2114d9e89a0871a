"""From a spec to its network."""

from __future__ import annotations

from typing import assert_never

import torch

from inpaint_core.networks.context_encoder import ContextEncoder
from inpaint_core.networks.generator import Generator, initialise
from inpaint_core.networks.spec import ContextEncoderSpec, GeneratorSpec, UnetSpec
from inpaint_core.networks.unet import Unet


def empty_generator(spec: GeneratorSpec) -> Generator:
    """A generator without memory for its weights (on the device `meta`): where they come from elsewhere, none are drawn."""
    with torch.device("meta"):
        match spec:
            case ContextEncoderSpec():
                return ContextEncoder(spec)
            case UnetSpec():
                return Unet(spec)
            case _:
                assert_never(spec)


def build_generator(spec: GeneratorSpec, generator: torch.Generator) -> Generator:
    """A generator with new weights drawn from `generator`, on its device, in training mode."""
    network = empty_generator(spec).to_empty(device=generator.device)
    initialise(network, generator)
    return network
