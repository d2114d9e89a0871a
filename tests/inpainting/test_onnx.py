"""ONNX networks: which files are taken, and what the networks in them are given."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from inpaint_core.config import load_config
from inpaint_core.errors import ConfigError, ImageError, WeightsError
from inpaint_core.inpainting.external_config import OnnxConfig
from inpaint_core.inpainting.onnx import OnnxInpainter
from inpaint_core.removal.build import build_remover
from inpaint_core.removal.config import RemoveConfig
from inpaint_core.removal.job import model_weights
from inpaint_core.removal.remover import remove_objects
from tests.samples import decoded, encoded, photograph

CPU = torch.device("cpu")
FREE = ("b", 3, "h", "w")
FIXED = (1, 3, 64, 64)
Shape = Sequence[int | str]


def network(
    *,
    shape: Shape = FREE,
    mask_shape: Shape | None = None,
    dtype: int = TensorProto.FLOAT,
    mask_dtype: int | None = None,
    output_dtype: int | None = None,
    names: tuple[str, str] = ("image", "mask"),
    mask_first: bool = False,
    level: float = 0.25,
    scale: float = 1.0,
) -> bytes:
    """`scale` * image + `level` * mask, computed in float32."""
    image, mask = names
    inputs = [
        helper.make_tensor_value_info(image, dtype, shape),
        helper.make_tensor_value_info(mask, mask_dtype or dtype, mask_shape or (shape[0], 1, *shape[2:])),
    ]
    nodes = [
        helper.make_node("Cast", [image], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Cast", [mask], ["m"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["x", "scale"], ["scaled"]),
        helper.make_node("Mul", ["m", "level"], ["lit"]),
        helper.make_node("Add", ["scaled", "lit"], ["sum"]),
        helper.make_node("Cast", ["sum"], ["filled"], to=output_dtype or dtype),
    ]
    output = helper.make_tensor_value_info("filled", output_dtype or dtype, None)
    return serialised(nodes, inputs[::-1] if mask_first else inputs, output, level=level, scale=scale)


def serialised(
    nodes: list[onnx.NodeProto], inputs: list[onnx.ValueInfoProto], output: onnx.ValueInfoProto, **constants: float
) -> bytes:
    tensors = [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "network", inputs, [output], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    data: bytes = model.SerializeToString()
    return data


def built(data: bytes, **settings: object) -> OnnxInpainter:
    model = OnnxConfig(**settings).build(data, device=CPU, autocast=False)  # type: ignore[arg-type]
    assert isinstance(model, OnnxInpainter)
    return model


def windows(side: int, count: int = 2) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.bool_]]]:
    """Noise, and masks of several places."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for _ in range(count)]
    masks = [np.zeros((side, side), bool) for _ in range(count)]
    for index, mask in enumerate(masks):
        mask[8 + index : 20, 4 : 30 + index] = True
    return images, masks


