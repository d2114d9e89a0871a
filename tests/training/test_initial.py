"""Runs that start from the weights of another network."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from inpaint_core.errors import ConfigError, WeightsError
from inpaint_core.hole_masks.sampler import evaluation_holes
from inpaint_core.images.tensors import channels_first
from inpaint_core.metrics.protocols import MetricSums, measure
from inpaint_core.networks.spec import GeneratorSpec, UnetSpec
from inpaint_core.networks.weights.generator_file import load_generator
from inpaint_core.networks.weights.pretrained import INPAINTER, read_pretrained
from inpaint_core.training.checkpoint import load_state
from inpaint_core.training.config import HolesConfig, OptimiserConfig, TrainConfig, ValidationConfig
from inpaint_core.training.data.blocks import held_out
from inpaint_core.training.evaluation.fills import NetworkFill
from inpaint_core.training.history import read_history
from inpaint_core.training.initial import read_initial
from inpaint_core.training.run_folder import LAST, claim_output
from tests.training.small import CPU, config, copied, folder, photographs, run_of, same

SHIPPED = UnetSpec(width=32, blocks=6)


def tensors(data: bytes) -> dict[str, torch.Tensor]:
    return load_generator(data)[0].state_dict()


def starting(reference: str, network: GeneratorSpec | None = None, **changes: object) -> TrainConfig:
    settings = config(initial=reference, **changes)
    return settings if network is None else replace(settings, network=network, holes=HolesConfig(kinds=("box",)))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a run of one epoch; tests only read it."""
    path = tmp_path_factory.mktemp("finished")
    run_of(config(str(path), epochs=1), folder(path))()
    return path


def test_the_first_validation_is_that_of_the_shipped_network(tmp_path: Path) -> None:
    validation = ValidationConfig(images=3, pictures=1, first=True)
    settings = starting("inpaint-unet", SHIPPED, epochs=1, output=str(tmp_path), validation=validation)
    lines: list[str] = []
    run = run_of(settings, folder(tmp_path), count=8, initial=read_initial(settings), print_line=lines.append)
    run()
    assert lines[0] == "starting from inpaint-unet"
    network, spec = load_generator(read_pretrained(INPAINTER))
    images, holes = photographs(8)[held_out(8, 3)], evaluation_holes("box", range(3), seed=0)
    filled = NetworkFill(network, CPU.device, INPAINTER, spec)(images, holes)
    sums = MetricSums()
    sums.add(measure(channels_first(images), channels_first(filled), torch.from_numpy(holes)[:, None]))
    first, second = pq.read_table(tmp_path / "history.parquet").to_pylist()
    assert first["epoch"] == 0
    expected = {name: value for name, value in sums.means().items() if name in first}
    assert {"table_psnr", "hole_ssim_centred", "sharpness"} <= expected.keys()
    assert {name: first[name] for name in expected} == pytest.approx(expected, rel=1e-6, nan_ok=True)
    assert second["table_l1"] != first["table_l1"]


@pytest.mark.parametrize("ema", [None, 0.9])
def test_generator_and_average_start_from_it_and_the_discriminator_does_not(
    ema: float | None, finished: Path, tmp_path: Path
) -> None:
    settings = starting(f"{finished}/last.safetensors", optimiser=OptimiserConfig(ema=ema))
    networks = run_of(settings, folder(tmp_path), initial=read_initial(settings))._networks
    expected = tensors((finished / "last.safetensors").read_bytes())
    assert same(copied(networks.generator), expected)
    assert same(copied(networks.judged), expected)
    fresh = run_of(config(), folder(tmp_path))._networks
    assert same(copied(networks.discriminator), copied(fresh.discriminator))
    assert not same(copied(fresh.generator), expected)


def test_what_it_may_name(finished: Path) -> None:
    best = tensors((finished / "best.safetensors").read_bytes())
    for reference in (
        str(finished),
        f"{finished}/",
        f"{finished}/best.safetensors",
        (finished / "best.safetensors").as_uri(),
    ):
        data = read_initial(starting(reference))
        assert data is not None
        assert same(tensors(data), best), reference
    state = load_state(folder(finished), CPU.device)
    assert state is not None
    data = read_initial(starting(f"{finished}/last.pt"))
    assert data is not None
    assert same(tensors(data), state["networks"]["average"])
    for reference in ("inpaint-unet", INPAINTER):
        data = read_initial(starting(reference, SHIPPED))
        assert data is not None
        assert same(tensors(data), tensors(read_pretrained(INPAINTER)))
    assert read_initial(config()) is None


