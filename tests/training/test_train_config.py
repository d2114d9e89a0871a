"""The config of the training job, and the configs that are handed out."""

from collections import Counter
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from inpaint_core.config import documented_keys, load_config, to_tree, to_yaml, validate
from inpaint_core.errors import ConfigError
from inpaint_core.networks.spec import ContextEncoderSpec, UnetSpec
from inpaint_core.networks.weights.generator_file import load_generator
from inpaint_core.networks.weights.pretrained import INPAINTER, read_pretrained
from inpaint_core.training.config import TrainConfig
from inpaint_core.training.initial import read_initial
from inpaint_core.training.run_folder import check_config
from inpaint_core.training.step import rate_factor

FOLDER = Path(__file__).resolve().parents[2] / "configs" / "train"
FILES = sorted(FOLDER.rglob("*.yaml"))
PUBLISHED = ("base", "lsgan_l1", "joint_30_70", "joint_50_50", "joint_005_995")


def leaves(tree: Any, prefix: str = "") -> set[str]:
    if not isinstance(tree, dict):
        return {prefix.rstrip(".")}
    return {leaf for key, value in tree.items() for leaf in leaves(value, f"{prefix}{key}.")}


def test_there_is_a_config_for_each_published_model_and_use() -> None:
    assert {str(file.relative_to(FOLDER).with_suffix("")) for file in FILES} == {
        *PUBLISHED,
        *(f"paper/{name}" for name in PUBLISHED),
        "fill_unet",
        "fine_tune",
        "ms_ssim_l1",
        "random_holes",
        "random_holes_unet",
        "smoke",
    }


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(FOLDER)))
def test_a_config_is_complete_and_goes_together(file: Path) -> None:
    tree = yaml.safe_load(file.read_text())
    loaded = load_config(TrainConfig, file, [])
    assert tree == to_tree(loaded), "a key is missing, or not written as it is read"
    keys = {key.path for key in documented_keys(TrainConfig)}
    other = {f"network.{field.name}" for spec in (ContextEncoderSpec, UnetSpec) for field in fields(spec)}
    assert leaves(tree) <= keys
    assert keys - leaves(tree) <= other
    assert validate(TrainConfig, yaml.safe_load(to_yaml(loaded))) == loaded
    assert list(tree) == list(to_tree(loaded)), "keys in the order of --help"
    check_config(loaded)
    name = file.relative_to(FOLDER)
    assert loaded.output == f"runs/{name.with_suffix('')}"
    assert file.read_text().startswith(f"# inpaint train --config configs/train/{name} ")


@pytest.mark.parametrize(
    ("name", "adversarial", "l1", "l2", "ssim"),
    [
        ("base", "bce", 0.0, 1.0, 0.0),
        ("lsgan_l1", "lsgan", 1.0, 0.0, 0.0),
        ("joint_30_70", "bce", 0.3, 0.0, 0.7),
        ("joint_50_50", "bce", 0.5, 0.0, 0.5),
        ("joint_005_995", "bce", 0.005, 0.0, 0.995),
    ],
)
def test_the_five_published_models(name: str, adversarial: str, l1: float, l2: float, ssim: float) -> None:
    config = load_config(TrainConfig, FOLDER / f"{name}.yaml", [])
    loss = config.loss
    assert (loss.adversarial, loss.l1, loss.l2, loss.ssim, loss.ms_ssim) == (adversarial, l1, l2, ssim, 0.0)
    assert (loss.adversarial_weight, loss.reconstruction_weight, loss.overlap_weight) == (0.001, 0.999, 10.0)
    network = config.network
    assert (network.output, network.bottleneck, network.width) == ("center", 4000, 64)
    assert (config.epochs, config.batch, config.optimiser.beta1) == (40, 64, 0.5)
    assert config.holes.kinds == ("center",)
    assert config.reading.limit is None


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_methods_own_schedule_is_constant(name: str) -> None:
    ours = load_config(TrainConfig, FOLDER / f"{name}.yaml", [])
    paper = load_config(TrainConfig, FOLDER / "paper" / f"{name}.yaml", [])
    assert replace(paper, optimiser=ours.optimiser, output=ours.output) == ours, "they differ in the schedule alone"
    optimiser = paper.optimiser
    assert (optimiser.generator_rate, optimiser.discriminator_rate) == (2e-3, 2e-4)
    assert (optimiser.beta1, optimiser.clip, optimiser.ema) == (0.5, None, None)
    assert {rate_factor(optimiser, step, 60_000) for step in (0, 1, 99, 100, 12_000, 30_000, 59_999)} == {1.0}
    factors = [rate_factor(ours.optimiser, step, 60_000) for step in (0, 99, 12_000, 36_000, 60_000)]
    assert factors == pytest.approx([0.01, 1, 1, 0.5, 0])
    assert ours.optimiser.ema == 0.999


