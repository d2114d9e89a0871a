"""Batches of images in parts that fit in memory."""

from __future__ import annotations

from dataclasses import dataclass

from inpaint_core.removal.image_task import ImageTask


@dataclass(frozen=True)
class Portion:
    """Images of a batch that go through the models together.

    Args:
        tasks: the images.
        batch: all images of the batch, with its last portion; none with the others.
    """

    tasks: list[ImageTask]
    batch: list[ImageTask]


def portions(batch: list[ImageTask], most: int) -> list[Portion]:
    """The images of a batch that are decoded, or failed; then those that wait for it, `most` pixels at a time, or one."""
    parts = [[task for task in batch if not task.waits], []]
    for task in batch:
        if task.waits:
            if sum(other.pixels for other in parts[-1]) + task.pixels > most:
                parts.append([])
            parts[-1].append(task)
    parts = [part for part in parts if part]
    return [Portion(part, batch if part is parts[-1] else []) for part in parts]
