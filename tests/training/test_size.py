"""Networks of larger photographs: their steps, whole runs, and what the other jobs make of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from inpaint_core.errors import ConfigError
from inpaint_core.hole_masks.sampler import HoleSampler, center_hole, evaluation_holes
from inpaint_core.images.collections.config import ReadingConfig
from inpaint_core.inpainting.config import FillConfig, GeneratorConfig
from inpaint_core.inpainting.inpainter import Hole, Inpainter
from inpaint_core.networks.spec import ContextEncoderSpec, GeneratorSpec, UnetSpec
from inpaint_core.networks.weights.export import exported
from inpaint_core.networks.weights.generator_file import load_generator
from inpaint_core.training.config import DiscriminatorConfig, HolesConfig, TrainConfig, ValidationConfig
from inpaint_core.training.history import read_history
from inpaint_core.training.run_folder import check_config
from inpaint_core.training.step import AdversarialStep, prepared
from tests.samples import photograph
from tests.training.small import CPU, batch_of, config, copied, folder, photographs, run_of, same

CENTER = ContextEncoderSpec(size=256, bottleneck=8, width=2)
FULL = replace(CENTER, output="full")
UNET = UnetSpec(size=256, width=2, blocks=1)


def sized(network: GeneratorSpec, output: str = "unused", *, stored: int = 256) -> TrainConfig:
    holes = HolesConfig() if network.output == "center" else HolesConfig(kinds=("box", "strokes"))
    return config(
        output,
        network=network,
        holes=holes,
        epochs=1,
        batch=2,
        discriminator=DiscriminatorConfig(width=2),
        reading=ReadingConfig(stored_size=stored),
        validation=ValidationConfig(images=3, pictures=2),
    )


@pytest.mark.parametrize("network", [CENTER, FULL, UNET], ids=["center", "full", "unet"])
def test_a_step_trains_both_networks(network: GeneratorSpec) -> None:
    settings = sized(network)
    check_config(settings)
    networks = AdversarialStep(settings, CPU, steps=10)
    before = [copied(each) for each in (networks.generator, networks.discriminator)]
    masks = None if network.output == "center" else evaluation_holes("medium", range(2), seed=0, size=256)
    parts = networks(batch_of(photographs(2, 256), masks))
    assert all(torch.isfinite(value) for value in parts.values())
    for each, weights in zip((networks.generator, networks.discriminator), before, strict=True):
        assert all(not torch.equal(value, weights[name]) for name, value in each.named_parameters())


def test_crops_have_the_size_of_the_network() -> None:
    images = photographs(2, 272)
    batch = replace(batch_of(images), corners=torch.tensor([[0, 16], [7, 3]]))
    crops, _ = prepared(batch, CPU, 256)
    expected = np.stack([images[0, :256, 16:], images[1, 7:263, 3:259]])
    np.testing.assert_array_equal(((crops + 1) * 127.5).round().permute(0, 2, 3, 1).numpy(), expected)


def test_holes_are_those_of_128_pixels_at_twice_the_size() -> None:
    keys = np.arange(64, dtype=np.uint64)
    small, large = (HoleSampler(("box",), None, None, size)(keys) for size in (128, 256))
    assert large.shape == (64, 256, 256)
    areas = small.mean((1, 2)), large.mean((1, 2))
    np.testing.assert_allclose(*areas, atol=0.03)
    assert center_hole(256).sum() == 128**2


@pytest.mark.parametrize("network", [CENTER, UNET], ids=["center", "unet"])
def test_a_run_its_checkpoint_and_the_removal_with_it(network: GeneratorSpec, tmp_path: Path) -> None:
    settings = sized(network, str(tmp_path), stored=272)
    storage = folder(tmp_path)
    run_of(settings, storage, count=8)()
    assert [row["epoch"] for row in read_history(storage)] == [1]
    with Image.open(tmp_path / "pictures/epoch-0001.jpg") as grid:
        assert grid.size == (3 * 258 - 2, 2 * 258 - 2)
    half = exported((tmp_path / "best.safetensors").read_bytes())
    assert load_generator(half)[1] == network

    run_of(replace(settings, epochs=2), storage, count=8)()  # from its checkpoint
    assert [row["epoch"] for row in read_history(storage)] == [1, 2]

    model = GeneratorConfig().build(half, device=CPU.device, autocast=False)
    assert (model.window, model.central) == (256, network.output == "center")
    image = photograph((400, 300))
    core, mask = np.zeros((2, 300, 400), bool)
    core[100:160, 100:180] = mask[90:170, 90:190] = True
    (filled,) = Inpainter(model, FillConfig()).inpaint([Hole(image, core, mask)])
    np.testing.assert_array_equal(filled[~mask], image[~mask])
    assert (filled[core] != image[core]).any()


def test_weights_of_a_unet_do_not_depend_on_its_size() -> None:
    networks = [AdversarialStep(sized(replace(UNET, size=size)), CPU, steps=1) for size in (128, 256)]
    assert same(*(each.generator.state_dict() for each in networks))


def test_photographs_stored_smaller_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"reading\.stored_size: 128 is less than network\.size=256.*set reading\.st"):
        check_config(sized(UNET, stored=128))
