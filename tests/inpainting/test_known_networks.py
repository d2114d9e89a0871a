"""LaMa and MI-GAN: what they are given and what becomes of what they give, with small networks of the same signatures.

The published files themselves are not here: nothing in this file says how well they fill.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from inpaint_core.config import load_config
from inpaint_core.errors import ConfigError, WeightsError
from inpaint_core.inpainting.external_config import LamaConfig, MiganConfig
from inpaint_core.networks.weights.published import PUBLISHED
from inpaint_core.removal.build import build_remover
from inpaint_core.removal.config import RemoveConfig
from inpaint_core.removal.job import model_weights
from inpaint_core.removal.remover import remove_objects
from tests.samples import decoded, encoded, photograph

CPU = torch.device("cpu")

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")


class LamaLike(nn.Module):
    """Image and mask as big-lama.pt takes them; fills with a quarter of white, and keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("image", torch.zeros(0))
        self.register_buffer("mask", torch.zeros(0))

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        assert image.shape[2] % 8 == 0
        assert image.shape[3] % 8 == 0
        self.image = image
        self.mask = mask
        return image * (1 - mask) + 0.25 * mask


class MiganLike(nn.Module):
    """Four channels as migan_traced.pt takes them; fills with -0.5, and keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("given", torch.zeros(0))

    def forward(self, given: Tensor) -> Tensor:
        assert given.shape[1:] == [4, 512, 512]
        self.given = given
        return given[:, 1:] - 0.5 * (0.5 - given[:, :1])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("networks")
    paths = {"lama": folder / "big-lama.pt", "migan": folder / "migan_traced.pt"}
    torch.jit.save(torch.jit.script(LamaLike()), paths["lama"])
    torch.jit.save(torch.jit.script(MiganLike()), paths["migan"])
    return paths


def window(side: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Black to the left, white to the right; magenta, which no network may see, under the mask."""
    image = np.zeros((side, side, 3), np.uint8)
    image[:, side // 2 :] = 255
    mask = np.zeros((side, side), bool)
    mask[side // 4 : side // 2, side // 4 : -side // 4] = True
    image[mask] = (255, 0, 255)
    return image, mask


def test_lama_is_given_an_image_of_0_to_1_and_a_mask_of_1(files: dict[str, Path]) -> None:
    model = LamaConfig(window=64).build(files["lama"].read_bytes(), device=CPU, autocast=True)
    assert (model.window, model.central) == (64, False)
    image, mask = window(64)
    first, second = model.fill([image, image], [mask, ~mask])
    given, masks = model._network.image, model._network.mask  # type: ignore[attr-defined]
    assert given.dtype == masks.dtype == torch.float32  # whatever autocast says: it has no bfloat16
    assert masks.shape == (2, 1, 64, 64)
    assert torch.equal(masks[0, 0], torch.from_numpy(mask).float())
    shown = np.where(mask[..., None], 0, image) / 255.0
    assert np.array_equal(given[0].permute(1, 2, 0).numpy(), shown.astype(np.float32))
    assert set(np.unique(given[0])) == {0.0, 1.0}
    assert (first[mask] == 64).all()
    assert np.array_equal(first[~mask], image[~mask])
    assert (second[~mask] == 64).all()


def test_migan_is_given_four_channels(files: dict[str, Path]) -> None:
    model = MiganConfig().build(files["migan"].read_bytes(), device=CPU, autocast=True)
    assert (model.window, model.central) == (512, False)
    image, mask = window(512)
    (filled,) = model.fill([image], [mask])
    given = model._network.given  # type: ignore[attr-defined]
    assert given.dtype == torch.float32
    assert given.shape == (1, 4, 512, 512)
    hidden = torch.from_numpy(mask)
    assert (given[0, 0][hidden] == -0.5).all()
    assert (given[0, 0][~hidden] == 0.5).all()
    assert (given[0, 1:, hidden] == 0).all()
    assert (given[0, 1:, :, :128] == -1).all()
    assert (given[0, 1:, :, 384:] == 1).all()
    assert (filled[mask] == 64).all()  # (-0.5 + 1) * 127.5, rounded
    assert np.array_equal(filled[~mask], image[~mask])


@pytest.mark.parametrize(("kind", "other"), [("lama", "migan"), ("migan", "lama")])
def test_a_network_of_the_other_signature_is_refused(kind: str, other: str, files: dict[str, Path]) -> None:
    config = {"lama": LamaConfig(window=64), "migan": MiganConfig()}[kind]
    takes = {"lama": r"\(image, mask\)", "migan": "one input of four channels"}[kind]
    with pytest.raises(
        WeightsError, match=rf"^The scripted network failed on .*it must accept {takes}.* of this size\.$"
    ):
        config.build(files[other].read_bytes(), device=CPU, autocast=False)
    with pytest.raises(WeightsError, match="not a TorchScript file"):
        config.build(b"<html>", device=CPU, autocast=False)
    with pytest.raises(WeightsError, match=f"{kind} inpainter needs weights"):
        config.build(None, device=CPU, autocast=False)


def test_windows_of_lama_are_multiples_of_8_and_those_of_migan_fixed() -> None:
    for settings in (["inpainter.kind=lama", "inpainter.window=60"], ["inpainter.kind=migan", "inpainter.window=512"]):
        with pytest.raises(ConfigError, match=r"inpainter\.window"):
            load_config(RemoveConfig, None, ["input=in", "output=out", *settings])


@pytest.mark.parametrize("kind", ["lama", "migan"])
@pytest.mark.parametrize("placed", ["cache", "path"])
def test_an_image_is_cleaned_with_a_file_put_there_by_hand(
    kind: str, placed: str, files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings, weights, windows, encoding: the whole way of one image."""
    monkeypatch.setenv("INPAINT_CACHE", str(files[kind].parent))
    md5 = hashlib.md5(files[kind].read_bytes()).hexdigest()
    monkeypatch.setitem(PUBLISHED, kind, replace(PUBLISHED[kind], md5=md5))
    truth = photograph()
    mask = np.zeros(truth.shape[:2], np.uint8)
    mask[40:70, 60:80] = 255
    (tmp_path / "a.png").write_bytes(encoded(mask))
    settings = ["detector.kind=masks", f"detector.root={tmp_path}", f"inpainter.kind={kind}", "fill.blend=0"]
    if placed == "path":
        settings.append(f"inpainter.weights={files[kind]}")
    config = load_config(RemoveConfig, None, ["input=in", "output=out", *settings])
    remover = build_remover(config, *model_weights(config), device=CPU)
    output, record = remove_objects(encoded(truth), remover, key="a.png")
    assert output is not None
    assert record.status == "cleaned"
    result = decoded(output)
    assert (np.abs(result[44:66, 64:76].astype(int) - 64) <= 1).all()
    changed = (result != truth).any(axis=2)
    assert changed.mean() <= (record.mask_fraction or 0) < 0.2