def test_the_published_models_differ_in_their_losses_alone() -> None:
    trees = []
    for name in PUBLISHED:
        tree = to_tree(load_config(TrainConfig, FOLDER / f"{name}.yaml", []))
        trees.append({key: value for key, value in tree.items() if key not in ("loss", "output")})
    assert all(tree == trees[0] for tree in trees)


def test_fine_tuning_starts_from_the_shipped_network() -> None:
    config = load_config(TrainConfig, FOLDER / "fine_tune.yaml", [])
    assert config.network == load_generator(read_pretrained(INPAINTER))[1]
    assert config.initial == "inpaint-unet"
    assert config.validation.first
    assert read_initial(config) is not None


def test_sizes_are_numbers_on_the_command_line_too() -> None:
    config = load_config(TrainConfig, FOLDER / "smoke.yaml", ["network.size=256", "reading.stored_size=288"])
    assert config.network.size == 256
    assert load_config(TrainConfig, None, ["network.kind=unet", "network.size=512"]).network.size == 512
    with pytest.raises(ConfigError, match=r"network\.size: input should be 128, 256 or 512, not 200"):
        load_config(TrainConfig, None, ["network.size=200"])


def test_random_holes_is_for_any_mask() -> None:
    config = load_config(TrainConfig, FOLDER / "random_holes.yaml", [])
    assert config.network.output == "full"
    assert set(config.holes.kinds) == {"strokes", "box", "objects"}
    assert config.checkpoint.metric == "hole_detail"  # PSNR and SSIM prefer blur
    assert config.holes.objects is not None
    unet = load_config(TrainConfig, FOLDER / "random_holes_unet.yaml", [])
    assert (
        replace(
            unet, network=config.network, output=config.output, epochs=config.epochs, discriminator=config.discriminator
        )
        == config
    )
    assert unet.network == UnetSpec(width=32, blocks=6)


def test_defaults_are_those_of_the_handed_out_configs() -> None:
    joint = to_tree(load_config(TrainConfig, FOLDER / "base.yaml", []))
    default = to_tree(TrainConfig())
    assert {key for key in default if default[key] != joint[key]} == {"loss"}
    assert default["loss"] | {"l2": 1.0} == joint["loss"]


