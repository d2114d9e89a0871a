"""Contents of a checkpoint of ultralytics, read without torch: a job reports wrong weights or classes before any process loads them."""

from __future__ import annotations

import contextlib
import difflib
import pickle
from collections.abc import Mapping, Sequence
from typing import Any

from inpaint_core.detection.checkpoint_audit import refuse_constructors
from inpaint_core.detection.checkpoint_tensors import fault_of_tensors
from inpaint_core.errors import ConfigError, WeightsError

EMBEDDING = (
    "its classes are embedded in the checkpoint: embed others with `set_classes` of ultralytics (docs/remove.md)"
)
"""What to do where an open-vocabulary network lacks a class. Text is not embedded here: that takes a package that is only on
GitHub (https://github.com/ultralytics/CLIP) and a second network, the text encoder."""

_TASKS = {"detect": "detect", "semanticsegment": "semantic", "segment": "segment", "pose": "pose", "obb": "obb"}
"""By parts of the names of heads, in the order in which ultralytics looks for them."""

_OPEN_VOCABULARY = ("YOLOEModel", "YOLOESegModel", "WorldModel")


def check_contents(weights: bytes, name: str, *, key: str, classes: Sequence[str], boxes: bool) -> None:
    """Refuse a checkpoint that is damaged, holds values that are not finite, does not know a class, or is said to be of a network for another task.

    Whether its tensors are those of its network is not found: that takes the network.

    Args:
        weights: content of a `.pt` file.
        name: what it is called, for messages.
        key: the config key that it comes from, for messages.
        classes: names of the wanted classes, of `detector.classes`.
        boxes: networks for detection, without masks, will do.

    Raises:
        WeightsError: the checkpoint cannot be used.
        ConfigError: the network has no such class.
    """
    try:
        content = refuse_constructors(weights)
    except Exception as error:  # whatever a damaged or hostile file makes of it
        raise not_loadable(name, key, error) from error
    network = (content.get("ema") or content.get("model")) if isinstance(content, dict) else None
    attributes = getattr(network, "state", None)
    if not isinstance(attributes, dict):
        return  # no network, or not as ultralytics stores one: told where it is loaded
    task = _task_of(attributes)
    if task is not None and task != "segment" and not (task == "detect" and boxes):
        raise wrong_task(task, name, key)
    names = attributes.get("names")
    if isinstance(names, dict | list) and names:
        hint = EMBEDDING if type(network).__name__.rpartition(".")[2] in _OPEN_VOCABULARY else ""
        class_ids(names_of(names), classes, "detector.classes", hint)
    fault = fault_of_tensors(weights, network)
    if fault is not None:
        raise damaged(fault, name, key)


def _task_of(attributes: Mapping[str, Any]) -> str | None:
    """The task of a network, by the settings of its training or the name of its head, as ultralytics tells it."""
    with contextlib.suppress(LookupError, TypeError):
        return str(attributes["args"]["task"])
    with contextlib.suppress(LookupError, TypeError, AttributeError):
        head = attributes["yaml"]["head"][-1][-2].lower()
        return next((task for name, task in _TASKS.items() if name in head), None)
    return None


def names_of(names: Any) -> dict[int, str]:
    """Class ids and names, as a checkpoint has them; older ones have a list."""
    pairs = names.items() if isinstance(names, Mapping) else enumerate(names)
    return {int(index): str(name) for index, name in pairs}


def class_ids(names: Mapping[int, str], wanted: Sequence[str], key: str, remedy: str = "") -> list[int]:
    """Ids of the wanted classes; messages begin with the config key `key`, and end with the remedy.

    Raises:
        ConfigError: names the first unknown class, and the known ones.
    """
    ids = {name: index for index, name in names.items()}
    for name in wanted:
        if name not in ids:
            close = difflib.get_close_matches(name.lower(), ids, n=3)
            hint = f" Did you mean {' or '.join(close)}?" if close else ""
            known = f": {', '.join(ids)}" if len(ids) <= 100 else ""
            more = f"; {remedy}" if remedy else ""
            raise ConfigError(
                f"{key}: the network has no class {name!r}.{hint} It has {len(ids)} classes{known}{more}."
            )
    return [ids[name] for name in wanted]


def not_loadable(name: str, key: str, error: Exception) -> WeightsError:
    """For a checkpoint that the loader, or the search through it, does not get through."""
    # ultralytics' own words are several sentences and name the temporary file.
    cause = error.__cause__ or error
    told = isinstance(cause, ImportError) or (isinstance(cause, pickle.UnpicklingError) and cause is error)
    detail = f"{cause}" if told else type(cause).__name__
    return WeightsError(
        f"{key}: {name} is not a checkpoint that ultralytics can load ({detail}): it is cut off, of another "
        "kind, or made with code that is not ultralytics' own; give an intact `.pt` file of a segmentation network."
    )


def damaged(fault: str, name: str, key: str) -> WeightsError:
    """For a checkpoint whose tensors are of no use; `fault` says why."""
    return WeightsError(f"{key}: {name} is damaged: {fault}; get the file again from its source.")


def wrong_task(task: str | None, name: str, key: str) -> WeightsError:
    """For a network that does not segment."""
    instead = ""
    if task == "detect" and key == "detector.weights":
        instead = ", or fill the whole boxes of this one with detector.whole_boxes=true"
    what = f"for the task `{task}`" if task else "for another task"
    return WeightsError(
        f"{key}: {name} is a network {what}, and masks need the task `segment`; "
        f"give a checkpoint such as yolo11n-seg.pt{instead}."
    )
