import io

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from inpaint_core.errors import ImageError, WeightsError
from inpaint_core.inpainting.config import GeneratorConfig, OpencvConfig
from inpaint_core.inpainting.external_config import LamaConfig, MiganConfig, TorchscriptConfig
from inpaint_core.inpainting.generator import GeneratorInpainter
from inpaint_core.inpainting.model import InpaintingModel
from inpaint_core.inpainting.window_pixels import blank
from inpaint_core.networks.build import build_generator
from inpaint_core.networks.compositing import CHANNEL_MEANS
from inpaint_core.networks.context_encoder import ContextEncoder
from inpaint_core.networks.spec import ContextEncoderSpec, UnetSpec
from inpaint_core.networks.weights.generator_file import save_generator

CPU = torch.device("cpu")
MEANS = 2 * torch.tensor(CHANNEL_MEANS) - 1

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def square(height: int, width: int, x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    mask[y0:y1, x0:x1] = True
    return mask


def as_network(image: np.ndarray) -> Tensor:
    return torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1) / 127.5 - 1


def as_image(values: Tensor) -> np.ndarray:
    return np.rint((values.permute(1, 2, 0).numpy() + 1) * 127.5).clip(0, 255)


# --- OpenCV -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "flag"), [("telea", cv2.INPAINT_TELEA), ("navier_stokes", cv2.INPAINT_NS)])
def test_opencv_fills_native_windows_as_cv2_does(method, flag):
    image, mask = picture(80, 120), square(80, 120, 40, 30, 60, 50)
    model = OpencvConfig(method=method, radius=4.0).build(None, device=CPU, autocast=False)
    (filled,) = model.fill([image], [mask])
    assert np.array_equal(filled, cv2.inpaint(image, mask.astype(np.uint8), 4.0, flag))


def test_opencv_fills_large_windows_at_its_own_size_and_brings_the_fill_back():
    image, mask = picture(200, 333), square(200, 333, 100, 60, 180, 140)
    spoilt = image.copy()
    spoilt[mask] = (255, 0, 255)
    model = OpencvConfig(window=111).build(None, device=CPU, autocast=False)
    (filled,), (other,) = model.fill([spoilt], [mask]), model.fill([image], [mask])
    assert np.array_equal(filled, other)
    # By hand: a third of the size; every small pixel is masked that has a share of a masked one.
    small_mask = square(67, 111, 33, 20, 60, 47)
    assert 60 * 67 / 200 >= 20
    assert 140 * 67 / 200 <= 47
    small = cv2.resize(blank(image, mask), (111, 67), interpolation=cv2.INTER_AREA)
    small = cv2.inpaint(small, small_mask.astype(np.uint8), 3.0, cv2.INPAINT_TELEA)
    assert np.array_equal(filled[mask], cv2.resize(small, (333, 200), interpolation=cv2.INTER_CUBIC)[mask])


def test_opencv_fills_windows_of_several_sizes_up_to_the_edge_of_the_image():
    model = OpencvConfig(window=64).build(None, device=CPU, autocast=False)
    assert model.window is None
    assert not model.central
    sizes = [(1, 1), (1, 500), (500, 2), (63, 65), (100, 100)]
    for masked in (np.ones, lambda size, dtype: square(*size, 0, 0, 1, size[0])):
        images = [picture(*size) for size in sizes]
        filled = model.fill(images, [masked(size, bool) for size in sizes])
        assert [image.shape for image in filled] == [(*size, 3) for size in sizes]


# --- Context Encoder ----------------------------------------------------------------------------------------------


def context_encoder(output: str, *, autocast: bool = False) -> tuple[InpaintingModel, ContextEncoder, list[Tensor]]:
    """The model, a twin of its network, and what its network is shown."""
    spec = ContextEncoderSpec(output=output, bottleneck=16, width=8)
    network = build_generator(spec, torch.Generator().manual_seed(0))
    network(torch.rand(8, 3, 128, 128, generator=torch.Generator().manual_seed(1)) * 2 - 1)
    file = io.BytesIO()
    save_generator(file, network, spec, {})
    model = GeneratorInpainter(file.getvalue(), device=CPU, autocast=autocast)
    shown: list[Tensor] = []
    model._network.register_forward_hook(lambda _module, inputs, _output: shown.append(inputs[0].clone()))
    return model, network.eval(), shown


