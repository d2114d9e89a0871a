"""A trained generator as a file to hand on."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

from inpaint_core.config import to_tree
from inpaint_core.networks.build import build_generator
from inpaint_core.networks.spec import UnetSpec
from inpaint_core.networks.weights.export import exported, main
from inpaint_core.networks.weights.generator_file import load_generator, save_generator
from inpaint_core.networks.weights.generator_header import read_metadata
from inpaint_core.training.config import HolesConfig, TrainConfig

pytestmark = pytest.mark.usefixtures("one_thread")


def test_half_the_size_the_same_network_and_no_places(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = UnetSpec(width=4, blocks=1)
    network = build_generator(spec, torch.Generator().manual_seed(1)).eval()
    holes = HolesConfig(kinds=("objects",), objects="/my/shapes.parquet")
    config = TrainConfig(data="/my/photographs", output="/my/run", network=spec, holes=holes)
    extra = {
        "inpaint_core.config": json.dumps(to_tree(config)),
        "inpaint_core.training": json.dumps({"epoch": 3}),
        "note": "kept on this machine",
    }
    save_generator(tmp_path / "best.safetensors", network, spec, extra)
    assert main([str(tmp_path / "best.safetensors"), str(tmp_path / "shipped.safetensors")]) == 0
    data = (tmp_path / "shipped.safetensors").read_bytes()
    assert hashlib.sha256(data).hexdigest() in capsys.readouterr().out
    assert len(data) < 0.75 * (tmp_path / "best.safetensors").stat().st_size
    again, its_spec = load_generator(data)
    assert its_spec == spec
    images, masks = torch.rand(2, 3, 128, 128) * 2 - 1, torch.zeros(2, 1, 128, 128, dtype=torch.bool)
    masks[:, :, 30:90, 40:80] = True
    with torch.no_grad():
        torch.testing.assert_close(again(images, masks), network(images, masks), rtol=0, atol=0.01)
    metadata = read_metadata(data)
    assert b"/my" not in data
    assert "note" not in metadata
    assert json.loads(metadata["inpaint_core.training"]) == {"epoch": 3}
    kept = json.loads(metadata["inpaint_core.config"])
    assert kept["network"] == to_tree(config)["network"]
    assert kept["holes"] == {"kinds": ["objects"], "weights": None}
    assert exported(data) == data  # nothing more to leave out, and the same order


def test_what_is_no_generator_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"no weights")
    assert main([str(tmp_path / "x.safetensors"), str(tmp_path / "y.safetensors")]) == 2
    assert "not a complete safetensors file" in capsys.readouterr().err
    assert not (tmp_path / "y.safetensors").exists()
    assert main([str(tmp_path / "missing.safetensors"), str(tmp_path / "y.safetensors")]) == 2
    assert "missing.safetensors" in capsys.readouterr().err
