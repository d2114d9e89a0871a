"""Objects found by a network of ultralytics (Jocher et al. 2023, https://github.com/ultralytics/ultralytics).

These are its segmentation networks: YOLOv8, YOLO11, YOLO26 (whose second head needs no non-maximum suppression), and
YOLOE (Wang et al., "YOLOE: Real-Time Seeing Anything", ICCV 2025) with classes embedded in the checkpoint or without
prompts. Detection networks, such as YOLO-World (Cheng et al., CVPR 2024), give boxes only; with `whole_boxes` these are the masks.

The network, its checkpoint loader and its non-maximum suppression are ultralytics' own. The rest of its engine is not
used: it resizes the masks of all objects to the whole image at once, and it may ask the network for updates.
"""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inpaint_core.detection.checkpoint_contents import EMBEDDING, class_ids
from inpaint_core.detection.checkpoints import (
    class_names,
    is_open_vocabulary,
    load_network,
    non_max_suppression,
)
from inpaint_core.detection.config import UltralyticsConfig
from inpaint_core.detection.detector import Detection, Detector, DetectorSettings, Features, Region
from inpaint_core.detection.ensemble import merged, mirrored
from inpaint_core.detection.prepared import prepare_convolutions, prototypes_later
from inpaint_core.detection.prototype_masks import Letterbox, masks_from_prototypes, masks_of_boxes
from inpaint_core.detection.tile_objects import joined
from inpaint_core.detection.tiles import levels_of
from inpaint_core.images.tensors import to_unit
from inpaint_core.networks.onednn import can_prepare

# Objects per image; ultralytics' own default, 300, is short for a crowd in a large photograph.
MAX_OBJECTS = 1000
# Pixels may belong to an object as far beyond its box as this, as a fraction of the square root of the box's area.
_BESIDE = 0.08
# Input pixels along a cell of the features that describe an image.
_FEATURE_STRIDE = 16
# Pixels of network input in one forward pass (20 inputs of 640 x 640): bounds the memory of the activations.
PIXELS_PER_FORWARD = 20 * 640 * 640
# Tiles at a time on a CPU, where more are no faster, and take 50 MB each.
_TILES_ON_CPU = 2


