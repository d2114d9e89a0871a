import math
import typing
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from inpaint_core.config import (
    argument_parser,
    documented_keys,
    load_config,
    to_tree,
    to_yaml,
    tree_of,
    validate,
)
from inpaint_core.config.schema import dataclasses_of, item_of, members_of
from inpaint_core.detection.config import MaskFilesConfig, UltralyticsConfig
from inpaint_core.errors import ConfigError
from inpaint_core.inpainting.config import GeneratorConfig, OpencvConfig
from inpaint_core.inpainting.external_config import TorchscriptConfig
from inpaint_core.removal.config import RemoveConfig
from inpaint_core.storage import S3Options
from inpaint_core.training.config import LossConfig, TrainConfig
from inpaint_core.training.detector.config import DistillationConfig
from inpaint_core.training.evaluation.config import EvaluateConfig
from inpaint_core.training.object_shapes.config import ObjectShapesConfig
from inpaint_core.training.sweep.config import GridSearch, LossSpace, RandomSearch, TuneConfig

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
    assert isinstance(config.detector, UltralyticsConfig)
    assert config.detector.classes == ("person", "traffic light")
    assert config.detector.confidence == 0.1
    assert config.listing.include == "**/*.jpg"
    assert config.output_s3 is not None
    assert config.output_s3.endpoint == "http://127.0.0.1:1"
    assert config.scaling.actors is None


@pytest.mark.parametrize(
    "uri",
    [
        "12345",
        "yes",
        "s3://bucket/a #b",
        "a=b",
        "~/photos",
        "1e3",
        "[2024] trip",
        "{a}",
        "'a'",
        '"a',
        "null",
        "~",
        " a",
    ],
)
def test_a_text_value_stays_the_text_it_is(uri: str) -> None:
    assert load(f"input={uri}").input == uri


def test_scientific_notation_in_a_file_is_a_number(tmp_path: Path) -> None:
    # PyYAML reads 1e-1 as a string
    config = load(file=write(tmp_path, "detector: {kind: yolov8, confidence: 1e-1}"))
    assert isinstance(config.detector, UltralyticsConfig)
    assert config.detector.confidence == 0.1


@pytest.mark.parametrize("pattern", ["{stem}_mask.png", "{key}", "[{stem}].png"])
def test_a_pattern_needs_no_quotes(pattern: str) -> None:
    assert load("detector.kind=masks", f"detector.pattern={pattern}").detector == MaskFilesConfig(pattern=pattern)


def test_an_optional_text_is_text_or_nothing(tmp_path: Path) -> None:
    file = write(tmp_path, "listing: {include: '*.jpg'}")
    assert load("listing.include=null", file=file).listing.include is None
    assert load("listing.include=[ab]*.jpg", file=file).listing.include == "[ab]*.jpg"


def test_one_value_is_a_list_of_one(tmp_path: Path) -> None:
    overrides = load("detector.classes=person", "detector.more_sizes=256", "listing.extensions=jpg")
    file = "detector: {classes: person, more_sizes: 256}\nlisting: {extensions: jpg}"
    assert overrides == load(file=write(tmp_path, file))
    assert overrides.detector == UltralyticsConfig(classes=("person",), more_sizes=(256,))
    assert overrides.listing.extensions == ("jpg",)


def test_one_value_is_a_list_of_one_by_the_kind_of_its_section() -> None:
    one = load_config(TuneConfig, None, ["search.points=3", "search.space.structure=ms_ssim"]).search
    assert one == RandomSearch(points=3, space=LossSpace(structure=("ms_ssim",)))
    loss = load_config(TuneConfig, None, ["search.points={l1: 1.0}", "search.kind=grid"]).search
    assert loss == GridSearch(points=(LossConfig(l1=1.0),))
    assert load_config(TuneConfig, None, ["training.holes.weights=null"]).training.holes.weights is None


def test_a_section_is_given_whole_or_as_nothing(tmp_path: Path) -> None:
    file = write(tmp_path, "output_s3: {region: x}")
    assert load("output_s3=null", file=file).output_s3 is None
    assert load("output_s3={region: y}", file=file).output_s3 == S3Options(region="y")


