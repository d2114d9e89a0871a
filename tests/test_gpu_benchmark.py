"""`benchmarks/gpu.py` on a machine of any kind, with numbers so small that they say nothing about its speed."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
COMMAND = "--images 2 --sizes 320x240 --actors 1 --batches 2 --steps 1 --modes float32 --weights people-vehicles.pt"
SETTINGS = ["detector.image_size=320", "mask.max_mask_fraction=1"]

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="what is null without a GPU")


@pytest.fixture(scope="module")
def shown() -> dict[str, Any]:
    run = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), *COMMAND.split(), *SETTINGS],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert run.returncode == 0, run.stderr
    result: dict[str, Any] = json.loads(run.stdout)
    return result


def test_it_measures_the_removal(shown: dict[str, Any]) -> None:
    found = shown["removal"]["320x240"]["1"]
    assert (found["images"], found["failed"]) == (2, 0)
    assert found["images_per_second"] > 0
    milliseconds = found["milliseconds"]
    assert {"read", "decode", "detect", "mask", "inpaint", "encode", "measure", "write"} == set(milliseconds)
    assert min(milliseconds[stage] for stage in ("read", "decode", "detect", "write")) > 0
    host = shown["host"]["320x240"]
    assert min(host[key] for key in ("milliseconds_per_image", "in_operators", "operators_per_image")) > 0


def test_it_measures_training(shown: dict[str, Any]) -> None:
    assert set(shown["training"]) == {"float32"}
    assert shown["training"]["float32"]["2"]["steps_per_second"] > 0


@without_gpu
def test_what_needs_a_gpu_is_null(shown: dict[str, Any]) -> None:
    assert shown["machine"]["gpus"] == 0
    assert shown["machine"]["gpu"] is None
    found = shown["removal"]["320x240"]["1"]
    assert [found[key] for key in ("gpu_use_percent", "gpu_memory_mib", "torch_memory_mib_per_worker")] == [None] * 3
    assert shown["fault"] == {"result": None, "reason": "no GPU"}
    assert shown["nccl"]["result"] is None


@without_gpu
def test_without_a_gpu_bfloat16_is_compared_with_float32(shown: dict[str, Any]) -> None:
    (found,) = shown["agreement"]["320x240"].values()
    assert 0.5 < found["no patches"]["within_1_level"] <= 1
    assert 0 < found["patches"]["within_1_level"] <= 1
    assert found["patches"]["mean_difference"] >= 0
    assert 0.5 < found["mask_iou"] <= 1
