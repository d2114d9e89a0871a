import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from inpaint_core.errors import WeightsError
from inpaint_core.networks.build import build_generator
from inpaint_core.networks.compositing import CHANNEL_MEANS, composite, hide, hole_fill, predicted_part
from inpaint_core.networks.context_encoder import ContextEncoder
from inpaint_core.networks.generator import initialise
from inpaint_core.networks.spec import ContextEncoderSpec
from inpaint_core.networks.weights.generator_file import load_generator, save_generator
from inpaint_core.networks.weights.generator_header import check_generator, read_metadata

SMALL = ContextEncoderSpec(output="full", bottleneck=12, width=4)


def small_generator(spec: ContextEncoderSpec = SMALL, seed: int = 0) -> ContextEncoder:
    return build_generator(spec, torch.Generator().manual_seed(seed))


def saved(network: ContextEncoder, spec: ContextEncoderSpec, extra: dict[str, str] | None = None) -> bytes:
    file = io.BytesIO()
    save_generator(file, network, spec, extra or {})
    return file.getvalue()


def convolution_outputs(network: ContextEncoder, images: Tensor) -> list[tuple[int, ...]]:
    shapes: list[tuple[int, ...]] = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.register_forward_hook(lambda _module, _inputs, output: shapes.append(tuple(output.shape)))
    network(images)
    return shapes


ENCODER = [(64, 64), (64, 32), (128, 16), (256, 8), (512, 4), (4000, 1)]
DECODERS = {
    "center": [(512, 4), (256, 8), (128, 16), (64, 32), (3, 64)],
    "full": [(512, 4), (256, 8), (128, 16), (64, 32), (64, 64), (3, 128)],
}


@pytest.mark.parametrize("output", ["center", "full"])
def test_every_layer_has_the_shape_of_the_paper(output):
    with torch.device("meta"):
        network = ContextEncoder(ContextEncoderSpec(output=output))
        shapes = convolution_outputs(network, torch.empty(2, 3, 128, 128))
    assert shapes == [(2, channels, side, side) for channels, side in ENCODER + DECODERS[output]]


