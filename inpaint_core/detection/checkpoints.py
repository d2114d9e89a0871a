"""Checkpoints of YOLO networks: the only place that imports ultralytics.

The networks, their loader and their non-maximum suppression are ultralytics' own
(https://github.com/ultralytics/ultralytics).
"""

from __future__ import annotations

import copy
import difflib
import io
import os
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch import nn

from inpaint_core.detection.checkpoint_audit import refuse_constructors
from inpaint_core.detection.checkpoint_contents import damaged, names_of, not_loadable, wrong_task
from inpaint_core.errors import ConfigError, WeightsError
from inpaint_core.networks.weights.pretrained import DETECTOR
from inpaint_core.networks.weights.published import cache_folder


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
    from ultralytics.nn.modules.block import Proto as Proto
    from ultralytics.nn.modules.conv import Conv as Conv
    from ultralytics.nn.modules.conv import DWConv as DWConv
    from ultralytics.nn.modules.head import Detect
    from ultralytics.nn.tasks import SegmentationModel, WorldModel, YOLOEModel, guess_model_task, torch_safe_load
    from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES, attempt_download_asset
    from ultralytics.utils.nms import non_max_suppression as non_max_suppression

DOWNLOAD_SECONDS = 600.0
# What ultralytics raises for an architecture that is none.
_UNBUILDABLE = (TypeError, ValueError, LookupError, AttributeError, RuntimeError, ImportError)


def load_network(weights: bytes, name: str, key: str = "detector.weights", *, boxes: bool = False) -> Any:
    """The network of a checkpoint, float32 on the CPU: one that segments, unless `boxes` says otherwise.

    Args:
        weights: content of a `.pt` file.
        name: what it is called, for messages.
        key: the config key that it comes from, for messages.
        boxes: take a detection network, which has boxes and no masks, too.

    Raises:
        WeightsError: not a checkpoint of such a network, damaged, or its classes are not known.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "weights.pt")
        path.write_bytes(weights)
        try:
            refuse_constructors(weights)
            # `safe_only` rebuilds known classes instead of running the code of the file, and never installs packages.
            checkpoint, _ = torch_safe_load(str(path), safe_only=True)  # type: ignore[no-untyped-call]
        except Exception as error:  # whatever a damaged or hostile file makes of the loader
            raise not_loadable(name, key, error) from error
    network = checkpoint.get("ema") or checkpoint.get("model")
    if not isinstance(network, nn.Module):
        raise WeightsError(
            f"{key}: {name} holds no ultralytics network; give a checkpoint as ultralytics saves it, "
            "for example yolo11n-seg.pt."
        )
    _check_task(network, name, key, boxes)
    _check_classes(network, name, key)
    _check_values(network, name, key)
    return network.float()


def is_open_vocabulary(network: Any) -> bool:
    """Whether the classes of a network are texts that were embedded after its training."""
    return isinstance(network, YOLOEModel | WorldModel)


def _check_task(network: Any, name: str, key: str, boxes: bool) -> None:
    task = guess_model_task(network)  # type: ignore[no-untyped-call]
    if task == "detect" and boxes and not isinstance(network.model[-1], Detect):
        raise WeightsError(
            f"{key}: {name} is a detection network with the head {type(network.model[-1]).__name__}, which is not "
            "supported; give a YOLO checkpoint such as yolo11n-seg.pt."
        )
    if task == "segment" or (task == "detect" and boxes):
        return
    raise wrong_task(task, name, key)


def _check_classes(network: Any, name: str, key: str) -> None:
    """Refuse a network whose classes are missing, or not as many as it predicts."""
    head = network.model[-1]
    if isinstance(network, YOLOEModel) and not hasattr(head, "lrpc") and getattr(network, "pe", None) is None:
        raise WeightsError(
            f"{key}: {name} is an open-vocabulary network without classes; embed them with `set_classes` of ultralytics "
            "and save it (docs/remove.md), or give a prompt-free checkpoint such as yoloe-11s-seg-pf.pt."
        )
    names = class_names(network)
    if len(names) != head.nc:
        raise WeightsError(
            f"{key}: {name} has names of {len(names)} classes, but predicts {head.nc}; give a checkpoint as "
            "ultralytics saves it."
        )


def _check_values(network: Any, name: str, key: str) -> None:
    """Refuse a network that would silently find nothing."""
    for tensor, values in network.state_dict().items():
        if not torch.isfinite(values).all():
            raise damaged(f"{tensor} holds values that are not finite (NaN or infinity)", name, key)


def class_names(network: Any) -> dict[int, str]:
    """Class ids and names; older checkpoints have a list, and checkpoints of no classes nothing."""
    return names_of(getattr(network, "names", ()))


def new_network(architecture: str, classes: Sequence[str]) -> Any:
    """A segmentation network with new random weights, from one of ultralytics' architecture files.

    Args:
        architecture: name of the file, such as `yolov8n-seg.yaml`.
        classes: names of the classes, in the order of their ids.

    Raises:
        ConfigError: there is no such architecture, or not one that segments.
    """
    unknown = (
        f"architecture: ultralytics has no segmentation network {architecture!r}; give one such as yolov8n-seg.yaml"
    )
    try:
        network = SegmentationModel(architecture, nc=len(classes), verbose=False)  # type: ignore[no-untyped-call]
    except (FileNotFoundError, *_UNBUILDABLE) as error:
        raise ConfigError(unknown) from error
    if guess_model_task(network) != "segment":  # type: ignore[no-untyped-call]
        raise ConfigError(unknown)
    network.names = dict(enumerate(classes))
    return network


def checkpoint(network: Any) -> bytes:
    """The content of a `.pt` file, float16, that `load_network` and ultralytics load. The network is not changed."""
    stored = copy.deepcopy(network).cpu().half().requires_grad_(False).eval()
    content = {"model": stored, "train_args": {"task": "segment"}, "epoch": -1}  # ultralytics looks the task up there
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def download(name: str, key: str = "detector.weights") -> bytes:
    """The content of a checkpoint that ultralytics publishes, from the user's cache folder or the internet.

    The cache is `inpaint_core.networks.weights.published.cache_folder`. With YOLO_OFFLINE=true the internet is not tried.

    Args:
        name: a bare file name, for example `yolov8n-seg.pt`.
        key: the config key that it comes from, for messages.

    Raises:
        WeightsError: not a published name, or it could not be downloaded within 10 minutes.
    """
    if name not in GITHUB_ASSETS_NAMES:
        close = difflib.get_close_matches(name, [DETECTOR, *GITHUB_ASSETS_NAMES], n=3)
        hint = f" (such as {', '.join(close)})" if close else ""
        raise WeightsError(
            f"{key}: {name} is neither a file here nor a checkpoint that ultralytics publishes{hint}; "
            "give a path or a URI."
        )
    instead = "."
    if key == "detector.weights":
        instead = f", or take the one that comes with this project: {key}={DETECTOR} detector.image_size=320."
    cache = cache_folder()
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
            f"{key}: {name} could not be downloaded ({reason}); download it elsewhere and set {key}=/path/to/{name} "
            f"(or a URI){instead}"
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
