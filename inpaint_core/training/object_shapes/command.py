"""Make a file of object shapes: `inpaint shapes input=URI output=FILE.parquet [key.path=value ...]`."""

from __future__ import annotations

from collections.abc import Sequence

from inpaint_core.cli import run_command
from inpaint_core.progress import PrintLine
from inpaint_core.training.object_shapes.config import ObjectShapesConfig


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tool; returns the exit code (0, 2: a problem to fix, 130: interrupted)."""
    return run_command(
        ObjectShapesConfig,
        "inpaint shapes",
        "Collect the shapes of the objects in photographs, for holes of kind `objects`.",
        _collect,
        interrupted="nothing was written",
        arguments=arguments,
    )


def _collect(config: ObjectShapesConfig, print_line: PrintLine) -> int:
    from inpaint_core.device import choose_device
    from inpaint_core.training.object_shapes.extraction import extract_shapes

    device = choose_device(config.device, "device")
    weights = config.detector.weights_file().load(config.s3, key="detector.weights")
    detector = config.detector.build(weights.data, s3=config.s3, device=device, autocast=False)
    result = extract_shapes(config, detector, print_line=print_line)
    print_line(str(result))
    print_line(f"written: {config.output}")
    return 0
