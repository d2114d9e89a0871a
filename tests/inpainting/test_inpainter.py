import io
import math
import time

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import inpaint_core.inpainting.inpainter
import inpaint_core.inpainting.opencv
import inpaint_core.inpainting.window_pixels
from inpaint_core.errors import ImageError
from inpaint_core.inpainting.config import FillConfig, GeneratorConfig, OpencvConfig
from inpaint_core.inpainting.external_config import TorchscriptConfig
from inpaint_core.inpainting.inpainter import Hole, Inpainter
from inpaint_core.inpainting.window_pixels import blank, cut, resize, resize_mask
from inpaint_core.inpainting.windows import Box, Part, _BoxIndex, choose_windows, find_parts
from inpaint_core.networks.build import build_generator
from inpaint_core.networks.spec import ContextEncoderSpec
from inpaint_core.networks.weights.generator_file import save_generator

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")

KINDS = ("telea", "navier_stokes", "center", "full", "torchscript")


class LocalMean(nn.Module):
    """A scripted network whose result depends on every pixel it is shown nearby."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(4, 3, 31, padding=15)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        return torch.sigmoid(self.convolution(torch.cat((image, mask), dim=1)))


@pytest.fixture(scope="module")
def models():
    cpu = torch.device("cpu")
    made = {
        method: OpencvConfig(method=method, window=96).build(None, device=cpu, autocast=False)
        for method in ("telea", "navier_stokes")
    }
    for output in ("center", "full"):
        spec = ContextEncoderSpec(output=output, bottleneck=32, width=8)
        network = build_generator(spec, torch.Generator().manual_seed(1))
        for _ in range(3):  # statistics of real inputs, so that the output varies
            network(torch.rand(8, 3, 128, 128, generator=torch.Generator().manual_seed(2)) * 2 - 1)
        file = io.BytesIO()
        save_generator(file, network, spec, {})
        made[output] = GeneratorConfig().build(file.getvalue(), device=cpu, autocast=False)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        scripted = torch.jit.script(LocalMean())
    file = io.BytesIO()
    torch.jit.save(scripted, file)
    made["torchscript"] = TorchscriptConfig(window=64).build(file.getvalue(), device=cpu, autocast=False)
    return made


class Recorder:
    """A model that fills each window with one colour, another for each, and keeps what it was given."""

    def __init__(self, window: int | None = 64, *, central: bool = False) -> None:
        self.window = window
        self.central = central
        self.calls: list[tuple[list[np.ndarray], list[np.ndarray]]] = []
        self.filled = 0

    def fill(self, images, masks):
        self.calls.append((list(images), list(masks)))
        result = []
        for image in images:
            self.filled += 1
            result.append(np.full_like(image, self.filled))
        return result


class Uniform(Recorder):
    """A model that fills every window with 200."""

    def fill(self, images, masks):
        return [np.full_like(image, 200) for image in images]


def photograph(height: int, width: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (max(2, height // 16), max(2, width // 16), 3), dtype=np.uint8)
    noise = random.integers(-8, 9, (height, width, 3))
    return np.clip(resize(coarse, width, height).astype(int) + noise, 0, 255).astype(np.uint8)


def disc(height: int, width: int, *circles: tuple[int, int, int]) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.any([(x - cx) ** 2 + (y - cy) ** 2 <= r**2 for cx, cy, r in circles], axis=0)


def rectangle(height: int, width: int, *boxes: tuple[int, int, int, int]) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    for x0, y0, x1, y1 in boxes:
        mask[y0:y1, x0:x1] = True
    return mask


def hole_of(image: np.ndarray, *circles: tuple[int, int, int], ring: int = 5) -> Hole:
    height, width = image.shape[:2]
    core = disc(height, width, *circles)
    return Hole(image, core, disc(height, width, *((x, y, r + ring) for x, y, r in circles)))


# --- what the result is -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_outside_the_mask_nothing_changes_and_inputs_stay(models, kind):
    image = photograph(150, 211)
    hole = hole_of(image, (5, 70, 20), (120, 60, 35), (205, 145, 12))
    before = (image.copy(), hole.core.copy(), hole.mask.copy())
    (result,) = Inpainter(models[kind], FillConfig()).inpaint([hole])
    assert result.dtype == np.uint8
    assert np.array_equal(result[~hole.mask], image[~hole.mask])
    assert (result[hole.core] != image[hole.core]).any(axis=-1).mean() > 0.9
    assert all(np.array_equal(a, b) for a, b in zip(before, (hole.image, hole.core, hole.mask), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_object_looks_like_has_no_effect(models, kind):
    # At every edge and corner, where padding would reflect it; close together, where windows show neighbours.
    image = photograph(160, 220)
    circles = ((0, 0, 25), (110, 2, 20), (219, 80, 30), (60, 100, 22), (95, 105, 8), (200, 159, 10))
    hole = hole_of(image, *circles)
    other = image.copy()
    other[hole.core] = np.random.default_rng(9).integers(0, 256, (int(hole.core.sum()), 3))
    inpainter = Inpainter(models[kind], FillConfig())
    (first,), (second,) = inpainter.inpaint([hole]), inpainter.inpaint([Hole(other, hole.core, hole.mask)])
    assert np.array_equal(first, second)


@pytest.mark.parametrize("kind", KINDS)
def test_without_blending_the_ring_has_no_effect_either(models, kind):
    image = photograph(100, 90)
    hole = hole_of(image, (0, 50, 18), (60, 40, 15))
    other = image.copy()
    other[hole.mask] = 255 - other[hole.mask]
    inpainter = Inpainter(models[kind], FillConfig(blend=0.0))
    (first,), (second,) = inpainter.inpaint([hole]), inpainter.inpaint([Hole(other, hole.core, hole.mask)])
    assert np.array_equal(first, second)


@pytest.mark.parametrize("kind", KINDS)
def test_the_result_of_an_image_does_not_depend_on_the_others(models, kind):
    holes = [hole_of(photograph(90 + 7 * i, 120, seed=i), (30 + 9 * i, 40, 12), (100, 60, 9)) for i in range(5)]
    inpainter = Inpainter(models[kind], FillConfig(windows_per_batch=3))
    together = inpainter.inpaint(holes)
    for hole, result in zip(holes, together, strict=True):
        alone = inpainter.inpaint([hole])[0]
        assert np.abs(alone.astype(int) - result).max() <= 1
        assert np.array_equal(inpainter.inpaint([hole])[0], alone)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (3, 101), (97, 3), (33, 65), (150, 260)])
@pytest.mark.parametrize("masked", ["all", "corner", "all but a corner", "none"])
def test_every_size_and_mask_is_filled(models, kind, size, masked):
    image = photograph(*size)
    mask = np.zeros(size, bool)
    match masked:
        case "all":
            mask[:] = True
        case "corner":
            mask[-1, -1] = True
        case "all but a corner":
            mask[:] = True
            mask[0, 0] = False
        case "none":
            pass
    (result,) = Inpainter(models[kind], FillConfig()).inpaint([Hole(image, mask, mask)])
    assert result.shape == image.shape
    assert result.dtype == np.uint8
    assert np.array_equal(result[~mask], image[~mask])
    assert not np.shares_memory(result, image)


def test_an_object_that_fills_the_image_leaves_nothing_of_itself(models):
    red = np.zeros((50, 70, 3), np.uint8)
    red[..., 0] = 255
    everything = np.ones((50, 70), bool)
    for model in models.values():
        (result,) = Inpainter(model, FillConfig()).inpaint([Hole(red, everything, everything)])
        (again,) = Inpainter(model, FillConfig()).inpaint([Hole(255 - red, everything, everything)])
        assert np.array_equal(result, again)


@pytest.mark.parametrize(("method", "mean"), [("telea", 5), ("navier_stokes", 2.5)])
def test_a_gradient_goes_on_through_the_hole(models, method, mean):
    image = np.repeat(np.linspace(40, 200, 240, dtype=np.uint8)[None, :, None], 160, axis=0).repeat(3, axis=2)
    hole = hole_of(image, (120, 80, 20))
    spoilt = image.copy()
    spoilt[hole.core] = 255
    (result,) = Inpainter(models[method], FillConfig()).inpaint([Hole(spoilt, hole.core, hole.mask)])
    error = np.abs(result.astype(int) - image)[hole.mask]
    # One colour for the whole hole would be wrong by 7 in the mean; the object itself was by 135.
    assert error.mean() < mean
    assert error.max() < 20


def test_stripes_go_on_through_a_narrow_hole(models):
    image = np.zeros((120, 160, 3), np.uint8)
    image[(np.arange(120) // 10) % 2 == 1] = 220
    mask = rectangle(120, 160, (70, 15, 78, 105))
    spoilt = image.copy()
    spoilt[mask] = 128
    (result,) = Inpainter(models["telea"], FillConfig(blend=0.0)).inpaint([Hole(spoilt, mask, mask)])
    error = np.abs(result.astype(int) - image)[mask].mean()
    assert error < 0.4 * np.abs(spoilt.astype(int) - image)[mask].mean()


# --- blending -----------------------------------------------------------------------------------------------------


def test_the_fill_rises_over_half_the_ring_and_is_whole_in_the_core():
    image = np.zeros((81, 81, 3), np.uint8)
    core, mask = rectangle(81, 81, (30, 30, 51, 51)), rectangle(81, 81, (20, 20, 61, 61))

    (result,) = Inpainter(Uniform(None), FillConfig(blend=0.5)).inpaint([Hole(image, core, mask)])
    # Along row 40 pixel 19 is outside, 30 in the core: a ring 11 wide, mixed over its outer 5.5 pixels.
    expected = [0] + [round(200 * distance / 5.5) for distance in range(1, 6)] + [200] * 6
    assert result[40, 19:31, 0].tolist() == expected
    assert (result[core] == 200).all()
    (hard,) = Inpainter(Uniform(None), FillConfig(blend=0.0)).inpaint([Hole(image, core, mask)])
    assert (hard[mask] == 200).all()
    (soft,) = Inpainter(Uniform(None), FillConfig(blend=1.0)).inpaint([Hole(image, core, mask)])
    assert soft[40, 19:31, 0].tolist() == [round(200 * distance / 11) for distance in range(12)]


def test_the_edge_of_the_image_is_no_edge_of_the_mask_and_a_part_without_core_is_all_fill():
    image = np.zeros((40, 60, 3), np.uint8)
    core, mask = rectangle(40, 60, (0, 10, 20, 30)), rectangle(40, 60, (0, 5, 25, 35), (40, 10, 50, 20))
    (result,) = Inpainter(Uniform(None), FillConfig(blend=1.0)).inpaint([Hole(image, core, mask)])
    assert (result[core] == 200).all()
    assert 0 < result[20, 24, 0] < result[20, 21, 0] < 200
    assert (result[10:20, 40:50] == 200).all()


# --- windows ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_windows_of_several_images_share_forward_passes(batch):
    holes = [hole_of(photograph(200, 640), *((60 + 160 * i, 100, 10) for i in range(4))) for _ in range(3)]
    model = Recorder(64)
    results = Inpainter(model, FillConfig(windows_per_batch=batch)).inpaint(holes)
    assert len(model.calls) == math.ceil(12 / batch)
    assert model.filled == 12
    assert all(image.shape == (64, 64, 3) for images, _ in model.calls for image in images)
    assert len({tuple(result[hole.core].flatten()) for hole, result in zip(holes, results, strict=True)}) == 3


def test_windows_are_cut_only_when_their_batch_comes(monkeypatch):
    cuts: list[Box] = []

    def counted(image, mask, box, **how):
        cuts.append(box)
        return cut(image, mask, box, **how)

    monkeypatch.setattr(inpaint_core.inpainting.inpainter, "cut", counted)
    seen: list[int] = []

    class Model(Recorder):
        def fill(self, images, masks):
            seen.append(len(cuts))
            return super().fill(images, masks)

    holes = [hole_of(photograph(100, 300), (50, 50, 8), (250, 50, 8)) for _ in range(4)]
    Inpainter(Model(64), FillConfig(windows_per_batch=3)).inpaint(holes)
    assert seen == [3, 6, 8]


def test_models_of_any_size_are_given_one_native_window_at_a_time():
    hole = hole_of(photograph(300, 400), (100, 100, 30), (300, 100, 10))
    model = Recorder(None)
    Inpainter(model, FillConfig(context=2.0)).inpaint([hole])
    assert [[image.shape for image in images] for images, _ in model.calls] == [[(142, 142, 3)], [(63, 63, 3)]]


def test_no_image_and_no_mask_need_no_model():
    model = Recorder()
    image = photograph(20, 30)
    nothing = np.zeros((20, 30), bool)
    assert Inpainter(model, FillConfig()).inpaint([]) == []
    assert np.array_equal(Inpainter(model, FillConfig()).inpaint([Hole(image, nothing, nothing)])[0], image)
    assert model.calls == []


def test_neighbours_are_masked_in_a_window_but_not_pasted_from_it():
    image = photograph(200, 300)
    mask = rectangle(200, 300, (100, 60, 160, 140), (165, 60, 225, 139))
    model = Recorder(None)
    (result,) = Inpainter(model, FillConfig(blend=0.0)).inpaint([Hole(image, mask, mask)])
    assert len(model.calls) == 2
    assert all(masks[0].sum() > 80 * 60 for _, masks in model.calls)
    assert (result[60:140, 100:160] == 1).all()
    assert (result[60:139, 165:225] == 2).all()


def windows_of(mask: np.ndarray, *, side: int | None = 128, context: float = 2.0, central: bool = False):
    height, width = mask.shape
    return choose_windows(find_parts(mask), width, height, context=context, side=side, central=central)


def test_fragments_share_the_window_of_the_object_they_belong_to():
    body = (300, 200, 500, 600)
    fragments = [(310 + 30 * i, 300, 320 + 30 * i, 310) for i in range(3)]
    mask = rectangle(800, 800, body) & ~rectangle(800, 800, (305, 290, 420, 320)) | rectangle(800, 800, *fragments)
    assert len(find_parts(mask)) == 4
    (window,) = windows_of(mask)
    assert window.parts[0].box == Box(*body)
    assert len(window.parts) == 4


def test_a_small_object_beside_a_large_one_gets_its_own_detail():
    large, small, similar = (400, 100, 800, 500), (830, 300, 850, 340), (300, 300, 370, 480)
    assert [len(w.parts) for w in windows_of(rectangle(1000, 1200, large, small))] == [1, 1]
    assert [len(w.parts) for w in windows_of(rectangle(1000, 1200, large, small), side=1024)] == [2]
    assert [len(w.parts) for w in windows_of(rectangle(1000, 1200, (400, 200, 600, 400), similar))] == [1, 1]
    assert [len(w.parts) for w in windows_of(rectangle(1000, 1200, (400, 200, 600, 400), (340, 240, 380, 340)))] == [2]


@pytest.mark.parametrize("side", [32, 128, 512])
def test_windows_stay_in_the_image_where_they_fit(side):
    random = np.random.default_rng(4)
    for _ in range(30):
        height, width = (int(value) for value in random.integers(40, 500, 2))
        x, y, r = int(random.integers(width)), int(random.integers(height)), int(random.integers(2, 60))
        mask = disc(height, width, (x, y, r))
        for window in windows_of(mask, side=side):
            box = window.box
            assert box.width == box.height <= max(height, width)
            for begin, end, length in ((box.x0, box.x1, width), (box.y0, box.y1, height)):
                assert (begin >= 0 and end <= length) or (begin <= 0 and end >= length)
            assert all(box.contains(part.box) for part in window.parts)


def test_windows_of_central_models_hold_their_parts_in_the_central_half():
    random = np.random.default_rng(5)
    for context in (1.0, 2.0, 4.0):
        for _ in range(30):
            height, width = (int(value) for value in random.integers(3, 400, 2))
            circles = [tuple(int(v) for v in random.integers(0, (width, height, 50))) for _ in range(3)]
            image, mask = photograph(height, width), disc(height, width, *circles)
            for window in windows_of(mask, context=context, central=True):
                side = window.box.width
                assert side == window.box.height
                assert side % 4 == 0
                half = window.box.grown(-side // 4)
                assert all(half.contains(part.box) for part in window.parts)
                _, cut_mask = cut(image, mask, window.box)
                parts = np.zeros_like(cut_mask)
                for part in window.parts:
                    parts[part.box.relative_to(window.box).slices] |= part.pixels
                assert (cut_mask & parts).sum() == sum(part.pixels.sum() for part in window.parts)
                # At the network's size nothing of the parts is outside the square that it predicts.
                small = resize_mask(parts, 128, 128).copy()
                small[32:96, 32:96] = False
                assert not small.any()


@pytest.mark.parametrize("central", [False, True])
@pytest.mark.parametrize("side", [None, 32, 128])
@pytest.mark.parametrize("longest", [4, 40, 400])
def test_parts_share_the_first_window_that_they_can(monkeypatch, side, central, longest):
    random = np.random.default_rng(7)
    corners, sizes = random.integers(0, min(100 + longest, 500), (150, 2)), random.integers(1, longest, (150, 2))
    ends = np.minimum(corners + sizes, 600)
    parts = [
        Part(Box(int(x0), int(y0), int(x1), int(y1)), np.ones((y1 - y0, x1 - x0), bool))
        for (x0, y0), (x1, y1) in zip(corners, ends, strict=True)
    ]

    def plan():
        return [
            (window.box, [part.box for part in window.parts])
            for window in choose_windows(parts, 600, 600, context=2.0, side=side, central=central)
        ]

    indexed = plan()
    assert 1 < len(indexed) < 150
    monkeypatch.setattr(_BoxIndex, "containing", lambda self, x, y: range(len(self._boxes)))
    assert plan() == indexed


@pytest.mark.parametrize("side", [None, 32])
def test_thousands_of_parts_are_planned_in_no_time(side):
    dot = np.ones((4, 4), bool)
    parts = [Part(Box(x, y, x + 4, y + 4), dot) for y in range(30, 4096, 64) for x in range(30, 4096, 64)]
    started = time.process_time()
    windows = choose_windows(parts, 4096, 4096, context=2.0, side=side, central=False)
    assert time.process_time() - started < 2
    assert len(windows) == len(parts) == 4096


@pytest.mark.parametrize("part", [Box(0, 60, 50, 260), Box(300, 5, 340, 200), Box(100, 100, 300, 150)])
def test_a_window_stays_in_the_image_where_that_has_room(part):
    # Beyond it lies its reflection, objects and all: no ground to go on from.
    [window] = choose_windows(
        [Part(part, np.ones((part.height, part.width), bool))], 400, 300, context=2.0, side=128, central=False
    )
    assert Box(0, 0, 400, 300).contains(window.box)
    assert window.box.contains(part)
    assert window.box.width == window.box.height == 300
    tall = Box(10, 0, 60, 300)
    [window] = choose_windows([Part(tall, np.ones((300, 50), bool))], 400, 300, context=2.0, side=128, central=False)
    assert window.box.width == window.box.height == 400
    assert window.box.contains(tall)


def test_a_wide_part_keeps_ground_beside_it():
    """At least a quarter of its length on each side, though the window then reaches beyond the image above and below."""
    bus = Box(400, 150, 1200, 550)
    parts = [Part(bus, np.ones((bus.height, bus.width), bool))]
    [window] = choose_windows(parts, 1600, 700, context=2.0, side=128, central=False)
    assert window.box.width == window.box.height == 1200
    assert bus.x0 - window.box.x0 >= 200 <= window.box.x1 - bus.x1
    # A model that takes any size is given what lies in the image, and nothing is reflected.
    [window] = choose_windows(parts, 1600, 700, context=2.0, side=None, central=False)
    assert window.box == Box(0, 0, 1600, 700)


def test_windows_are_blanked_once(monkeypatch):
    masked = []

    def counted(image, mask):
        masked.append(int(mask.sum()))
        return blank(image, mask)

    monkeypatch.setattr(inpaint_core.inpainting.window_pixels, "blank", counted)
    monkeypatch.setattr(inpaint_core.inpainting.opencv, "blank", counted)
    hole = hole_of(photograph(200, 300), (60, 60, 20), (250, 150, 20))
    model = OpencvConfig(window=50).build(None, device=torch.device("cpu"), autocast=False)
    Inpainter(model, FillConfig()).inpaint([hole])
    assert masked == [hole.mask.sum() // 2] * 2


def test_padding_reflects_the_mask_with_the_image():
    image = photograph(20, 30)
    mask = rectangle(20, 30, (0, 5, 3, 9))
    pixels, masked = cut(image, mask, Box(-6, -4, 20, 22))
    assert pixels.shape == (26, 26, 3)
    reflected = np.pad(mask, ((4, 2), (6, 0)), mode="reflect")[:, :26]
    assert np.array_equal(masked, reflected)
    assert masked[9:13, 4:9].all()
    known = np.pad(image, ((4, 2), (6, 0), (0, 0)), mode="reflect")[:, :26]
    assert np.array_equal(pixels[~masked], known[~masked])


def test_blanked_pixels_have_the_colour_of_a_near_known_pixel():
    image = photograph(60, 80)
    mask = disc(60, 80, (0, 30, 12), (50, 30, 15))
    blanked = blank(image, mask)
    assert np.array_equal(blanked[~mask], image[~mask])
    known = np.argwhere(~mask)
    for y, x in np.argwhere(mask)[::25]:
        distance = np.hypot(*(known - (y, x)).T)
        near = known[distance <= distance.min() * 1.1 + 0.01]
        assert any(np.array_equal(blanked[y, x], image[a, b]) for a, b in near)
    assert (blank(image, np.ones((60, 80), bool)) == 128).all()


def test_no_resized_pixel_with_a_masked_source_is_shown():
    random = np.random.default_rng(6)
    for size in (17, 32, 50, 64, 129, 300):
        mask = random.random((64, 64)) < 0.02
        image = np.zeros((64, 64, 3), np.uint8)
        image[mask] = 255
        shown = resize(image, size, size)[~resize_mask(mask, size, size)]
        if size <= 64:
            assert shown.max(initial=0) == 0
        else:
            # Bicubic weights reach one source pixel further than the mask, which is why `cut` blanks before it resizes.
            assert shown.max(initial=0) > 0
        assert resize(blank(image, mask), size, size).max() == 0
        assert resize_mask(mask, size, size).mean() < 0.6


# --- errors -------------------------------------------------------------------------------------------------------


def test_a_hole_checks_its_arrays():
    image, mask = photograph(10, 12), np.ones((10, 12), bool)
    for bad in (
        (image[..., :1], mask, mask),
        (image.astype(np.float32), mask, mask),
        (image, mask[:5], mask),
        (image, mask, mask.astype(np.uint8)),
        (image, mask, ~mask),
    ):
        with pytest.raises(ValueError, match="a hole's"):
            Hole(*bad)


def test_an_error_of_the_model_reaches_the_caller():
    class Failing(Recorder):
        def fill(self, images, masks):
            raise ImageError("inpaint", "values that are not finite")

    with pytest.raises(ImageError, match="inpaint: values"):
        Inpainter(Failing(), FillConfig()).inpaint([hole_of(photograph(50, 50), (25, 25, 5))])
