"""The result of an image does not depend on the images that it shares a batch with, or on their order."""

from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import pytest
import torch

from inpaint_core.detection.config import UltralyticsConfig
from inpaint_core.device import has_bfloat16
from inpaint_core.networks.weights.load import Weights
from inpaint_core.networks.weights.pretrained import INPAINTER, read_pretrained
from inpaint_core.removal.build import build_inpainter
from inpaint_core.removal.config import MeasureConfig, RemoveConfig, ScalingConfig
from inpaint_core.removal.image_task import ImageTask
from inpaint_core.removal.record import Record
from inpaint_core.removal.remover import ObjectRemover, remove_objects
from tests.samples import PaintDetector, encoded, painted, photograph

CPU = torch.device("cpu")
_OF_A_RUN = ("seconds", "finished_at")

Results = dict[str, tuple[bytes | None, dict[str, Any]]]


def photographs(count: int) -> dict[str, bytes]:
    """Files of different sizes, each with a large object and every other with a small one, too."""
    random = np.random.default_rng(0)
    files = {}
    for number in range(count):
        height, width = (int(side) for side in random.integers(200, 256, 2))
        top, left = height // 4 + number, width // 3 - number
        boxes = [(left, top, left + width // 2, top + height // 2)] + [(2, 3, 20, 30)] * (number % 2)
        files[f"{number}.png"] = encoded(painted(photograph((width, height), "chelsea.png", number), *boxes))
    return files


def in_batches(remover: ObjectRemover, files: dict[str, bytes], batches: Sequence[Sequence[str]]) -> Results:
    results: Results = {}
    for keys in batches:
        tasks = [
            ImageTask(Record(key, len(files[key]), "", "", "", datetime.now(UTC)), data=files[key]) for key in keys
        ]
        for task in tasks:
            remover.decode(task)
        remover.fill(tasks)
        for task in tasks:
            remover.encode(task)
        remover.count_residuals(tasks)
        remover.judge(tasks)
        results |= {task.key: (task.output, columns(remover.finish(task))) for task in tasks}
    return results


def columns(record: Record) -> dict[str, Any]:
    return {field.name: getattr(record, field.name) for field in fields(record) if field.name not in _OF_A_RUN}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_batches_and_their_order_make_no_difference(precision: Literal["float32", "bfloat16"]) -> None:
    if precision == "bfloat16" and not has_bfloat16(CPU):
        pytest.skip("this CPU computes bfloat16 slowly")
    config = RemoveConfig(
        "in",
        "out",
        detector=UltralyticsConfig(classes=("paint",)),
        measure=MeasureConfig(shifted_hole=False),  # with it, few images would have a single window
        scaling=ScalingConfig(precision=precision),
    )
    weights = Weights(INPAINTER, read_pretrained(INPAINTER), "")
    remover = ObjectRemover(config, PaintDetector(), build_inpainter(config, weights, device=CPU))
    files = photographs(3)
    together = in_batches(remover, files, [list(files)])
    assert [record["status"] for _, record in together.values()] == ["cleaned"] * 3
    assert in_batches(remover, files, [["2.png", "0.png"], ["1.png"]]) == together
    output, record = remove_objects(files["2.png"], remover, key="2.png")
    assert (output, columns(record)) == together["2.png"]
