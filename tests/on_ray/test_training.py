"""The training job on a real Ray of two CPUs: a killed worker, and what stops a run."""

from __future__ import annotations

import io
import re
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from inpaint_core.config import load_config
from inpaint_core.errors import ConfigError, ResourceError, TrainingError, WeightsError
from inpaint_core.networks.build import build_generator
from inpaint_core.networks.weights.generator_file import load_generator, save_generator
from inpaint_core.on_ray.run_images import read_images, training_data
from inpaint_core.on_ray.training import run_training
from inpaint_core.on_ray.workers import worker_bundles, worker_resources
from inpaint_core.storage import S3Options, Storage, open_storage
from inpaint_core.training.config import TrainConfig
from inpaint_core.training.history import SCHEMA
from inpaint_core.training.scaling_config import TrainScalingConfig
from tests.on_ray.shared import SharedRay
from tests.samples import encoded, photograph

SMALL = ["network.bottleneck=16", "network.width=4", "discriminator.width=4", "loss.l1=0.3", "loss.ssim=0.7"]
SMALL += ["batch=8", "validation.images=8", "validation.pictures=2", "scaling.cpus_per_worker=1", "epochs=2"]
IMAGES = 40


def photographs(storage: Storage, count: int = IMAGES) -> None:
    for number in range(count):
        picture = encoded(photograph((128, 128), seed=number), "JPEG", quality=90)
        storage.write(f"{number % 3}/{number:04}.jpg", picture)


def train(*overrides: str, lines: list[str] | None = None) -> Any:
    config = load_config(TrainConfig, None, [*SMALL, *overrides])
    return run_training(config, print_line=lines.append if lines is not None else lambda line: None)


@contextmanager
def workers_signalled(
    cluster: SharedRay, number: signal.Signals, lines: Sequence[str], *, seconds: float
) -> Iterator[list[int]]:
    """The workers of the training inside get a signal once `lines` tell the second epoch of twelve; their pids.

    Args:
        seconds: how long that is waited for.
    """
    signalled: list[int] = []

    def send() -> None:
        deadline = time.monotonic() + seconds
        while not any("epoch 2 of 12 done" in line for line in list(lines)) and time.monotonic() < deadline:
            time.sleep(0.02)
        for process in cluster.processes("ray::RayTrainWorker"):
            process.send_signal(number)
            signalled.append(process.pid)

    sender = threading.Thread(target=send)
    sender.start()
    yield signalled
    sender.join()


