"""Two removal jobs on a Ray that takes this machine to have a GPU, which torch does not see; prints what became of each.

    python -m tests.on_ray.on_a_gpu FOLDER

FOLDER holds `in` with images; a process of its own, since a Ray says at its start which GPUs it has.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import ray

from inpaint_core.detection.config import MaskFilesConfig
from inpaint_core.errors import ResourceError
from inpaint_core.inpainting.config import OpencvConfig
from inpaint_core.on_ray.removal import run_removal
from inpaint_core.removal.config import RemoveConfig, ScalingConfig


def main(folder: Path) -> dict[str, object]:
    lines: list[str] = []
    config = RemoveConfig(
        str(folder / "in"),
        str(folder / "out"),
        detector=MaskFilesConfig(root=str(folder / "masks")),
        inpainter=OpencvConfig(),
        scaling=ScalingConfig(images_per_batch=2),
    )
    ray.init("local", num_cpus=1, num_gpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        run_removal(config, print_line=lines.append)
        error = None
    except ResourceError as raised:
        error = str(raised)
    on_cpu = replace(config, scaling=ScalingConfig(images_per_batch=2, device="cpu", gpus_per_actor=0.5))
    summary = run_removal(on_cpu, print_line=lines.append)
    ray.shutdown()
    return {"error": error, "lines": lines, "totals": dict(summary.totals.by_status)}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
