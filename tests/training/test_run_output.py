"""What is written in the background: complete, in order, and with its errors."""

import threading
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from inpaint_core.errors import StorageError
from inpaint_core.metrics.names import MEANS
from inpaint_core.networks.weights.generator_file import load_generator
from inpaint_core.storage import Storage
from inpaint_core.training import run_output
from inpaint_core.training.checkpoint import load_state
from inpaint_core.training.config import CheckpointConfig
from inpaint_core.training.history import read_history
from inpaint_core.training.run_output import BackgroundWriter, host_copy
from inpaint_core.training.step import AdversarialStep
from inpaint_core.training.validation import Validation
from tests.training.small import CPU, config, copied, folder, run_of, same


def test_work_is_done_in_order_while_others_go_on() -> None:
    go, done = threading.Event(), []
    with closing(BackgroundWriter()) as writer:
        assert writer.idle
        writer.submit(lambda: (go.wait(10), done.append(1)))  # type: ignore[arg-type, return-value]
        assert not writer.idle
        assert done == []
        threading.Timer(0.05, go.set).start()
        writer.submit(lambda: done.append(2))
        assert done[0] == 1, "the second waits for the first"
        writer.wait()
        assert done == [1, 2]
        assert writer.idle


def test_an_error_is_raised_once_where_the_next_waits() -> None:
    def fail() -> None:
        raise StorageError("the disk is full")

    done: list[int] = []
    with closing(BackgroundWriter()) as writer:
        writer.submit(fail)
        with pytest.raises(StorageError, match="the disk is full"):
            writer.submit(lambda: done.append(1))
        assert done == [], "what comes after what failed is not begun"
        writer.wait()
        writer.submit(fail)
    assert writer.idle


def test_a_copy_of_a_state_is_its_own() -> None:
    weights = torch.arange(6.0).reshape(2, 3).t()
    state = {"a": weights, "b": [torch.ones(2, dtype=torch.int64), 3, "x"], "c": (None, {"d": weights.bfloat16()})}
    copy = host_copy(state)
    weights.zero_()
    assert copy["a"].tolist() == [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]
    assert copy["b"][1:] == [3, "x"]
    assert copy["c"][1]["d"].dtype == torch.bfloat16  # type: ignore[call-overload, index]
    assert copy["b"][0].dtype == torch.int64  # type: ignore[union-attr]


@pytest.fixture
def slowly(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Checkpoints take 0.3 s to write; the steps at which they begin."""
    begun: list[int] = []
    save = run_output.save_state

    def slow(storage: Storage, state: Any) -> None:
        begun.append(state["networks"]["step"])
        time.sleep(0.3)
        save(storage, state)

    monkeypatch.setattr(run_output, "save_state", slow)
    return begun


def test_steps_go_on_while_a_checkpoint_is_written(
    slowly: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights: dict[int, dict[str, torch.Tensor]] = {}
    beside: list[int] = []
    taken = AdversarialStep.__call__

    def call(self: AdversarialStep, batch: Any) -> Any:
        weights[self.done] = copied(self.generator)
        if slowly and folder(tmp_path).exists("last.pt") is False:
            beside.append(self.done)
        return taken(self, batch)

    monkeypatch.setattr(AdversarialStep, "__call__", call)
    settings = config(epochs=1, checkpoint=CheckpointConfig(steps=1))

    def dies(self: object, networks: object) -> None:
        raise RuntimeError("here")

    monkeypatch.setattr(Validation, "judge", dies)
    with pytest.raises(RuntimeError, match="here"):
        run_of(settings, folder(tmp_path))()
    assert beside == [1], "the second step was taken before the first checkpoint was written"
    # It died while the second was written, which is complete, and of its own step.
    assert slowly == [1, 2]
    state = load_state(folder(tmp_path), CPU.device)
    assert state is not None
    assert (state["epoch"], state["step"]) == (0, 2)
    assert same(state["networks"]["generator"], weights[2])


def test_an_epoch_is_reported_when_it_is_written(slowly: list[int], tmp_path: Path) -> None:
    storage = folder(tmp_path)
    seen: list[tuple[int, int]] = []

    def report(row: dict[str, Any]) -> None:
        state = load_state(storage, CPU.device)
        assert state is not None
        seen.append((row["epoch"], state["epoch"]))

    run_of(config(epochs=3), storage, report=report)()
    assert [epoch for epoch, _ in seen] == [1, 2, 3]
    assert all(written >= epoch for epoch, written in seen)
    assert [row["epoch"] for row in read_history(storage)] == [1, 2, 3]


def test_a_checkpoint_that_cannot_be_written_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(storage: Storage, state: Any) -> None:
        raise StorageError("there is no space left")

    monkeypatch.setattr(run_output, "save_state", full)
    steps: list[int] = []
    taken = AdversarialStep.__call__
    monkeypatch.setattr(
        AdversarialStep, "__call__", lambda self, batch: (steps.append(self.done), taken(self, batch))[1]
    )
    with pytest.raises(StorageError, match="there is no space left"):
        run_of(config(epochs=30, checkpoint=CheckpointConfig(steps=1)), folder(tmp_path))()
    assert len(steps) <= 2, "it is told at the next checkpoint, or before"


def test_checkpoints_every_so_many_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[tuple[int, int]] = []
    save = run_output.save_state

    def noted(storage: Storage, state: Any) -> None:
        steps.append((state["epoch"], state["step"]))
        save(storage, state)

    monkeypatch.setattr(run_output, "save_state", noted)
    settings = config(epochs=2, checkpoint=CheckpointConfig(minutes=1e-9))
    for name in ("timed", "plain"):
        (tmp_path / name).mkdir()
    run_of(settings, folder(tmp_path / "timed"))()
    assert steps[0] == (0, 1), "at the first synchronisation point"
    assert {(1, 0), (2, 0)} <= set(steps)
    run_of(replace(settings, checkpoint=CheckpointConfig()), folder(tmp_path / "plain"))()
    one, other = (load_state(folder(tmp_path / name), CPU.device) for name in ("timed", "plain"))
    assert one is not None
    assert other is not None
    assert same(one["networks"]["generator"], other["networks"]["generator"])


def test_the_best_generators_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = iter([0.3, 0.5, 0.2, 0.4, 0.1])
    monkeypatch.setattr(Validation, "judge", lambda *_: dict.fromkeys(MEANS, next(figures)))
    storage = folder(tmp_path)
    kept: list[list[str]] = []

    def report(row: dict[str, Any]) -> None:
        kept.append(sorted(found.key for found in storage.list("top")))

    settings = config(epochs=5, checkpoint=CheckpointConfig(metric="table_psnr", top=2))
    run_of(settings, storage, report=report)()
    names = {epoch: f"top/epoch-{epoch:04}.safetensors" for epoch in range(1, 6)}
    assert kept[-1] == [names[2], names[4]]
    best, top = (load_generator(storage.read(key))[0] for key in ("best.safetensors", names[2]))
    assert same(copied(best), copied(top))
