"""Train a detector of a few classes by a teacher: `inpaint detector data=URI output=URI [key.path=value ...]`."""

from __future__ import annotations

from collections.abc import Sequence

from inpaint_core.cli import run_command
from inpaint_core.images.collections.config import ReadingConfig
from inpaint_core.progress import PrintLine
from inpaint_core.training.detector.config import DistillationConfig


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tool; returns the exit code (0, 2: a problem to fix, 130: interrupted)."""
    return run_command(
        DistillationConfig,
        "inpaint detector",
        "Train a small YOLOv8 segmentation network, from random weights, to answer as a teacher does.",
        _train,
        interrupted="the same command resumes from the last checkpoint",
        arguments=arguments,
    )


def _train(config: DistillationConfig, print_line: PrintLine) -> int:
    from inpaint_core.detection.checkpoints import download
    from inpaint_core.device import choose_device
    from inpaint_core.images.collections.photographs import load_photographs
    from inpaint_core.networks.weights.load import load_weights
    from inpaint_core.storage import open_storage
    from inpaint_core.training.detector.run import DETECTOR, FREE, DistillationRun
    from inpaint_core.training.run_folder import check_apart, claim_output

    key = "teacher.weights"
    device = choose_device(config.device, "device")
    storage = open_storage(config.output, config.s3)
    check_apart("data", config.data, storage, config.s3)
    teacher = load_weights(
        config.teacher.weights, config.teacher.sha256, config.s3, key=key, download=lambda name: download(name, key)
    )
    initial = load_weights(config.initial, None, config.s3, key="initial").data if config.initial else None
    run = DistillationRun(config, teacher.data, initial, device, print_line)
    goes_on = claim_output(storage, config, FREE)
    print_line(f"reading {config.data}")
    reading = ReadingConfig(extensions=config.extensions, limit=config.limit, max_failed=config.max_failed)
    photographs = load_photographs(config.data, config.s3, reading, config.stored_size)
    print_line(f"{len(photographs.keys):,} photographs read, {len(photographs.failures):,} unreadable")
    run(photographs.pixels, photographs.keys, storage, goes_on=goes_on)
    print_line(f"written: {storage.uri}/{DETECTOR}")
    return 0
