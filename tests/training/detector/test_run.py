"""Runs of a few steps, with a teacher of random weights."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from inpaint_core.detection.checkpoints import checkpoint, class_names, load_network, new_network
from inpaint_core.detection.config import UltralyticsConfig
from inpaint_core.detection.ultralytics import UltralyticsDetector
from inpaint_core.training.detector import run
from inpaint_core.training.detector.command import main
from inpaint_core.training.detector.run import DETECTOR
from inpaint_core.training.run_folder import LAST

pytestmark = pytest.mark.usefixtures("one_thread")

CLASSES = ("person", "car", "dog")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs, and a teacher."""
    folder = tmp_path_factory.mktemp("distillation")
    (folder / "photographs").mkdir()
    random = np.random.default_rng(0)
    for number in range(5):
        pixels = random.integers(0, 256, (9, 12, 3), dtype=np.uint8).repeat(16, axis=0).repeat(16, axis=1)
        Image.fromarray(pixels).save(folder / "photographs" / f"{number}.jpg")
    torch.manual_seed(0)
    teacher = new_network("yolov8n-seg.yaml", CLASSES)
    for level in teacher.model[-1].cv3:
        level[-1].bias.data += 9.0  # it sees something everywhere
    (folder / "teacher.pt").write_bytes(checkpoint(teacher))
    return folder


def command(folder: Path, output: Path, *more: str) -> list[str]:
    small = ["size=64", "smallest_tile=32", "batch=2", "steps=3", "save_every=2", "classes=[car, person]", "device=cpu"]
    return [
        f"data={folder / 'photographs'}",
        f"teacher.weights={folder / 'teacher.pt'}",
        f"output={output}",
        *small,
        *more,
    ]