@pytest.mark.parametrize(("size", "extra"), [(256, [(64, 64)]), (512, [(64, 128), (64, 64)])])
@pytest.mark.parametrize("output", ["center", "full"])
def test_larger_sizes_have_more_steps_of_the_same_width(output, size, extra):
    with torch.device("meta"):
        network = ContextEncoder(ContextEncoderSpec(size=size, output=output))
        shapes = convolution_outputs(network, torch.empty(2, 3, size, size))
    predicted = size if output == "full" else size // 2
    up = [(64, side) for side in (64, 128, 256) if side < predicted]
    expected = [(64, size // 2), *extra, *ENCODER[1:], *DECODERS["center"][:-1], *up, (3, predicted)]
    assert shapes == [(2, channels, side, side) for channels, side in expected]


@pytest.mark.parametrize("size", [128, 256, 512])
def test_a_center_network_is_shown_the_same_part_at_every_size(size):
    images = torch.rand(1, 3, size, size)
    shown = hide(images, None)
    hidden = slice(size * 36 // 128, size * 92 // 128)
    assert torch.equal(shown[:, :, hidden, hidden], hole_fill(images).expand(1, 3, size * 7 // 16, size * 7 // 16))
    assert int((shown != images).any(1).sum()) == (size * 7 // 16) ** 2
    part = predicted_part(images, None)
    assert torch.equal(part, images[:, :, size // 4 : 3 * size // 4, size // 4 : 3 * size // 4])
    assert torch.equal(composite(part, shown, None), images)


def test_the_size_of_earlier_files_is_128_and_is_not_written(tmp_path):
    assert json.loads(read_metadata(saved(small_generator(), SMALL))["inpaint_core.network"]) == {
        "kind": "context_encoder",
        "output": "full",
        "bottleneck": 12,
        "width": 4,
    }
    larger = replace(SMALL, size=256)
    network, spec = load_generator(saved(small_generator(larger), larger))
    assert spec == larger
    assert network(torch.zeros(1, 3, 256, 256)).shape == (1, 3, 256, 256)


def test_parameter_counts_are_those_worked_out_by_hand():
    # 16 weights a 4x4 kernel; a bias on the first and the last convolution; two values a BatchNorm channel.
    encoder = 3 * 64 * 16 + 64 + 16 * (64 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 512 * 4000)
    encoder += 2 * (64 + 128 + 256 + 512 + 4000)
    decoder = 16 * (4000 * 512 + 512 * 256 + 256 * 128 + 128 * 64) + 2 * (512 + 256 + 128 + 64) + 64 * 3 * 16 + 3
    assert encoder + decoder == 71_124_611
    full_step = 16 * 64 * 64 + 2 * 64
    with torch.device("meta"):
        center = ContextEncoder(ContextEncoderSpec(output="center"))
        full = ContextEncoder(ContextEncoderSpec(output="full"))
    assert sum(p.numel() for p in center.parameters()) == encoder + decoder
    assert sum(p.numel() for p in full.parameters()) == encoder + decoder + full_step


def test_the_order_of_normalisation_and_activation():
    network = small_generator()
    kinds = [type(module).__name__ for module in network.encoder[:5]]
    assert kinds == ["Conv2d", "LeakyReLU", "Conv2d", "BatchNorm2d", "LeakyReLU"]
    assert [type(module).__name__ for module in network.encoder[-3:]] == ["Conv2d", "BatchNorm2d", "LeakyReLU"]
    assert [type(module).__name__ for module in network.decoder[:3]] == ["ConvTranspose2d", "BatchNorm2d", "ReLU"]
    assert [type(module).__name__ for module in network.decoder[-2:]] == ["ConvTranspose2d", "Tanh"]
    assert all(m.negative_slope == 0.2 for m in network.modules() if isinstance(m, nn.LeakyReLU))


def test_initialisation_has_the_stated_distributions():
    network = small_generator(ContextEncoderSpec(bottleneck=400, width=16))
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.weight.numel() > 10_000:
            assert abs(module.weight.mean().item()) < 0.001
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.05)
        if isinstance(module, nn.BatchNorm2d):
            assert torch.all(module.bias == 0)
            assert torch.all(module.running_mean == 0)
            assert torch.all(module.running_var == 1)
    norms = [m.weight for m in network.modules() if isinstance(m, nn.BatchNorm2d) and m.num_features == 400]
    assert norms[0].mean().item() == pytest.approx(1.0, abs=0.005)
    assert norms[0].std().item() == pytest.approx(0.02, rel=0.2)
    assert torch.all(network.encoder[0].bias == 0)


def test_weights_come_from_the_generator_alone():
    before = torch.random.get_rng_state()
    first, again, other = small_generator(seed=1), small_generator(seed=1), small_generator(seed=2)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first.encoder[0].weight, again.encoder[0].weight)
    assert not torch.equal(first.encoder[0].weight, other.encoder[0].weight)
    initialise(other, torch.Generator().manual_seed(1))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


def test_output_stays_within_the_range_and_gradients_reach_every_weight():
    network = small_generator()
    output = network(torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(3)) * 2 - 1)
    assert output.abs().max() <= 1
    output.pow(2).sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


def test_the_fill_is_the_channel_means_on_the_network_scale():
    fill = hole_fill(torch.empty(1, dtype=torch.float64))
    assert fill.shape == (1, 3, 1, 1)
    assert fill.dtype == torch.float64
    np.testing.assert_allclose(fill.flatten(), [2 * 117 / 255 - 1, 2 * 104 / 255 - 1, 2 * 123 / 255 - 1])
    assert CHANNEL_MEANS[0] == pytest.approx(0.458824, abs=1e-6)


@pytest.mark.parametrize("output", ["center", "full"])
def test_a_network_is_rebuilt_from_its_checkpoint_alone(output, tmp_path):
    spec = replace(SMALL, output=output)
    network = small_generator(spec)
    network(torch.rand(4, 3, 128, 128, generator=torch.Generator().manual_seed(0)))  # moves the running statistics
    path = tmp_path / "generator.safetensors"
    save_generator(path, network, spec, {"config": "epochs: 40"})
    loaded, loaded_spec = load_generator(path.read_bytes())
    assert [file.name for file in tmp_path.iterdir()] == ["generator.safetensors"]
    assert loaded_spec == spec
    assert not loaded.training
    assert read_metadata(path.read_bytes())["config"] == "epochs: 40"
    images = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(5)) * 2 - 1
    with torch.no_grad():
        assert torch.equal(loaded(images), network.eval()(images))
    assert all(parameter.requires_grad for parameter in loaded.parameters())


def test_half_precision_weights_are_loaded_as_float32():
    network = small_generator()
    expected = network.encoder[0].weight.half().float()
    loaded, _ = load_generator(saved(network.half(), SMALL))
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    assert torch.equal(loaded.encoder[0].weight, expected)


def test_extra_metadata_cannot_replace_the_spec():
    with pytest.raises(ValueError, match=r"inpaint_core\.network"):
        save_generator(io.BytesIO(), small_generator(), SMALL, {"inpaint_core.network": "{}"})


def test_files_that_are_not_safetensors_are_refused():
    pickled = io.BytesIO()
    torch.save({"weight": torch.zeros(3)}, pickled)
    whole = saved(small_generator(), SMALL)
    for data in (b"", b"short", b"<html>not found</html>", pickled.getvalue(), whole[:-100], whole[:50]):
        with pytest.raises(WeightsError, match="not a complete safetensors file"):
            load_generator(data)
        with pytest.raises(WeightsError, match="not a complete safetensors file"):
            check_generator(data)  # without torch
    check_generator(whole)
    for data in (b"", (4).to_bytes(8, "little") + b"[12]"):
        with pytest.raises(WeightsError, match="not a complete safetensors file"):
            read_metadata(data)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_values_that_are_not_finite_are_told_before_the_network_is_built(value, dtype):
    network = small_generator().to(dtype)
    with torch.no_grad():
        network.encoder[0].weight[3, 2, 1, 0] = torch.finfo(dtype).max
        check_generator(saved(network, SMALL))
        network.encoder[0].weight[3, 2, 1, 0] = value
    for load in (check_generator, load_generator):
        with pytest.raises(
            WeightsError, match=r"^The checkpoint holds values in encoder\.0\.weight that are not finite"
        ):
            load(saved(network, SMALL))


def tensors_and_metadata() -> tuple[dict[str, Tensor], dict[str, str]]:
    data = saved(small_generator(), SMALL)
    return safetensors.torch.load(data), read_metadata(data)


def test_safetensors_of_another_program_are_refused():
    tensors, _ = tensors_and_metadata()
    for metadata in (None, {"format": "pt"}):
        with pytest.raises(WeightsError, match="was not written by this project's training"):
            load_generator(safetensors.torch.save(tensors, metadata))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"kind": "partial_convolution"}, r"invalid \(.*'partial_convolution'"),
        ({"output": "left"}, r"invalid at 'context_encoder\.output'"),
        ({"bottleneck": 0}, r"invalid at 'context_encoder\.bottleneck'"),
        ({"attention": True}, r"invalid at 'context_encoder\.attention'"),
    ],
)
def test_an_unknown_spec_is_named(change, named):
    tensors, metadata = tensors_and_metadata()
    metadata["inpaint_core.network"] = json.dumps({**json.loads(metadata["inpaint_core.network"]), **change})
    with pytest.raises(WeightsError, match=f"cannot build.*{named}"):
        load_generator(safetensors.torch.save(tensors, metadata))


def test_a_spec_that_is_not_json_is_refused():
    tensors, metadata = tensors_and_metadata()
    with pytest.raises(WeightsError, match="cannot build"):
        load_generator(safetensors.torch.save(tensors, {**metadata, "inpaint_core.network": "{oops"}))


def test_missing_unknown_and_misshapen_tensors_are_named():
    tensors, metadata = tensors_and_metadata()
    for fault, named in (
        ({k: v for k, v in tensors.items() if k != "decoder.0.weight"}, r"lacks decoder\.0\.weight"),
        ({k: v for k, v in tensors.items() if not k.startswith("decoder")}, r"lacks decoder.* more"),
        ({**tensors, "head.weight": torch.zeros(1)}, r"does not know: head\.weight"),
        ({**tensors, "encoder.0.bias": torch.zeros(7)}, r"encoder\.0\.bias of shape \(7,\) where its spec says \(4,\)"),
    ):
        with pytest.raises(WeightsError, match=named):
            load_generator(safetensors.torch.save(fault, metadata))
