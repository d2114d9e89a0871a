"""Curves of single steps, profiles, and the validation before the first step."""

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from inpaint_core.metrics.names import MEANS
from inpaint_core.training import watching
from inpaint_core.training.checkpoint import load_state
from inpaint_core.training.config import CheckpointConfig, OptimiserConfig, WatchConfig
from inpaint_core.training.history import read_history
from inpaint_core.training.step import AdversarialStep
from tests.training.small import CPU, config, copied, folder, run_of, same
from tests.training.test_loop import Killed, dies_at


def curves(path: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(path / "tensorboard")).Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_steps_are_drawn_as_curves_and_train_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[float] = []
    logits: list[list[float]] = []
    taken = AdversarialStep.__call__

    def call(self: AdversarialStep, batch: Any) -> Any:
        logits.append([])
        handle = self.discriminator.register_forward_hook(
            lambda module, inputs, output: logits[-1].append(float(output.detach().mean()))
        )
        parts = taken(self, batch)
        handle.remove()
        norms.append(
            float(nn.utils.get_total_norm([p.grad for p in self.generator.parameters() if p.grad is not None]))
        )
        return parts

    for name in ("plain", "watched"):
        (tmp_path / name).mkdir()
    settings = config(epochs=2, optimiser=OptimiserConfig(warmup_steps=2, generator_rate=4e-4))
    run_of(settings, folder(tmp_path / "plain"))()
    monkeypatch.setattr(AdversarialStep, "__call__", call)
    run_of(replace(settings, watch=WatchConfig(scalars=2)), folder(tmp_path / "watched"))()
    one, other = (load_state(folder(tmp_path / name), CPU.device) for name in ("plain", "watched"))
    assert one is not None
    assert other is not None
    assert same(one["networks"]["generator"], other["networks"]["generator"])
    assert not any(tag.startswith("step/") for tag in curves(tmp_path / "plain"))
    seen = curves(tmp_path / "watched")
    assert [step for step, _ in seen["step/loss/total"]] == [2, 4, 6]
    assert [value for _, value in seen["step/gradient_norm/generator"]] == pytest.approx(norms[1::2], rel=1e-5)
    assert [value for _, value in seen["step/logits/real"]] == pytest.approx(
        [real for real, *_ in logits[1::2]], rel=1e-4
    )
    assert [value for _, value in seen["step/logits/fake"]] == pytest.approx(
        [fake for _, fake, _ in logits[1::2]], rel=1e-4
    )
    # Warm-up of two steps: the second has the whole rate; the cosine begins after a fifth of six steps.
    assert seen["step/rate/generator"][0] == (2, pytest.approx(4e-4))
    assert seen["step/rate/generator"][2][1] < seen["step/rate/generator"][1][1] < 4e-4
    assert 0.05 < seen["step/memory_gb/host_peak"][0][1] < 50
    assert seen["step/data_wait_seconds"][0][1] > 0
    assert "step/memory_gb/gpu_peak" not in seen


def test_a_resumed_run_keeps_the_points_up_to_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config(epochs=2, watch=WatchConfig(scalars=1), checkpoint=CheckpointConfig(steps=2))
    with monkeypatch.context() as patched:
        dies_at(5, patched)
        with pytest.raises(Killed):
            run_of(settings, folder(tmp_path))()
    run_of(settings, folder(tmp_path))()
    steps = [step for step, _ in curves(tmp_path)["step/loss/total"]]
    assert steps[-2:] == [5, 6]
    assert steps == sorted(set(steps)), "no step is drawn twice"


def test_a_profile_of_some_steps_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_SKIPPED", 2)
    monkeypatch.setattr(watching, "_DROPPED", 1)
    run_of(config(epochs=2, watch=WatchConfig(profile=2)), folder(tmp_path))()
    (trace,) = (tmp_path / "profile").iterdir()
    assert trace.name == "step-00000004.json.gz"
    names = [event.get("name", "") for event in json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]]
    assert sum(name.startswith("ProfilerStep#") for name in names) == 2
    assert any("conv" in name for name in names)


def test_an_untrained_network_is_judged_as_epoch_0(tmp_path: Path) -> None:
    settings = config(epochs=2)
    settings = replace(settings, validation=replace(settings.validation, first=True))
    lines: list[str] = []
    reported: list[dict[str, Any]] = []
    run_of(settings, folder(tmp_path), print_line=lines.append, report=reported.append)()
    rows = pq.read_table(tmp_path / "history.parquet").to_pylist()
    assert [(row["epoch"], row["step"], row["images"]) for row in rows] == [(0, 0, 0), (1, 3, 12), (2, 6, 12)]
    assert rows[0]["loss_total"] is rows[0]["images_per_second"] is rows[0]["data_wait"] is None
    assert all(rows[0][name] is not None for name in MEANS)
    assert lines[1].startswith(f"before the first step: table L1 {rows[0]['table_l1']:.4f}, ")
    assert read_history(folder(tmp_path)) == rows[1:] == reported, "it is no epoch of the run"
    assert curves(tmp_path)["validation/table_psnr"][0] == (0, pytest.approx(rows[0]["table_psnr"], rel=1e-6))
    picture = Image.open(tmp_path / "pictures" / "epoch-0000.jpg")
    assert np.asarray(picture).shape == (2 * 130 - 2, 3 * 130 - 2, 3)
    # It is what the network of the seed scores, and changes nothing of the training.
    (tmp_path / "plain").mkdir()
    run_of(config(epochs=2), folder(tmp_path / "plain"))()
    one, other = (load_state(path, CPU.device) for path in (folder(tmp_path), folder(tmp_path / "plain")))
    assert one is not None
    assert other is not None
    assert same(one["networks"]["generator"], other["networks"]["generator"])
    # A run that goes on keeps the row, and does not judge again.
    run_of(replace(settings, epochs=3), folder(tmp_path))()
    assert [row["epoch"] for row in pq.read_table(tmp_path / "history.parquet").to_pylist()] == [0, 1, 2, 3]


def test_a_run_that_died_before_its_first_checkpoint_is_judged_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(epochs=1)
    settings = replace(settings, validation=replace(settings.validation, first=True))
    with monkeypatch.context() as patched:
        dies_at(1, patched)
        with pytest.raises(Killed):
            run_of(settings, folder(tmp_path))()
    run_of(settings, folder(tmp_path))()
    assert [row["epoch"] for row in pq.read_table(tmp_path / "history.parquet").to_pylist()] == [0, 1]
    assert [step for step, _ in curves(tmp_path)["validation/table_psnr"]] == [0, 3]


def test_logits_are_left_alone_where_a_hook_would_compile_anew() -> None:
    network = nn.Linear(3, 1)
    with watching._logits(network, enabled=False) as means:
        network(torch.zeros(2, 3))
    assert means == []
    with watching._logits(network, enabled=True) as means:
        before = copied(network)
        value = network(torch.ones(2, 3))
    assert float(means[0]) == pytest.approx(float(value.detach().mean()))
    assert same(before, copied(network))
    assert not network._forward_hooks
