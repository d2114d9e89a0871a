from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from inpaint_core.config import argument_parser, documented_keys, load_config, to_yaml, validate
from inpaint_core.detection.config import MaskFilesConfig, Yolov8Config
from inpaint_core.errors import ConfigError
from inpaint_core.inpainting.config import GeneratorConfig, OpencvConfig, TorchscriptConfig
from inpaint_core.removal.config import RemoveConfig

PLACES = ["input=in", "output=out"]


def load(*overrides: str, file: Path | None = None) -> RemoveConfig:
    return load_config(RemoveConfig, file, [*PLACES, *overrides])


def message(*overrides: str, file: Path | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load(*overrides, file=file)
    return str(caught.value)


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "job.yaml"
    file.write_text(text)
    return file


def test_overrides_are_read_by_the_type_of_their_key() -> None:
    config = load(
        "limit=12",
        "dry_run=true",
        "detector.classes=[person, traffic light]",
        "detector.confidence=1e-1",
        "listing.include=**/*.jpg",
        "output_s3.endpoint=http://127.0.0.1:1",
        "scaling.actors=null",
    )
    assert config.limit == 12
    assert config.dry_run is True
    assert isinstance(config.detector, Yolov8Config)
    assert config.detector.classes == ("person", "traffic light")
    assert config.detector.confidence == 0.1
    assert config.listing.include == "**/*.jpg"
    assert config.output_s3 is not None
    assert config.output_s3.endpoint == "http://127.0.0.1:1"
    assert config.scaling.actors is None


@pytest.mark.parametrize("uri", ["12345", "yes", "s3://bucket/a #b", "a=b", "~/photos", "1e3"])
def test_a_text_value_stays_the_text_it_is(uri: str) -> None:
    assert load(f"input={uri}").input == uri


def test_scientific_notation_in_a_file_is_a_number(tmp_path: Path) -> None:
    # PyYAML reads 1e-1 as a string
    config = load(file=write(tmp_path, "detector: {kind: yolov8, confidence: 1e-1}"))
    assert isinstance(config.detector, Yolov8Config)
    assert config.detector.confidence == 0.1


def test_file_then_overrides(tmp_path: Path) -> None:
    file = write(tmp_path, "input: a\noutput: b\nlimit: 3\nmask:\n  grow: 0.2\n")
    config = load_config(RemoveConfig, file, ["limit=4"])
    assert (config.input, config.limit, config.mask.grow) == ("a", 4, 0.2)


def test_another_kind_drops_the_keys_of_the_file_s_kind(tmp_path: Path) -> None:
    file = write(tmp_path, "inpainter: {kind: opencv, method: navier_stokes}")
    config = load("inpainter.kind=generator", "inpainter.weights=w.safetensors", file=file)
    assert config.inpainter == GeneratorConfig(weights="w.safetensors")
    assert load(file=file).inpainter == OpencvConfig(method="navier_stokes")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("detector.kind=masks", MaskFilesConfig()),
        ("inpainter.kind=torchscript", TorchscriptConfig()),
    ],
)
def test_a_kind_is_chosen_by_its_name(override: str, expected: object) -> None:
    config = load(override)
    assert expected in (config.detector, config.inpainter)


def test_a_wrong_key_names_its_path_a_close_one_and_the_valid_ones() -> None:
    text = message("detector.confidense=0.5")
    assert text.startswith("detector.confidense: no such key; did you mean 'confidence'? valid keys of detector: ")
    assert text.endswith("classes, confidence, image_size, iou, kind, mirror, more_sizes, sha256, weights")


def test_a_wrong_key_at_the_top_and_in_an_optional_section() -> None:
    assert message("inputt=x").startswith("inputt: no such key; did you mean 'input'?")
    assert message("output_s3.endpiont=x").startswith("output_s3.endpiont: no such key; did you mean 'endpoint'?")


def test_a_key_of_another_kind_is_wrong_here() -> None:
    text = message("detector.kind=masks", "detector.classes=[person]")
    assert text.startswith("detector.classes: no such key; ")
    assert text.endswith("valid keys of detector: kind, missing, pattern, root")


