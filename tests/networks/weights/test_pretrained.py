"""The weights that come with the package: whole, small, safe to load, described, and what the jobs take."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from inpaint_core.config import load_config, to_tree, validate
from inpaint_core.detection.config import UltralyticsConfig
from inpaint_core.errors import WeightsError
from inpaint_core.inpainting.config import GeneratorConfig
from inpaint_core.inpainting.inpainter import Inpainter
from inpaint_core.networks.weights import pretrained
from inpaint_core.networks.weights.generator_header import read_metadata
from inpaint_core.networks.weights.load import load_weights
from inpaint_core.networks.weights.pretrained import DETECTOR, INPAINTER, SHA256, read_pretrained
from inpaint_core.removal.config import RemoveConfig
from inpaint_core.removal.remover import ObjectRemover, remove_objects
from inpaint_core.storage import S3Options
from inpaint_core.training.config import TrainConfig

FOLDER = Path(pretrained.__file__).parent
ROOT = FOLDER.parents[3]
CPU = torch.device("cpu")
LARGEST = {INPAINTER: 12e6, DETECTOR: 8e6}


@pytest.mark.parametrize("name", SHA256)
def test_weights_are_small_and_have_the_hash_that_is_checked(name: str) -> None:
    data = read_pretrained(name)
    assert hashlib.sha256(data).hexdigest() == SHA256[name]
    assert len(data) <= LARGEST[name]


def test_every_file_of_weights_is_checked_and_has_a_card() -> None:
    files = {path.name for path in FOLDER.iterdir() if path.suffix in (".safetensors", ".pt")}
    assert files == set(SHA256)
    for name in files:
        card = (FOLDER / name).with_suffix(".md").read_text(encoding="utf-8")
        assert SHA256[name] in card
        for heading in ("## Data", "## Training", "## Figures", "## Licence", "## Known failures"):
            assert heading in card, f"{name}: {heading}"


@pytest.mark.parametrize("name", SHA256)
def test_nothing_of_one_machine_is_in_them(name: str) -> None:
    data = read_pretrained(name)
    for path in (b"/work", b"/home", b"/tmp", b"/root"):
        assert path not in data


def test_the_inpainter_tells_what_trained_it() -> None:
    metadata = read_metadata(read_pretrained(INPAINTER))
    config = json.loads(metadata["inpaint_core.config"])
    assert config["network"] == json.loads(metadata["inpaint_core.network"])
    assert json.loads(metadata["inpaint_core.training"])["epoch"] <= config["epochs"]
    assert "output" not in config
    assert "data" not in config
    trained = to_tree(validate(TrainConfig, config))  # keys of later versions had their defaults
    committed = to_tree(load_config(TrainConfig, ROOT / "configs" / "train" / "random_holes_unet.yaml", []))
    for section in ("network", "loss", "optimiser", "discriminator", "epochs", "batch"):
        assert trained[section] == committed[section], section


def test_the_inpainter_is_the_jobs_default() -> None:
    inpainter = load_config(RemoveConfig, None, ["input=a", "output=b"]).inpainter
    assert inpainter == GeneratorConfig(weights=INPAINTER)


def test_jobs_find_them_by_name_and_a_file_of_that_name_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in SHA256:
        weights = load_weights(name, None, S3Options(), key="detector.weights")
        assert (weights.name, weights.sha256) == (name, SHA256[name])
    with pytest.raises(WeightsError, match=r"not the expected file"):
        load_weights(DETECTOR, "0" * 64, S3Options(), key="detector.weights")
    (tmp_path / DETECTOR).write_bytes(b"mine")
    assert load_weights(DETECTOR, None, S3Options(), key="detector.weights").data == b"mine"
    with pytest.raises(WeightsError, match=rf"there is no file .* Did you mean {INPAINTER}, which comes with"):
        load_weights("inpaint-unet.safetensor", None, S3Options(), key="inpainter.weights")
    with pytest.raises(WeightsError, match=r"there is no file"):
        load_weights(f"elsewhere/{INPAINTER}", None, S3Options(), key="inpainter.weights")


def test_a_damaged_or_missing_file_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(pretrained, "files", lambda package: tmp_path)
    with pytest.raises(
        WeightsError, match=rf"^{DETECTOR}: the file shipped with the package is missing .*reinstall the package"
    ):
        read_pretrained(DETECTOR)
    (tmp_path / DETECTOR).write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(
        WeightsError, match=rf"^{DETECTOR}: the file shipped with the package is damaged: .*reinstall the package"
    ):
        load_weights(DETECTOR, None, S3Options(), key="detector.weights")


def test_people_leave_a_photograph_offline() -> None:
    """The whole flow with both shipped networks, on a street scene that ultralytics ships."""
    from ultralytics.utils import ASSETS

    config = load_config(RemoveConfig, ROOT / "configs" / "demo.yaml", [])
    assert isinstance(config.detector, UltralyticsConfig)
    assert config.detector.weights == DETECTOR
    detector = config.detector.build(read_pretrained(DETECTOR), s3=S3Options(), device=CPU, autocast=False)
    model = config.inpainter.build(read_pretrained(INPAINTER), device=CPU, autocast=False)
    remover = ObjectRemover(config, detector, Inpainter(model, config.fill))
    data = (ASSETS / "bus.jpg").read_bytes()
    output, record = remove_objects(data, remover, key="bus.jpg")
    assert output is not None
    assert record.status == "cleaned"
    labels = [found.label for found in record.objects or []]
    assert labels.count("person") >= 3
    assert record.residual_objects == 0
    assert 0.05 < (record.mask_fraction or 0) < 0.3
    assert 0.7 < (record.seam or 0) < 1.3
    with Image.open(ASSETS / "bus.jpg") as before, Image.open(io.BytesIO(output)) as after:
        assert after.size == before.size
        assert after.format == before.format == "JPEG"