def filled_and_given(
    model: OnnxInpainter, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[NDArray[np.uint8]], list[tuple[np.ndarray, np.ndarray]]]:
    given: list[tuple[np.ndarray, np.ndarray]] = []
    run = model._run

    def spied(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
        given.append((image, mask))
        return run(image, mask)

    monkeypatch.setattr(model, "_run", spied)
    assert model.window is not None
    return model.fill(*windows(model.window)), given


@pytest.mark.parametrize(
    ("value_range", "level", "scale", "offset"),
    [("0..1", 0.25, 255, 0), ("-1..1", -0.5, 127.5, 1), ("0..255", 64, 1, 0)],
)
def test_the_image_is_in_the_range_of_the_settings_and_the_mask_is_1(
    value_range: str, level: float, scale: float, offset: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = built(network(level=level), value_range=value_range, window=64)
    images, masks = windows(64)
    filled, given = filled_and_given(model, monkeypatch)
    ((pictures, holes),) = given  # both windows at once
    assert pictures.dtype == holes.dtype == np.float32
    for i, (image, mask) in enumerate(zip(images, masks, strict=True)):
        assert np.array_equal(holes[i, 0], mask.astype(np.float32))
        assert (pictures[i][:, mask] == 0).all()
        expected = image[~mask].T.astype(np.float64) / scale - offset
        np.testing.assert_allclose(pictures[i][:, ~mask], expected, atol=1e-6)
        assert (np.abs(filled[i][mask].astype(int) - 64) <= 1).all()
        assert np.array_equal(filled[i][~mask], image[~mask])


def test_a_network_that_declares_any_number_of_windows_and_fails_with_two_is_given_one_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As MI-GAN's published pipeline (migan_pipeline_v2.onnx)."""
    inputs = [
        helper.make_tensor_value_info("image", TensorProto.FLOAT, FREE),
        helper.make_tensor_value_info("mask", TensorProto.FLOAT, ("b", 1, "h", "w")),
    ]
    one = numpy_helper.from_array(np.array([1, 3, 64, 64]), "one")
    nodes = [
        helper.make_node("Mul", ["mask", "level"], ["lit"]),
        helper.make_node("Add", ["image", "lit"], ["sum"]),
        helper.make_node("Reshape", ["sum", "one"], ["filled"]),
    ]
    output = helper.make_tensor_value_info("filled", TensorProto.FLOAT, None)
    level = numpy_helper.from_array(np.array(0.25, np.float32), "level")
    graph = helper.make_graph(nodes, "network", inputs, [output], [one, level])
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10).SerializeToString()
    filled, given = filled_and_given(built(data, window=64), monkeypatch)
    assert [len(pictures) for pictures, _ in given] == [1, 1]
    _, masks = windows(64)
    for picture, mask in zip(filled, masks, strict=True):
        assert (picture[mask] == 64).all()


def test_the_image_may_hold_a_smooth_fill_under_the_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    """For networks that blend their result with the image, as MI-GAN's published pipeline does."""
    image = np.zeros((64, 64, 3), np.uint8)
    image[:] = np.linspace(50, 200, 64).astype(np.uint8)[:, None, None]
    mask = np.zeros((64, 64), bool)
    mask[20:40, 10:50] = True
    given = []
    for under in (0, 255):  # what is under the mask makes no difference
        model = built(network(), value_range="0..255", masked_pixels="smooth", window=64)
        monkeypatch.setattr(model, "_run", lambda picture, hole: given.append(picture) or picture)
        model.fill([np.where(mask[..., None], np.uint8(under), image)], [mask])
    first, second = given
    assert np.array_equal(first, second)
    assert np.abs(first[0].transpose(1, 2, 0) - image)[mask].mean() < 5  # the ramp has 45 levels there
    assert np.array_equal(first[0].transpose(1, 2, 0)[~mask], image[~mask])


def test_the_output_may_have_another_range() -> None:
    """As exports of LaMa have it, which take 0..1 and give 0..255."""
    model = built(network(level=64, scale=255), output_range="0..255", window=64)
    (image, _), (mask, _) = windows(64)
    (filled,) = model.fill([image], [mask])
    assert (filled[mask] == 64).all()
    assert np.array_equal(filled[~mask], image[~mask])


@pytest.mark.parametrize(
    ("mask_range", "known", "filled"), [("0..1", 0, 1), ("1..0", 1, 0), ("0..255", 0, 255), ("255..0", 255, 0)]
)
def test_the_mask_is_in_the_range_of_the_settings(
    mask_range: str, known: int, filled: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`255..0` in whole numbers is what the published pipeline of MI-GAN takes (migan_pipeline_v2.onnx)."""
    data = network(dtype=TensorProto.UINT8)
    model = built(data, value_range="0..255", mask_range=mask_range, window=64)
    _, given = filled_and_given(model, monkeypatch)
    _, masks = windows(64)
    ((_, holes),) = given
    assert holes.dtype == np.uint8
    for hole, mask in zip(holes, masks, strict=True):
        assert (hole[0][mask] == filled).all()
        assert (hole[0][~mask] == known).all()


@pytest.mark.parametrize(
    "form",
    [
        {"mask_first": True},
        {"mask_first": True, "shape": ("b", "c", "h", "w"), "mask_shape": ("b", "d", "h", "w")},
        {"names": ("a", "b"), "shape": ("b", "c", "h", "w"), "mask_shape": ("b", "d", "h", "w")},
        {"dtype": TensorProto.FLOAT16},
        {"dtype": TensorProto.DOUBLE, "mask_dtype": TensorProto.BOOL},
        {"mask_dtype": TensorProto.INT64},
        {"shape": (None, 3, None, None)},
    ],
)
def test_inputs_are_told_apart_and_given_in_their_types(form: dict[str, object]) -> None:
    model = built(network(**form), window=64)  # type: ignore[arg-type]
    images, masks = windows(64)
    for image, mask, filled in zip(images, masks, model.fill(images, masks), strict=True):
        assert (np.abs(filled[mask].astype(int) - 64) <= 1).all()
        assert (np.abs(filled[~mask].astype(int) - image[~mask]) <= 1).all()


def test_an_image_of_bytes() -> None:
    data = network(dtype=TensorProto.UINT8, level=64)
    model = built(data, window=64, value_range="0..255")
    images, masks = windows(64)
    for image, mask, filled in zip(images, masks, model.fill(images, masks), strict=True):
        assert (filled[mask] == 64).all()
        assert np.array_equal(filled[~mask], image[~mask])
    with pytest.raises(WeightsError, match=r"image has integers: set inpainter\.value_range=0\.\.255"):
        built(data)
    mixed = network(dtype=TensorProto.UINT8, output_dtype=TensorProto.UINT8)
    with pytest.raises(WeightsError, match=r"filled has integers: set inpainter\.output_range=0\.\.255"):
        built(mixed, value_range="0..255", output_range="0..1")


def test_the_window_is_that_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    model = built(network(shape=FIXED))
    assert (model.window, model.central) == (64, False)
    _, given = filled_and_given(model, monkeypatch)
    assert [image.shape for image, _ in given] == [FIXED, FIXED]  # one at a time, as the file says
    assert built(network(shape=FIXED), window=64).window == 64
    assert built(network()).window == 512
    assert built(network(), window=96).window == 96
    with pytest.raises(
        WeightsError, match=r"^inpainter\.window: .* takes 64x64 windows, not 96x96; set it to 64, or to null"
    ):
        built(network(shape=FIXED), window=96)


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ({"shape": (1, 3, 64, 32)}, "takes windows of 64x32: only square"),
        ({"shape": (2, 3, 64, 64)}, "one window at a time, or for any number"),
        (
            {"shape": (1, 64, 64, 3), "mask_shape": (1, 64, 64, 1)},
            r"takes image \(1, 64, 64, 3\) and mask .* must have 3",
        ),
        ({"shape": FREE, "mask_shape": ("b", 3, "h", "w")}, "the mask 1"),
        ({"shape": (3, 64, 64), "mask_shape": (1, 64, 64)}, r"must accept \(image, mask\)"),
        ({"mask_dtype": TensorProto.UINT16}, r"takes mask as tensor\(uint16\)"),
        ({"level": float("nan")}, "not finite"),
    ],
)
def test_networks_of_another_form_are_refused(form: dict[str, object], says: str) -> None:
    with pytest.raises(WeightsError, match=says) as caught:
        built(network(**form))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_networks_of_another_output_are_refused() -> None:
    image, mask = (helper.make_tensor_value_info(name, TensorProto.FLOAT, FREE) for name in ("image", "mask"))
    mask.type.tensor_type.shape.dim[1].dim_value = 1
    output = helper.make_tensor_value_info("filled", TensorProto.FLOAT, None)
    add = helper.make_node("Add", ["image", "mask"], ["sum"])
    for node, says in (
        (helper.make_node("ReduceMean", ["sum"], ["filled"], axes=[1], keepdims=1), r"returns \(1, 1, 64, 64\) where"),
        (helper.make_node("SequenceConstruct", ["sum"], ["filled"]), "returns list where"),
        (helper.make_node("MatMul", ["sum", "tall"], ["filled"]), "failed on a 64x64 window"),
    ):
        if node.op_type == "SequenceConstruct":
            given = helper.make_tensor_sequence_value_info("filled", TensorProto.FLOAT, None)
        else:
            given = output
        tall = numpy_helper.from_array(np.zeros((7, 7), np.float32), "tall")
        graph = helper.make_graph([add, node], "network", [image, mask], [given], [tall])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
        with pytest.raises(WeightsError, match=says) as caught:
            built(model.SerializeToString(), window=64)
        assert "\n" not in str(caught.value)
    one = helper.make_graph([helper.make_node("Relu", ["image"], ["filled"])], "network", [image], [output])
    with pytest.raises(WeightsError, match=r"takes image \(b, 3, h, w\): it must accept \(image, mask\)"):
        built(helper.make_model(one, opset_imports=[helper.make_opsetid("", 17)], ir_version=10).SerializeToString())


def test_files_that_are_not_onnx_are_refused(tmp_path: Path) -> None:
    beside = onnx.load_from_string(network(level=1.0))
    weight = numpy_helper.from_array(np.zeros((64, 64), np.float32), "unused")
    beside.graph.initializer.append(weight)
    onnx.save(beside, tmp_path / "a.onnx", save_as_external_data=True, location="a.data", size_threshold=0)
    whole = network()
    for data in (
        b"",
        b"hello",
        whole[: len(whole) // 2],
        b"PK\x03\x04" + bytes(99),
        (tmp_path / "a.onnx").read_bytes(),
    ):
        with pytest.raises(WeightsError, match="not an ONNX file that ONNX Runtime can run") as caught:
            built(data)
        assert "\n" not in str(caught.value)
        if data != (tmp_path / "a.onnx").read_bytes():  # whole by itself
            with pytest.raises(WeightsError, match="not an ONNX file that ONNX Runtime can run"):
                OnnxConfig().check_weights(data)
    OnnxConfig().check_weights(whole)
    with pytest.raises(WeightsError, match="onnx inpainter needs weights"):
        OnnxConfig().build(None, device=CPU, autocast=False)


def test_a_fill_that_is_not_finite_fails_the_image() -> None:
    # 191 times that, which the network is tried with, is finite; 255 times is not.
    model = built(network(scale=1.5e36), window=64, value_range="0..255")
    image, mask = np.full((64, 64, 3), 255, np.uint8), np.zeros((64, 64), bool)
    with pytest.raises(ImageError, match="not finite") as caught:
        model.fill([image], [mask])
    assert caught.value.stage == "inpaint"
    assert model.fill([], []) == []


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "inpaint_core.inpainting.onnx")
    with pytest.raises(ConfigError, match=r"^inpainter\.kind=onnx: .*; run: pip install 'inpaint-core\[onnx\]'$"):
        OnnxConfig().build(network(), device=CPU, autocast=False)


@pytest.mark.parametrize(
    ("device", "available", "expected"),
    [
        ("cuda:1", ["CUDAExecutionProvider"], [("CUDAExecutionProvider", {"device_id": 1}), "CPUExecutionProvider"]),
        ("cuda", [], ["CPUExecutionProvider"]),
        ("cpu", ["CUDAExecutionProvider"], ["CPUExecutionProvider"]),
    ],
)
def test_cuda_is_used_where_it_is_there_and_wanted(
    device: str, available: list[str], expected: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    threads: list[int] = []
    session = onnxruntime.InferenceSession

    def spied(
        data: bytes, options: onnxruntime.SessionOptions, providers: list[object]
    ) -> onnxruntime.InferenceSession:
        asked.extend(providers)
        threads.append(options.intra_op_num_threads)
        return session(data, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "InferenceSession", spied)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [*available, "CPUExecutionProvider"])
    OnnxConfig(window=64).build(network(), device=torch.device(device), autocast=True)
    assert asked == expected
    assert threads == [torch.get_num_threads()]


def test_an_image_is_cleaned(tmp_path: Path) -> None:
    """Settings, weights, windows, encoding: the whole way of one image."""
    truth = photograph()
    mask = np.zeros(truth.shape[:2], np.uint8)
    mask[40:70, 60:80] = 255
    (tmp_path / "a.png").write_bytes(encoded(mask))
    (tmp_path / "net.onnx").write_bytes(network(shape=FIXED))
    settings = ["detector.kind=masks", f"detector.root={tmp_path}", "inpainter.kind=onnx", "fill.blend=0"]
    config = load_config(
        RemoveConfig, None, ["input=in", "output=out", f"inpainter.weights={tmp_path / 'net.onnx'}", *settings]
    )
    remover = build_remover(config, *model_weights(config), device=CPU)
    output, record = remove_objects(encoded(truth), remover, key="a.png")
    assert output is not None
    assert record.status == "cleaned"
    assert (np.abs(decoded(output)[44:66, 64:76].astype(int) - 64) <= 1).all()


def test_a_config_of_onnx_is_read() -> None:
    settings = [
        "inpainter.kind=onnx",
        "inpainter.weights=a.onnx",
        "inpainter.window=null",
        "inpainter.output_range=0..255",
        "inpainter.mask_range=255..0",
        "inpainter.masked_pixels=smooth",
    ]
    config = load_config(RemoveConfig, None, ["input=in", "output=out", *settings])
    assert config.inpainter == OnnxConfig(
        weights="a.onnx", output_range="0..255", mask_range="255..0", masked_pixels="smooth"
    )
