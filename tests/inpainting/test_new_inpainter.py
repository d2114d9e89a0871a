"""An inpainter of one module and one entry in the union goes the whole way: settings, weights, build, removal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import Field, with_config

from inpaint_core.config import STRICT, documented_keys, load_config
from inpaint_core.detection.config import MaskFilesConfig
from inpaint_core.errors import ConfigError
from inpaint_core.inpainting.config import FillConfig, GeneratorConfig, OpencvConfig
from inpaint_core.inpainting.enlarge import PatchEnlarger
from inpaint_core.inpainting.external_config import TorchscriptConfig
from inpaint_core.inpainting.inpainter import Hole, Inpainter
from inpaint_core.inpainting.model import EnlargingModel, InpainterSettings, InpaintingModel
from inpaint_core.removal.build import build_remover
from inpaint_core.removal.config import RemoveConfig
from inpaint_core.removal.job import model_weights
from inpaint_core.removal.remover import remove_objects
from tests.samples import decoded, encoded, photograph

CPU = torch.device("cpu")

# --- what the new module would hold


@with_config(STRICT)
@dataclass(frozen=True)
class FlatConfig(InpainterSettings):
    """One grey level."""

    kind: Literal["flat"] = "flat"
    level: Annotated[int, Field(ge=0, le=255, description="Grey level of the fill.")] = 128

    def build(self, weights: bytes | None, *, device: torch.device, autocast: bool) -> InpaintingModel:
        return FlatInpainter(self.level)


class FlatInpainter:
    window: int | None = 64
    central = False

    def __init__(self, level: int) -> None:
        self._level = level

    def fill(self, images: Sequence[NDArray[np.uint8]], masks: Sequence[NDArray[np.bool_]]) -> list[NDArray[np.uint8]]:
        return [np.full_like(image, self._level) for image in images]


# --- and the union with its entry


@with_config(STRICT)
@dataclass(frozen=True)
class Config(RemoveConfig):
    inpainter: Annotated[
        GeneratorConfig | OpencvConfig | TorchscriptConfig | FlatConfig, Field(discriminator="kind")
    ] = field(default_factory=GeneratorConfig)


SETTINGS = ["input=in", "output=out", "detector.kind=masks", "inpainter.kind=flat", "fill.blend=0"]


def test_it_fills_holes(tmp_path: Path) -> None:
    truth = photograph()
    mask = np.zeros(truth.shape[:2], np.uint8)
    mask[40:70, 60:80] = 255
    (tmp_path / "a.png").write_bytes(encoded(mask))
    config = load_config(Config, None, [*SETTINGS, f"detector.root={tmp_path}", "inpainter.level=7"])
    assert isinstance(config.detector, MaskFilesConfig)
    remover = build_remover(config, *model_weights(config), device=CPU)
    output, record = remove_objects(encoded(truth), remover, key="a.png")
    assert output is not None
    assert (record.status, record.residual_objects) == ("cleaned", None)
    result = decoded(output)
    assert (result[40:70, 60:80] == 7).all()
    changed = (result != truth).any(axis=2)
    assert changed.mean() <= (record.mask_fraction or 0) < 0.2


def test_its_keys_are_documented_and_checked() -> None:
    keys = {key.path: key.doc for key in documented_keys(Config)}
    assert keys["inpainter.level"] == "Grey level of the fill."
    with pytest.raises(ConfigError, match=r"inpainter.*level"):
        load_config(Config, None, [*SETTINGS, "inpainter.level=256"])


def gravel(size: int) -> NDArray[np.uint8]:
    grains = np.random.default_rng(0).normal(128, 40, (size // 3 + 1, size // 3 + 1, 1)).clip(0, 255)
    return grains.repeat(3, 0).repeat(3, 1).repeat(3, 2)[:size, :size].astype(np.uint8)


def test_patches_enlarge_the_fill_of_any_model_of_square_windows() -> None:
    image = gravel(256)
    mask = np.zeros((256, 256), bool)
    mask[96:160, 96:160] = True
    hole = Hole(image, mask, mask)
    plain, enlarged = FlatInpainter(128), PatchEnlarger(FlatInpainter(128), 1.0, torch.device("cpu"))
    assert not isinstance(plain, EnlargingModel)
    assert (enlarged.window, enlarged.central) == (64, False)
    (flat,) = Inpainter(plain, FillConfig()).inpaint([hole])
    (sharp,) = Inpainter(enlarged, FillConfig()).inpaint([hole])
    assert flat[mask].std() < 0.1 * image[mask].std()
    assert sharp[mask].std() > 0.5 * image[mask].std()
    assert np.array_equal(sharp[~mask], image[~mask])


def test_a_model_of_any_window_has_nothing_to_enlarge() -> None:
    model = OpencvConfig().build(None, device=CPU, autocast=False)
    with pytest.raises(ValueError, match="one size"):
        PatchEnlarger(model, 1.0, torch.device("cpu"))
