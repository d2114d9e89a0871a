"""Networks of ultralytics with prepared convolutions, against float64 and against themselves."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from inpaint_core.detection.config import UltralyticsConfig
from inpaint_core.detection.prepared import LaterPrototypes, prepare_convolutions, prototypes_later
from inpaint_core.detection.ultralytics import UltralyticsDetector
from inpaint_core.networks.onednn import PreparedConvolution, can_prepare
from inpaint_core.networks.weights.pretrained import DETECTOR, read_pretrained
from tests.detection.test_families import built

CPU = torch.device("cpu")
prepared_here = pytest.mark.skipif(not can_prepare(CPU, torch.bfloat16), reason="no bfloat16 in oneDNN on this CPU")


def ready(family: str) -> Any:
    network = copy.deepcopy(built(family))
    network.fuse(verbose=False)
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def scores(network: Any, images: Tensor) -> Tensor:
    """The confidences of all anchors, before any are chosen."""
    with torch.inference_mode():
        raw = network(images)[1]
    made: Tensor = raw.get("one2one", raw)["scores"]
    return made.double().sigmoid()


@prepared_here
@pytest.mark.parametrize("family", ["yolov8n-seg", "yolo11n-seg", "yolov10n end2end"])
def test_float32_is_as_near_to_float64_as_that_of_torch(family: str) -> None:
    images = torch.rand(1, 3, 96, 128, generator=torch.Generator().manual_seed(0))
    exact = scores(ready(family).double(), images.double())
    plain = scores(ready(family), images.contiguous(memory_format=torch.channels_last))
    network = ready(family)
    prepare_convolutions(network, torch.float32)
    made = scores(network, images)
    # Another order of sums rounds otherwise: 0.9 to 1.6 times as far, by image and network.
    assert (made - exact).abs().mean() < 3 * (plain - exact).abs().mean()


@prepared_here
def test_the_last_layers_compute_in_float32() -> None:
    network = ready("yolov8n-seg")
    prepare_convolutions(network, torch.bfloat16)
    head = network.model[-1]
    for branch in (*head.cv2, *head.cv3, *head.cv4):
        first, second, last = branch
        assert (first.dtype, first.result) == (torch.bfloat16, torch.bfloat16)
        assert (second.dtype, second.result) == (torch.bfloat16, torch.bfloat16)
        assert (last.dtype, last.result) == (torch.float32, torch.float32)
    assert head.proto.cv3.result == torch.float32
    left = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert left == [head.dfl.conv]
    assert sum(isinstance(module, PreparedConvolution) for module in network.modules()) == 75


def test_prototypes_are_made_where_something_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from ultralytics.utils import ASSETS

    config = UltralyticsConfig(weights=DETECTOR, image_size=320, tiles="off")
    detector = UltralyticsDetector(config, read_pretrained(DETECTOR), device=CPU, autocast=False)
    made: list[int] = []
    own = LaterPrototypes.of

    def counted(self: LaterPrototypes, features: Tensor) -> Tensor:
        made.append(len(features))
        return own(self, features)

    monkeypatch.setattr(LaterPrototypes, "of", counted)
    image = np.asarray(Image.open(ASSETS / "bus.jpg").convert("RGB"))
    flat = np.full_like(image, 114)
    assert detector.detect([flat], ["flat"]) == [[]]
    assert made == []
    [alone] = detector.detect([image], ["bus"])
    assert made == [1]
    several = detector.detect([flat, image, flat], ["a", "b", "c"])
    assert made == [1, 1]
    assert [len(found) for found in several] == [0, len(alone), 0]
    assert alone
    for one, other in zip(alone, several[1], strict=True):
        assert one.box == pytest.approx(other.box, abs=0.01)
        assert one.mask.shape == other.mask.shape
        assert (one.mask ^ other.mask).mean() < 0.001


def test_prototypes_of_several_maps_are_not_put_off() -> None:
    assert prototypes_later(ready("yolo26n-seg").model[-1]) is None
    assert prototypes_later(ready("yolov8n").model[-1]) is None
