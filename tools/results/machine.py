"""The machine, in words, for a table of results."""

from __future__ import annotations

import os
import platform
import subprocess
from collections import Counter
from pathlib import Path

_CPU_FACTS = Path("/proc/cpuinfo")


def machine(*, gpu: bool, threads: int | None) -> str:
    """Model and number of CPUs and, where they train, of GPUs.

    Args:
        gpu: whether GPUs train.
        threads: CPUs of each worker; None: all.
    """
    cpus = os.cpu_count() or 1
    told = f"{_cpu_model()}, {cpus} CPU{'s' if cpus > 1 else ''} of {platform.machine()}"
    if gpu:
        gpus = Counter(_gpu_models())
        return f"{', '.join(f'{count} x {model}' for model, count in gpus.items()) or 'GPU'}; {told}"
    used = threads or cpus
    return f"{told}, {used} thread{'s' if used > 1 else ''}"


def _cpu_model() -> str:
    try:
        lines = _CPU_FACTS.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, "") or platform.processor() or "CPU"


def _gpu_models() -> list[str]:
    """Names of the GPUs, asked of nvidia-smi: torch would take memory of the GPU that trains."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    chosen = ["-i", visible] if visible else []
    try:
        asked = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader", *chosen],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return []
    return asked.stdout.split("\n")[:-1]