def test_full_is_shown_the_means_under_the_mask_and_predicts_the_window():
    model, network, shown = context_encoder("full")
    assert (model.window, model.central) == (128, False)
    images = [picture(128, 128, seed) for seed in range(3)]
    masks = [square(128, 128, 5 * i, 20, 60 + 5 * i, 70) for i in range(3)]
    filled = model.fill(images, masks)
    assert len(shown) == 1
    for i, (image, mask) in enumerate(zip(images, masks, strict=True)):
        hidden = torch.from_numpy(mask)
        torch.testing.assert_close(shown[0][i][:, hidden], MEANS[:, None].expand(3, int(hidden.sum())))
        torch.testing.assert_close(shown[0][i][:, ~hidden], as_network(image)[:, ~hidden])
        with torch.no_grad():
            expected = as_image(network(shown[0][i][None])[0])
        assert np.abs(filled[i] - expected).max() <= 1


def test_a_unet_is_shown_the_means_under_the_mask_and_told_the_mask():
    spec = UnetSpec(width=4)
    network = build_generator(spec, torch.Generator().manual_seed(0)).eval()
    file = io.BytesIO()
    save_generator(file, network, spec, {})
    model = GeneratorInpainter(file.getvalue(), device=CPU, autocast=False)
    assert (model.window, model.central) == (128, False)
    told: list[Tensor] = []
    model._network.register_forward_hook(lambda _module, inputs, _output: told.extend(inputs))
    images = [picture(128, 128, seed) for seed in range(2)]
    masks = [square(128, 128, 5, 20, 60, 70), square(128, 128, 30, 80, 90, 120)]
    filled = model.fill(images, masks)
    shown, holes = told
    assert torch.equal(holes, torch.from_numpy(np.stack(masks))[:, None])
    for i, (image, mask) in enumerate(zip(images, masks, strict=True)):
        hidden = torch.from_numpy(mask)
        torch.testing.assert_close(shown[i][:, hidden], MEANS[:, None].expand(3, int(hidden.sum())))
        torch.testing.assert_close(shown[i][:, ~hidden], as_network(image)[:, ~hidden])
        with torch.no_grad():
            expected = as_image(network(shown[i][None], hidden[None, None])[0])
        assert np.abs(filled[i] - expected).max() <= 1


def test_center_hides_the_shrunken_square_and_predicts_the_whole_one():
    model, network, shown = context_encoder("center")
    assert (model.window, model.central) == (128, True)
    image, mask = picture(128, 128), square(128, 128, 50, 50, 80, 80)
    (filled,) = model.fill([image], [mask])
    hidden = torch.zeros(128, 128, dtype=torch.bool)
    hidden[36:92, 36:92] = True
    torch.testing.assert_close(shown[0][0][:, hidden], MEANS[:, None].expand(3, 56 * 56))
    # The 4 px band between 32 and 36 is the photograph itself.
    torch.testing.assert_close(shown[0][0][:, ~hidden], as_network(image)[:, ~hidden])
    with torch.no_grad():
        expected = as_image(network(shown[0][0][None])[0])
    assert np.abs(filled[32:96, 32:96] - expected).max() <= 1
    outside = np.ones((128, 128), bool)
    outside[32:96, 32:96] = False
    assert np.array_equal(filled[outside], image[outside])


def test_center_is_shown_a_photograph_without_objects_outside_the_square_it_fills():
    model, _, shown = context_encoder("center")
    image = picture(128, 128)
    mask = square(128, 128, 32, 32, 96, 96) | square(128, 128, 0, 100, 30, 128)
    spoilt = image.copy()
    spoilt[mask] = (0, 255, 0)
    model.fill([spoilt], [mask])
    model.fill([image], [mask])
    assert torch.equal(shown[0], shown[1])
    telea = cv2.inpaint(blank(image, mask), mask.astype(np.uint8), 3.0, cv2.INPAINT_TELEA)
    torch.testing.assert_close(shown[0][0][:, 100:, :30], as_network(telea)[:, 100:, :30])
    torch.testing.assert_close(shown[0][0][:, 32:36, 32:96], as_network(telea)[:, 32:36, 32:96])


def test_autocast_runs_in_bfloat16_and_gives_about_the_same():
    exact, _, _ = context_encoder("full")
    model, _, _ = context_encoder("full", autocast=True)
    dtypes: list[torch.dtype] = []
    model._network.register_forward_hook(lambda _module, _inputs, output: dtypes.append(output.dtype))
    image, mask = picture(128, 128), square(128, 128, 30, 30, 90, 90)
    (rough,), (fine,) = model.fill([image], [mask]), exact.fill([image], [mask])
    assert dtypes == [torch.bfloat16]
    assert np.abs(rough.astype(int) - fine).max() < 16


def test_a_context_encoder_that_is_not_finite_fails_the_image():
    model, _, _ = context_encoder("full")
    with torch.no_grad():
        model._network.encoder[0].weight.fill_(torch.nan)
    with pytest.raises(ImageError, match="not finite") as caught:
        model.fill([picture(128, 128)], [square(128, 128, 0, 0, 9, 9)])
    assert caught.value.stage == "inpaint"


