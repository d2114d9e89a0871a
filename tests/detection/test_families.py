"""The families of ultralytics' networks, with random weights: each finds what ultralytics' own predictor finds."""

import copy
import functools
import io
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from inpaint_core.detection.config import UltralyticsConfig
from inpaint_core.detection.detector import Detection
from inpaint_core.detection.prototype_masks import Letterbox, masks_of_boxes
from inpaint_core.detection.ultralytics import MAX_OBJECTS, UltralyticsDetector
from inpaint_core.errors import ConfigError, WeightsError
from tests.detection.networks import random_network, stored

CPU = torch.device("cpu")
CLASSES = ("pram", "red scooter", "dog")
SEGMENTATION = [
    "yolov8n-seg",
    "yolo11n-seg",
    "yolo26n-seg",
    "yolo26n-seg end2end",
    "yoloe-11n-seg",
    "yoloe-26n-seg end2end",
]
BOXES = ["yolov8n", "yolo11n", "yolo26n end2end", "yolov10n end2end", "yolov8s-worldv2"]
# What random weights make of float32's rounding, in confidences: where they amplify it, torch's own float32 is up to 4e-4 from float64.
ROUNDING = {"yolov10n end2end": 4e-4}
# The same of edges of boxes, in pixels: the last bit of the input's values moves them by up to 0.013.
BOX_ROUNDING = {"yolo11n": 0.02}
HEIGHT, WIDTH = 160, 192  # multiples of 32: both lay the image into the network's input without padding


@pytest.fixture(scope="module")
def image() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


@functools.cache
def built(family: str) -> Any:
    name, _, head = family.partition(" ")
    return random_network(f"{name}.yaml", CLASSES, end2end=head == "end2end")


@functools.cache
def checkpoint(family: str) -> bytes:
    """A stored network: `yolo26n-seg`, or `yolo26n-seg end2end` for its head without suppression."""
    return stored(built(family))


def network_of(family: str) -> Any:
    """The same as a network that the test may change."""
    return copy.deepcopy(built(family))


def detector_of(checkpoint: bytes, *, autocast: bool = False, **settings: Any) -> UltralyticsDetector:
    config = UltralyticsConfig(**({"weights": "my.pt", "classes": CLASSES, "image_size": WIDTH} | settings))
    return UltralyticsDetector(config, checkpoint, device=CPU, autocast=autocast)


def predicted(family: str, image: NDArray[np.uint8], folder: Path, confidence: float) -> Any:
    """What ultralytics' own predictor finds."""
    from ultralytics import YOLO

    path = folder / f"{family.partition(' ')[0]}.pt"
    path.write_bytes(checkpoint(family))
    [result] = YOLO(str(path)).predict(
        np.ascontiguousarray(image[..., ::-1]),
        retina_masks=True,
        conf=confidence,
        iou=0.7,
        imgsz=WIDTH,
        max_det=MAX_OBJECTS,
        agnostic_nms=False,
        nms=False if family.endswith("end2end") else None,
        verbose=False,
    )
    return result


def full(detection: Detection) -> NDArray[np.bool_]:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    height, width = detection.mask.shape
    mask[detection.top : detection.top + height, detection.left : detection.left + width] = detection.mask
    return mask


def inner(box: tuple[float, float, float, float]) -> bool:
    """Whether the box is away from the border (to which nearer ones are extended here) and not a sliver."""
    x0, y0, x1, y1 = box
    return min(x0, y0, WIDTH - x1, HEIGHT - y1) > 5 and min(x1 - x0, y1 - y0) > 8


