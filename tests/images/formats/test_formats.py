"""A format is one module and one line of a table: what each offers, and that decoding and encoding know none of them."""

import ast
import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inpaint_core.errors import ImageError
from inpaint_core.images import decode as decode_module
from inpaint_core.images.collections.config import ReadingConfig
from inpaint_core.images.decode import decode
from inpaint_core.images.encode import encode
from inpaint_core.images.formats.all import FORMATS
from inpaint_core.images.formats.samples import to_stored
from inpaint_core.images.media_types import EXTENSIONS, IMAGE_TYPES, ImageType
from inpaint_core.removal.catalogue.config import ListingConfig
from inpaint_core.storage.s3_properties import CONTENT_TYPES
from tests.images.formats import toy as toy_format
from tests.odd_files import odd_files

LIMIT = 10**6
ROOT = Path(__file__).parents[3]
STILL = {key: data for key, (data, expected) in odd_files().items() if expected == "ok" and not key.startswith("name/")}


@pytest.fixture
def toy_samples() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (7, 11, 3), np.uint8)


@pytest.fixture
def toy(toy_samples: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A file of the toy format, lying on its side, once the format is one of those that are decoded."""
    monkeypatch.setattr(decode_module, "FORMATS", {**FORMATS, "TOY": toy_format.FORMAT})
    return struct.pack("<3sBHH", b"TOY", 6, 7, 11) + toy_samples.tobytes() + b"a remark"


def test_a_new_format_is_one_module_and_one_line(tmp_path: Path) -> None:
    """In a copy of the package: it is decoded, listed and uploaded with its media type."""
    package = tmp_path / "inpaint_core"
    shutil.copytree(ROOT / "inpaint_core", package, ignore=shutil.ignore_patterns("pretrained"))
    shutil.copy(toy_format.__file__, package / "images/formats/toy.py")
    table = package / "images/media_types.py"
    above, entry, below = table.read_text(encoding="utf-8").rpartition("ImageType(")
    table.write_text(f'{above}ImageType("TOY", ("toy", "plaything"), "image/x-toy"),\n{entry}{below}', encoding="utf-8")
    code = (
        "import json;"
        "from inpaint_core.images.decode import decode;"
        "from inpaint_core.removal.catalogue.config import ListingConfig;"
        "from inpaint_core.storage.s3_properties import content_type;"
        "decoded = decode(b'TOY\\1\\1\\0\\1\\0RGB', max_pixels=1);"
        "print(json.dumps([decoded.format, decoded.pixels.tolist(), ListingConfig().extensions[-5:], content_type('a.Toy')]))"
    )

    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)

    assert json.loads(run.stdout) == [
        "TOY",
        [[[*b"RGB"]]],
        ["toy", "plaything", "heic", "heif", "hif"],
        {"ContentType": "image/x-toy"},
    ]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_new_format_is_decoded_and_encoded(toy: bytes, toy_samples: np.ndarray, orientation: int) -> None:
    toy = toy[:3] + bytes([orientation]) + toy[4:]
    source = decode(toy, max_pixels=LIMIT)
    assert (source.format, source.mode, source.orientation) == ("TOY", "RGB", orientation)
    assert np.array_equal(to_stored(source.pixels, orientation), toy_samples)
    mask = np.zeros(source.pixels.shape[:2], bool)
    mask[1:3, 2:6] = True
    fill = 255 - source.pixels

    output = encode(source, fill, mask, lossy_quality=90).data

    result = decode(output, max_pixels=LIMIT)
    assert np.array_equal(result.pixels, np.where(mask[..., None], fill, source.pixels))
    assert (result.format, result.orientation, result.file.remark) == ("TOY", orientation, b"a remark")
    assert encode(source, fill, np.zeros_like(mask), lossy_quality=90).data == toy


def test_errors_of_a_new_format_are_told_with_its_name(toy: bytes) -> None:
    with pytest.raises(
        ImageError, match=r"^decode: The TOY file is damaged: it is cut off, or a length in it is wrong\.$"
    ):
        decode(toy[:5], max_pixels=LIMIT)
    with pytest.raises(ImageError, match=r"^decode: The TOY file is damaged: it is cut off before its end\.$"):
        decode(toy[:100], max_pixels=LIMIT)
    with pytest.raises(ImageError, match="too large: 11 x 7"):
        decode(toy, max_pixels=76)
    source = decode(toy, max_pixels=77)
    with pytest.raises(ImageError, match=r"^encode: The TOY file cannot be written: a number that brings bad luck\.$"):
        encode(source, source.pixels.copy(), np.ones(source.pixels.shape[:2], bool), lossy_quality=13)
    with pytest.raises(ImageError, match="supported are JPEG, PNG, WEBP, TIFF, BMP, GIF, AVIF, HEIC, TOY"):
        decode(b"no image", max_pixels=LIMIT)


def test_without_its_line_a_format_is_unknown() -> None:
    with pytest.raises(ImageError, match=r"a file of an unknown kind; .* PNG, WEBP, TIFF, BMP, GIF, AVIF, HEIC\.$"):
        decode(b"TOY\x06" + bytes(100), max_pixels=LIMIT)


@pytest.mark.parametrize("key", STILL)
def test_one_format_alone_takes_a_file_and_reads_it(key: str) -> None:
    data = STILL[key]
    (taken,) = (name for name, format_ in FORMATS.items() if format_.sniff(data))
    decoded = decode(data, max_pixels=LIMIT)
    assert decoded.format == taken
    file = FORMATS[taken].read(data, LIMIT)
    assert file.raster.mode == decoded.mode
    assert file.orientation == decoded.orientation
    shown = decoded.pixels if decoded.rgba is None else decoded.rgba
    assert np.array_equal(file.pixels(), to_stored(shown, file.orientation))


@pytest.mark.parametrize("name", FORMATS)
def test_no_format_takes_nothing_or_noise(name: str) -> None:
    noise = np.random.default_rng(0).bytes(64)
    for data in (b"", b"B", b"BM", noise, *(noise[:length] for length in range(30)), bytes(64)):
        assert not FORMATS[name].sniff(data)


@pytest.mark.parametrize("entry", [entry for entry in IMAGE_TYPES.values() if entry.name != "HEIC"])
def test_names_and_types_are_those_that_pillow_knows(entry: ImageType) -> None:
    Image.init()
    assert Image.MIME[entry.name] == entry.media_type
    registered = Image.registered_extensions()
    assert {registered[f".{extension}"] for extension in entry.extensions} == {entry.name}


def test_messages_list_the_formats_in_the_order_of_the_table() -> None:
    assert [*FORMATS] == [*IMAGE_TYPES] == ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "HEIC"]
    assert len(set(EXTENSIONS)) == len(EXTENSIONS)


def test_settings_and_object_types_follow_the_formats_and_keep_their_values() -> None:
    # As they are in the hashes of settings of earlier runs.
    assert ListingConfig.extensions == EXTENSIONS
    assert " ".join(EXTENSIONS) == "jpg jpeg jpe jfif png webp tif tiff bmp gif avif heic heif hif"
    assert set(ReadingConfig.extensions) == set(EXTENSIONS) - {"gif", "avif", "jfif", "heic", "heif", "hif"}
    assert CONTENT_TYPES == {
        ".jpg": "image/jpeg",
        ".jpeg": "image/jpeg",
        ".jpe": "image/jpeg",
        ".jfif": "image/jpeg",
        ".png": "image/png",
        ".webp": "image/webp",
        ".avif": "image/avif",
        ".heic": "image/heic",
        ".heif": "image/heic",
        ".hif": "image/heic",
        ".gif": "image/gif",
        ".bmp": "image/bmp",
        ".tif": "image/tiff",
        ".tiff": "image/tiff",
        ".html": "text/html; charset=utf-8",
        ".json": "application/json",
        ".parquet": "application/vnd.apache.parquet",
    }


def test_settings_load_no_decoder() -> None:
    code = (
        "import sys, json, inpaint_core.removal.config;"
        "print(json.dumps([name for name in ('PIL', 'cv2', 'inpaint_core.images.formats') if name in sys.modules]))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert json.loads(run.stdout) == []


@pytest.mark.parametrize("module", ["decode", "encode"])
def test_decoding_and_encoding_name_no_format(module: str) -> None:
    tree = ast.parse((ROOT / f"inpaint_core/images/{module}.py").read_text(encoding="utf-8"))
    imported = {
        node.module.removeprefix("inpaint_core.images.formats.")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("inpaint_core.images.formats")
    }
    assert imported <= {"all", "codec", "format", "samples"}
    constants = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert not constants & set(IMAGE_TYPES)
