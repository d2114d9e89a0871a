"""A detector of one module and one entry in the union goes the whole way: settings, weights, build, removal."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import Field, with_config

from inpaint_core.config import STRICT, documented_keys, load_config, to_tree
from inpaint_core.detection.config import MaskFilesConfig, UltralyticsConfig
from inpaint_core.detection.detector import Detection, Detector, DetectorSettings
from inpaint_core.errors import ConfigError
from inpaint_core.inpainting.config import GeneratorConfig
from inpaint_core.networks.weights.load import Weights, WeightsReference
from inpaint_core.removal.build import build_remover
from inpaint_core.removal.config import RemoveConfig
from inpaint_core.removal.config_hash import config_hash
from inpaint_core.removal.job import model_weights
from inpaint_core.removal.remover import remove_objects
from inpaint_core.storage import S3Options
from tests.samples import PAINT, decoded, encoded, painted, photograph

# --- what the new module would hold


@with_config(STRICT)
@dataclass(frozen=True)
class ColourConfig(DetectorSettings):
    """All pixels of one colour, which its "weights" name, are one object."""

    kind: Literal["colour"] = "colour"
    weights: Annotated[str, Field(description="A file of three bytes, R, G, B.")] = "colour.bin"
    label: Annotated[str, Field(description="What an object is called.")] = "paint"

    def weights_file(self) -> WeightsReference:
        return WeightsReference(self.weights)

    def build(self, weights: bytes | None, *, s3: S3Options, device: torch.device, autocast: bool) -> Detector:
        assert weights is not None
        return ColourDetector(np.frombuffer(weights, np.uint8), self.label)


class ColourDetector:
    def __init__(self, colour: NDArray[np.uint8], label: str) -> None:
        self._colour, self._label = colour, label

    def detect(self, images: Sequence[NDArray[np.uint8]], keys: Sequence[str]) -> list[list[Detection]]:
        return [self._detect_one(image) for image in images]

    def _detect_one(self, image: NDArray[np.uint8]) -> list[Detection]:
        mask = (image == self._colour).all(axis=2)
        if not mask.any():
            return []
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        y0, y1, x0, x1 = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
        return [Detection(self._label, 1.0, (x0, y0, x1, y1), mask[y0:y1, x0:x1], y0, x0)]


# --- and the union with its entry


@with_config(STRICT)
@dataclass(frozen=True)
class Config(RemoveConfig):
    detector: Annotated[UltralyticsConfig | MaskFilesConfig | ColourConfig, Field(discriminator="kind")] = field(
        default_factory=UltralyticsConfig
    )


SETTINGS = ["input=in", "output=out", "detector.kind=colour", "inpainter.kind=opencv"]


def test_it_removes_objects(tmp_path: Path) -> None:
    file = tmp_path / "paint.bin"
    file.write_bytes(bytes(PAINT))
    config = load_config(Config, None, [*SETTINGS, f"detector.weights={file}", "detector.label=stain"])
    remover = build_remover(config, *model_weights(config), device=torch.device("cpu"))
    output, record = remove_objects(encoded(painted(photograph(), (60, 40, 80, 70))), remover)
    assert output is not None
    assert record.status == "cleaned"
    assert [(found.label, found.pixels) for found in record.objects or []] == [("stain", 600)]
    assert record.residual_objects == 0
    assert not (decoded(output) == PAINT).all(axis=2).any()


def test_its_keys_are_documented_and_checked() -> None:
    keys = {key.path: key.doc for key in documented_keys(Config)}
    assert keys["detector.label"] == "What an object is called."
    assert to_tree(load_config(Config, None, SETTINGS))["detector"] == {
        "kind": "colour",
        "weights": "colour.bin",
        "label": "paint",
    }
    with pytest.raises(ConfigError, match=r"detector.*confidence"):
        load_config(Config, None, [*SETTINGS, "detector.confidence=0.5"])


def test_results_depend_on_its_settings_and_on_the_content_of_its_weights(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(bytes(PAINT))
    (tmp_path / "b.bin").write_bytes(bytes(PAINT))
    (tmp_path / "c.bin").write_bytes(b"abc")

    def hash_of(name: str, *settings: str) -> str:
        config = load_config(Config, None, [*SETTINGS, f"detector.weights={tmp_path / name}", *settings])
        return config_hash(config, *model_weights(config))

    assert hash_of("a.bin") == hash_of("b.bin")
    assert len({hash_of("a.bin"), hash_of("c.bin"), hash_of("a.bin", "detector.label=stain")}) == 3
    config = load_config(Config, None, [*SETTINGS, f"detector.weights={tmp_path / 'c.bin'}"])
    weights, none = model_weights(config)
    assert weights is not None
    assert (weights.name, weights.sha256, none) == ("c.bin", hashlib.sha256(b"abc").hexdigest(), None)


def test_only_the_order_of_classes_makes_no_difference() -> None:
    def hash_of(*settings: str) -> str:
        return config_hash(load_config(RemoveConfig, None, ["input=in", "output=out", *settings]), None, None)

    assert hash_of("detector.classes=[car, person]") == hash_of("detector.classes=[person, car]")
    assert hash_of("detector.classes=[car]") != hash_of("detector.classes=[person, car]")
    assert hash_of("detector.more_sizes=[320, 960]") != hash_of("detector.more_sizes=[960, 320]")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ([], "91e9164f71a12527"),
        (["detector.classes=[dog, cat]", "detector.confidence=0.5", "detector.mirror=true"], "e6682e3f7cac329b"),
        (["detector.more_sizes=[320]"], "902899219b83b58f"),
    ],
)
def test_a_new_name_and_new_settings_leave_the_hash_of_earlier_jobs(settings: list[str], expected: str) -> None:
    """The expected hashes are of results of version 3 (`RESULT_VERSION`), and are those of a config without `whole_boxes`."""
    weights = Weights("w", b"", "0" * 64)

    def hash_of(*more: str) -> str:
        # The default of that version, which was a number.
        places = ["input=in", "output=out", "inpainter.kind=opencv", "write.lossy_quality=92"]
        return config_hash(load_config(RemoveConfig, None, [*places, *settings, *more]), weights, None)

    assert {hash_of(), hash_of("detector.kind=yolov8"), hash_of("detector.kind=ultralytics")} == {expected}
    assert hash_of("detector.whole_boxes=false") == expected
    assert hash_of("detector.whole_boxes=true") != expected
    assert hash_of("write.names=drop") == expected
    assert hash_of("write.names=keep") != expected


def test_the_hash_of_a_job_with_mask_files_is_that_of_earlier_versions() -> None:
    settings = ["input=in", "output=out", "inpainter.kind=opencv", "detector.kind=masks", "write.lossy_quality=92"]
    config = load_config(RemoveConfig, None, settings)
    assert config_hash(config, Weights("w", b"", "0" * 64), None) == "bd8ca42e79c7e4a1"


def test_the_hash_of_a_job_with_an_onnx_network_is_that_of_earlier_versions() -> None:
    def hash_of(*changed: str) -> str:
        config = load_config(RemoveConfig, None, ["input=in", "output=out", "inpainter.kind=onnx", *changed])
        return config_hash(config, Weights("w", b"", "0" * 64), Weights("w", b"", "1" * 64))

    assert hash_of("inpainter.mask_range=0..1") == "059a652cb79c37f8"
    assert hash_of("inpainter.mask_range=255..0") != hash_of()


def test_the_version_of_an_inpainters_results_is_part_of_the_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    def hash_of(*changed: str) -> str:
        return config_hash(load_config(RemoveConfig, None, ["input=in", "output=out", *changed]), None, None)

    before = hash_of(), hash_of("inpainter.kind=opencv")
    monkeypatch.setattr(GeneratorConfig, "result_version", property(lambda settings: 100))
    assert hash_of() != before[0]
    assert hash_of("inpainter.kind=opencv") == before[1]


@pytest.mark.parametrize("settings", [UltralyticsConfig(), MaskFilesConfig(), ColourConfig()])
def test_unordered_settings_exist(settings: UltralyticsConfig | MaskFilesConfig | ColourConfig) -> None:
    assert {*settings.unordered, *settings.added} <= {item.name for item in dataclasses.fields(settings)}