@pytest.mark.parametrize("family", SEGMENTATION)
def test_boxes_and_masks_of_ultralytics_predictor(
    family: str, image: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # its engine lifts the limit
    [found] = detector_of(checkpoint(family), confidence=0.3).detect([image], ["x"])
    result = predicted(family, image, tmp_path, confidence=0.3)
    labels = np.array(CLASSES)[result.boxes.cls.numpy().astype(int)]
    confidences, boxes = result.boxes.conf.numpy(), result.boxes.xyxy.numpy()
    masks = result.masks.data.numpy().astype(bool)
    compared = 0
    for item in found:
        if not inner(item.box):
            continue
        near = np.isclose(boxes, item.box, atol=0.01).all(axis=1) & np.isclose(confidences, item.confidence, atol=1e-4)
        close = masks[near & (labels == item.label)]
        assert len(close), item.box
        compared += 1
        # A row or column of pixels that the box cuts is inside for one and outside for the other.
        x0, y0, x1, y1 = (round(edge) for edge in item.box)
        whole = np.s_[y0 + 1 : y1 - 1, x0 + 1 : x1 - 1]
        assert any((full(item) ^ mask)[whole].sum() <= 1 for mask in close)  # a logit of 0 but for rounding
    assert compared >= 10
    assert {item.label for item in found} == set(CLASSES)
    # An object whose mask is empty is dropped by both.
    assert len(found) == pytest.approx(len(boxes), abs=0.1 * len(boxes))


@pytest.mark.parametrize("family", BOXES)
def test_whole_boxes_of_a_detection_network(
    family: str, image: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    [found] = detector_of(checkpoint(family), confidence=0.3, whole_boxes=True).detect([image], ["x"])
    result = predicted(family, image, tmp_path, confidence=0.3)
    boxes = result.boxes.xyxy.numpy()
    # Random weights may exchange two edges, or place a box outside the image.
    proper = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    boxes, confidences = boxes[proper], result.boxes.conf.numpy()[proper]
    found = [item for item in found if item.box[2] > item.box[0] and item.box[3] > item.box[1]]
    assert len(found) == len(boxes)
    assert sum(inner(item.box) for item in found) >= 10
    for item, confidence in zip(found, confidences, strict=True):
        assert item.confidence == pytest.approx(confidence, abs=ROUNDING.get(family, 1e-4))
        assert item.mask.all()
        if inner(item.box):
            assert np.isclose(boxes, item.box, atol=BOX_ROUNDING.get(family, 0.01)).all(axis=1).any()
            x0, y0, x1, y1 = item.box
            assert abs(item.left - x0) <= 0.5
            assert abs(item.top - y0) <= 0.5
            assert abs(item.left + item.mask.shape[1] - x1) <= 0.5
            assert abs(item.top + item.mask.shape[0] - y1) <= 0.5


def test_whole_boxes_of_a_segmentation_network(image: NDArray[np.uint8]) -> None:
    [boxes] = detector_of(checkpoint("yolo11n-seg"), whole_boxes=True).detect([image], ["x"])
    [masks] = detector_of(checkpoint("yolo11n-seg")).detect([image], ["x"])
    by_box = {item.box: full(item) for item in boxes}
    assert masks
    for item in masks:
        assert by_box[item.box].sum() >= item.pixels
        assert (by_box[item.box] | full(item)).sum() == by_box[item.box].sum()
    assert all(item.mask.all() for item in boxes)


@pytest.mark.parametrize("family", [*SEGMENTATION, *BOXES])
def test_a_batch_gives_what_single_images_give(family: str, image: NDArray[np.uint8]) -> None:
    detector = detector_of(checkpoint(family), confidence=0.4, whole_boxes="seg" not in family)
    images = [image, np.ascontiguousarray(image[::-1]), np.ascontiguousarray(image[:, :100])]
    batch = detector.detect(images, ["a", "b", "c"])
    for one, found in zip(images, batch, strict=True):
        [alone] = detector.detect([one], ["x"])
        assert len(found) == pytest.approx(len(alone), abs=2)  # a confidence may lie at the threshold
        assert found
        for item in found:
            assert item.top >= 0
            assert item.left >= 0
            assert item.top + item.mask.shape[0] <= one.shape[0]
            assert item.left + item.mask.shape[1] <= one.shape[1]


@pytest.mark.parametrize("family", ["yolo26n-seg end2end", "yoloe-11n-seg", "yolov8s-worldv2"])
def test_the_head_is_kept_in_float32(family: str, image: NDArray[np.uint8]) -> None:
    settings = {"confidence": 0.4, "whole_boxes": "seg" not in family}
    [exact] = detector_of(checkpoint(family), **settings).detect([image], ["x"])
    [rounded] = detector_of(checkpoint(family), autocast=True, **settings).detect([image], ["x"])
    assert len(rounded) == pytest.approx(len(exact), rel=0.5)
    corners = np.array([item.box for item in rounded])
    inside = corners[(corners > 1).all(axis=1) & (corners[:, 2] < WIDTH - 1) & (corners[:, 3] < HEIGHT - 1)]
    # bfloat16 has steps of 0.5 for values from 64 on; float32 has not.
    assert (np.abs(inside * 8 - np.round(inside * 8)) > 1e-3).mean() > 0.9


def test_only_the_wanted_classes_without_suppression(image: NDArray[np.uint8]) -> None:
    [everything] = detector_of(checkpoint("yolo26n-seg end2end")).detect([image], ["x"])
    [dogs] = detector_of(checkpoint("yolo26n-seg end2end"), classes=("dog",)).detect([image], ["x"])
    assert dogs
    assert [item.box for item in dogs] == [item.box for item in everything if item.label == "dog"]


def test_a_head_without_suppression_is_not_limited_to_300_objects(image: NDArray[np.uint8]) -> None:
    detector = detector_of(checkpoint("yolo26n end2end"), confidence=0.01, whole_boxes=True, image_size=384)
    [found] = detector.detect([image], ["x"])
    assert 300 < len(found) <= MAX_OBJECTS


def test_a_network_that_was_fused_before_it_was_stored(image: NDArray[np.uint8]) -> None:
    [expected] = detector_of(checkpoint("yolo26n-seg end2end"), confidence=0.4).detect([image], ["x"])
    network = network_of("yolo26n-seg end2end")
    network.fuse(verbose=False)
    [found] = detector_of(stored(network), confidence=0.4).detect([image], ["x"])
    assert len(found) == pytest.approx(len(expected), abs=2)


def test_several_passes(image: NDArray[np.uint8]) -> None:
    detector = detector_of(checkpoint("yolo26n-seg end2end"), confidence=0.6, more_sizes=(96,), mirror=True)
    [found] = detector.detect([image], ["x"])
    assert {item.label for item in found} <= set(CLASSES)
    assert found


# Open vocabularies.


class TextEncoder:
    """In place of MobileCLIP, which ultralytics would download: a fixed random vector for each text."""

    def tokenize(self, texts: list[str]) -> torch.Tensor:
        return torch.tensor([[sum(text.encode())] for text in texts])

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        rows = [torch.randn(512, generator=torch.Generator().manual_seed(int(token))) for token in tokens[:, 0]]
        return nn.functional.normalize(torch.stack(rows), dim=-1)


@pytest.fixture
def text_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    # The module itself cannot be imported without a package from GitHub.
    module = SimpleNamespace(build_text_model=lambda variant, device: TextEncoder())
    monkeypatch.setitem(sys.modules, "ultralytics.nn.text_model", module)


@pytest.mark.usefixtures("text_encoder")
@pytest.mark.parametrize("architecture", ["yoloe-11n-seg", "yoloe-26n-seg"])
def test_classes_that_were_embedded_as_the_documents_say(
    architecture: str, image: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    from ultralytics import YOLOE

    published = tmp_path / f"{architecture}.pt"
    network = network_of(architecture)
    del network.pe  # a checkpoint that takes texts has none
    published.write_bytes(stored(network))

    own = tmp_path / "own.pt"
    network = YOLOE(str(published))
    network.set_classes(["pram", "shopping trolley"])
    network.save(str(own))

    config = UltralyticsConfig(weights="own.pt", classes=("shopping trolley",), image_size=WIDTH, confidence=0.2)
    [found] = UltralyticsDetector(config, own.read_bytes(), device=CPU, autocast=False).detect([image], ["x"])
    assert {item.label for item in found} == {"shopping trolley"}
    with pytest.raises(ConfigError) as caught:
        UltralyticsDetector(UltralyticsConfig(classes=("scooter",)), own.read_bytes(), device=CPU, autocast=False)
    assert str(caught.value) == (
        "detector.classes: the network has no class 'scooter'. It has 2 classes: pram, shopping trolley; its classes are "
        "embedded in the checkpoint: embed others with `set_classes` of ultralytics (docs/remove.md)."
    )


@pytest.mark.usefixtures("text_encoder")
def test_classes_of_yolo_world_that_were_embedded_as_the_documents_say(
    image: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    from ultralytics import YOLOWorld

    published, own = tmp_path / "yolov8s-worldv2.pt", tmp_path / "own.pt"
    published.write_bytes(stored(network_of("yolov8s-worldv2")))
    network = YOLOWorld(str(published))
    network.set_classes(["pram", "shopping trolley"])
    network.save(str(own))

    config = UltralyticsConfig(classes=("shopping trolley",), image_size=WIDTH, confidence=0.2, whole_boxes=True)
    [found] = UltralyticsDetector(config, own.read_bytes(), device=CPU, autocast=False).detect([image], ["x"])
    assert {item.label for item in found} == {"shopping trolley"}


def prompt_free(architecture: str) -> Any:
    """A network with its vocabulary in the head, as ultralytics makes its `-pf` checkpoints."""
    from ultralytics.nn.modules.head import YOLOEDetect

    source, network = network_of(architecture), network_of(architecture)
    source.get_text_pe = lambda names: source.pe
    network.args = {"imgsz": 64}
    network.set_vocab(source.get_vocab(list(CLASSES)), list(CLASSES))
    del network.pe
    assert isinstance(network.model[-1], YOLOEDetect)
    return network


@pytest.mark.parametrize("architecture", ["yoloe-11n-seg", "yoloe-26n-seg"])
def test_a_prompt_free_network(architecture: str, image: NDArray[np.uint8]) -> None:
    detector = detector_of(stored(prompt_free(architecture)), confidence=0.3)
    [found] = detector.detect([image], ["x"])
    assert {item.label for item in found} <= set(CLASSES)
    assert found
    first, second = detector.detect([image, np.ascontiguousarray(image[::-1])], ["a", "b"])
    assert len(first) == pytest.approx(len(found), abs=2)
    assert second
    [rounded] = detector_of(stored(prompt_free(architecture)), confidence=0.3, autocast=True).detect([image], ["x"])
    assert rounded


def test_six_anchors_are_not_taken_for_an_end_to_end_output(image: NDArray[np.uint8]) -> None:
    network = prompt_free("yoloe-11n-seg")
    # The filter of proposals lets nothing pass; the coarsest level, of 3 x 2 cells here, has no filter.
    for level in network.model[-1].lrpc:
        if level.enabled:
            level.pf.bias.data.fill_(-99)
    detector = detector_of(stored(network), confidence=0.05, image_size=96)
    [found] = detector.detect([np.ascontiguousarray(image[:64, :96])], ["x"])
    assert 0 < len(found) <= 6
    assert all(0 < item.confidence <= 1 for item in found)


def test_an_open_vocabulary_without_classes_is_refused() -> None:
    network = network_of("yoloe-11n-seg")
    del network.pe
    with pytest.raises(WeightsError) as caught:
        detector_of(stored(network))
    assert str(caught.value) == (
        "detector.weights: my.pt is an open-vocabulary network without classes; embed them with `set_classes` of "
        "ultralytics and save it (docs/remove.md), or give a prompt-free checkpoint such as yoloe-11s-seg-pf.pt."
    )


# Networks that are refused.


@pytest.mark.parametrize("architecture", ["yolo11n", "yolov8s-worldv2"])
def test_boxes_are_not_filled_unless_it_is_said(architecture: str) -> None:
    with pytest.raises(WeightsError) as caught:
        detector_of(checkpoint(architecture))
    assert str(caught.value) == (
        "detector.weights: my.pt is a network for the task `detect`, and masks need the task `segment`; give a "
        "checkpoint such as yolo11n-seg.pt, or fill the whole boxes of this one with detector.whole_boxes=true."
    )


@pytest.mark.parametrize(
    ("model", "architecture", "task"),
    [
        ("PoseModel", "yolo11n-pose.yaml", "pose"),
        ("OBBModel", "yolo11n-obb.yaml", "obb"),
        ("ClassificationModel", "yolo11n-cls.yaml", "classify"),
    ],
)
@pytest.mark.parametrize("whole_boxes", [False, True])
def test_a_network_for_another_task_is_refused(model: str, architecture: str, task: str, whole_boxes: bool) -> None:
    from ultralytics.nn import tasks

    network = getattr(tasks, model)(architecture, verbose=False)
    with pytest.raises(WeightsError) as caught:
        detector_of(stored(network), whole_boxes=whole_boxes)
    assert str(caught.value) == (
        f"detector.weights: my.pt is a network for the task `{task}`, and masks need the task `segment`; give a "
        "checkpoint such as yolo11n-seg.pt."
    )


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"task": "detect"}, "is a detection network with the head RTDETRDecoder, which is not supported; "),
        ({}, "is a network for another task, and masks need the task `segment`; "),
    ],
)
def test_a_detection_network_of_another_kind_is_refused(args: dict[str, str], message: str) -> None:
    from ultralytics.nn.modules import RTDETRDecoder

    network = network_of("yolo11n")
    network.model[-1] = RTDETRDecoder(nc=3, ch=(64, 128, 256), hd=32, nq=10, nh=2, ndl=1, d_ffn=32)
    network.yaml["head"][-1][-2] = "RTDETRDecoder"
    network.args = args
    with pytest.raises(WeightsError) as caught:
        detector_of(stored(network), whole_boxes=True)
    assert str(caught.value).startswith(f"detector.weights: my.pt {message}")


