"""How a run is judged: on whole photographs, whatever size they are stored at."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from inpaint_core.hole_masks.sampler import evaluation_holes
from inpaint_core.images.tensors import channels_first
from inpaint_core.metrics.protocols import MetricSums, measure
from inpaint_core.training.data.samples import ImageBlocks
from inpaint_core.training.history import picture_grid
from inpaint_core.training.step import AdversarialStep
from inpaint_core.training.validation import Validation
from tests.training.small import CPU, config, photographs


def validation(images: NDArray[np.uint8]) -> Validation:
    blocks = ImageBlocks.of(images, size=3)
    return Validation(
        blocks, np.arange(len(images)), kinds=("center",), masked=False, objects=None, pictures=2, context=CPU
    )


@pytest.mark.parametrize("size", [128, 160])
def test_whole_photographs_are_judged_at_the_size_of_the_evaluation(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = photographs(4, size=size)
    whole = np.stack(
        [np.asarray(Image.fromarray(image).resize((128, 128), Image.Resampling.LANCZOS)) for image in stored]
    )
    if size == 128:
        np.testing.assert_array_equal(whole, stored)
    networks = AdversarialStep(config(), CPU, steps=1)
    # A fill of one colour, so that the figures are of these images alone.
    monkeypatch.setattr(networks, "fill", lambda images, masks: torch.zeros_like(images))
    judged = validation(stored)
    sums = MetricSums()
    holes = torch.from_numpy(evaluation_holes("center", range(4), seed=0, objects=None))[:, None]
    sums.add(measure(channels_first(whole), torch.full((4, 3, 128, 128), 128, dtype=torch.uint8), holes))
    assert judged.judge(networks) == pytest.approx(sums.means(), nan_ok=True)
    grid = judged.grid(networks)
    expected = picture_grid([np.zeros((2, 128, 128, 3), np.uint8), np.zeros((2, 128, 128, 3), np.uint8), whole[[0, 3]]])
    assert grid.shape == expected.shape
    np.testing.assert_array_equal(grid[:, -130:], expected[:, -130:])
