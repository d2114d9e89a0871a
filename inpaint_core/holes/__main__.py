"""Make a file of object shapes: `python -m inpaint_core.holes input=URI output=FILE.parquet [key.path=value ...]`."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

from inpaint_core.config import argument_parser, load_config, to_yaml
from inpaint_core.errors import ConfigError, ObjectError, UserError
from inpaint_core.holes.config import ObjectShapesConfig


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tool; returns the exit code (0, 2: something to mend, 130: interrupted)."""
    parser = argument_parser(
        ObjectShapesConfig,
        "python -m inpaint_core.holes",
        "Collect the shapes of the objects in photographs, for holes of kind `objects`.",
    )
    given = parser.parse_intermixed_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a stopped run ends as with Ctrl-C
    try:
        config = load_config(ObjectShapesConfig, given.config, given.overrides)
        if given.print_config:
            sys.stdout.write(to_yaml(config))
            return 0
        _run(config)
    except (UserError, ObjectError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; nothing was written\n")
        return 130
    return 0


def _run(config: ObjectShapesConfig) -> None:
    # Here: torch and ultralytics take seconds to import, which --help and a wrong key should not wait for.
    import torch

    from inpaint_core.detectors import build_detector
    from inpaint_core.detectors.yolov8 import download
    from inpaint_core.holes.extraction import extract_shapes
    from inpaint_core.weights import load_weights

    if config.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device: cuda is asked for, but torch sees no GPU here; say cpu or auto")
    device = torch.device("cuda" if config.device != "cpu" and torch.cuda.is_available() else "cpu")
    weights = load_weights(
        config.detector.weights, config.detector.sha256, config.s3, key="detector.weights", download=download
    )
    detector = build_detector(config.detector, weights.data, storage=None, device=device, autocast=False)
    result = extract_shapes(config, detector, say=_say)
    _say(str(result))
    _say(f"written: {config.output}")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