@pytest.mark.parametrize("names", [{0: "pram"}, None])
def test_class_names_that_are_not_those_of_the_head_are_refused(names: dict[int, str] | None) -> None:
    network = network_of("yolov8n-seg")
    network.names = names
    if names is None:
        del network.names
    with pytest.raises(WeightsError, match=r"my\.pt has names of [01] classes, but predicts 3"):
        detector_of(stored(network))


def test_a_list_of_names(image: NDArray[np.uint8]) -> None:
    network = network_of("yolov8n-seg")
    network.names = list(CLASSES)
    [found] = detector_of(stored(network), classes=("dog",)).detect([image], ["x"])
    assert {item.label for item in found} == {"dog"}


def test_a_checkpoint_of_float16() -> None:
    buffer = io.BytesIO()
    torch.save({"model": network_of("yolo26n-seg").half()}, buffer)
    config = UltralyticsConfig(classes=CLASSES, image_size=64)
    detector = UltralyticsDetector(config, buffer.getvalue(), device=CPU, autocast=False)
    assert len(detector.detect([np.zeros((64, 64, 3), dtype=np.uint8)], ["x"])) == 1


def test_whole_boxes_cover_the_pixels_whose_centres_they_contain() -> None:
    letterbox = Letterbox.fit(100, 200, 192)
    boxes = np.array([[20.4, 30.6, 50.6, 60.4], [1.0, 40.0, 199.0, 98.0]])
    (first, top, left), (second, second_top, second_left) = masks_of_boxes(boxes, letterbox)
    assert (top, left, first.shape) == (31, 20, (29, 31))
    # Within 3 pixels of the border of the network's input, a box is taken to end at the border.
    assert (second_top, second_left, second.shape) == (40, 0, (60, 200))
    assert first.all()
    assert second.all()
