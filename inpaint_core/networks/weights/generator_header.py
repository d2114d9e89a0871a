"""The header of a generator's safetensors file, read without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping

import safetensors
from pydantic import TypeAdapter, ValidationError

from inpaint_core.errors import WeightsError
from inpaint_core.networks.spec import GeneratorSpec
from inpaint_core.networks.weights.finite import all_finite

SPEC_KEY = "inpaint_core.network"
"""In a checkpoint's metadata: what the network is built from, as JSON."""

_SPEC: TypeAdapter[GeneratorSpec] = TypeAdapter(GeneratorSpec)


def check_generator(data: bytes) -> None:
    """Refuse a file that is not a whole checkpoint of a generator, or holds values that are not finite.

    Whether its tensors are those of its network is not looked at.

    Raises:
        WeightsError: it is damaged, of another kind, or of a network that this version cannot build.
    """
    try:
        tensors = safetensors.deserialize(data)  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError as error:
        raise not_safetensors(str(error)) from error
    read_spec(read_metadata(data))
    for name, tensor in tensors:
        if not all_finite(tensor["data"], tensor["dtype"]):
            raise not_finite(name)


def read_metadata(data: bytes) -> dict[str, str]:
    """The metadata of a safetensors file: the spec and what was passed as `extra`.

    Raises:
        WeightsError: the file is not safetensors.
    """
    # The library gives the metadata of a path only. The format: 8 bytes with the length of the JSON header, the header.
    length = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + length])
    except ValueError as error:
        raise not_safetensors("no JSON header") from error
    if not isinstance(header, dict):
        raise not_safetensors("no JSON header")
    metadata: dict[str, str] = header.get("__metadata__", {})
    return metadata


def not_finite(tensor: str) -> WeightsError:
    """For a file in which a tensor holds NaN or infinity, which training never writes."""
    return WeightsError(
        f"The checkpoint holds values in {tensor} that are not finite (NaN or infinity): it is damaged; copy it again from "
        "where it was trained."
    )


def not_safetensors(reason: str) -> WeightsError:
    """For a file that is of another kind, or damaged."""
    return WeightsError(
        f"The weights are not a complete safetensors file ({reason}): a network of this project needs the "
        "`.safetensors` file that its training wrote."
    )


def read_spec(metadata: Mapping[str, str]) -> GeneratorSpec:
    """What a generator is built from.

    Raises:
        WeightsError: the metadata describe no network that this version can build.
    """
    if SPEC_KEY not in metadata:
        raise WeightsError(
            f"The safetensors file has no {SPEC_KEY!r} in its metadata, which describes the network: it was not "
            "written by this project's training."
        )
    try:
        return _SPEC.validate_json(metadata[SPEC_KEY])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise WeightsError(
            f"This version cannot build the network of the checkpoint: its spec {metadata[SPEC_KEY]} is invalid"
            f"{' at ' + repr(where) if where else ''} ({first['msg']})."
        ) from error
