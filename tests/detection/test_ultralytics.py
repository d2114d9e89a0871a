"""The detector of ultralytics' networks: geometry with prototypes made here, then photographs and a real network."""

import io
import math
import os
import re
import socket
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from inpaint_core.detection import checkpoints as checkpoint_files
from inpaint_core.detection.checkpoints import download, load_network
from inpaint_core.detection.config import UltralyticsConfig
from inpaint_core.detection.detector import Detection
from inpaint_core.detection.prototype_masks import BORDER_REACH, Letterbox, masks_from_prototypes
from inpaint_core.detection.ultralytics import UltralyticsDetector
from inpaint_core.errors import ConfigError, UserError, WeightsError
from inpaint_core.networks.weights import pretrained
from inpaint_core.storage import S3Options

CPU = torch.device("cpu")
SIZES = [(479, 641), (641, 479), (1023, 37), (37, 1023), (3333, 5000), (480, 640), (300, 300), (17, 9)]
# Share of the height and width that the object covers; below 0 and above 1: the image's border cuts it.
PLACES = {
    "inside": (0.31, 0.27, 0.72, 0.66),
    "top": (-0.5, 0.27, 0.6, 0.66),
    "bottom": (0.4, 0.27, 1.5, 0.66),
    "left": (0.31, -0.5, 0.72, 0.6),
    "right": (0.31, 0.4, 0.72, 1.5),
    "top left": (-0.5, -0.5, 0.6, 0.6),
    "top right": (-0.5, 0.4, 0.6, 1.5),
    "bottom left": (0.4, -0.5, 1.5, 0.6),
    "bottom right": (0.4, 0.4, 1.5, 1.5),
    "everything": (-0.5, -0.5, 1.5, 1.5),
}


