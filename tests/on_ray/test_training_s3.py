"""The training job on a real Ray, with photographs and output in a real object store."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from inpaint_core.config import load_config
from inpaint_core.networks.build import build_generator
from inpaint_core.networks.weights.generator_file import load_generator, save_generator
from inpaint_core.storage import S3Options, open_storage
from inpaint_core.training.config import TrainConfig
from inpaint_core.training.history import SCHEMA
from tests.on_ray.shared import SharedRay
from tests.on_ray.test_training import SMALL, photographs, train


@pytest.mark.slow
@pytest.mark.s3
def test_a_run_on_s3_goes_on_with_more_epochs_and_more_workers(
    s3_bucket: Any, cluster: SharedRay, tmp_path: Path
) -> None:
    options = S3Options(endpoint=s3_bucket.endpoint)
    photographs(open_storage(f"{s3_bucket.uri}/photos", options))
    places = [f"data={s3_bucket.uri}/photos", f"output={s3_bucket.uri}/run", f"s3.endpoint={s3_bucket.endpoint}"]
    network = load_config(TrainConfig, None, [*SMALL, *places]).network
    first = tmp_path / "first.safetensors"
    save_generator(first, build_generator(network, torch.Generator().manual_seed(1)), network, {})
    places.append(f"initial={first}")
    lines: list[str] = []

    result = train(*places, lines=lines)

    assert f"starting from {first}" in lines

    output = open_storage(f"{s3_bucket.uri}/run", options)
    keys = {info.key for info in output.list()}
    assert {"config.yaml", "last.pt", "best.safetensors", "last.safetensors", "history.parquet"} <= keys
    assert {"pictures/epoch-0001.jpg", "pictures/epoch-0002.jpg"} <= keys
    assert any(key.startswith("tensorboard/events") for key in keys)
    table = pq.read_table(io.BytesIO(output.read("history.parquet")))
    assert table.schema.names == SCHEMA.names
    assert table["epoch"].to_pylist() == [1, 2] == [row["epoch"] for row in result.rows]
    assert table["images"].to_pylist() == [32, 32]  # 40 less the 8 held out
    assert Image.open(io.BytesIO(output.read("pictures/epoch-0002.jpg"))).size == (3 * 130 - 2, 2 * 130 - 2)
    assert load_generator(output.read("best.safetensors"))[1].bottleneck == 16
    assert any(line.startswith("40 photographs read") for line in lines)
    assert sum("epoch 1 of 2 done" in line for line in lines) == 1
    assert "2 epochs; best table_psnr" in result.summary(load_config(TrainConfig, None, [*SMALL, *places]))

    # The same command again has nothing to do; more epochs go on, here shared by two workers. Neither needs the first weights.
    first.unlink()
    lines.clear()
    train(*places, lines=lines)
    assert lines == [f"{output.uri}: 2 epochs are done already"]
    lines.clear()
    longer = train(*places, "epochs=3", "scaling.workers=2", lines=lines)
    assert [row["epoch"] for row in longer.rows] == [1, 2, 3]
    assert [row["workers"] for row in longer.rows] == [1, 1, 2]
    assert [row["step"] for row in longer.rows] == [4, 8, 12]
    assert "2 workers, 1 CPU each" in lines
    assert any(line.startswith("resuming from epoch 2") for line in lines)