def test_overrides_are_read_by_their_types() -> None:
    config = load_config(
        TrainConfig,
        FOLDER / "smoke.yaml",
        ["holes.kinds=box", "optimiser.generator_rate=1e-4", "optimiser.clip=null", "scaling.workers=2", "epochs=3"],
    )
    assert config.holes.kinds == ("box",)
    assert config.optimiser.generator_rate == 1e-4
    assert (config.optimiser.clip, config.scaling.workers, config.epochs) == (None, 2, 3)
    assert load_config(TrainConfig, None, ["scaling.max_failures=-1"]).scaling.max_failures == -1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("los.l1=1", r"los: no such key; did you mean 'loss'\? valid keys: batch, batch_per_worker, checkpoint, data"),
        (
            "loss.l3=1",
            r"loss.l3: no such key; .*valid keys of loss: adversarial, adversarial_from, adversarial_weight, feature_matching",
        ),
        ("optimiser.rate=1", r"optimiser.rate: no such key; .*generator_rate"),
        ("loss.l1=-1", r"loss.l1: .*greater than or equal to 0"),
        ("loss.l1=nan", r"loss.l1"),
        ("loss.l1=inf", r"loss.l1"),
        ("loss.adversarial=wgan", r"loss.adversarial: .*'bce' or 'lsgan'"),
        ("network.kind=transformer", r"network.kind: 'transformer' is not one of 'context_encoder', 'unet'"),
        ("network.output=middle", r"network.output: .*'center' or 'full'"),
        ("holes.kinds=[]", r"holes.kinds: .*at least 1"),
        ("holes.kinds=[circle]", r"holes.kinds.0: .*'center'"),
        ("holes.weights=[.inf]", r"holes.weights"),
        ("holes.weights=[0]", r"holes.weights"),
        ("batch=1", r"batch: .*greater than or equal to 2"),
        ("epochs=0", r"epochs: "),
        ("seed=-1", r"seed: "),
        ("seed=9223372036854775808", r"seed: "),
        ("optimiser.ema=1", r"optimiser.ema: .*less than 1"),
        ("optimiser.generator_rate=0", r"optimiser.generator_rate: .*greater than 0"),
        ("optimiser.clip=0", r"optimiser.clip: .*greater than 0"),
        ("optimiser.final_rate=2", r"optimiser.final_rate: "),
        ("reading.stored_size=64", r"reading.stored_size: .*greater than or equal to 128"),
        ("checkpoint.metric=psnr", r"checkpoint.metric: .*'table_psnr'"),
        ("checkpoint.steps=0", r"checkpoint.steps: "),
        ("scaling.workers=0", r"scaling.workers: input should be a number from 1, or a range such as 1-4, not '0'"),
        ("scaling.workers=4-2", r"scaling.workers: input should be a number from 1, or a range such as 1-4"),
        ("scaling.workers=two", r"scaling.workers: input should be a number from 1, or a range such as 1-4"),
        ("scaling.gpus_per_worker=2", r"scaling.gpus_per_worker: .*less than or equal to 1"),
        ("scaling.gradients=float16", r"scaling.gradients: .*'float32' or 'bfloat16'"),
        ("optimiser.batch_scaling=square", r"optimiser.batch_scaling: .*'none', 'linear' or 'sqrt'"),
        ("batch_per_worker=0", r"batch_per_worker: .*greater than or equal to 1"),
        ("scaling.max_failures=-2", r"scaling.max_failures: .*greater than or equal to -1"),
        ("scaling.device=tpu", r"scaling.device: "),
        ("validation.pictures=65", r"validation.pictures: "),
    ],
)
def test_a_wrong_key_or_value_is_named_by_its_path(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        load_config(TrainConfig, FOLDER / "smoke.yaml", [override])
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "workers", "numbers"),
    [("4", 4, None), (" 2 - 8 ", "2-8", (2, 8)), ("3-3", 3, None), ("null", None, None)],
)
def test_workers_are_a_number_or_a_range(text: str, workers: int | str | None, numbers: tuple[int, int] | None) -> None:
    scaling = load_config(TrainConfig, None, [f"scaling.workers={text}"]).scaling
    assert (scaling.workers, scaling.worker_range) == (workers, numbers)
    assert validate(TrainConfig, {"scaling": {"workers": workers}}).scaling == scaling


@pytest.mark.parametrize(("text", "value"), [("false", False), ("true", True), ("auto", "auto")])
def test_sync_batchnorm_is_on_off_or_chosen(text: str, value: bool | str) -> None:
    assert load_config(TrainConfig, None, [f"scaling.sync_batchnorm={text}"]).scaling.sync_batchnorm == value


def test_every_key_says_what_it_means() -> None:
    keys = documented_keys(TrainConfig)
    assert [key.path for key in keys if not key.doc.endswith(".")] == []
    twice = [path for path, count in Counter(key.path for key in keys).items() if count > 1]
    assert twice == ["network.kind", "network.size", "network.width"]  # which both networks have