def test_file_then_overrides(tmp_path: Path) -> None:
    file = write(tmp_path, "input: a\noutput: b\nlimit: 3\nmask:\n  grow: 0.2\n")
    config = load_config(RemoveConfig, file, ["limit=4"])
    assert (config.input, config.limit, config.mask.grow) == ("a", 4, 0.2)


@pytest.mark.parametrize("kind", ["yolov8", "ultralytics"])
def test_an_earlier_name_of_a_kind_means_the_same(tmp_path: Path, kind: str) -> None:
    expected = UltralyticsConfig(weights="yolo11n-seg.pt", classes=("dog",))
    settings = ("detector.weights=yolo11n-seg.pt", "detector.classes=dog")
    assert load(*settings).detector == expected
    assert load(f"detector.kind={kind}", *settings).detector == expected
    tree = tree_of({"detector.kind": kind, "detector.weights": "yolo11n-seg.pt", "detector.classes": ["dog"]})
    assert validate(RemoveConfig, {"input": "in", "output": "out"} | tree).detector == expected
    file = write(tmp_path, f"detector: {{kind: {kind}, weights: yolo11n-seg.pt, classes: [dog]}}")
    assert load(file=file).detector == expected
    # Neither name drops the keys of the other.
    for name in ("yolov8", "ultralytics"):
        assert load(f"detector.kind={name}", file=file).detector == expected
    assert load("detector.kind=masks", file=file).detector == MaskFilesConfig()
    assert to_tree(load(file=file))["detector"]["kind"] == "ultralytics"


def test_a_key_of_an_earlier_name_s_kind_is_explained() -> None:
    assert message("detector.kind=yolov8", "detector.confidense=0.5").startswith(
        "detector.confidense: no such key; did you mean 'confidence'? valid keys of detector: "
    )
    assert message("detector.kind=yolov8", "detector.confidence=2").startswith("detector.confidence: input should be")


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
    assert text.endswith(
        "classes, confidence, image_size, iou, kind, mirror, more_sizes, sha256, tile_overlap, tiles, uncertain, weights, whole_boxes"
    )


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
        ("detector.kind=yolo", "detector.kind: 'yolo' is not one of 'ultralytics', 'masks'"),
        ("detector.classes=[]", "detector.classes: tuple should have at least 1 item"),
        ("detector.classes=[person", "detector.classes: '[person' is not a YAML value: "),
        ("detector.more_sizes=[256, high]", "detector.more_sizes.1: input should be a valid integer"),
        ("detector.more_sizes=high", "detector.more_sizes.0: input should be a valid integer"),
        ("detector.confidence=[0.5]", "detector.confidence: input should be a valid number"),
        ("detector.sha256=", "detector.sha256: string should match pattern"),
        ("s3=[a]", "s3: "),
        ("output_s3={region: [}", "output_s3: '{region: [}' is not a YAML value: "),
        ("detector.pattern={stem}.png", "detector.pattern: no such key; "),
        ("detector.sha256=abc", "detector.sha256: string should match pattern"),
        ("detector=yolov8", "detector: "),
        ("mask.grow.x=1", "mask.grow: input should be a valid number"),
    ],
)
def test_a_wrong_value_is_named(override: str, start: str) -> None:
    assert message(override).startswith(start)


def test_a_wrong_item_is_one_line() -> None:
    assert message("detector.classes=[null]").splitlines() == [
        "detector.classes.0: input should be a valid string, not None"
    ]


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


CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SCHEMAS: dict[str, type] = {
    "remove": RemoveConfig,
    "demo": RemoveConfig,
    "tune": TuneConfig,
    "evaluate": EvaluateConfig,
}
# What a shipped file with every key states otherwise than the code, on purpose: places, for which there is no default.
STATED = {"remove": {"input", "output"}, "evaluate": {"data"}}


