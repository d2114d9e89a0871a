"""Whole runs without Ray: what they leave, where they go on, and how they end."""

import io
import json
import math
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from inpaint_core.config import load_config, to_tree
from inpaint_core.errors import ConfigError, StorageError, TrainingError, WeightsError
from inpaint_core.hole_masks.sampler import evaluation_holes
from inpaint_core.images.tensors import from_network, to_network
from inpaint_core.metrics.names import MEANS
from inpaint_core.metrics.protocols import MetricSums, measure
from inpaint_core.networks.spec import ContextEncoderSpec, UnetSpec
from inpaint_core.networks.weights.generator_file import load_generator
from inpaint_core.networks.weights.generator_header import read_metadata
from inpaint_core.storage import TEMPORARY_FOLDER, S3Options, Storage, open_storage
from inpaint_core.training import loop, run_output, sync_points
from inpaint_core.training.checkpoint import load_state
from inpaint_core.training.config import (
    CheckpointConfig,
    DiscriminatorConfig,
    HolesConfig,
    LossConfig,
    OptimiserConfig,
    TrainConfig,
)
from inpaint_core.training.history import SCHEMA, read_history
from inpaint_core.training.run_folder import OutputLease, claim_output
from inpaint_core.training.scaling_config import TrainScalingConfig
from inpaint_core.training.step import AdversarialStep
from inpaint_core.training.sync_points import Notice, WorkerTerminated
from inpaint_core.training.validation import Validation
from tests.s3.seaweedfs import S3Bucket
from tests.training.same_run import TIMES, differences
from tests.training.small import CPU, config, copied, data_of, folder, photographs, run_of, same


def trained(settings: TrainConfig, path: Path, **options: Any) -> Storage:
    """The output of a run, as the job would do it."""
    storage = folder(path)
    claim_output(storage, settings)
    run_of(settings, storage, **options)()
    return storage


def weights(storage: Storage, device: torch.device = CPU.device) -> dict[str, dict[str, torch.Tensor]]:
    state = load_state(storage, device)
    assert state is not None
    return {name: state["networks"][name] for name in ("generator", "discriminator", "average")}


def untimed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name not in TIMES} for row in rows]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainConfig, Path, list[dict[str, Any]], list[str]]:
    """One run to its end; tests only read it."""
    path = tmp_path_factory.mktemp("finished")
    rows: list[dict[str, Any]] = []
    lines: list[str] = []
    settings = config(str(path))
    trained(settings, path, report=rows.append, print_line=lines.append)
    return settings, path, rows, lines


Finished = tuple[TrainConfig, Path, list[dict[str, Any]], list[str]]


def test_a_run_leaves_the_documented_files(finished: Finished) -> None:
    settings, path, _, _ = finished
    keys = sorted(found.key for found in folder(path).list())
    board = [key for key in keys if key.startswith("tensorboard/")]
    assert len(board) == 1
    assert [key for key in keys if key not in board] == [
        "best.safetensors",
        "config.yaml",
        "history.parquet",
        "last.pt",
        "last.safetensors",
        "pictures/epoch-0001.jpg",
        "pictures/epoch-0002.jpg",
    ]
    assert load_config(TrainConfig, path / "config.yaml", []) == settings


def test_an_orphaned_run_writes_nothing_once_another_start_has_its_output(tmp_path: Path) -> None:
    settings, storage = replace(config(str(tmp_path)), epochs=5), folder(tmp_path)
    left: dict[str, bytes] = {}

    def taken_over(row: dict[str, Any]) -> None:
        if row["epoch"] == 2:
            OutputLease.take(storage)
            left.update(contents(storage))

    with pytest.raises(StorageError, match="taken over by a later start of this run"):
        run_of(settings, storage, report=taken_over, check=OutputLease.take(storage).check)()
    assert read_history(storage)[-1]["epoch"] == 2
    assert contents(storage) == left

    run_of(settings, storage, check=OutputLease.take(storage).check)()
    assert [row["epoch"] for row in read_history(storage)] == [1, 2, 3, 4, 5]


def test_a_run_whose_output_was_deleted_does_not_make_it_again(tmp_path: Path) -> None:
    storage = folder(tmp_path)
    lease = OutputLease.take(storage)
    lease.check()
    storage.delete("owner")
    with pytest.raises(StorageError, match=r"or deleted; this one ends\. "):
        lease.check()


