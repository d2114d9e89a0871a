import errno
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from inpaint_core.removal.catalogue import selection
from inpaint_core.removal.catalogue.config import ListingConfig
from inpaint_core.removal.catalogue.layout import Layout
from inpaint_core.removal.catalogue.listing import Listing, list_images, write_manifest
from inpaint_core.storage import Storage, open_storage

KEYS = [
    "a.jpg",
    "a.png",
    "B.JPEG",
    "notes.txt",
    "jpg",
    "sub/a.jpg",
    "sub/deep er/ü #%2.webp",
    "sub/.hidden.jpg",
    "line\nbreak.jpg",
    "_removal/masks/a.jpg.png",
    "clean/a.jpg",
]


@pytest.fixture
def source(tmp_path: Path) -> Storage:
    for key in KEYS:
        path = tmp_path / "in" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * len(key))
    return open_storage(str(tmp_path / "in"))


@pytest.fixture
def target(tmp_path: Path) -> Storage:
    return open_storage(str(tmp_path / "out"))


def listed(source: Storage, target: Storage, limit: int | None = None, **options: object) -> Listing:
    return list_images(source, target, ListingConfig(**options), limit)  # type: ignore[arg-type]


def keys_of(listing: Listing) -> list[str]:
    keys: list[str] = listing.manifest.read()["key"].to_pylist()
    return keys


def test_images_by_extension_in_key_order(source: Storage, target: Storage) -> None:
    listing = listed(source, target)
    keys = keys_of(listing)
    assert keys == sorted(
        [
            "B.JPEG",
            "a.jpg",
            "a.png",
            "clean/a.jpg",
            "line\nbreak.jpg",
            "sub/.hidden.jpg",
            "sub/a.jpg",
            "sub/deep er/ü #%2.webp",
        ]
    )
    assert listing.left_out.objects == len(KEYS) - len(keys) - 1  # a reserved folder is not entered
    assert listing.left_out.kinds == {".txt": 1, "without a file name extension": 1}
    assert listing.manifest.read()["size"].to_pylist() == [len(key) for key in keys]


def test_the_manifest_is_kept_in_the_output(source: Storage, target: Storage) -> None:
    listing = listed(source, target)
    write_manifest(target, "_removal/manifest.parquet", listing.manifest)
    with target.open_read("_removal/manifest.parquet") as file:
        assert pq.read_table(file).equals(listing.manifest.read())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"extensions": ("webp", ".PNG")}, ["a.png", "sub/deep er/ü #%2.webp"]),
        ({"include": "sub/*.jpg"}, ["sub/.hidden.jpg", "sub/a.jpg"]),
        ({"include": "**/a.*"}, ["a.jpg", "a.png", "clean/a.jpg", "sub/a.jpg"]),
        ({"include": "*.jpg"}, ["a.jpg", "line\nbreak.jpg"]),
        ({"include": "{sub,clean}/a.jpg"}, ["clean/a.jpg", "sub/a.jpg"]),
        ({"include": "**/a.*", "exclude": "**/*.png"}, ["a.jpg", "clean/a.jpg", "sub/a.jpg"]),
        ({"include": "nothing/**"}, []),
    ],
)
def test_globs_and_extensions(
    source: Storage, target: Storage, options: dict[str, object], expected: list[str]
) -> None:
    assert keys_of(listed(source, target, **options)) == expected


def test_limit_takes_the_first(source: Storage, target: Storage) -> None:
    assert keys_of(listed(source, target, limit=2)) == ["B.JPEG", "a.jpg"]


def test_an_output_inside_the_input_is_not_listed(source: Storage, tmp_path: Path) -> None:
    inside = open_storage(str(tmp_path / "in" / "clean"))
    assert "clean/a.jpg" not in keys_of(listed(source, inside))


def test_keys_too_long_for_a_file_name_get_a_short_mask_key() -> None:
    layout = Layout.of(dry_run=False)
    assert layout.mask("a/b c.jpg") == "_removal/masks/a/b c.jpg.png"
    long_name, long_key = "x" * 252 + ".jpg", "y/" * 499 + ".jpg"
    for key in (long_name, long_key):
        assert len(layout.mask(key)) < 120
    assert layout.mask(long_name) != layout.mask(long_key)


def write(folder: Path, *keys: str) -> Storage:
    for key in keys:
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(b"x")
    return open_storage(str(folder))