@pytest.fixture(scope="module")
def finished(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The output of a run, and what it said; tests only read it."""
    output, said = tmp_path_factory.mktemp("finished"), io.StringIO()
    with contextlib.redirect_stdout(said):
        assert main(command(folder, output)) == 0
    return output, said.getvalue()


def weights(output: Path) -> dict[str, torch.Tensor]:
    network = load_network((output / DETECTOR).read_bytes(), DETECTOR)
    tensors: dict[str, torch.Tensor] = network.state_dict()
    return tensors


def test_a_run_makes_a_detector_of_its_classes(finished: tuple[Path, str]) -> None:
    output, said = finished
    assert "5 photographs read, 0 unreadable" in said
    assert "5 of 5 photographs show one of car, person" in said
    assert "step 3 of 3" in said
    data = (output / DETECTOR).read_bytes()
    assert len(data) < 8e6
    assert class_names(load_network(data, DETECTOR)) == {0: "car", 1: "person"}
    config = UltralyticsConfig(classes=("person",), image_size=64, confidence=0.0001)
    detector = UltralyticsDetector(config, data, device=torch.device("cpu"), autocast=False)
    [found] = detector.detect([np.full((64, 48, 3), 90, np.uint8)], ["x"])
    assert {detection.label for detection in found} <= {"person"}


def state(output: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(output / LAST, weights_only=True)
    return content


def test_a_run_goes_on_where_it_was_and_ends_as_one_that_was_not_interrupted(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert main(command(folder, whole, "steps=4", "save_every=4", "rate=0.05")) == 0
    steps = run.DistillationRun._step

    def interrupted(self: run.DistillationRun, pictures: torch.Tensor) -> Any:
        if self._done == 3:
            raise KeyboardInterrupt
        return steps(self, pictures)

    with monkeypatch.context() as patch:
        patch.setattr(run.DistillationRun, "_step", interrupted)
        assert main(command(folder, parts, "steps=4", "rate=0.05")) == 130
    assert state(parts)["step"] == 2
    assert main(command(folder, parts, "steps=4", "rate=0.05")) == 0
    first, second = state(whole), state(parts)
    assert first["step"] == second["step"] == 4
    for name in ("student", "average"):
        for key, value in first[name].items():
            torch.testing.assert_close(second[name][key], value, rtol=1e-3, atol=1e-5, msg=f"{name} {key}")
    for key, moments in first["optimiser"]["state"].items():
        torch.testing.assert_close(second["optimiser"]["state"][key]["step"], moments["step"])
    assert weights(whole).keys() == weights(parts).keys()


def test_a_killed_run_goes_on(folder: Path, tmp_path: Path) -> None:
    arguments = command(folder, tmp_path / "run", "steps=400", "save_every=1")
    process = subprocess.Popen(
        [sys.executable, "-m", "inpaint_core", "detector", *arguments],
        cwd=Path(__file__).parents[3],
        env=dict(os.environ, OMP_NUM_THREADS="1"),
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / LAST).exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = state(tmp_path / "run")["step"]
    assert 0 <= done < 400
    assert main([*arguments, f"steps={done + 2}"]) == 0
    assert state(tmp_path / "run")["step"] == done + 2


def test_a_run_that_dies_while_it_writes_its_network_writes_it_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = run.checkpoint

    def fails_at_the_end(network: Any) -> bytes:
        if int(network.state_dict()["model.0.bn.num_batches_tracked"]) >= 3:
            raise KeyboardInterrupt
        return made(network)

    with monkeypatch.context() as patch:
        patch.setattr(run, "checkpoint", fails_at_the_end)
        assert main(command(folder, tmp_path)) == 130
    before = (tmp_path / DETECTOR).read_bytes()
    assert state(tmp_path)["step"] == 2
    assert main(command(folder, tmp_path)) == 0
    assert state(tmp_path)["step"] == 3
    assert (tmp_path / DETECTOR).read_bytes() != before


def test_another_teacher_or_other_photographs_are_told(
    folder: Path, finished: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, _ = finished
    network = load_network((folder / "teacher.pt").read_bytes(), "x")
    network.model[0].conv.weight.data *= 2
    (tmp_path / "other.pt").write_bytes(checkpoint(network))
    assert main([*command(folder, output), f"teacher.weights={tmp_path / 'other.pt'}"]) == 2
    assert "another teacher or other photographs (teacher differ)" in capsys.readouterr().err
    (tmp_path / "fewer").mkdir()
    for number in range(4):
        (tmp_path / "fewer" / f"{number}.jpg").write_bytes((folder / "photographs" / f"{number}.jpg").read_bytes())
    assert main([*command(folder, output), f"data={tmp_path / 'fewer'}"]) == 2
    assert "(photographs differ)" in capsys.readouterr().err


def test_a_finished_run_has_nothing_left_to_do(folder: Path, finished: tuple[Path, str]) -> None:
    output, _ = finished
    before = (output / DETECTOR).read_bytes()
    assert main(command(folder, output)) == 0
    assert (output / DETECTOR).read_bytes() == before


def test_training_brings_the_answers_nearer(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "_WARMUP", 1)
    totals = []
    for steps in (1, 30):
        output = tmp_path / str(steps)
        assert main(command(folder, output, f"steps={steps}", "save_every=30", "rate=0.05", "features=0")) == 0
        line = [line for line in capsys.readouterr().out.splitlines() if line.startswith(f"step {steps} of")][-1]
        parts = dict(part.split() for part in line.split(": ", 1)[1].split(", "))
        totals.append(float(parts["scores"]) + float(parts["boxes"]))
    assert totals[1] < 0.8 * totals[0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("classes=[car, unicorn]", "classes: the network has no class 'unicorn'"),
        ("architecture=yolov8n.yaml", "architecture: ultralytics has no segmentation network 'yolov8n.yaml'"),
        ("architecture=nonsense.yaml", "architecture: ultralytics has no segmentation network 'nonsense.yaml'"),
        (
            "architecture=yolov8s-seg.yaml",
            "features: the feature maps of yolov8s-seg.yaml differ in shape from the teacher's",
        ),
        ("teacher.weights=/nowhere/net.pt", "teacher.weights: there is no file /nowhere/net.pt"),
        ("teacher.sha256=" + "0" * 64, "teacher.weights: "),
        (
            "teacher.weights=yolov8x-seg.pt",
            "teacher.weights: yolov8x-seg.pt could not be downloaded (YOLO_OFFLINE is set)",
        ),
        ("architecture=yolo26n-seg.yaml", "architecture: yolo26n-seg.yaml has a head without"),
        ("data=/nowhere", "/nowhere: there is no such folder"),
        ("batches=3", "batches: "),
    ],
)
def test_what_a_user_can_mend_is_said(
    given: str, message: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(folder, tmp_path / "run", given)) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "run" / DETECTOR).exists()


def test_a_run_may_begin_with_an_earlier_detector(
    folder: Path, finished: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    earlier = finished[0] / DETECTOR
    # A step of next to no length leaves the weights as they were.
    assert main(command(folder, tmp_path / "second", f"initial={earlier}", "steps=1", "rate=1e-9")) == 0
    first, second = weights(finished[0]), weights(tmp_path / "second")
    trained = [name for name in first if name.endswith("conv.weight")]
    assert len(trained) > 50
    for name in trained:
        assert torch.allclose(first[name], second[name], atol=1e-5), name
    capsys.readouterr()
    for wrong, message in (
        ("classes=[person, car]", f"initial: {earlier} finds car, person; give a network with the same classes"),
        ("architecture=yolov8s-seg.yaml", f"initial: {earlier} does not have the architecture yolov8s-seg.yaml"),
    ):
        more = ["features=0", f"initial={earlier}", wrong]
        assert main(command(folder, tmp_path / "third", *more)) == 2
        assert capsys.readouterr().err.startswith(f"error: {message}")
    assert main(command(folder, tmp_path / "third", "initial=nowhere.pt")) == 2
    assert capsys.readouterr().err.startswith("error: initial: there is no file")


def test_another_architecture_learns_from_answers_alone(folder: Path, tmp_path: Path) -> None:
    assert main(command(folder, tmp_path, "architecture=yolov8s-seg.yaml", "features=0", "steps=1")) == 0


def test_an_output_with_another_run_is_refused(
    folder: Path, finished: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    output, _ = finished
    assert main(command(folder, output, "seed=5")) == 2
    assert "holds a run of another config (seed is 0 there and 5 here)" in capsys.readouterr().err
    assert main(command(folder, output, "limit=3")) == 2
    assert main(command(folder, folder / "photographs" / "inside")) == 2


def test_a_checkpoint_is_no_pickle_of_other_code_and_leaves_the_network_as_it_is() -> None:
    network = new_network("yolov8n-seg.yaml", CLASSES).train()
    data = checkpoint(network)
    assert next(network.parameters()).dtype == torch.float32
    assert network.training
    assert b"/" not in str(network.yaml).encode()
    stored: Any = load_network(data, "x.pt")
    assert stored.names == dict(enumerate(CLASSES))
    assert len(io.BytesIO(data).getvalue()) < 8e6
