"""The Python interface: a remover from settings, bytes or a PIL image in, the same out, with the record."""

import io
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import inpaint_core
from inpaint_core.config import tree_of
from inpaint_core.errors import ConfigError, WeightsError
from tests.samples import encoded, painted, photograph

BOX = (30, 20, 50, 45)


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, object]:
    mask = np.zeros((80, 96, 3), np.uint8)
    mask[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 255
    (tmp_path / "image.png").write_bytes(encoded(mask))
    return {
        "detector": {"kind": "masks", "root": str(tmp_path)},
        "inpainter.kind": "opencv",
        "measure.shifted_hole": False,
    }


@pytest.fixture
def image() -> np.ndarray:
    return painted(photograph((96, 80)), BOX)


def test_bytes_give_bytes_of_the_same_format_and_a_record(settings: dict[str, object], image: np.ndarray) -> None:
    remover = inpaint_core.load_remover(settings)
    data = encoded(image, "JPEG", quality=90)
    cleaned, record = remover(data)
    assert cleaned is not None
    assert Image.open(io.BytesIO(cleaned)).format == "JPEG"
    assert (record.key, record.status, record.width, record.height) == ("image", "cleaned", 96, 80)
    assert record.output_size == len(cleaned)
    unchanged, record = remover(data, key="other")  # there is no mask of that name
    assert (unchanged, record.status) == (data, "unchanged")


@pytest.mark.parametrize("instead", ["cleaned", "original", "nothing"])
def test_an_image_that_a_rule_holds_is_given_cleaned(
    settings: dict[str, object], image: np.ndarray, instead: str
) -> None:
    data = encoded(image)
    expected, plain = inpaint_core.load_remover(settings)(data)
    assert (plain.status, plain.held_for) == ("cleaned", None)
    rules = {"accept.max_mask_fraction": 0.01, "accept.instead": instead}
    cleaned, record = inpaint_core.load_remover(settings | rules)(data)
    assert (record.status, record.held_for) == ("held", ["mask_fraction <= 0.01"])
    assert cleaned == expected


def test_a_pil_image_gives_a_pil_image(settings: dict[str, object], image: np.ndarray) -> None:
    cleaned, record = inpaint_core.load_remover(settings)(Image.fromarray(image))
    assert record.status == "cleaned"
    assert cleaned is not None
    assert (cleaned.mode, cleaned.size) == ("RGB", (96, 80))
    changed = np.any(np.asarray(cleaned) != image, axis=2)
    assert changed[BOX[1] : BOX[3], BOX[0] : BOX[2]].mean() > 0.9
    assert not changed[60:].any()


def test_what_is_no_image_is_told_by_its_record(settings: dict[str, object]) -> None:
    cleaned, record = inpaint_core.load_remover(settings)(b"not an image")
    assert cleaned is None
    assert (record.status, record.stage) == ("failed", "decode")
    assert record.error


def test_a_remover_travels_as_its_settings(settings: dict[str, object], image: np.ndarray) -> None:
    remover = inpaint_core.load_remover(settings)
    data = encoded(image)
    sent = pickle.dumps(remover)
    assert len(sent) < 10_000
    assert pickle.loads(sent)(data)[0] == remover(data)[0]


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ConfigError, match=r"detector\.confidense: no such key; did you mean 'confidence'\?"):
        inpaint_core.Remover({"detector.confidense": 0.5})
    with pytest.raises(WeightsError, match=r"inpainter\.weights"):
        inpaint_core.load_remover({"inpainter.weights": "none.safetensors", "detector.kind": "masks"})


def test_settings_are_dotted_or_nested_and_are_left_as_they_were() -> None:
    nested = {"detector": {"kind": "masks", "root": "a"}, "detector.root": "b", "limit": 3}
    assert tree_of(nested) == {"detector": {"kind": "masks", "root": "b"}, "limit": 3}
    assert nested["detector"] == {"kind": "masks", "root": "a"}
    assert tree_of({"inpainter.window": 64, "inpainter.kind": "opencv"}) == {
        "inpainter": {"kind": "opencv", "window": 64}
    }
    assert (
        inpaint_core.Remover({"detector.classes": "person"}).config.detector
        == inpaint_core.Remover({"detector": {"classes": ["person"]}}).config.detector
    )


def test_the_package_and_a_remover_without_models_load_no_torch() -> None:
    code = (
        "import sys, inpaint_core; print('PIL' in sys.modules); inpaint_core.Remover(); print('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "False"]