@pytest.mark.parametrize("without_extension", [False, True])
def test_without_its_package_a_format_is_left_out_and_the_package_named(
    target: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_extension: bool
) -> None:
    source = write(tmp_path / "phone", "a.HEIC", "b.heic", "c.hif", "d.jpg")
    monkeypatch.setattr(selection, "installed", lambda name: True)
    assert keys_of(listed(source, target)) == ["a.HEIC", "b.heic", "c.hif", "d.jpg"]
    monkeypatch.setattr(selection, "installed", lambda name: name != "HEIC")
    listing = listed(source, target, without_extension=without_extension)
    assert keys_of(listing) == ["d.jpg"]
    hint = "(not read; run: pip install 'inpaint-core[heic]')"
    assert listing.left_out.lines() == [f"left out: 2 .heic {hint}, 1 .hif {hint}"]


def test_what_is_left_out_is_named_by_kind(target: Storage, tmp_path: Path) -> None:
    folder = tmp_path / "phone"
    source = write(
        folder,
        *(f"IMG_{number}.JXL" for number in range(12)),
        *("a.jfif", "b.jpg", "c.jpg", "d.CR2", "film.mov", "0b5e7c1d2f", ".hidden", "v1.2 (final", "no/d.jpg"),
        *("._b.jpg", "sub/Thumbs.DB", "@eaDir/b.jpg/SYNOPHOTO_THUMB_M.jpg", "lost+found/1.jpg"),
    )
    listing = listed(source, target, exclude="no/**")
    assert keys_of(listing) == ["a.jfif", "b.jpg", "c.jpg"]
    assert listing.left_out.lines() == [
        "left out: 12 .jxl (JPEG XL is not supported), 3 without a file name extension, 2 in listing.ignore (system files), "
        "1 .cr2 (RAW is not supported), 1 .mov"
    ]
    everything = listed(source, target, ignore=(), limit=None)
    assert keys_of(everything) == [
        "._b.jpg",
        "@eaDir/b.jpg/SYNOPHOTO_THUMB_M.jpg",
        "a.jfif",
        "b.jpg",
        "c.jpg",
        "lost+found/1.jpg",
        "no/d.jpg",
    ]
    assert keys_of(listed(source, target, without_extension=True)) == [
        ".hidden",
        "0b5e7c1d2f",
        "a.jfif",
        "b.jpg",
        "c.jpg",
        "no/d.jpg",
    ]


def test_many_kinds_make_one_line(target: Storage, tmp_path: Path) -> None:
    source = write(tmp_path / "many", *(f"{number}.x{number}" for number in range(12)), "a.x0", "a.x1")
    (line,) = listed(source, target).left_out.lines()
    assert line.startswith("left out: 2 .x0, 2 .x1, 1 .x")
    assert line.endswith("4 of 4 other kinds")


def test_folders_that_may_not_be_read(target: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = ["a/locked", "b/locked", "c/locked", "d/locked", "lost+found", "excluded"]
    source = write(tmp_path / "in2", "x.jpg", *(f"{folder}/y.jpg" for folder in locked))
    scandir = os.scandir

    def refuse(path: bytes) -> object:
        if path.endswith((b"locked", b"lost+found", b"excluded")):
            raise PermissionError(errno.EACCES, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    listing = listed(source, target, exclude="{excluded,d}/**")
    assert keys_of(listing) == ["x.jpg"]
    assert listing.left_out.lines() == [
        "warning: 3 folders cannot be listed, so that the images inside are left out: a/locked (Permission denied), "
        "b/locked (Permission denied), c/locked (Permission denied); change the permissions, or name them in "
        "listing.exclude"
    ]


def test_names_that_are_not_utf8_are_judged_without_their_mark(target: Storage, tmp_path: Path) -> None:
    folder = tmp_path / "in3"
    folder.mkdir()
    for name in (b"caf\xe9.jpg", rb"caf\xe9.jpg"):
        Path(os.fsdecode(bytes(folder) + b"/" + name)).write_bytes(b"x")
    source = open_storage(str(folder))
    assert keys_of(listed(source, target, include="caf*.jpg")) == ["./caf\\xe9.jpg", "caf\\xe9.jpg"]
    assert keys_of(listed(source, target, exclude="caf*.jpg")) == []