def leaves(tree: dict[str, object], prefix: str = "") -> dict[str, object]:
    """The values of a config tree by their paths."""
    found: dict[str, object] = {}
    for key, value in tree.items():
        found |= leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


@pytest.mark.parametrize("file", sorted(CONFIGS.rglob("*.yaml")), ids=lambda file: str(file.relative_to(CONFIGS)))
def test_a_shipped_config_is_valid(file: Path) -> None:
    load_config(TrainConfig if CONFIGS / "train" in file.parents else SCHEMAS[file.stem], file, [])


@pytest.mark.parametrize("name", STATED)
def test_a_config_that_claims_every_key_has_every_key_with_the_codes_default(name: str) -> None:
    file = CONFIGS / f"{name}.yaml"
    assert "# Every key with its default" in file.read_text()
    shipped = leaves(yaml.safe_load(file.read_text()))
    required = [f"{path}={shipped[path]}" for path in sorted(STATED[name])]
    defaults = to_tree(load_config(SCHEMAS[name], None, required))
    assert shipped == leaves(defaults)
    assert list(shipped) == list(leaves(defaults)), "keys in the order of --help"


def test_only_configs_that_are_checked_claim_to_have_every_key() -> None:
    claim = [file for file in CONFIGS.rglob("*.yaml") if "Every key" in file.read_text()]
    # tests/training/test_train_config.py: those of configs/train, which state what sets them apart
    assert {file.stem for file in claim if CONFIGS / "train" not in file.parents} == set(STATED)


@pytest.mark.parametrize("order", [1, -1])
def test_a_kind_drops_the_files_keys_and_not_those_of_the_command_line(order: int, tmp_path: Path) -> None:
    file = tmp_path / "remove.yaml"
    file.write_text("input: in\noutput: out\ninpainter: {kind: opencv, radius: 5}\n")
    overrides = ["inpainter.weights=w.safetensors", "inpainter.kind=generator"][::order]
    assert load_config(RemoveConfig, file, overrides).inpainter == GeneratorConfig(weights="w.safetensors")


def sections(schema: type, found: list[type] | None = None) -> list[type]:
    """The dataclasses of which a config can consist, each once."""
    found = [] if found is None else found
    if schema not in found:
        found.append(schema)
        for hint in typing.get_type_hints(schema, include_extras=True).values():
            for part in [*dataclasses_of(hint), *(dataclasses_of(item) if (item := item_of(hint)) else [])]:
                sections(part, found)
    return found


SECTIONS = [
    section
    for schema in (RemoveConfig, TrainConfig, EvaluateConfig, TuneConfig, ObjectShapesConfig, DistillationConfig)
    for section in sections(schema)
]


@pytest.mark.parametrize("section", dict.fromkeys(SECTIONS), ids=lambda section: section.__name__)
def test_every_section_refuses_unknown_keys_and_numbers_that_are_not_finite(section: type) -> None:
    with pytest.raises(ConfigError, match="no such key"):
        validate(section, {"no_such_key": 1})
    for name, hint in typing.get_type_hints(section).items():
        item = item_of(hint)
        if float not in members_of(item or hint):
            continue
        for number in (math.inf, -math.inf, math.nan):
            with pytest.raises(ConfigError, match=rf"{name}(\.0)?: input should be a finite number, not (-?inf|nan)"):
                validate(section, {name: [number] if item else number})


def test_the_sections_with_numbers_are_found() -> None:
    names = {section.__name__ for section in SECTIONS}
    assert {"ScalingConfig", "UltralyticsConfig", "FillConfig", "LossSpace", "OptimiserConfig", "S3Options"} <= names


@pytest.mark.parametrize("text", ["inf", "nan", "1e10"])
def test_a_timeout_that_cannot_be_waited_for_is_refused(text: str) -> None:
    wrong = "less than or equal to 1000000000, not '1e10'" if text == "1e10" else f"a finite number, not '{text}'"
    assert message(f"scaling.image_timeout={text}") == f"scaling.image_timeout: input should be {wrong}"
    assert load("scaling.image_timeout=1e9").scaling.image_timeout == 1e9