def contents(storage: Storage) -> dict[str, bytes]:
    """The files of a run; TensorBoard's are its writer's own."""
    return {found.key: storage.read(found.key) for found in storage.list() if "tensorboard" not in found.key}


def test_history_tells_each_epoch(finished: Finished) -> None:
    settings, path, reported, _ = finished
    rows = read_history(folder(path))
    assert rows == reported
    assert [row["epoch"] for row in rows] == [1, 2]
    # 16 photographs less 3 held out are 3 steps of 4.
    assert [(row["step"], row["images"], row["workers"]) for row in rows] == [(3, 12, 1), (6, 12, 1)]
    for row in rows:
        assert list(row) == SCHEMA.names
        assert row["images_per_second"] == pytest.approx(12 / row["seconds"])
        assert 0 < row["data_wait"] < 1
        loss = settings.loss
        assert row["loss_total"] == pytest.approx(
            loss.adversarial_weight * row["loss_adversarial"]
            + loss.reconstruction_weight * (loss.l1 * row["loss_l1"] + loss.ssim * row["loss_ssim"]),
            rel=1e-5,
        )
        assert (row["loss_l2"], row["loss_ms_ssim"]) == (None, None)
        assert row["hole_fraction"] == 0.25
        # Nothing but the middle quarter differs from the photograph.
        assert row["table_l1"] == pytest.approx(row["hole_l1"] / 2, rel=1e-9)


def test_metrics_are_those_of_the_saved_generator(finished: Finished) -> None:
    settings, path, rows, _ = finished
    network, _ = load_generator((path / "last.safetensors").read_bytes())
    truth = photographs(16)[data_of(settings).validation_indices]
    images = to_network(truth)
    shown = images.clone()
    shown[:, :, 36:92, 36:92] = torch.tensor([2 * mean / 255 - 1 for mean in (117, 104, 123)])[None, :, None, None]
    with torch.no_grad():
        images[:, :, 32:96, 32:96] = network(shown)
    filled = torch.from_numpy(from_network(images)).permute(0, 3, 1, 2)
    hole = torch.zeros(3, 1, 128, 128, dtype=torch.bool)
    hole[:, :, 32:96, 32:96] = True
    sums = MetricSums()
    sums.add(measure(torch.from_numpy(truth).permute(0, 3, 1, 2), filled, hole))
    assert {name: rows[-1][name] for name in MEANS} == pytest.approx({n: sums.means()[n] for n in MEANS}, rel=1e-6)


def test_tensorboard_and_pictures_show_the_epochs(finished: Finished) -> None:
    _, path, rows, _ = finished
    events = EventAccumulator(str(path / "tensorboard")).Reload()
    for tag, column in (
        ("loss/total", "loss_total"),
        ("validation/table_psnr", "table_psnr"),
        ("run/seconds", "seconds"),
    ):
        told = [(event.step, event.value) for event in events.Scalars(tag)]
        assert told == [(row["step"], pytest.approx(row[column], rel=1e-5)) for row in rows]
    assert events.Tags()["images"] == ["input, output, truth"]
    grid = np.asarray(Image.open(path / "pictures" / "epoch-0002.jpg")).astype(int)
    assert grid.shape == (2 * 130 - 2, 3 * 130 - 2, 3)
    truth = photographs(16)[[0, 15]].astype(int)
    for row in range(2):
        top = slice(row * 130, row * 130 + 128)
        shown, filled, right = (grid[top, left : left + 128] for left in (0, 130, 260))
        assert np.abs(right - truth[row]).mean() < 6
        assert np.abs(shown[40:88, 40:88] - [117, 104, 123]).mean() < 6
        assert np.abs(filled[:30] - truth[row][:30]).mean() < 6
        assert np.abs(filled[36:92, 36:92] - truth[row][36:92, 36:92]).mean() > 6


def test_the_best_generator_is_that_of_its_epoch(finished: Finished, tmp_path: Path) -> None:
    settings, path, rows, _ = finished
    best = max(rows, key=lambda row: row["table_psnr"])
    data = (path / "best.safetensors").read_bytes()
    metadata = read_metadata(data)
    assert json.loads(metadata["inpaint_core.training"])["epoch"] == best["epoch"]
    assert json.loads(metadata["inpaint_core.config"]) == to_tree(settings)
    storage = trained(replace(settings, output="x"), tmp_path)  # the same again, for what an epoch left
    assert read_history(storage)[0]["table_psnr"] == rows[0]["table_psnr"]
    judged = {name: value.contiguous() for name, value in weights(storage)["average"].items()}
    last, _ = load_generator(storage.read("last.safetensors"))
    assert same(copied(last), judged)
    if best["epoch"] == 2:
        generator, _ = load_generator(data)
        assert same(copied(generator), judged)