class UltralyticsDetector:
    """A network and the classes that are wanted of it."""

    def __init__(self, config: UltralyticsConfig, weights: bytes, *, device: torch.device, autocast: bool) -> None:
        """Build the network from a checkpoint.

        Args:
            config: classes, thresholds and input size.
            weights: content of a `.pt` file; `config.weights` is only its name in messages.
            device: where the network runs.
            autocast: run backbone and neck in bfloat16. The head stays in float32: bfloat16 has 8 significant bits,
                which at 640 pixels would move a box by up to 4. (On CPUs only the last layers of the head do.)

        Raises:
            WeightsError: not a checkpoint of a segmentation network (with `config.whole_boxes`: or of a detection
                network), or one of an open vocabulary without classes.
            ConfigError: a class that the network does not know.
        """
        network = load_network(weights, config.weights, boxes=config.whole_boxes)
        self._names: dict[int, str] = class_names(network)
        self._remedy = EMBEDDING if is_open_vocabulary(network) else ""
        self._use(config)
        network.fuse(verbose=False)
        # In this memory layout convolutions are faster, on CPUs and GPUs.
        network.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)
        self._end2end = bool(getattr(network, "end2end", False))
        network.model[-1].max_det = MAX_OBJECTS  # heads without non-maximum suppression choose so many themselves
        dtype = torch.bfloat16 if autocast else torch.float32
        if can_prepare(device, dtype):
            prepare_convolutions(network, dtype)
        self._later = prototypes_later(network.model[-1])
        if autocast:
            _keep_in_float32(network.model[-1], device.type)
        self._network = network
        self._device = device
        self._autocast = autocast

    def _use(self, config: UltralyticsConfig) -> None:
        self._classes = class_ids(self._names, config.classes, "detector.classes", self._remedy)
        self._config = config
        # Several passes may disagree about a class: then all that they found has to be known, wanted or not.
        self._several_passes = config.mirror or len({config.image_size, *config.more_sizes}) > 1

    def adjusted(self, settings: DetectorSettings) -> Detector | None:
        """See `AdjustableDetector`; a network that was loaded for its boxes may have no masks."""
        if not isinstance(settings, UltralyticsConfig) or (self._config.whole_boxes and not settings.whole_boxes):
            return None
        other = copy.copy(self)
        other._use(settings)
        return other

    def detect(self, images: Sequence[NDArray[np.uint8]], keys: Sequence[str]) -> list[list[Detection]]:
        """Find the objects of the wanted classes, most confident first. See `Detector.detect`."""
        return self._detect(images, None)

    def detect_and_describe(
        self, images: Sequence[NDArray[np.uint8]], keys: Sequence[str]
    ) -> list[tuple[list[Detection], Features]]:
        """See `DescribingDetector`: of the image as a whole, what the head gets at a sixteenth of the input's size."""
        features: dict[int, Features] = {}
        found = self._detect(images, features)
        return [(objects, features[index]) for index, objects in enumerate(found)]

    def _detect(
        self, images: Sequence[NDArray[np.uint8]], features: dict[int, Features] | None
    ) -> list[list[Detection]]:
        found = self._run_passes(images, features)
        if self._config.tiles == "auto":
            self._add_tiles(images, found)
        return found

    def _add_tiles(self, images: Sequence[NDArray[np.uint8]], found: list[list[Detection]]) -> None:
        """Search the large images in tiles, too, and join what they show with what was found, in place.

        Tiles are images of their own, with all passes; those of several images share a forward pass.
        """
        size = self._config.image_size
        levels = [levels_of(image.shape[0], image.shape[1], size, self._config.tile_overlap) for image in images]
        places = [
            (index, number, tile)
            for index, own in enumerate(levels)
            for number, level in enumerate(own)
            for tile in level.tiles
        ]
        in_tiles: list[list[list[list[Detection]]]] = [[[] for _ in own] for own in levels]
        step = max(1, PIXELS_PER_FORWARD // size**2)
        if self._device.type == "cpu":
            step = min(step, _TILES_ON_CPU)
        for start in range(0, len(places), step):
            part = places[start : start + step]
            found_in_tiles = self._run_passes([tile.cut(images[index]) for index, _, tile in part])
            for (index, number, _), objects in zip(part, found_in_tiles, strict=True):
                in_tiles[index][number].append(objects)
        for index, own in enumerate(levels):
            if own:
                height, width = images[index].shape[:2]
                found[index] = joined(own, in_tiles[index], found[index], (height, width), size)

    def _run_passes(
        self, images: Sequence[NDArray[np.uint8]], features: dict[int, Features] | None = None
    ) -> list[list[Detection]]:
        """The objects of each image as a whole, from all its passes; `features` gets those of the first one."""
        sizes = dict.fromkeys((self._config.image_size, *self._config.more_sizes))
        passes: list[list[list[Detection]]] = [[] for _ in images]
        for mirror in (False, True) if self._config.mirror else (False,):
            seen = [np.ascontiguousarray(image[:, ::-1]) for image in images] if mirror else images
            for size in sizes:
                first = not mirror and size == self._config.image_size
                for index, found in enumerate(self._run_pass(seen, size, features if first else None)):
                    width = images[index].shape[1]
                    passes[index].append([mirrored(detection, width) for detection in found] if mirror else found)
        if not self._several_passes:
            return [found for [found] in passes]
        return [merged(of_image, self._config.classes) for of_image in passes]

    def _run_pass(
        self, images: Sequence[NDArray[np.uint8]], size: int, features: dict[int, Features] | None = None
    ) -> list[list[Detection]]:
        """The objects of each image, seen at one size."""
        letterboxes = [Letterbox.fit(image.shape[0], image.shape[1], size) for image in images]
        groups = defaultdict(list)
        for index, letterbox in enumerate(letterboxes):
            groups[letterbox.input_height, letterbox.input_width].append(index)
        found: list[list[Detection]] = [[] for _ in images]
        for (height, width), group in groups.items():
            # On CPUs a batch is no faster than its images one by one, whose kernels are made once for each size, not for
            # each number of images.
            step = 1 if self._device.type == "cpu" else max(1, PIXELS_PER_FORWARD // (height * width))
            for start in range(0, len(group), step):
                part = group[start : start + step]
                inputs = np.stack([letterboxes[index].apply(images[index]) for index in part])
                with _head_inputs(self._network.model[-1], wanted=features is not None) as seen:
                    results = self._forward(inputs)
                if features is not None:
                    features.update(zip(part, _features_of(seen, [letterboxes[index] for index in part]), strict=True))
                for index, (objects, prototypes) in zip(part, results, strict=True):
                    found[index] = self._detections(objects, prototypes, letterboxes[index])
        return found

    @torch.inference_mode()
    def _forward(self, inputs: NDArray[np.uint8]) -> list[tuple[Tensor, Tensor | None]]:
        """(B, H, W, 3) to, for each image, rows of x0, y0, x1, y1, confidence, class, coefficients; and prototypes.

        A detection network gives neither coefficients nor prototypes. An image without rows needs no prototypes.
        """
        images = to_unit(inputs, self._device)
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._autocast):
            output = self._network(images)[0]
        predictions, prototypes = output if isinstance(output, tuple) else (output, None)
        if not self._end2end and predictions.shape[-1] == 6:
            # `non_max_suppression` takes 6 anchors, which prompt-free networks may keep, for an end-to-end output; a
            # seventh of confidence 0 changes nothing else.
            predictions = torch.nn.functional.pad(predictions, (0, 1))
        rows = non_max_suppression(
            predictions,
            conf_thres=self._config.confidence,
            iou_thres=self._config.iou,
            classes=None if self._several_passes else self._classes,
            nc=len(self._names),
            max_det=MAX_OBJECTS,
            # Boxes of different classes are kept apart by this offset: more than any box is wide.
            max_wh=2 * max(inputs.shape[1:3]),
            # Past a time limit it would return the batch's last images without objects; this puts the limit far off.
            max_time_img=3600.0,
            end2end=self._end2end,
        )
        if prototypes is None or self._config.whole_boxes:
            return [(objects, None) for objects in rows]
        chosen = [index for index, objects in enumerate(rows) if len(objects)]
        made = prototypes[chosen]
        if self._later is not None and chosen:
            made = self._later.of(made)
        found = dict(zip(chosen, made.float(), strict=True))
        return [(objects, found.get(index)) for index, objects in enumerate(rows)]

    @torch.inference_mode()
    def _detections(self, rows: Tensor, prototypes: Tensor | None, letterbox: Letterbox) -> list[Detection]:
        # Heads that predict distances to the edges without bins (YOLO26) may give a right edge left of the left one.
        rows = rows[(rows[:, 2] >= rows[:, 0]) & (rows[:, 3] >= rows[:, 1])]
        values = rows[:, :6].double().cpu().numpy()
        boxes = letterbox.boxes_to_image(values[:, :4])
        coefficients = rows[:, 6:].float()
        if prototypes is None or self._config.whole_boxes:
            masks = masks_of_boxes(boxes, letterbox)
        else:
            masks = masks_from_prototypes(prototypes, coefficients, boxes, letterbox)
        return [
            Detection(self._names[int(label)], float(confidence), (x0, y0, x1, y1), mask, top, left, uncertain)
            for (x0, y0, x1, y1), (confidence, label), (mask, top, left), uncertain in zip(
                boxes.tolist(),
                values[:, 4:6],
                masks,
                self._uncertain(prototypes, coefficients, boxes, letterbox),
                strict=True,
            )
            if mask.any()  # a box in which no pixel is more likely object than not: nothing to remove
        ]

    def _uncertain(
        self, prototypes: Tensor | None, coefficients: Tensor, boxes: NDArray[np.float64], letterbox: Letterbox
    ) -> Sequence[Region | None]:
        """Pixels in and beside each object that may belong to it."""
        if prototypes is None or self._config.whole_boxes or self._config.uncertain >= 0.5:
            return [None] * len(boxes)
        sides = np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1, keepdims=True))
        wider = boxes + _BESIDE * sides * np.array([-1, -1, 1, 1])
        wider = wider.clip(0, [letterbox.width, letterbox.height] * 2)
        masks = masks_from_prototypes(prototypes, coefficients, wider, letterbox, self._config.uncertain)
        return [Region(mask, top, left) for mask, top, left in masks]


