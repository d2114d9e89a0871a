"""Objects found by a YOLOv8 segmentation network (Jocher et al. 2023, https://github.com/ultralytics/ultralytics).

The network, its checkpoint loader and its non-maximum suppression are ultralytics' own. The rest of its engine is not
used: it resizes the masks of all objects to the whole image at once, and it may ask the network for updates.
"""

from __future__ import annotations

import difflib
import os
import pickle
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from inpaint_core.detectors import Detection
from inpaint_core.detectors.prototype_masks import Letterbox, masks_from_prototypes
from inpaint_core.errors import ConfigError, WeightsError
from inpaint_core.removal.config import Yolov8Config


@contextmanager
def _contained_import() -> Iterator[None]:
    """Import ultralytics without a name look-up, pip or chatter, and undo what it changes in the whole process.

    It replaces `PIL.Image.open` by a function that, for a file that is no image, installs a package and raises
    `ModuleNotFoundError`; it replaces `torch.save`; it takes OpenCV its threads and numpy its print options; and it sets
    OMP_NUM_THREADS=1, which every process started later would inherit. YOLO_OFFLINE stays the user's word on downloads.
    """
    wanted = {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_VERBOSE": "false"}
    environment = {name: os.environ.get(name) for name in (*wanted, "OMP_NUM_THREADS")}
    open_image, max_pixels, save, threads = Image.open, Image.MAX_IMAGE_PIXELS, torch.save, cv2.getNumThreads()
    os.environ.update(wanted)
    try:
        with np.printoptions():
            yield
    finally:
        Image.open, Image.MAX_IMAGE_PIXELS, torch.save = open_image, max_pixels, save
        cv2.setNumThreads(threads)
        for name, value in environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


with _contained_import():
    from ultralytics.nn.tasks import guess_model_task, torch_safe_load
    from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES, attempt_download_asset
    from ultralytics.utils.nms import non_max_suppression

# Objects per image; ultralytics' own default, 300, is short for a crowd in a large photograph.
MAX_OBJECTS = 1000
# Pixels of network input in one forward pass (20 inputs of 640 x 640): bounds the memory of the activations.
PIXELS_PER_FORWARD = 20 * 640 * 640
DOWNLOAD_SECONDS = 600.0
# What the loader raises for a file that is no checkpoint, or one of code that is not installed.
UNLOADABLE = (
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    RuntimeError,
    ImportError,
    EOFError,
    pickle.UnpicklingError,
)


class Yolov8Detector:
    """A segmentation network and the classes that are wanted of it."""

    def __init__(self, config: Yolov8Config, weights: bytes, *, device: torch.device, autocast: bool) -> None:
        """Build the network from a checkpoint.

        Args:
            config: classes, thresholds and input size.
            weights: content of a `.pt` file; `config.weights` is only its name in messages.
            device: where the network runs.
            autocast: run backbone and neck in bfloat16. The head stays in float32: bfloat16 has 8 significant bits,
                which at 640 pixels would move a box by up to 4.

        Raises:
            WeightsError: not a checkpoint of a segmentation network.
            ConfigError: a class that the network does not know.
        """
        network = _load_network(weights, config.weights)
        self._names: dict[int, str] = _class_names(network)
        self._classes = _class_ids(self._names, config.classes)
        network.fuse(verbose=False)
        network.eval().requires_grad_(False).to(device)
        self._end2end = bool(getattr(network, "end2end", False))
        if autocast:
            network.model[-1] = _Float32(network.model[-1], device.type)
        self._network = network
        self._config = config
        self._device = device
        self._autocast = autocast

    def detect(self, images: Sequence[NDArray[np.uint8]], keys: Sequence[str]) -> list[list[Detection]]:
        """Find the objects of the wanted classes, most confident first. See `Detector.detect`."""
        letterboxes = [Letterbox.fit(image.shape[0], image.shape[1], self._config.image_size) for image in images]
        groups = defaultdict(list)
        for index, letterbox in enumerate(letterboxes):
            groups[letterbox.input_height, letterbox.input_width].append(index)
        found: list[list[Detection]] = [[] for _ in images]
        for (height, width), group in groups.items():
            step = max(1, PIXELS_PER_FORWARD // (height * width))
            for start in range(0, len(group), step):
                part = group[start : start + step]
                inputs = np.stack([letterboxes[index].apply(images[index]) for index in part])
                rows, prototypes = self._forward(inputs)
                for index, objects, masks in zip(part, rows, prototypes, strict=True):
                    found[index] = self._detections(objects, masks, letterboxes[index])
        return found

    @torch.inference_mode()
    def _forward(self, inputs: NDArray[np.uint8]) -> tuple[list[Tensor], Tensor]:
        """(B, H, W, 3) to, for each image, rows of x0, y0, x1, y1, confidence, class, coefficients; and prototypes."""
        images = torch.from_numpy(inputs).to(self._device).permute(0, 3, 1, 2).float() / 255
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._autocast):
            predictions, prototypes = self._network(images)[0]
        rows = non_max_suppression(
            predictions,
            conf_thres=self._config.confidence,
            iou_thres=self._config.iou,
            classes=self._classes,
            nc=len(self._names),
            max_det=MAX_OBJECTS,
            # Boxes of different classes are kept apart by this offset: more than any box is wide.
            max_wh=2 * self._config.image_size,
            # Past a time limit it would return the batch's last images without objects; this puts the limit far off.
            max_time_img=3600.0,
            end2end=self._end2end,
        )
        return rows, prototypes.float()

    @torch.inference_mode()
    def _detections(self, rows: Tensor, prototypes: Tensor, letterbox: Letterbox) -> list[Detection]:
        values = rows[:, :6].double().cpu().numpy()
        boxes = letterbox.boxes_to_image(values[:, :4])
        masks = masks_from_prototypes(prototypes, rows[:, 6:].float(), boxes, letterbox)
        return [
            Detection(self._names[int(label)], float(confidence), (x0, y0, x1, y1), mask, top, left)
            for (x0, y0, x1, y1), (confidence, label), (mask, top, left) in zip(
                boxes.tolist(), values[:, 4:6], masks, strict=True
            )
            if mask.any()  # a box in which no pixel is more likely object than not: nothing to remove
        ]


class _Float32(nn.Module):
    """The network's last layer, outside of autocast."""

    def __init__(self, head: nn.Module, device_type: str) -> None:
        super().__init__()
        self.head = head
        self.device_type = device_type
        # Where the layer stands in the network's graph; the network reads these of every layer.
        # Not by assignment: `type` is a method of nn.Module, and the networks store their layers' class name over it.
        self.__dict__.update({name: vars(head)[name] for name in ("f", "i", "type")})

    def forward(self, features: list[Tensor]) -> Any:
        with torch.autocast(self.device_type, enabled=False):
            return self.head([feature.float() for feature in features])


def _load_network(weights: bytes, name: str) -> Any:
    """The network of a checkpoint, float32 on the CPU."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "weights.pt")
        path.write_bytes(weights)
        try:
            # `safe_only` rebuilds known classes instead of running the code of the file, and never installs packages.
            checkpoint, _ = torch_safe_load(str(path), safe_only=True)  # type: ignore[no-untyped-call]
        except UNLOADABLE as error:
            raise _not_loadable(name, error) from error
    network = checkpoint.get("ema") or checkpoint.get("model")
    if not isinstance(network, nn.Module):
        raise WeightsError(
            f"detector.weights: {name} holds no ultralytics network; give a checkpoint as ultralytics saves it, "
            "for example yolov8n-seg.pt."
        )
    task = guess_model_task(network)  # type: ignore[no-untyped-call]
    if task != "segment":
        raise WeightsError(
            f"detector.weights: {name} is a network for the task `{task}`, and masks need the task `segment`; "
            "give a checkpoint such as yolov8n-seg.pt."
        )
    return network.float()


def _not_loadable(name: str, error: Exception) -> WeightsError:
    # ultralytics' own words are several sentences and name the temporary file.
    cause = error.__cause__ or error
    detail = f"{cause}" if isinstance(cause, ImportError) else type(cause).__name__
    return WeightsError(
        f"detector.weights: {name} is not a checkpoint that ultralytics can load ({detail}): it is cut off, of another "
        "kind, or made with code that is not ultralytics' own; give an intact `.pt` file of a segmentation network."
    )


def _class_names(network: Any) -> dict[int, str]:
    """Class ids and names; older checkpoints have a list."""
    names = network.names
    pairs = names.items() if isinstance(names, Mapping) else enumerate(names)
    return {int(index): str(name) for index, name in pairs}


def _class_ids(names: Mapping[int, str], wanted: Sequence[str]) -> list[int]:
    """Ids of the wanted classes.

    Raises:
        ConfigError: names the first unknown class, and the known ones.
    """
    ids = {name: index for index, name in names.items()}
    for name in wanted:
        if name not in ids:
            close = difflib.get_close_matches(name.lower(), ids, n=3)
            hint = f" Did you mean {' or '.join(close)}?" if close else ""
            known = f": {', '.join(ids)}" if len(ids) <= 100 else ""
            raise ConfigError(
                f"detector.classes: the network has no class {name!r}.{hint} It has {len(ids)} classes{known}."
            )
    return [ids[name] for name in wanted]


def download(name: str) -> bytes:
    """The content of a checkpoint that ultralytics publishes, from the user's cache folder or the internet.

    The cache is `$XDG_CACHE_HOME/inpaint-core`, by default `~/.cache/inpaint-core`. With YOLO_OFFLINE=true the
    internet is not tried.

    Args:
        name: a bare file name, for example `yolov8n-seg.pt`.

    Raises:
        WeightsError: not a published name, or it could not be downloaded within 10 minutes.
    """
    if name not in GITHUB_ASSETS_NAMES:
        close = difflib.get_close_matches(name, GITHUB_ASSETS_NAMES, n=3)
        hint = f" (such as {', '.join(close)})" if close else ""
        raise WeightsError(
            f"detector.weights: {name} is neither a file here nor a checkpoint that ultralytics publishes{hint}; "
            "give a path or a URI."
        )
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "inpaint-core"
    target = cache / name
    try:
        if not target.is_file():
            if os.environ.get("YOLO_OFFLINE", "").strip().lower() in {"1", "true", "yes", "on", "y", "t"}:
                raise ConnectionError("YOLO_OFFLINE is set")
            cache.mkdir(parents=True, exist_ok=True)
            # Into its own folder first: the cache never shows half a file, whoever else downloads at this moment.
            with tempfile.TemporaryDirectory(dir=cache) as folder:
                _download_into(Path(folder, name)).replace(target)
        return target.read_bytes()
    except (OSError, MemoryError) as error:  # ultralytics raises MemoryError for a full disk
        reason = (str(error) or type(error).__name__).splitlines()[0].strip("❌ .")
        raise WeightsError(
            f"detector.weights: {name} could not be downloaded ({reason}); download it elsewhere and set "
            f"detector.weights=/path/to/{name} (or a URI)."
        ) from error


def _download_into(path: Path) -> Path:
    """Download the checkpoint of the path's name to the path, or give up after `DOWNLOAD_SECONDS`."""
    result: Future[str] = Future()

    def run() -> None:
        try:
            result.set_result(attempt_download_asset(str(path), retry=1, progress=False))
        except (OSError, MemoryError, RuntimeError, ValueError) as error:
            result.set_exception(error)

    # A daemon, so that a connection that never answers does not keep the job from ending.
    threading.Thread(target=run, daemon=True).start()
    try:
        return Path(result.result(timeout=DOWNLOAD_SECONDS))
    except TimeoutError:
        raise TimeoutError(f"not finished after {DOWNLOAD_SECONDS:.0f} seconds") from None