@pytest.mark.parametrize(("metric", "epoch"), [("table_l1", 1), ("table_psnr", 2), ("sharpness", 3), ("table_ssim", 2)])
def test_best_is_chosen_by_the_metric(metric: Any, epoch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = {"table_l1": [0.1, 0.2, 0.3], "table_psnr": [9.0, 11.0, 10.0], "sharpness": [0.2, 1.9, 1.1]}
    figures["table_ssim"] = [math.nan, 0.4, 0.4]
    told = iter(range(3))

    def judge(*_: object) -> dict[str, float]:
        number = next(told)
        return dict.fromkeys(MEANS, 0.5) | {name: values[number] for name, values in figures.items()}

    monkeypatch.setattr(Validation, "judge", judge)
    storage = trained(config(epochs=3, checkpoint=CheckpointConfig(metric=metric)), tmp_path)
    kept = {key: read_metadata(storage.read(f"{key}.safetensors"))["inpaint_core.training"] for key in ("best", "last")}
    assert {key: json.loads(facts)["epoch"] for key, facts in kept.items()} == {"best": epoch, "last": 3}


def test_lines_for_a_person(finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, rows, lines = finished
    assert lines[0] == "13 training images, 3 steps per epoch"
    assert lines[1].startswith("epoch 1 of 2, step 1 of 3, "), "the first step of a start is told at once"
    assert lines[2].startswith("epoch 1 of 2 done in ")
    assert f"PSNR {rows[0]['table_psnr']:.2f}" in lines[2]
    assert lines[2].endswith("; best table_psnr")
    assert lines[3].startswith("epoch 2 of 2 done in ")
    monkeypatch.setattr(loop, "_SECONDS_BETWEEN_LINES", 0.0)
    told: list[str] = []
    trained(config(epochs=1), tmp_path, print_line=told.append)
    assert told[1].startswith("epoch 1 of 1, step 1 of 3, ")
    assert re.search(r" images/s, \d+% of the time without data, .* left in the epoch: .*l1 \d\.\d{4}, ", told[1])
    assert len(told) <= 1 + 3 + 1


class Killed(Exception):
    """Stands for a process that dies."""


def dies_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = AdversarialStep.__call__

    def call(self: AdversarialStep, batch: Any) -> Any:
        if self.done == step:
            raise Killed
        return taken(self, batch)

    monkeypatch.setattr(AdversarialStep, "__call__", call)


def full(**changes: Any) -> TrainConfig:
    return config(
        network=ContextEncoderSpec(output="full", bottleneck=16, width=4),
        holes=HolesConfig(kinds=("box", "strokes")),
        **changes,
    )


def unet(**changes: Any) -> TrainConfig:
    return replace(full(**changes), network=UnetSpec(width=4))


@pytest.fixture(scope="module", params=[config, full, unet])
def uninterrupted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TrainConfig, Storage]:
    """A run of three epochs that nothing happens to."""
    settings: TrainConfig = request.param(epochs=3)
    return settings, trained(settings, tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize(("steps", "death"), [(None, 5), (2, 5), (1, 8)])
def test_a_run_that_died_ends_with_the_same_weights(
    uninterrupted: tuple[TrainConfig, Storage],
    steps: int | None,
    death: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain, whole = uninterrupted
    settings = replace(plain, checkpoint=CheckpointConfig(steps=steps))
    with monkeypatch.context() as patched:
        dies_at(death, patched)
        with pytest.raises(Killed):
            trained(settings, tmp_path / "died")
    lines: list[str] = []
    torch.manual_seed(77)  # no global generator matters
    again = trained(settings, tmp_path / "died", print_line=lines.append)
    done = death // 3 * 3 if steps is None else death // steps * steps
    assert lines[0] == f"resuming from epoch {done // 3}, step {done % 3} of the next"
    assert differences(whole, again, 3) == []


def test_what_differs_from_an_undisturbed_run_is_named(
    uninterrupted: tuple[TrainConfig, Storage], tmp_path: Path
) -> None:
    whole = uninterrupted[1]
    copy = folder(tmp_path / "copy")
    for info in whole.list():
        copy.write(info.key, whole.read(info.key))
    assert differences(whole, copy, 3) == []
    assert differences(whole, copy, 4)[0] == "undisturbed: the epochs of the history are [1, 2, 3]"

    copy.write("top/epoch-0001.safetensors", b"")
    copy.write("pictures/epoch-0002.jpg", b"another")
    copy.delete("last.pt")
    copy.write("last.safetensors", copy.read("best.safetensors"))
    wrong = differences(whole, copy, 3)
    assert {"last.pt: missing", "top/epoch-0001.safetensors: stray", "pictures/epoch-0002.jpg: another picture"} <= set(
        wrong
    )

    table = pq.read_table(io.BytesIO(whole.read("history.parquet")))
    for rows, told in (
        (table.set_column(table.schema.get_field_index("loss_l1"), table.schema.field("loss_l1"), [[9.0] * 3]), None),
        (table.take([0, 1, 1, 2]), [1, 2, 2, 3]),
        (table.take([0, 2]), [1, 3]),
    ):
        file = io.BytesIO()
        pq.write_table(rows, file)
        copy.write("history.parquet", file.getvalue())
        expected = (
            "epoch 1: loss_l1 is 9.0, undisturbed"
            if told is None
            else f"disturbed: the epochs of the history are {told}"
        )
        assert differences(whole, copy, 3)[0].startswith(expected)


@pytest.mark.parametrize(("step", "where"), [(1, "epoch 0, step 1"), (2, "epoch 0, step 2"), (3, "epoch 1, step 0")])
def test_a_worker_that_is_told_to_end_loses_no_step(
    finished: Finished, step: int, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, path, rows, _ = finished
    monkeypatch.setattr(sync_points, "_SECONDS", 0.0)  # a synchronisation point after each step
    heard = iter([False] * (step - 1))
    lines: list[str] = []
    with pytest.raises(WorkerTerminated, match=rf"SIGTERM, after {where} of the next"):
        trained(settings, tmp_path, print_line=lines.append, notice=lambda: Notice(terminated=next(heard, True)))
    assert lines[-1] == f"the workers end after SIGTERM: the last checkpoint is that of {where} of the next"
    state = load_state(folder(tmp_path), CPU.device)
    assert state is not None
    assert state["networks"]["step"] == step
    lines.clear()
    again = trained(settings, tmp_path, print_line=lines.append)
    assert lines[0] == f"resuming from {where} of the next"
    assert same(weights(again)["average"], weights(folder(path))["average"])
    assert untimed(read_history(again)) == untimed(rows)


def test_a_worker_that_is_told_to_end_in_the_last_step_has_finished(finished: Finished, tmp_path: Path) -> None:
    settings = replace(finished[0], epochs=1)
    told = []

    def notice() -> Notice:
        told.append(len(told))
        return Notice(terminated=len(told) == 3)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sync_points, "_SECONDS", 0.0)
        storage = trained(settings, tmp_path, notice=notice)
    assert told == [0, 1, 2]
    assert [row["epoch"] for row in read_history(storage)] == [1]


def test_checkpoints_while_a_machine_is_about_to_be_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync_points, "_SECONDS", 0.0)
    monkeypatch.setattr(sync_points, "_SECONDS_BEFORE_LEAVING", 0.0)
    saved: list[int] = []
    save = run_output.save_state

    def noted(storage: Storage, state: dict[str, Any]) -> None:
        saved.append(state["networks"]["step"])
        save(storage, state)

    monkeypatch.setattr(run_output, "save_state", noted)
    lines: list[str] = []
    heard = iter([False, True])
    trained(config(), tmp_path, print_line=lines.append, notice=lambda: Notice(draining=next(heard, True)))
    assert saved == [2, 3, 4, 5, 6], "one after each step once that is known, and those of the epochs"
    assert sum("a machine of this run is being drained" in line for line in lines) == 1


def test_a_run_that_died_while_it_told_an_epoch_tells_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config()
    whole = trained(settings, tmp_path / "whole")
    with monkeypatch.context() as patched:

        def dies(storage: Storage, state: dict[str, Any]) -> None:
            if state["epoch"] == 2:
                raise Killed
            save(storage, state)

        save = run_output.save_state
        patched.setattr(run_output, "save_state", dies)
        with pytest.raises(Killed):
            trained(settings, tmp_path / "died")
    assert len(read_history(folder(tmp_path / "died"))) == 2, "it died after the epoch was told"
    again = trained(settings, tmp_path / "died")
    assert untimed(read_history(again)) == untimed(read_history(whole))
    assert same(weights(again)["generator"], weights(whole)["generator"])
    events = EventAccumulator(str(tmp_path / "died" / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("loss/total")] == [3, 6]


def test_an_epoch_is_told_only_when_its_generators_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(*_: Any) -> None:
        raise Killed

    monkeypatch.setattr(run_output, "save_judged", dies)
    with pytest.raises(Killed):
        trained(config(epochs=1), tmp_path)
    # The job takes a history with the last epoch for the end of the run.
    assert read_history(folder(tmp_path)) == []


def copy_of(finished: Finished, path: Path) -> Storage:
    shutil.copytree(finished[1], path, dirs_exist_ok=True)
    return folder(path)


def test_a_finished_run_goes_on_with_more_epochs_and_is_else_left_alone(finished: Finished, tmp_path: Path) -> None:
    settings, _, rows, _ = finished
    storage = copy_of(finished, tmp_path)
    before = {found.key: found.etag for found in storage.list()}
    run_of(settings, storage)()
    assert {found.key: found.etag for found in storage.list()} == before
    trained(replace(settings, epochs=3), tmp_path)
    after = read_history(storage)
    assert after[:2] == rows
    assert (after[2]["epoch"], after[2]["step"]) == (3, 9)
    assert len(after) == 3


def spoiled(settings: TrainConfig, path: Path, spoil: Callable[[AdversarialStep], None], at: int) -> Storage:
    """A run whose networks are spoiled before a step, up to its error."""
    storage = folder(path)
    taken = AdversarialStep.__call__

    def call(self: AdversarialStep, batch: Any) -> Any:
        if self.done == at:
            spoil(self)
        return taken(self, batch)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(AdversarialStep, "__call__", call)
        run_of(settings, storage)()
    return storage


def spoil_generator(networks: AdversarialStep) -> None:
    next(networks.generator.parameters()).data[0] = math.nan


def spoil_discriminator(networks: AdversarialStep) -> None:
    next(networks.discriminator.parameters()).data[0] = math.nan


@pytest.mark.parametrize(
    ("spoil", "part"), [(spoil_generator, "l1|discriminator"), (spoil_discriminator, "discriminator")]
)
def test_a_loss_that_is_not_finite_stops_the_run(
    spoil: Callable[[AdversarialStep], None], part: str, tmp_path: Path
) -> None:
    settings = config(epochs=3)
    good = trained(replace(settings, epochs=1), tmp_path).read("last.pt")
    with pytest.raises(TrainingError, match=rf"training: at step 4 the loss part '({part})' is not finite \(nan\)"):
        spoiled(settings, tmp_path, spoil, at=4)
    storage = folder(tmp_path)
    assert storage.read("last.pt") == good
    assert len(read_history(storage)) == 1


def overflow(networks: AdversarialStep) -> None:
    """The gradient of one step is too large, and the loss that it comes from is not."""
    next(networks.generator.parameters()).register_hook(lambda gradient: torch.full_like(gradient, math.inf))


@pytest.mark.parametrize("steps", [None, 1])
def test_weights_that_break_in_the_last_step_are_not_kept(steps: int | None, tmp_path: Path) -> None:
    settings = config(epochs=3, checkpoint=CheckpointConfig(steps=steps))
    good = trained(replace(settings, epochs=1), tmp_path).read("last.pt")
    with pytest.raises(TrainingError, match=r"at step 5 the generator got a value that is not finite"):
        spoiled(settings, tmp_path, overflow, at=5)
    state = load_state(folder(tmp_path), CPU.device)
    assert state is not None
    assert (state["epoch"], state["step"]) == ((1, 0) if steps is None else (1, 2))
    assert all(value.isfinite().all() for value in state["networks"]["generator"].values())
    if steps is None:
        assert folder(tmp_path).read("last.pt") == good
    run_of(settings, folder(tmp_path))()
    assert read_history(folder(tmp_path))[-1]["epoch"] == 3, "it does not go on from there"


def test_a_learning_rate_out_of_this_world_is_told(tmp_path: Path) -> None:
    wild = OptimiserConfig(generator_rate=1e30, warmup_steps=0)
    with pytest.raises(TrainingError, match=r"at step \d .* not finite.*Lower optimiser.generator_rate") as raised:
        trained(config(optimiser=wild), tmp_path)
    assert "\n" not in str(raised.value)
    assert not folder(tmp_path).exists("last.pt")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"network": ContextEncoderSpec(bottleneck=8, width=4)}, "checkpoint of another network"),
        ({"discriminator": DiscriminatorConfig(width=6)}, "checkpoint of another network"),
        ({"network": ContextEncoderSpec(output="full", bottleneck=16, width=4)}, "checkpoint of another network"),
    ],
)
def test_a_checkpoint_of_another_network_is_one_line(
    finished: Finished, changed: dict[str, Any], message: str, tmp_path: Path
) -> None:
    storage = copy_of(finished, tmp_path)
    with pytest.raises(WeightsError, match=f"{tmp_path} contains a {message} .*give another output") as raised:
        run_of(replace(finished[0], **changed), storage)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("count", [15, 17])
