"""Whether an output may be used, and settings that do not go together."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from inpaint_core.config import load_config
from inpaint_core.errors import ConfigError, ObjectError, StorageError
from inpaint_core.images.collections.config import ReadingConfig
from inpaint_core.networks.spec import ContextEncoderSpec
from inpaint_core.storage import S3Options, open_storage
from inpaint_core.training.config import (
    CheckpointConfig,
    HolesConfig,
    LossConfig,
    OptimiserConfig,
    TrainConfig,
    ValidationConfig,
)
from inpaint_core.training.run_folder import CONFIG, LAST, check_apart, check_config, claim_output
from inpaint_core.training.scaling_config import TrainScalingConfig
from tests.training.small import folder

BASE = TrainConfig(loss=LossConfig(l2=1.0))


def test_an_empty_output_is_taken_and_goes_on_with_the_same_config(tmp_path: Path) -> None:
    storage = folder(tmp_path / "run")
    assert claim_output(storage, BASE) is False
    assert load_config(TrainConfig, tmp_path / "run" / CONFIG, []) == BASE
    assert claim_output(storage, BASE) is True


@pytest.mark.parametrize(
    "free",
    [
        {"output": "elsewhere"},
        {"data": "moved"},
        {"epochs": 80},
        {"s3": S3Options(endpoint="http://127.0.0.1:1")},
        {"scaling": TrainScalingConfig(workers=2, precision="float32", max_failures=9)},
        {"checkpoint": CheckpointConfig(steps=100)},
        {"validation": ValidationConfig(pictures=3)},
        {"reading": ReadingConfig(max_failed=0.5)},
        {"optimiser": OptimiserConfig(generator_rate=1e-5, discriminator_rate=1e-5, clip=1.0)},
    ],
)
def test_what_may_differ(free: dict[str, Any], tmp_path: Path) -> None:
    storage = folder(tmp_path)
    claim_output(storage, BASE)
    storage.write(LAST, b"a checkpoint")
    changed = replace(BASE, **free)
    assert claim_output(storage, changed) is True
    assert load_config(TrainConfig, tmp_path / CONFIG, []) == changed, "the config of the last start is kept"


def test_keys_that_a_later_version_added_had_their_default(tmp_path: Path) -> None:
    storage = folder(tmp_path)
    claim_output(storage, BASE)
    storage.write(LAST, b"a checkpoint")
    tree = yaml.safe_load(storage.read(CONFIG))
    del tree["scaling"]["float32_precision"], tree["loss"]["ms_ssim"]
    storage.write(CONFIG, yaml.safe_dump(tree).encode())
    assert claim_output(storage, BASE) is True
    storage.write(CONFIG, yaml.safe_dump(tree).encode())
    with pytest.raises(ConfigError, match=r"loss\.ms_ssim is 0\.0 there and 0\.5 here"):
        claim_output(storage, replace(BASE, loss=LossConfig(l2=1.0, ms_ssim=0.5)))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"batch": 32}, "batch is 64 there and 32 here"),
        ({"seed": 1}, "seed is 0 there and 1 here"),
        ({"loss": LossConfig(l2=0.5)}, "loss.l2 is 1.0 there and 0.5 here"),
        ({"network": ContextEncoderSpec(width=32)}, "network.width is 64 there and 32 here"),
        ({"holes": HolesConfig(kinds=("box",))}, r"holes.kinds is \['center'\] there and \['box'\] here"),
        ({"reading": ReadingConfig(limit=5)}, "reading.limit is None there and 5 here"),
        # The best so far is of this metric and of these images.
        (
            {"checkpoint": CheckpointConfig(metric="table_l1")},
            "checkpoint.metric is table_psnr there and table_l1 here",
        ),
        ({"validation": ValidationConfig(images=5)}, "validation.images is 1000 there and 5 here"),
        # With validation images of their own no image is held out of the training any more.
        ({"validation": ValidationConfig(data="val")}, "validation.data is None there and val here"),
        (
            {"batch": 32, "seed": 1, "loss": LossConfig(l1=1.0)},
            "batch is 64 there and 32 here; loss.l1 .*; loss.l2 .*; and 1 more",
        ),
    ],
)
def test_keys_that_differ_are_named(other: dict[str, Any], message: str, tmp_path: Path) -> None:
    storage = folder(tmp_path)
    claim_output(storage, BASE)
    storage.write(LAST, b"a checkpoint")
    before = storage.read(CONFIG)
    with pytest.raises(ConfigError, match=f"holds a run of another config .*{message}.*give another output") as raised:
        claim_output(storage, replace(BASE, **other))
    assert str(tmp_path) in str(raised.value)
    assert storage.read(CONFIG) == before


def test_a_start_that_left_no_checkpoint_gives_way(tmp_path: Path) -> None:
    storage = folder(tmp_path)
    claim_output(storage, BASE)
    mended = replace(BASE, batch=32)
    assert claim_output(storage, mended) is False
    assert load_config(TrainConfig, tmp_path / CONFIG, []) == mended


def test_validation_images_may_move(tmp_path: Path) -> None:
    storage = folder(tmp_path)
    claim_output(storage, replace(BASE, validation=ValidationConfig(data="val")))
    assert claim_output(storage, replace(BASE, validation=ValidationConfig(data="moved/val"))) is True


@pytest.mark.parametrize(
    "garbage", [b"", b"hello", b"- 1\n- 2", b"a: [1", b"\xff\xfe\x00\x00\x80", b"!!python/object:x {}"]
)
def test_a_config_that_is_none_is_refused(garbage: bytes, tmp_path: Path) -> None:
    storage = folder(tmp_path)
    storage.write(CONFIG, garbage)
    with pytest.raises(
        ConfigError, match=r"config\.yaml is not the config of a run; give another output, or delete it"
    ):
        claim_output(storage, BASE)
    assert storage.read(CONFIG) == garbage


@pytest.mark.parametrize("tree", [{"kind": "removal"}, {1: 2, None: 3, "loss": 7}, {"loss": {3: {}}}])
def test_a_config_of_something_else_is_another_config(tree: object, tmp_path: Path) -> None:
    storage = folder(tmp_path)
    storage.write(CONFIG, yaml.safe_dump(tree).encode())
    with pytest.raises(ConfigError, match="holds a run of another config"):
        claim_output(storage, BASE)


def test_an_output_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises((StorageError, ObjectError), match="file"):
        claim_output(folder(tmp_path / "file"), BASE)


@pytest.mark.parametrize(
    "good",
    [
        BASE,
        replace(
            BASE, network=ContextEncoderSpec(output="full"), holes=HolesConfig(kinds=("box", "strokes"), weights=(1, 2))
        ),
        replace(BASE, loss=LossConfig(adversarial_weight=0.0, ms_ssim=1.0)),
        replace(BASE, loss=LossConfig(adversarial_weight=1.0, reconstruction_weight=0.0)),
    ],
)
def test_settings_that_go_together(good: TrainConfig) -> None:
    check_config(good)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"holes": HolesConfig(kinds=("box", "thin"))}, "holes.kinds: .*not box, thin; set network.output=full"),
        ({"holes": HolesConfig(kinds=("center", "center"))}, "holes.kinds"),
        ({"holes": HolesConfig(weights=(1.0, 2.0))}, "holes.weights: 2 weights for 1 kinds"),
        (
            {"network": ContextEncoderSpec(output="full"), "holes": HolesConfig(kinds=("objects",))},
            "holes.objects: .*inpaint shapes",
        ),
        ({"loss": LossConfig()}, "loss: no reconstruction term has a weight"),
        ({"loss": LossConfig(adversarial_weight=0.0)}, "loss: all weights are 0"),
        ({"loss": LossConfig(adversarial_weight=0.0, reconstruction_weight=0.0, l1=1.0)}, "loss: all weights are 0"),
    ],
)
def test_settings_that_do_not(bad: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        check_config(replace(BASE, **bad))
    assert "\n" not in str(raised.value)


def test_an_output_among_the_photographs_is_refused(tmp_path: Path) -> None:
    inside, outside = open_storage(str(tmp_path / "photos" / "run")), open_storage(str(tmp_path / "run"))
    with pytest.raises(ConfigError, match=r"output: .*/photos/run lies inside data, .*/photos: its images"):
        check_apart("data", str(tmp_path / "photos"), inside, S3Options())
    check_apart("data", str(tmp_path / "photos"), outside, S3Options())
    check_apart("data", str(tmp_path / "train-*.tar"), outside, S3Options())
    check_apart("validation.data", None, inside, S3Options())
