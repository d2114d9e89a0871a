"""What a worker does about the GPUs that Ray reserved for it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import ray
import torch

from inpaint_core.errors import ResourceError
from inpaint_core.on_ray.cluster import check_assigned_gpus
from tests.samples import encoded, photograph


def given(monkeypatch: pytest.MonkeyPatch, *, assigned: list[int], seen: bool, cuda: str | None = "13.2") -> None:
    monkeypatch.setattr(ray, "get_gpu_ids", lambda: assigned)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: seen)
    monkeypatch.setattr(torch.version, "cuda", cuda)


@pytest.mark.parametrize(("cuda", "build"), [("13.2", r"built for CUDA 13\.2"), (None, "built without CUDA")])
def test_an_assigned_gpu_that_torch_does_not_see_is_an_error(
    monkeypatch: pytest.MonkeyPatch, cuda: str | None, build: str
) -> None:
    given(monkeypatch, assigned=[1], seen=False, cuda=cuda)
    for device in ("auto", "cuda"):
        with pytest.raises(ResourceError, match=rf"^node \S+: Ray assigned GPU 1 .*{build}.*driver.*$"):
            check_assigned_gpus(device)  # type: ignore[arg-type]
    check_assigned_gpus("cpu")


@pytest.mark.parametrize(("assigned", "seen"), [([], False), ([], True), ([0], True)])
def test_a_worker_with_what_it_was_given_is_none(
    monkeypatch: pytest.MonkeyPatch, assigned: list[int], seen: bool
) -> None:
    given(monkeypatch, assigned=assigned, seen=seen)
    check_assigned_gpus("auto")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_job_on_reserved_gpus(tmp_path: Path) -> None:
    """Ray is told of a GPU that is not there: the job says so; told to compute on the CPU, it works through all blocks."""
    for number in range(5):
        for folder, image in (("in", photograph(seed=number)), ("masks", np.zeros((120, 160, 3), np.uint8))):
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / f"{number}.png").write_bytes(encoded(image))
    run = subprocess.run(
        [sys.executable, "-m", "tests.on_ray.on_a_gpu", str(tmp_path)], capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr
    shown = json.loads(run.stdout.splitlines()[-1])
    assert "Ray assigned GPU 0 to this worker, but torch" in shown["error"]
    assert "1 worker, 1 CPU and 0.5 GPU each" in shown["lines"]
    assert shown["totals"]["unchanged"] == 5