def synthetic(letterbox: Letterbox, edges: tuple[float, float, float, float]) -> torch.Tensor:
    """Prototype (1, h, w) of a rectangle y0, x0, y1, x1 in image pixels; the padding is background, as in a network.

    The logits are the distance to the nearest edge, so that linear interpolation finds straight edges exactly.
    """
    (scale_y, scale_x), (top, left) = letterbox.scale, letterbox.pad
    y = (torch.arange(letterbox.input_height // 4, dtype=torch.float64) + 0.5) * 4
    x = (torch.arange(letterbox.input_width // 4, dtype=torch.float64) + 0.5) * 4
    y0, x0, y1, x1 = (edge * scale for edge, scale in zip(edges, (scale_y, scale_x) * 2, strict=True))
    down = torch.minimum(y - top - y0, y1 - (y - top))
    across = torch.minimum(x - left - x0, x1 - (x - left))
    logits = torch.minimum(down[:, None], across[None, :])
    # A cell that the padding reaches into tells of the padding.
    logits[(y - 2 < top) | (y + 2 > top + letterbox.content_height)] = -10
    logits[:, (x - 2 < left) | (x + 2 > left + letterbox.content_width)] = -10
    return logits[None].float()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_masks_from_prototypes_are_exact(size: tuple[int, int], place: str) -> None:
    height, width = size
    y0, x0, y1, x1 = (part * side for part, side in zip(PLACES[place], (height, width) * 2, strict=True))
    letterbox = Letterbox.fit(height, width, 640)
    if min(letterbox.content_height, letterbox.content_width) < 40 and place != "everything":
        # Too few cells across for an edge to be far from the padding: only along the image.
        if width < height:
            x0, x1 = -width, 2.0 * width
        else:
            y0, y1 = -height, 2.0 * height
    # The box as a network gives it: 2 input pixels short of a border that cuts the object.
    slack_y, slack_x = 2 / letterbox.scale[0], 2 / letterbox.scale[1]
    box = [max(x0, slack_x), max(y0, slack_y), min(x1, width - slack_x), min(y1, height - slack_y)]
    [(mask, top, left)] = masks_from_prototypes(
        synthetic(letterbox, (y0, x0, y1, x1)), torch.ones(1, 1), np.array([box]), letterbox
    )
    full = np.zeros(size, dtype=bool)
    full[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
    assert mask.shape == full[top : top + mask.shape[0], left : left + mask.shape[1]].shape

    middle_row = full[round((max(y0, 0) + min(y1, height)) / 2)]
    middle_column = full[:, round((max(x0, 0) + min(x1, width)) / 2)]
    for line, low, high in ((middle_row, x0, x1), (middle_column, y0, y1)):
        found = np.flatnonzero(line)
        assert len(found) == found[-1] - found[0] + 1
        for edge, end in ((found[0], low if low > 0 else 0), (found[-1] + 1, min(high, len(line)))):
            exact = end in (0, len(line))
            assert edge == end if exact else abs(edge - end) <= 1
    # No strip along a border that cuts the object, over its whole length.
    inner_rows = slice(max(0, round(y0) + 8), max(1, round(y1) - 8))
    inner_columns = slice(max(0, round(x0) + 8), max(1, round(x1) - 8))
    for line, cut in (
        (full[0, inner_columns], y0 < 0),
        (full[-1, inner_columns], y1 > height),
        (full[inner_rows, 0], x0 < 0),
        (full[inner_rows, -1], x1 > width),
    ):
        assert line.all() if cut else not line.any()


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (16, 16), (2, 7)])
def test_masks_of_tiny_images_cover_them(size: tuple[int, int]) -> None:
    letterbox = Letterbox.fit(*size, 640)
    assert letterbox.input_height % 32 == letterbox.input_width % 32 == 0
    prototypes = torch.ones(1, letterbox.input_height // 4, letterbox.input_width // 4)
    boxes = np.array([[0.0, 0.0, size[1], size[0]]])
    [(mask, top, left)] = masks_from_prototypes(prototypes, torch.ones(1, 1), boxes, letterbox)
    assert (mask.shape, top, left) == (size, 0, 0)
    assert mask.all()


@pytest.mark.parametrize("probability", [0.1, 0.25, 0.5, 0.8])
def test_a_mask_holds_the_pixels_of_more_than_a_probability(probability: float) -> None:
    letterbox = Letterbox.fit(640, 640, 640)
    # Along each row the logit rises by 1 every 80 pixels, from -4 to 4.
    cells = (torch.arange(160) * 4 + 2 - 320) / 80
    boxes = np.array([[100.0, 100, 540, 540]])
    [(mask, top, left)] = masks_from_prototypes(
        cells.expand(1, 160, 160), torch.ones(1, 1), boxes, letterbox, probability
    )
    columns = np.arange(100, 540) + 0.5
    expected = 1 / (1 + np.exp(-(columns - 320) / 80)) > probability
    assert (top, left) == (100, 100)
    assert (mask == expected).mean() > 0.995  # but for a column at the edge
    assert mask.all(axis=0).sum() == mask.any(axis=0).sum()


def test_a_box_away_from_the_border_stays_away() -> None:
    letterbox = Letterbox.fit(640, 640, 640)
    boxes = np.array(
        [
            [BORDER_REACH + 1, 100, 100, 640 - BORDER_REACH - 1],  # short across: stays; 530 long: within 2 % of that
            [BORDER_REACH, 100, 100, 200],
            [12, 100, 412, 640 - 12],
        ]
    )
    masks = masks_from_prototypes(torch.ones(1, 160, 160), torch.ones(3, 1), boxes, letterbox)
    assert [(top, left, mask.shape) for mask, top, left in masks] == [
        (100, 4, (540, 96)),
        (100, 0, (100, 100)),
        (100, 12, (528, 400)),
    ]


def test_several_objects_have_their_own_coefficients() -> None:
    letterbox = Letterbox.fit(64, 64, 64)
    prototypes = torch.stack([torch.ones(16, 16), -torch.ones(16, 16)])
    boxes = np.array([[10.0, 10, 20, 20], [10, 10, 20, 20], [30, 10.6, 30.1, 12.4]])
    masks = masks_from_prototypes(prototypes, torch.tensor([[1.0, 0], [0, 1], [2, 1]]), boxes, letterbox)
    assert [(mask.sum(), mask.shape, top, left) for mask, top, left in masks] == [
        (100, (10, 10), 10, 10),
        (0, (10, 10), 10, 10),
        (1, (1, 1), 11, 30),
    ]


@pytest.mark.parametrize("size", [*SIZES, (1, 1), (1, 5000)], ids=str)
def test_letterbox_geometry(size: tuple[int, int]) -> None:
    letterbox = Letterbox.fit(*size, 320)
    assert max(letterbox.content_height, letterbox.content_width) == 320
    image = np.full((*size, 3), 200, dtype=np.uint8)
    padded = letterbox.apply(image)
    assert padded.shape == (letterbox.input_height, letterbox.input_width, 3)
    assert letterbox.input_height - letterbox.content_height < 32
    assert letterbox.input_width - letterbox.content_width < 32
    rows, columns = np.nonzero((padded == 200).all(axis=2))
    top, left = letterbox.pad
    assert (rows.min(), columns.min()) == (top, left)
    assert (rows.max() + 1, columns.max() + 1) == (top + letterbox.content_height, left + letterbox.content_width)
    assert (padded == 114).all(axis=2).sum() == padded[..., 0].size - letterbox.content_height * letterbox.content_width
    corners = np.array([[left, top, left + letterbox.content_width, top + letterbox.content_height]], dtype=float)
    beyond = corners + np.array([-99, -99, 99, 99])
    np.testing.assert_allclose(letterbox.boxes_to_image(corners), [[0, 0, size[1], size[0]]])
    np.testing.assert_array_equal(letterbox.boxes_to_image(beyond), [[0, 0, size[1], size[0]]])


# A real network on real photographs.


# The size that the network which comes with the project was trained for, and images as a whole.
CONFIG = UltralyticsConfig(image_size=320, tiles="off")


@pytest.fixture(scope="module")
def weights_path() -> Path:
    """YOLO_WEIGHTS, or the detector that comes with the project."""
    given = os.environ.get("YOLO_WEIGHTS")
    return Path(given) if given else Path(pretrained.__file__).parent / pretrained.DETECTOR


@pytest.fixture(scope="module")
def detector(weights_path: Path) -> UltralyticsDetector:
    return UltralyticsDetector(CONFIG, weights_path.read_bytes(), device=CPU, autocast=False)


@pytest.fixture(scope="module")
def photographs() -> dict[str, NDArray[np.uint8]]:
    from ultralytics.utils import ASSETS

    return {name: np.asarray(Image.open(ASSETS / f"{name}.jpg").convert("RGB")) for name in ("bus", "zidane")}


@pytest.fixture(scope="module")
def found(detector: UltralyticsDetector, photographs: dict[str, NDArray[np.uint8]]) -> dict[str, list[Detection]]:
    return {name: detector.detect([image], [name])[0] for name, image in photographs.items()}


def full(detection: Detection, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    mask = np.zeros(shape[:2], dtype=bool)
    height, width = detection.mask.shape
    mask[detection.top : detection.top + height, detection.left : detection.left + width] = detection.mask
    return mask


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_objects_of_the_photographs(found: dict[str, list[Detection]]) -> None:
    people = [full(item, (1080, 810)) for item in found["bus"] if item.label == "person"]
    assert len(people) >= 2
    for x, y in ((140, 520), (285, 520)):  # the coats of the two in front
        assert sum(mask[y, x] for mask in people) == 1
    assert not any(mask[:200].any() for mask in people)  # the house
    assert {item.label for item in found["zidane"]} == {"person"}
    for items in found.values():
        confidences = [item.confidence for item in items]
        assert confidences == sorted(confidences, reverse=True)
        assert min(confidences) >= 0.25
        assert all(item.pixels > 1000 for item in items)


def test_people_cut_by_the_border_are_masked_up_to_it(
    found: dict[str, list[Detection]], photographs: dict[str, NDArray[np.uint8]]
) -> None:
    people = [full(item, photographs["zidane"].shape) for item in found["zidane"]]
    assert any(mask[-1].sum() > 100 for mask in people)  # both are cut at the waist


def test_a_batch_gives_what_single_images_give(
    detector: UltralyticsDetector, found: dict[str, list[Detection]], photographs: dict[str, NDArray[np.uint8]]
) -> None:
    tiny = [np.full((1, 1, 3), 90, dtype=np.uint8), np.zeros((16, 3, 3), dtype=np.uint8)]
    images = [photographs["zidane"], tiny[0], photographs["bus"], tiny[1], photographs["bus"][::-1, ::-1]]
    copies = [image.copy() for image in images]
    batch = detector.detect(images, [str(index) for index in range(5)])
    assert len(batch) == 5
    assert batch[1] == batch[3] == []
    for name, items, image in (("zidane", batch[0], images[0]), ("bus", batch[2], images[2])):
        assert [item.label for item in items] == [item.label for item in found[name]]
        for one, other in zip(items, found[name], strict=True):
            assert iou(full(one, image.shape), full(other, image.shape)) > 0.99
            assert one.box == pytest.approx(other.box, abs=0.1)
    for image, copy in zip(images, copies, strict=True):
        np.testing.assert_array_equal(image, copy)
    assert detector.detect([], []) == []


def test_masks_agree_with_the_predictor_of_ultralytics(
    weights_path: Path,
    found: dict[str, list[Detection]],
    photographs: dict[str, NDArray[np.uint8]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Its engine lifts Pillow's limit for the whole process; put back when the test ends.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    from ultralytics import YOLO

    network = YOLO(str(weights_path))
    wanted = [index for index, name in network.names.items() if name in CONFIG.classes]
    for name, image in photographs.items():
        bgr = np.ascontiguousarray(image[..., ::-1])
        [result] = network.predict(bgr, retina_masks=True, classes=wanted, conf=0.25, iou=0.7, imgsz=320, verbose=False)
        masks = result.masks.data.numpy().astype(bool)
        theirs = list(zip(masks, result.boxes.conf.tolist(), strict=True))
        sure = [
            item for item in found[name] if item.confidence > 0.5
        ]  # others may fall on either side of the threshold
        assert sure
        for item in sure:
            mask, confidence = max(theirs, key=lambda one: iou(full(item, image.shape), one[0]))
            assert item.confidence == pytest.approx(confidence, abs=0.05)
            assert iou(full(item, image.shape), mask) > 0.9  # of masks of 80x80 cells


def test_masks_against_human_polygons(detector: UltralyticsDetector, shared_dir: Path) -> None:
    from skimage.draw import polygon

    truth_and_found = [0, 0]
    for path in sorted((shared_dir / "data" / "coco64-seg" / "images").glob("*.jpg"))[:16]:
        image = np.asarray(Image.open(path).convert("RGB"))
        height, width = image.shape[:2]
        truth = np.zeros((height, width), dtype=bool)
        labels = path.parents[1] / "labels" / f"{path.stem}.txt"
        for line in labels.read_text().splitlines() if labels.exists() else []:
            category, *values = line.split()
            if int(category) in (0, 1, 2, 3, 5, 7):
                points = np.array(values, dtype=float).reshape(-1, 2) * [width, height] - 0.5
                truth[polygon(points[:, 1], points[:, 0], (height, width))] = True
        union = np.zeros_like(truth)
        for item in detector.detect([image], [path.name])[0]:
            union |= full(item, image.shape)
        truth_and_found[0] += int((truth & union).sum())
        truth_and_found[1] += int((truth | union).sum())
    assert truth_and_found[0] / truth_and_found[1] > 0.4


def test_a_large_photograph_is_found_at_its_own_size(
    detector: UltralyticsDetector, found: dict[str, list[Detection]], photographs: dict[str, NDArray[np.uint8]]
) -> None:
    large = photographs["zidane"].repeat(4, axis=0).repeat(4, axis=1)
    [items] = detector.detect([large], ["large"])
    for item, small in zip(items, found["zidane"], strict=True):
        expected = full(small, photographs["zidane"].shape).repeat(4, axis=0).repeat(4, axis=1)
        assert iou(full(item, large.shape), expected) > 0.97


def test_autocast_keeps_the_boxes(
    weights_path: Path, found: dict[str, list[Detection]], photographs: dict[str, NDArray[np.uint8]]
) -> None:
    bfloat16 = UltralyticsDetector(CONFIG, weights_path.read_bytes(), device=CPU, autocast=True)
    [items] = bfloat16.detect([photographs["bus"]], ["bus"])
    sure = [
        item for item in found["bus"] if item.confidence > 0.5
    ]  # others may fall below the threshold, or rise above it
    assert len(sure) >= 2
    shape = photographs["bus"].shape
    for expected in sure:
        item = max(items, key=lambda one: iou(full(one, shape), full(expected, shape)))
        assert item.box == pytest.approx(expected.box, abs=20)
        assert iou(full(item, shape), full(expected, shape)) > 0.9


def test_only_the_wanted_classes(weights_path: Path, photographs: dict[str, NDArray[np.uint8]]) -> None:
    config = replace(CONFIG, classes=("bus", "truck", "car"), confidence=0.1, image_size=640)
    chosen = config.build(weights_path.read_bytes(), s3=S3Options(), device=CPU, autocast=False)
    bus, _ = chosen.detect(list(photographs.values()), ["bus", "zidane"])
    labels = {item.label for item in bus}
    assert "bus" in labels <= {"bus", "truck", "car"}


def test_an_unknown_class_is_named(weights_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        UltralyticsDetector(
            UltralyticsConfig(classes=("car", "Persn")), weights_path.read_bytes(), device=CPU, autocast=False
        )
    message = str(caught.value)
    assert told_before_loading(weights_path.read_bytes(), classes=("car", "Persn")) == message
    assert told_before_loading(weights_path.read_bytes(), classes=("car", "person")) is None
    assert message.startswith("detector.classes: the network has no class 'Persn'. Did you mean person")
    assert re.search(r"It has \d+ classes: person, bicycle, car, motorcycle, ", message)


def told_before_loading(weights: bytes, **settings: Any) -> str | None:
    """The message of a job that looks at weights before it starts."""
    try:
        UltralyticsConfig(weights="my.pt", **settings).check_weights(weights)
    except UserError as error:
        return str(error)
    return None


def checkpoint(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


class Runs:
    """Code that would run when a checkpoint with it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("ran",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a checkpoint that ultralytics can load"),
        (b"<html>404</html>", "is not a checkpoint that ultralytics can load"),
        (b"PK\x03\x04 half a zip", "is not a checkpoint that ultralytics can load"),
        (checkpoint(torch.zeros(3)), "is not a checkpoint that ultralytics can load"),
        (checkpoint({"a": torch.zeros(3)}), "holds no ultralytics network"),
        (checkpoint({"model": {"weight": torch.zeros(3)}}), "holds no ultralytics network"),
        (checkpoint({"model": Runs()}), "is not a checkpoint that ultralytics can load"),
    ],
)
def test_not_a_checkpoint(content: bytes, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match=rf"^detector\.weights: my\.pt {message}") as caught:
        UltralyticsDetector(UltralyticsConfig(weights="my.pt"), content, device=CPU, autocast=False)
    assert "\n" not in str(caught.value)
    before = told_before_loading(content)
    if zipfile.is_zipfile(io.BytesIO(content)):  # what it lacks is told where it is loaded
        assert before is None
    else:
        assert before == str(caught.value)
    assert list(tmp_path.iterdir()) == []


class Calls:
    """What has a function or class called with arguments of the file's choice when it is unpickled."""

    def __init__(self, called: Any, *arguments: Any) -> None:
        self.called, self.arguments = called, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.called, self.arguments


def test_no_constructor_runs_while_a_checkpoint_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of ultralytics' layers downloads weights, one of torch takes as much memory as it is told to."""
    from ultralytics.nn.modules.block import TorchVision

    connections: list[object] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **_: connections.append(arguments))
    for called, arguments in ((TorchVision, ("resnet18", "DEFAULT")), (torch.nn.Linear, (2**17, 2**17))):
        content = checkpoint({"model": Calls(called, *arguments)})
        with pytest.raises(WeightsError) as caught:
            load_network(content, "my.pt")
        name = f"{called.__module__}.{called.__qualname__}"
        assert f"my.pt is not a checkpoint that ultralytics can load (it calls {name}, which" in str(caught.value)
        assert "\n" not in str(caught.value)
    assert connections == []


def test_damage_anywhere_in_a_checkpoint_becomes_one_line() -> None:
    whole = untrained("yolov8n-seg")
    random = np.random.default_rng(0)
    for _ in range(12):
        damaged = bytearray(whole)
        for at in random.integers(0, 60_000, 40):  # the description of the content lies at the beginning
            damaged[at] = random.integers(256)
        with pytest.raises(WeightsError) as caught:
            load_network(bytes(damaged), "my.pt")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", ["network", "average"])
def test_damaged_tensors_are_told_before_a_job_starts(kept: str) -> None:
    """A detector with NaN in it would find nothing in any image."""
    from ultralytics.nn.tasks import SegmentationModel, yaml_model_load

    network = SegmentationModel(yaml_model_load("yolov8n-seg.yaml"), verbose=False).half()

    def stored() -> bytes:
        return checkpoint({"model": network} if kept == "network" else {"model": None, "ema": network})

    whole = stored()
    assert told_before_loading(whole, classes=("0",)) is None
    infinite, name = "holds values that are not finite (NaN or infinity)", "model.3.bn.running_var"
    network.model[3].bn.running_var[5] = math.nan
    expected = f"detector.weights: my.pt is damaged: {name} {infinite}; get the file again from its source."
    assert told_before_loading(stored(), classes=("0",)) == expected
    with pytest.raises(WeightsError) as caught:
        load_network(stored(), "my.pt")
    assert str(caught.value) == expected

    # A file of values with another byte in it, and one that is too short, as some copies leave them.
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 1
    told = told_before_loading(bytes(damaged), classes=("0",))
    assert told is not None
    assert re.match(r"detector\.weights: my\.pt is damaged: the values of model\.\d+\.\S+ are damaged; get", told), told
    short = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as before, zipfile.ZipFile(short, "w") as after:
        for item in before.infolist():
            data = before.read(item)
            after.writestr(item, data[:-2] if item.filename.endswith("/data/0") else data)
    assert (told_before_loading(short.getvalue(), classes=("0",)) or "").startswith(
        "detector.weights: my.pt is damaged: model.0.conv.weight is cut off; get"
    )


def untrained(model: str) -> bytes:
    from ultralytics.nn import tasks
    from ultralytics.nn.tasks import yaml_model_load

    kind = {"-seg": tasks.SegmentationModel, "-pose": tasks.PoseModel}.get(
        model[model.rfind("-") :], tasks.DetectionModel
    )
    return checkpoint({"model": kind(yaml_model_load(f"{model}.yaml"), verbose=False)})


@pytest.mark.parametrize(("model", "task"), [("yolov8n", "detect"), ("yolov8n-pose", "pose")])
def test_a_network_for_another_task_is_named(model: str, task: str) -> None:
    with pytest.raises(WeightsError, match=f"^detector.weights: my.pt is a network for the task `{task}`"):
        UltralyticsDetector(UltralyticsConfig(weights="my.pt"), untrained(model), device=CPU, autocast=False)
    told = told_before_loading(untrained(model))
    assert told is not None
    assert told.startswith(f"detector.weights: my.pt is a network for the task `{task}`")


def test_weights_are_required() -> None:
    with pytest.raises(ValueError, match="checkpoint"):
        UltralyticsConfig().build(None, s3=S3Options(), device=CPU, autocast=False)


# Downloads, without a network.


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("YOLO_OFFLINE")
    return tmp_path / "inpaint-core"


def test_download_goes_to_the_cache_and_only_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(path: str, **options: object) -> str:
        Path(path).write_bytes(b"network")
        return path

    monkeypatch.setattr(checkpoint_files, "attempt_download_asset", fetch)
    assert download("yolov8n-seg.pt") == b"network"
    assert [path.name for path in cache.iterdir()] == ["yolov8n-seg.pt"]
    monkeypatch.setenv("YOLO_OFFLINE", "true")
    assert download("yolov8n-seg.pt") == b"network"


def test_offline_is_an_immediate_error(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOLO_OFFLINE", "True")
    monkeypatch.delattr(checkpoint_files, "attempt_download_asset")
    with pytest.raises(WeightsError) as caught:
        download("yolov8n-seg.pt")
    assert str(caught.value) == (
        "detector.weights: yolov8n-seg.pt could not be downloaded (YOLO_OFFLINE is set); download it elsewhere and "
        "set detector.weights=/path/to/yolov8n-seg.pt (or a URI), or take the one that comes with this project: "
        "detector.weights=people-vehicles.pt detector.image_size=320."
    )
    assert not cache.exists()


def test_a_failed_download_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(path: str, **options: object) -> str:
        Path(path).write_bytes(b"half")
        raise ConnectionError("the line\nbroke")

    monkeypatch.setattr(checkpoint_files, "attempt_download_asset", fetch)
    with pytest.raises(WeightsError, match=r"could not be downloaded \(the line\); download it elsewhere"):
        download("yolov8n-seg.pt")
    assert list(cache.iterdir()) == []


def test_a_download_that_never_ends_is_given_up(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    never = threading.Event()
    monkeypatch.setattr(checkpoint_files, "DOWNLOAD_SECONDS", 0.1)
    monkeypatch.setattr(checkpoint_files, "attempt_download_asset", lambda path, **options: never.wait(30))
    with pytest.raises(WeightsError, match="not finished after"):
        download("yolov8n-seg.pt")
    never.set()


def test_an_unknown_name_is_not_asked_for(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(checkpoint_files, "attempt_download_asset")
    with pytest.raises(WeightsError, match=r"yolov8m-sge\.pt is neither a file .*yolov8m-seg\.pt"):
        download("yolov8m-sge.pt")
    with pytest.raises(WeightsError, match=r"^teacher\.weights: people-vehicle\.pt is .*such as people-vehicles\.pt"):
        download("people-vehicle.pt", "teacher.weights")


CONTAINED = """
import os, sys, cv2, torch, PIL.Image
import numpy as np
cv2.setNumThreads(3)
def state():
    names = ("YOLO_OFFLINE", "YOLO_AUTOINSTALL", "YOLO_VERBOSE", "OMP_NUM_THREADS")
    functions = (PIL.Image.open, torch.save, torch.load, cv2.imread, cv2.getNumThreads(), PIL.Image.MAX_IMAGE_PIXELS)
    return *functions, {name: os.environ.get(name) for name in names}, str(np.get_printoptions())
before = state()
from inpaint_core.detection.ultralytics import UltralyticsDetector
from inpaint_core.removal.config import UltralyticsConfig
detector = UltralyticsDetector(
    UltralyticsConfig(classes=("0",), image_size=64), open(sys.argv[1], "rb").read(), device=torch.device("cpu"), autocast=False
)
detector.detect([np.zeros((9, 9, 3), np.uint8)], ["x"])
assert state() == before, (before, state())
"""


def test_ultralytics_leaves_the_process_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    path.write_bytes(untrained("yolov8n-seg"))
    environment = {name: value for name, value in os.environ.items() if name not in ("YOLO_OFFLINE", "OMP_NUM_THREADS")}
    run = subprocess.run(
        [sys.executable, "-c", CONTAINED, str(path)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env=environment,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == run.stderr == ""
