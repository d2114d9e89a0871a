from pathlib import Path

import pyarrow.parquet as pq
import pytest

from inpaint_core.removal.catalogue.layout import Layout
from inpaint_core.removal.catalogue.listing import Listing, list_images, write_manifest
from inpaint_core.removal.config import ListingConfig
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
    assert listing.other == len(KEYS) - len(keys)
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
