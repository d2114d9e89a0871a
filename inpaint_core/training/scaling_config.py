"""Workers and devices of a training run: a section of its config (`training.config`)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, with_config
from pydantic_core import PydanticCustomError

from inpaint_core.config import STRICT


def _workers(value: Any) -> Any:
    """A number, or a range as `least-most`."""
    if value is None:
        return None
    found = re.fullmatch(r"\s*(\d{1,6})\s*(?:-\s*(\d{1,6})\s*)?", str(value))
    least, most = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 1 <= least <= most:
        raise PydanticCustomError("workers", "Input should be a number from 1, or a range such as 1-4")
    return least if least == most else f"{least}-{most}"


@with_config(STRICT)
@dataclass(frozen=True)
class TrainScalingConfig:
    """Workers and devices of a run."""

    workers: Annotated[
        int | str | None,
        BeforeValidator(_workers),
        Field(
            description="Worker processes that share each batch; null: one per GPU, or one on the CPU. A range such as `1-4`: as many as the free resources allow, more or fewer as machines join and leave; each number must divide `batch`."
        ),
    ] = None
    cpus_per_worker: Annotated[
        int | None, Field(ge=1, description="CPUs and torch threads per worker; null: all CPUs, divided evenly.")
    ] = None
    gpus_per_worker: Annotated[
        float | None,
        Field(
            gt=0.0,
            le=1.0,
            description="GPU per worker, where workers have one; null: 1. A part of one, such as 0.25, is for runs of one worker, such as the trials of a sweep: four of them share a GPU and its memory.",
        ),
    ] = None
    feeders: Annotated[
        int | None,
        Field(
            ge=0,
            le=64,
            description="Processes per worker that draw holes and decode photographs in parallel with the training; 0: a thread of the worker. null: from `cpus_per_worker`, all but one beside a GPU (at most 16), a quarter of them without. The samples are the same.",
        ),
    ] = None
    device: Annotated[
        Literal["auto", "cpu", "cuda"], Field(description="Device of the workers; `auto`: GPUs if the cluster has any.")
    ] = "auto"
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"],
        Field(
            description="Precision of convolutions (weights, losses and optimisers stay float32). `auto`: bfloat16 if the device supports it natively."
        ),
    ] = "auto"
    float32_precision: Annotated[
        Literal["default", "ieee", "tf32"],
        Field(
            description="Arithmetic of float32 convolutions and matrix products on a GPU: `ieee`, `tf32` (10 bits of mantissa, faster), or `default`, torch's own (TF32 in convolutions only). Losses are always `ieee`."
        ),
    ] = "default"
    channels_last: Annotated[
        bool, Field(description="Channels-last memory layout, in which convolutions are faster.")
    ] = True
    compile: Annotated[bool, Field(description="Compilation of both networks with torch.compile.")] = False
    sync_batchnorm: Annotated[
        bool | Literal["auto"],
        Field(
            description="BatchNorm statistics over the whole batch instead of each worker's share (GPUs only). `auto`: where several workers on GPUs have fewer than 16 images each."
        ),
    ] = False
    gradients: Annotated[
        Literal["float32", "bfloat16"],
        Field(
            description="Precision in which workers exchange their gradients; `bfloat16` halves the traffic, and rounds to 8 bits of mantissa. One worker exchanges none."
        ),
    ] = "float32"
    max_failures: Annotated[
        int,
        Field(ge=-1, description="Maximum number of restarts of the workers after one of them died; -1: no maximum."),
    ] = 3
    wait_for_nodes: Annotated[
        float,
        Field(
            ge=0,
            description="Autoscaling cluster: seconds to wait for nodes with the requested resources. 0: a run that needs more than the current nodes is refused at once.",
        ),
    ] = 0.0

    @property
    def worker_range(self) -> tuple[int, int] | None:
        """Least and most workers, where `workers` is a range."""
        if not isinstance(self.workers, str):
            return None
        least, _, most = self.workers.partition("-")
        return int(least), int(most)