@contextmanager
def _head_inputs(head: Any, *, wanted: bool) -> Iterator[list[list[Tensor]]]:
    """What a network's last layer gets in the `with` statement, one list of maps for each forward pass."""
    seen: list[list[Tensor]] = []
    if not wanted:
        yield seen
        return
    handle = head.register_forward_pre_hook(lambda _, inputs: seen.append(list(inputs[0])))
    try:
        yield seen
    finally:
        handle.remove()


def _features_of(seen: list[list[Tensor]], letterboxes: Sequence[Letterbox]) -> Iterator[Features]:
    """The part that each image covers of the maps at a sixteenth of the input's size, or at the nearest there is."""
    [maps] = seen
    height = letterboxes[0].input_height
    chosen = min(maps, key=lambda one: abs(math.log2(height / one.shape[-2] / _FEATURE_STRIDE)))
    cell = height / chosen.shape[-2]
    for own, letterbox in zip(chosen.float().cpu().numpy(), letterboxes, strict=True):
        top, left = (round(pad / cell) for pad in letterbox.pad)
        rows, columns = (max(1, round(side / cell)) for side in (letterbox.content_height, letterbox.content_width))
        yield Features(own[:, top : top + rows, left : left + columns])


def _keep_in_float32(head: Any, device_type: str) -> None:
    """Run a network's last layer outside of autocast. It stays the layer that it is: some networks look at its class."""
    forward = head.forward

    def in_float32(features: list[Tensor], *more: Tensor) -> Any:  # YOLO-World gives its head the classes, too
        with torch.autocast(device_type, enabled=False):
            return forward([feature.float() for feature in features], *(one.float() for one in more))

    head.forward = in_float32