def test_a_state_without_average_gives_its_generator(tmp_path: Path) -> None:
    settings = config(str(tmp_path), epochs=1, optimiser=OptimiserConfig(ema=None))
    run_of(settings, folder(tmp_path))()
    state = load_state(folder(tmp_path), CPU.device)
    assert state is not None
    data = read_initial(starting(f"{tmp_path}/last.pt"))
    assert data is not None
    assert same(tensors(data), state["networks"]["generator"])


def test_a_unet_may_go_on_at_another_size() -> None:
    data = read_initial(starting("inpaint-unet", replace(SHIPPED, size=256)))
    assert data is not None
    assert same(tensors(data), tensors(read_pretrained(INPAINTER)))


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (
            UnetSpec(width=64, blocks=6),
            r"^initial: inpaint-unet is a network of another form \(network\.width is 32 there and 64 here\); "
            r"set network\.width=32$",
        ),
        (
            UnetSpec(width=32, blocks=2, gated=True),
            r"\(network\.blocks is 6 .*, network\.gated is false there and true",
        ),
        (
            config().network,
            r"\(network\.kind is unet there and context_encoder here\); set network\.kind=unet network\.width=32 "
            r"network\.blocks=6",
        ),
    ],
)
def test_a_network_of_another_form_is_told_by_its_keys(network: GeneratorSpec, message: str) -> None:
    with pytest.raises(WeightsError, match=message) as raised:
        read_initial(replace(config(initial="inpaint-unet"), network=network))
    assert "\n" not in str(raised.value)


def test_a_context_encoder_keeps_its_size(finished: Path) -> None:
    larger = replace(config().network, size=256)
    with pytest.raises(WeightsError, match=r"network\.size is 128 there and 256 here\); set network\.size=128"):
        read_initial(replace(config(initial=str(finished)), network=larger))


def test_what_is_no_network_is_told(tmp_path: Path) -> None:
    pickled = io.BytesIO()
    torch.save({"model": torch.zeros(3)}, pickled)
    for name, data in {"a.safetensors": b"none", "b.pt": pickled.getvalue(), "c.pt": pickled.getvalue()[:200]}.items():
        (tmp_path / name).write_bytes(data)
    for name, message in {
        "a.safetensors": r"a\.safetensors: The weights are not a complete safetensors file",
        "b.pt": r"b\.pt: it was not written by this version's training; give a \.safetensors file, or the last\.pt of a",
        "c.pt": r"c\.pt: it is not a checkpoint of a training run",
        "missing": r"there is no file .*missing/best\.safetensors",
        "missing.pt": r"there is no file .*missing\.pt",
    }.items():
        with pytest.raises(WeightsError, match=rf"^initial: .*{message}"):
            read_initial(starting(str(tmp_path / name)))


def test_a_run_that_goes_on_has_its_own_weights(finished: Path, tmp_path: Path) -> None:
    for name in ("last.pt", "history.parquet"):
        (tmp_path / name).write_bytes((finished / name).read_bytes())
    run = run_of(config(str(tmp_path), epochs=2), folder(tmp_path), initial=b"not looked at")
    assert run._networks.done == 3
    run()
    assert [row["epoch"] for row in read_history(folder(tmp_path))] == [1, 2]


def test_it_is_part_of_what_a_run_is(tmp_path: Path) -> None:
    storage = folder(tmp_path)
    claim_output(storage, config(str(tmp_path)))
    storage.write(LAST, b"a checkpoint")
    with pytest.raises(ConfigError, match=r"another config \(initial is None there and inpaint-unet here\)"):
        claim_output(storage, starting("inpaint-unet", output=str(tmp_path)))


def test_runs_of_earlier_versions_had_128_pixels_and_new_weights(tmp_path: Path) -> None:
    storage = folder(tmp_path)
    claim_output(storage, config(str(tmp_path)))
    lines = (tmp_path / "config.yaml").read_text().splitlines()
    earlier = [line for line in lines if line.strip() not in ("size: 128", "initial: null")]
    assert len(earlier) == len(lines) - 2
    (tmp_path / "config.yaml").write_text("\n".join(earlier))
    storage.write(LAST, b"a checkpoint")
    assert claim_output(storage, config(str(tmp_path))) is True
    with pytest.raises(ConfigError, match=r"network\.size is 128 there and 256 here"):
        claim_output(storage, replace(config(str(tmp_path)), network=replace(config().network, size=256)))