@pytest.mark.parametrize(
    ("override", "start"),
    [
        ("detector.confidence=1.5", "detector.confidence: input should be less than or equal to 1"),
        ("detector.confidence=high", "detector.confidence: input should be a valid number"),
        ("limit=0", "limit: input should be greater than or equal to 1"),
        ("dry_run=perhaps", "dry_run: input should be a valid boolean"),
        ("scaling.device=magic", "scaling.device: input should be 'auto', 'cpu' or 'cuda'"),
        ("detector.kind=yolo", "detector.kind: 'yolo' is not one of 'yolov8', 'masks'"),
        ("detector.classes=[]", "detector.classes: tuple should have at least 1 item"),
        ("detector.classes=person", "detector.classes: input should be a valid tuple"),
        ("detector.sha256=abc", "detector.sha256: string should match pattern"),
        ("detector=yolov8", "detector: "),
        ("mask.grow.x=1", "mask.grow: input should be a valid number"),
    ],
)
def test_a_wrong_value_is_named(override: str, start: str) -> None:
    assert message(override).startswith(start)


def test_every_wrong_key_is_told_at_once() -> None:
    assert len(message("limit=0", "mask.grow=7", "nonsense=1").splitlines()) == 3


def test_required_keys() -> None:
    with pytest.raises(ConfigError, match=r"(?m)^input: required; give it in the config file or as input=VALUE$"):
        load_config(RemoveConfig, None, [])


@pytest.mark.parametrize("override", ["input", "=x", ""])
def test_an_override_needs_its_form(override: str) -> None:
    with pytest.raises(ConfigError, match=r"is not of the form key\.path=value"):
        load_config(RemoveConfig, None, [override])


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a: [1", "is not YAML"), ("- a\n- b", "holds list, not a map"), ("\x00", "is not YAML")],
)
def test_a_file_that_is_no_config(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        load_config(RemoveConfig, write(tmp_path, text), [])


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config file .*none\.yaml cannot be read: No such file"):
        load_config(RemoveConfig, tmp_path / "none.yaml", [])


def test_printed_config_is_the_same_config() -> None:
    config = load("detector.classes=[person]", "inpainter.kind=torchscript", "output_s3.region=x", "input=s3://b/ü #%")
    assert validate(RemoveConfig, yaml.safe_load(to_yaml(config))) == config


def test_every_key_is_documented() -> None:
    keys = {key.path: key for key in documented_keys(RemoveConfig)}
    assert {field.name for field in fields(RemoveConfig)} <= {path.split(".")[0] for path in keys}
    assert [path for path, key in keys.items() if not key.doc] == []
    assert keys["detector.confidence"].default == "0.25"
    assert keys["input"].default == "required"
    assert {"detector.classes", "detector.root", "inpainter.method", "inpainter.window"} <= set(keys)


def test_help_lists_every_key() -> None:
    text = argument_parser(RemoveConfig, "job", "purpose").format_help()
    assert all(key.path in text for key in documented_keys(RemoveConfig))


def test_shipped_configs_are_complete_and_valid() -> None:
    folder = Path(__file__).resolve().parents[1] / "configs"
    files = [folder / "remove.yaml", folder / "demo.yaml"]
    for file in files:
        load_config(RemoveConfig, file, PLACES)
    shipped = yaml.safe_load(files[0].read_text())
    assert set(shipped) == {field.name for field in fields(RemoveConfig)}


@pytest.mark.parametrize("order", [1, -1])
def test_a_kind_drops_the_files_keys_and_not_those_of_the_command_line(order: int, tmp_path: Path) -> None:
    file = tmp_path / "remove.yaml"
    file.write_text("input: in\noutput: out\ninpainter: {kind: opencv, radius: 5}\n")
    overrides = ["inpainter.weights=w.safetensors", "inpainter.kind=generator"][::order]
    assert load_config(RemoveConfig, file, overrides).inpainter == GeneratorConfig(weights="w.safetensors")