def rows_of_run(run: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(run / "history.parquet").to_pylist()
    return rows


# Settings of runs that differ in one thing only: steps enough that a kill falls into the middle.
SAME = ("checkpoint.steps=2", "epochs=12", "scaling.precision=float32", "network.output=full")


@pytest.fixture(scope="module")
def whole(cluster: SharedRay, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed; its photographs, and the weights that it starts from, lie beside it."""
    folder = tmp_path_factory.mktemp("whole")
    photographs(open_storage(str(folder / "photos")))
    network = load_config(TrainConfig, None, [*SMALL, *SAME]).network
    first = folder / "first.safetensors"
    save_generator(first, build_generator(network, torch.Generator().manual_seed(1)), network, {})
    places = [f"data={folder / 'photos'}", f"output={folder / 'run'}", f"initial={first}"]
    train(*SAME, "reading.keep=pixels", *places)
    return folder / "run"


@pytest.mark.slow
@pytest.mark.s3
def test_a_run_on_s3_whose_worker_is_killed_ends_as_if_nothing_had_happened_and_goes_on_with_more_workers(
    whole: Path, cluster: SharedRay, s3_bucket: Any, tmp_path: Path
) -> None:
    options = S3Options(endpoint=s3_bucket.endpoint)
    photographs(open_storage(f"{s3_bucket.uri}/photos", options))
    first = shutil.copy(whole.parent / "first.safetensors", tmp_path)
    places = [f"data={s3_bucket.uri}/photos", f"output={s3_bucket.uri}/run", f"s3.endpoint={s3_bucket.endpoint}"]
    arguments = [*SAME, *places, "reading.keep=pixels", f"initial={first}"]
    lines: list[str] = []

    with workers_signalled(cluster, signal.SIGKILL, lines, seconds=120) as killed:
        result = train(*arguments, lines=lines)

    assert len(killed) == 1
    assert f"starting from {first}" in lines
    assert any(line.startswith("resuming from epoch") for line in lines)

    output = open_storage(f"{s3_bucket.uri}/run", options)
    networks = [
        torch.load(io.BytesIO(data), weights_only=True)["networks"]
        for data in (output.read("last.pt"), (whole / "last.pt").read_bytes())
    ]
    for part in ("generator", "discriminator", "average"):
        for name, value in networks[0][part].items():
            torch.testing.assert_close(value, networks[1][part][name], rtol=1e-5, atol=1e-6, msg=f"{part}.{name}")
    rows = [result.rows, rows_of_run(whole)]
    assert [row["table_psnr"] for row in rows[0]] == pytest.approx([row["table_psnr"] for row in rows[1]], abs=1e-3)
    assert [row["loss_total"] for row in rows[0]] == pytest.approx([row["loss_total"] for row in rows[1]], rel=1e-4)

    keys = {info.key for info in output.list()}
    assert {"config.yaml", "last.pt", "best.safetensors", "last.safetensors", "history.parquet"} <= keys
    assert {f"pictures/epoch-{epoch:04}.jpg" for epoch in range(1, 13)} <= keys
    assert any(key.startswith("tensorboard/events") for key in keys)
    table = pq.read_table(io.BytesIO(output.read("history.parquet")))
    assert table.schema.names == SCHEMA.names
    assert table["epoch"].to_pylist() == list(range(1, 13)) == [row["epoch"] for row in result.rows]
    assert table["images"].to_pylist() == [32] * 12  # 40 less the 8 held out
    assert Image.open(io.BytesIO(output.read("pictures/epoch-0012.jpg"))).size == (3 * 130 - 2, 2 * 130 - 2)
    assert load_generator(output.read("best.safetensors"))[1].bottleneck == 16
    assert any(line.startswith("40 photographs read") for line in lines)
    assert sum("epoch 1 of 12 done" in line for line in lines) == 1
    assert "12 epochs; best table_psnr" in result.summary(load_config(TrainConfig, None, [*SMALL, *SAME, *places]))

    # The same command again has nothing to do; more epochs go on, here shared by two workers. Neither needs the first weights.
    Path(first).unlink()
    lines.clear()
    train(*arguments, lines=lines)
    assert lines == [f"{output.uri}: 12 epochs are done already"]
    lines.clear()
    longer = train(*arguments, "epochs=13", "scaling.workers=2", lines=lines)
    assert [row["epoch"] for row in longer.rows] == list(range(1, 14))
    assert [row["workers"] for row in longer.rows] == [1] * 12 + [2]
    assert [row["step"] for row in longer.rows] == [4 * epoch for epoch in range(1, 14)]
    assert "2 workers, 1 CPU each" in lines
    assert any(line.startswith("resuming from epoch 12") for line in lines)


@pytest.mark.slow
def test_files_that_feeders_decode_make_the_same_run_as_pixels(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "bytes"
    places = [f"data={whole.parent / 'photos'}", f"output={run}", f"initial={whole.parent / 'first.safetensors'}"]
    train(*SAME, "reading.keep=bytes", "scaling.feeders=2", *places)
    timed = ("seconds", "images_per_second", "data_wait")
    rows = [
        [{name: row[name] for name in row if name not in timed} for row in rows_of_run(one)] for one in (run, whole)
    ]
    assert len(rows[0]) == 12
    assert rows[0] == rows[1]


def places_of(lines: list[str], begin: str) -> list[str]:
    """The places in the run that lines which begin so name."""
    found = (re.search(r"epoch \d+, step \d+ of the next", line) for line in lines if line.startswith(begin))
    return [match[0] for match in found if match]


@pytest.mark.slow
def test_a_run_that_starts_from_the_network_of_another_loses_no_step_when_its_worker_gets_sigterm(
    whole: Path, cluster: SharedRay, tmp_path: Path
) -> None:
    (tmp_path / "first").mkdir()
    shutil.copy(whole / "best.safetensors", tmp_path / "first")
    lines: list[str] = []
    # Steps enough that the worker, which asks every 20 steps, hears of it in the middle.
    more = ["batch=null", "batch_per_worker=2", "epochs=12", "scaling.max_failures=1", "validation.first=true"]
    more += [f"initial={tmp_path / 'first'}", "scaling.precision=float32", "network.output=full"]
    arguments = [f"data={whole.parent / 'photos'}", f"output={tmp_path / 'run'}", *more]
    with workers_signalled(cluster, signal.SIGTERM, lines, seconds=400) as told:
        result = train(*arguments, lines=lines)
    assert f"starting from {tmp_path / 'first'}" in lines
    best = max(row["table_psnr"] for row in rows_of_run(whole))
    rows = rows_of_run(tmp_path / "run")
    assert [row["epoch"] for row in rows] == list(range(13))  # with the validation before the first step
    assert rows[0]["table_psnr"] == pytest.approx(best, rel=1e-6)
    assert rows[1]["table_psnr"] != rows[0]["table_psnr"]

    assert len(told) == 1
    left = places_of(lines, "the workers end after SIGTERM")
    assert len(left) == 1
    assert places_of(lines, "resuming from ") == left
    assert [(row["epoch"], row["step"]) for row in result.rows] == [(epoch, 16 * epoch) for epoch in range(1, 13)]
    stored = load_config(TrainConfig, tmp_path / "run" / "config.yaml", [])
    assert (stored.batch, stored.batch_per_worker) == (2, None)
    lines.clear()
    train(*arguments, lines=lines)
    assert lines == [f"{tmp_path / 'run'}: 12 epochs are done already"]
    with pytest.raises(ConfigError, match="batch is 2 there and 4 here"):
        train(*arguments, "scaling.workers=2")


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_the_run_at_once(cluster: SharedRay, tmp_path: Path) -> None:
    photographs(open_storage(str(tmp_path / "photos")))
    lines: list[str] = []
    with pytest.raises(TrainingError, match=r"at step \d+ the loss part '\w+' is not finite"):
        train(
            f"data={tmp_path / 'photos'}",
            f"output={tmp_path / 'run'}",
            "optimiser.generator_rate=1e30",
            "optimiser.warmup_steps=0",
            lines=lines,
        )
    assert sum("steps per epoch" in line for line in lines) == 1  # not tried again
    assert not (tmp_path / "run" / "last.pt").exists()


def test_data_that_do_not_suffice_are_told(cluster: SharedRay, tmp_path: Path) -> None:
    photographs(open_storage(str(tmp_path / "photos")), 12)
    places = [f"data={tmp_path / 'photos'}", f"output={tmp_path / 'run'}"]
    with pytest.raises(ConfigError, match=r"validation.images: 8 of the 12 images"):  # what a worker raises
        training_data(read_images(load_config(TrainConfig, None, [*SMALL, *places]), lambda line: None))
    with pytest.raises(ConfigError, match=r"data: 10 training images are fewer than one batch of 64"):
        train(*places, "batch=64", "validation.images=2")
    for number in range(4):
        (tmp_path / "photos" / f"broken-{number}.jpg").write_bytes(b"\xff\xd8 no picture")
    with pytest.raises(ConfigError, match=r"broken-0\.jpg"):
        train(*places)


def test_what_a_run_starts_from_is_checked_before_ray_is_needed(tmp_path: Path) -> None:
    places = [f"data={tmp_path / 'photos'}", f"output={tmp_path / 'run'}"]
    with pytest.raises(WeightsError, match=r"^initial: there is no file .*missing/best\.safetensors"):
        train(*places, f"initial={tmp_path / 'missing'}")
    with pytest.raises(
        WeightsError, match=r"^initial: inpaint-unet is a network of another form \(network\.kind is unet"
    ):
        train(*places, "initial=inpaint-unet")
    assert not (tmp_path / "run" / "config.yaml").exists()


@pytest.mark.parametrize(
    ("settings", "nodes", "expected"),
    [
        ({}, [(2, 0)], "1 worker, 2 CPU each"),
        ({"workers": 2}, [(2, 0)], "2 workers, 1 CPU each"),
        ({"workers": 3}, [(16, 0), (16, 0)], "3 workers, 8 CPU each"),
        ({}, [(16, 4)], "4 workers, 4 CPU and 1 GPU each"),
        ({}, [(4, 0), (16, 2), (16, 2)], "4 workers, 8 CPU and 1 GPU each"),
        ({"device": "cpu"}, [(16, 4)], "1 worker, 16 CPU each"),
        ({"workers": 1, "cpus_per_worker": 3}, [(16, 4)], "1 worker, 3 CPU and 1 GPU each"),
        ({"gpus_per_worker": 0.25}, [(16, 2)], "1 worker, 16 CPU and 0.25 GPU each"),
        ({"gpus_per_worker": 0.25}, [(16, 0)], "1 worker, 16 CPU each"),
        ({"workers": "1-4"}, [(2, 0)], "2 workers, 1 CPU each; 1 to 4 as machines come and go"),
        ({"workers": "1-4"}, [(8, 2), (4, 1)], "3 workers, 4 CPU and 1 GPU each; 1 to 4 as machines come and go"),
        ({"workers": "2-4"}, [(16, 8)], "4 workers, 4 CPU and 1 GPU each; 2 to 4 as machines come and go"),
    ],
)
def test_workers_follow_from_the_cluster(settings: dict[str, Any], nodes: list[tuple[int, int]], expected: str) -> None:
    there = [{"CPU": float(cpu), "GPU": float(gpu)} for cpu, gpu in nodes]
    assert str(worker_resources(TrainScalingConfig(**settings), there)) == expected


def test_ray_is_asked_for_parts_of_gpus_and_for_ranges() -> None:
    nodes = [{"CPU": 16.0, "GPU": 2.0}]
    quarter = worker_resources(TrainScalingConfig(gpus_per_worker=0.25, cpus_per_worker=2), nodes).scaling_config()
    assert quarter.total_resources == {"CPU": 2, "GPU": 0.25}
    assert (quarter.use_gpu, quarter.num_workers) == (True, 1)
    some = worker_resources(TrainScalingConfig(workers="1-4", device="cpu"), nodes).scaling_config()
    assert (some.min_workers, some.max_workers, some.elasticity_enabled) == (1, 4, True)
    assert some.total_resources == {"CPU": 16}
    two = worker_resources(TrainScalingConfig(workers=2), nodes).scaling_config()
    assert (two.num_workers, two.elasticity_enabled, two.total_resources) == (2, False, {"CPU": 16, "GPU": 2})
    assert (
        worker_bundles(TrainScalingConfig(workers="2-8", device="cuda", cpus_per_worker=3))
        == [{"CPU": 3, "GPU": 1}] * 2
    )
    assert worker_bundles(TrainScalingConfig(gpus_per_worker=0.5, device="cuda")) == [{"CPU": 1, "GPU": 0.5}]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"workers": 3}, "3 workers of 1 CPU each were requested, and the cluster .* has room for 2"),
        ({"workers": "3-4"}, "3 workers of 1 CPU each were requested, and the cluster .* has room for 2"),
        ({"cpus_per_worker": 4}, "1 worker of 4 CPU each were requested, .* has room for 0"),
        ({"device": "cuda"}, "scaling.device: cuda was requested, but the cluster has no GPU"),
        ({"sync_batchnorm": True}, "scaling.sync_batchnorm: .* GPUs only, and the workers get none; turn it off"),
    ],
)
def test_workers_that_can_never_start_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ResourceError, match=message):
        worker_resources(TrainScalingConfig(**settings), [{"CPU": 2.0, "GPU": 0.0}])