# --- TorchScript --------------------------------------------------------------------------------------------------


class Half(nn.Module):
    """Gives the image with 0.5 wherever the mask is; the image has to be zero there."""

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        assert image.dtype == torch.float32
        assert mask.dtype == torch.float32
        assert mask.shape[1] == 1
        assert bool((image * mask == 0).all())
        return image + 0.5 * mask


class Smaller(nn.Module):
    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        return image[:, :, ::2, ::2]


class Pair(nn.Module):
    def forward(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        return image, mask


class Alone(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image


class FourChannels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(5, 3, 1)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        return self.convolution(torch.cat((image, mask), dim=1))


class Infinite(nn.Module):
    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        return image / mask.sum().mul(0)


class InfiniteOnWhite(nn.Module):
    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        return torch.where(image.amax() > 0.999, torch.full_like(image, float("nan")), image)


class Half64(nn.Module):
    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        return (image + 0.5 * mask).double()


def scripted(network: nn.Module) -> bytes:
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(network), file)
    return file.getvalue()


def torchscript(network: nn.Module, **options: object) -> InpaintingModel:
    return TorchscriptConfig(window=64, **options).build(scripted(network), device=CPU, autocast=False)


@pytest.mark.parametrize(("value_range", "grey"), [("0..1", 128), ("-1..1", 191)])
@pytest.mark.parametrize("network", [Half, Half64])
def test_a_scripted_network_gets_blanked_pixels_and_its_own_range(value_range, grey, network):
    model = torchscript(network(), value_range=value_range)
    assert (model.window, model.central) == (64, False)
    images = [picture(64, 64, seed) for seed in range(2)]
    masks = [square(64, 64, 10, 20, 30, 50), square(64, 64, 0, 0, 64, 5)]
    for image, mask, filled in zip(images, masks, model.fill(images, masks), strict=True):
        assert filled.dtype == np.uint8
        assert np.abs(filled[mask].astype(int) - grey).max() <= 1
        assert np.array_equal(filled[~mask], image[~mask])


@pytest.mark.parametrize(
    ("network", "says"),
    [
        (Smaller, r"returns \(1, 3, 32, 32\) where \(1, 3, 64, 64\) is needed"),
        (Pair, "returns tuple where"),
        (Alone, "failed on a 64x64 window"),
        (FourChannels, "failed on a 64x64 window.*channels"),
        (Infinite, "not finite"),
    ],
)
def test_a_network_of_another_kind_is_refused_before_the_first_image(network, says):
    with pytest.raises(WeightsError, match=says):
        torchscript(network())


def test_a_fill_that_is_not_finite_fails_the_image():
    model = torchscript(InfiniteOnWhite())
    mask = square(64, 64, 0, 0, 9, 9)
    assert len(model.fill([np.full((64, 64, 3), 90, np.uint8)], [mask])) == 1
    with pytest.raises(ImageError, match="not finite") as caught:
        model.fill([np.full((64, 64, 3), 255, np.uint8)], [mask])
    assert caught.value.stage == "inpaint"


def test_files_that_are_not_torchscript_are_refused():
    checkpoint = io.BytesIO()
    torch.save({"weight": torch.zeros(2)}, checkpoint)
    for data in (b"", b"hello", checkpoint.getvalue(), scripted(Half())[:-200]):
        with pytest.raises(WeightsError, match="not a TorchScript file"):
            TorchscriptConfig().build(data, device=CPU, autocast=False)
        for settings in (TorchscriptConfig(), LamaConfig(), MiganConfig()):  # seen before it is loaded, too
            with pytest.raises(WeightsError, match="not a TorchScript file"):
                settings.check_weights(data)
    TorchscriptConfig().check_weights(scripted(Half()))
    whole = bytearray(scripted(Half()))
    whole[whole.index(b"PK\x01\x02") // 2] ^= 1  # of the files in it, whose directory follows
    with pytest.raises(WeightsError, match=r"in it is damaged|no archive, or cut off"):
        LamaConfig().check_weights(bytes(whole))


# --- all ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [GeneratorConfig(), TorchscriptConfig()])
def test_networks_without_weights_are_refused(config):
    with pytest.raises(WeightsError, match=rf"{config.kind} inpainter needs weights: set inpainter\.weights"):
        config.build(None, device=CPU, autocast=False)


def test_nothing_to_fill_gives_nothing():
    for model in (torchscript(Half()), context_encoder("center")[0], context_encoder("full")[0]):
        assert model.fill([], []) == []
