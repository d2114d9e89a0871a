"""A trained generator as a file to hand on: `inpaint export RUN/best.safetensors FILE.safetensors`.

Half the size (float16), and in its metadata the network and the config that trained it, without what belongs to one
machine: where the data and the output lay.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from inpaint_core.errors import UserError
from inpaint_core.networks.weights.generator_header import read_metadata

_OF_ONE_MACHINE = ("data", "output", "initial", "s3", "scaling")


def exported(data: bytes) -> bytes:
    """A generator's checkpoint in float16, its metadata without places.

    Args:
        data: the content of a checkpoint that training wrote.

    Raises:
        WeightsError: it is none.
    """
    from inpaint_core.networks.weights.generator_file import (  # torch, for which `--help` should not wait
        CONFIG_KEY,
        TRAINING_KEY,
        load_generator,
        save_generator,
    )

    network, spec = load_generator(data)
    metadata = read_metadata(data)
    extra = {}
    if TRAINING_KEY in metadata:
        extra[TRAINING_KEY] = metadata[TRAINING_KEY]
    if CONFIG_KEY in metadata:
        extra[CONFIG_KEY] = json.dumps(_without_places(json.loads(metadata[CONFIG_KEY])))
    file = io.BytesIO()
    save_generator(file, network.half(), spec, extra)
    return _in_order(file.getvalue())


def _in_order(data: bytes) -> bytes:
    """A safetensors file whose metadata are in the order of their names: the library's own is another each time.

    The format: 8 bytes with the length of the JSON header, the header, the tensors, by places that count from there.
    """
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def _without_places(config: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in config.items() if key not in _OF_ONE_MACHINE}
    for section, key in (("validation", "data"), ("holes", "objects")):
        if isinstance(kept.get(section), Mapping):
            kept[section] = {name: value for name, value in kept[section].items() if name != key}
    return kept


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    parser = argparse.ArgumentParser("inpaint export", description=(__doc__ or "").strip())
    parser.add_argument("checkpoint", type=Path, help="a generator as training wrote it")
    parser.add_argument("file", type=Path, help="where to write it in float16")
    given = parser.parse_args(arguments)
    try:
        data = exported(given.checkpoint.read_bytes())
        given.file.write_bytes(data)
    except (UserError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(f"{given.file}: {len(data) / 1e6:.1f} MB, SHA-256 {hashlib.sha256(data).hexdigest()}\n")
    return 0