def test_other_images_are_refused_even_if_they_make_as_many_steps(
    finished: Finished, count: int, tmp_path: Path
) -> None:
    storage = copy_of(finished, tmp_path)
    with pytest.raises(WeightsError, match=f"holds a run with 13 training images, but the data now have {count - 3}; "):
        run_of(finished[0], storage, count=count)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 14}, "data: 13 training images are fewer than one batch of 14"),
        ({"scaling": TrainScalingConfig(), "holes": HolesConfig(kinds=("objects",))}, "objects"),
    ],
)
def test_impossible_runs_end_before_they_begin(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        run_of(config(**changes), folder(tmp_path))
    assert list(folder(tmp_path).list()) == []


@pytest.mark.parametrize("blocked", ["pictures", "tensorboard", TEMPORARY_FOLDER])
def test_an_output_that_cannot_be_written_is_one_line(blocked: str, tmp_path: Path) -> None:
    (tmp_path / blocked).write_text("a file where a folder has to be")
    with pytest.raises(StorageError, match=str(tmp_path)) as raised:
        run_of(config(epochs=1), folder(tmp_path))()
    assert "\n" not in str(raised.value)


def test_without_an_average_and_an_adversary(tmp_path: Path) -> None:
    settings = config(epochs=1, loss=LossConfig(adversarial_weight=0.0, l2=1.0), optimiser=OptimiserConfig(ema=None))
    storage = trained(settings, tmp_path)
    (row,) = read_history(storage)
    assert row["loss_discriminator"] is None
    assert row["loss_adversarial"] is None
    assert row["loss_total"] == pytest.approx(0.999 * row["loss_l2"])
    state = load_state(storage, CPU.device)
    assert state is not None
    generator, _ = load_generator(storage.read("best.safetensors"))
    assert same(copied(generator), {n: v.contiguous() for n, v in state["networks"]["generator"].items()})


def test_a_full_network_is_judged_by_the_holes_of_its_kinds(tmp_path: Path) -> None:
    storage = trained(full(epochs=1), tmp_path)
    (row,) = read_history(storage)
    holes = [evaluation_holes(kind, [index], seed=0) for index, kind in enumerate(("box", "strokes", "box"))]
    assert row["hole_fraction"] == pytest.approx(np.concatenate(holes).mean(), abs=1e-12)


def test_training_draws_from_no_global_generator(tmp_path: Path) -> None:
    torch.manual_seed(5)
    np.random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1]
    trained(config(epochs=1), tmp_path)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])


@pytest.mark.s3
def test_a_run_into_a_bucket_goes_on_from_there(
    s3_bucket: S3Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3 = S3Options(endpoint=s3_bucket.endpoint)
    settings = config(f"{s3_bucket.uri}/runs/one", s3=s3)
    storage = open_storage(settings.output, s3)
    assert claim_output(storage, settings) is False
    with monkeypatch.context() as patched:
        dies_at(4, patched)
        with pytest.raises(Killed):
            run_of(settings, storage)()
    assert claim_output(storage, settings) is True
    run_of(settings, storage)()
    local = trained(settings, tmp_path / "local")
    assert same(weights(storage)["generator"], weights(local)["generator"])
    assert untimed(read_history(storage)) == untimed(read_history(local))
    assert {found.key for found in storage.list() if "tensorboard" not in found.key} == {
        found.key for found in local.list() if "tensorboard" not in found.key
    }
    generator, _ = load_generator(storage.read("best.safetensors"))
    assert not generator.training
    picture = Image.open(io.BytesIO(storage.read("pictures/epoch-0002.jpg")))
    assert picture.size == (388, 258)
