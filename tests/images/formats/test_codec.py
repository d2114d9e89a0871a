"""Files are opened with Pillow's plugins themselves, whatever another library has made of `Image.open`."""

import ast
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, UnidentifiedImageError

from inpaint_core.images.formats.codec import open_image
from tests.odd_files import odd_files, saved

ROOT = Path(__file__).parents[3]
KINDS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "AVIF")

# In a process of its own: what ultralytics replaces, it replaces when it is imported for the first time.
AFTER_ULTRALYTICS = """
import json, sys
import PIL.Image
from pathlib import Path

genuine = PIL.Image.open
import ultralytics
from ultralytics.utils.patches import image_open

assert PIL.Image.open is image_open is not genuine
if sys.argv[2] == "with detector":
    import inpaint_core.detection.checkpoints

from inpaint_core.detection.mask_files import decode_mask
from inpaint_core.errors import ImageError
from inpaint_core.images.decode import decode
from inpaint_core.training.sweep import plots

told = {}
for path in sorted(Path(sys.argv[1]).iterdir()):
    for name, read in (
        ("image", lambda data: decode(data, max_pixels=10**6)),
        ("mask", lambda data: decode_mask(data, "m.png", (40, 60))),
    ):
        try:
            read(path.read_bytes())
            told[f"{name} {path.name}"] = "decoded"
        except ImageError as error:
            told[f"{name} {path.name}"] = error.reason
        except BaseException as error:
            told[f"{name} {path.name}"] = f"raised {error!r}"
print(json.dumps(told))
"""
UNDECODABLE = {
    "empty": b"",
    "html": b"<html>an error page</html>",
    "eps": saved(Image.new("RGB", (60, 40)), "EPS"),
    "ppm": saved(Image.new("RGB", (60, 40)), "PPM"),
    "heic": odd_files()["broken/phone.jpg"][0],
    "jpeg without tables": saved(Image.new("RGB", (60, 40)), "JPEG")[:30],
    "damaged webp": saved(Image.new("RGB", (60, 40)), "WEBP")[:15] + b"\0" * 40,
    "damaged tiff": b"II*\0\x08\0\0\0" + b"\xff" * 40,
    "damaged avif": saved(Image.new("RGB", (60, 40)), "AVIF")[:60],
    "damaged gif": b"GIF89a" + bytes(20),
    "damaged bmp": saved(Image.new("RGB", (60, 40)), "BMP")[:40],
}


@pytest.mark.parametrize("detector", ["with detector", "without detector"])
def test_files_that_are_no_image_are_refused_after_ultralytics_was_imported(tmp_path: Path, detector: str) -> None:
    for name, data in UNDECODABLE.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "whole").write_bytes(saved(Image.new("L", (60, 40)), "PNG"))
    run = subprocess.run(
        [sys.executable, "-c", AFTER_ULTRALYTICS, str(tmp_path), detector],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    told = json.loads(run.stdout.splitlines()[-1])
    assert len(told) == 2 * (len(UNDECODABLE) + 1)
    assert told.pop("image whole") == told.pop("mask whole") == "decoded"
    assert {name: reason for name, reason in told.items() if reason.startswith(("decoded", "raised"))} == {}


def test_nothing_in_the_package_opens_images_with_what_others_replace() -> None:
    inside = ROOT / "inpaint_core" / "detection" / "checkpoints.py"  # puts the genuine one back
    found = [
        path
        for path in (ROOT / "inpaint_core").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and ast.unparse(node).endswith("Image.open")
    ]
    assert set(found) == {inside}


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_opened_by_the_plugin_of_its_format_alone(kind: str) -> None:
    data = saved(Image.effect_noise((20, 10), 50).convert("RGB"), kind)
    expected = Image.open(io.BytesIO(data))
    for formats in ((kind,), KINDS):
        image = open_image(data, *formats)
        assert type(image) is type(expected)
        assert (image.format, image.size, image.mode) == (kind, (20, 10), expected.mode)
        assert image.tobytes() == expected.tobytes()
    with pytest.raises(UnidentifiedImageError):
        open_image(data, *(other for other in KINDS if other != kind))


def test_formats_that_were_not_asked_for_are_not_tried() -> None:
    for kind in ("EPS", "PPM", "ICO"):
        with pytest.raises(UnidentifiedImageError, match="PNG, JPEG"):
            open_image(saved(Image.new("RGB", (20, 10)), kind), *KINDS)
