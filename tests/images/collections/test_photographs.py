"""Photographs of folders, tar shards and buckets as square images for training."""

import io
import pickle
import tarfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from inpaint_core.errors import ConfigError, StorageError
from inpaint_core.images.collections.config import ReadingConfig
from inpaint_core.images.collections.photographs import Photographs, decode_square, load_photographs, read_source
from inpaint_core.images.collections.sources import check_failures, list_photographs, list_sources
from inpaint_core.images.collections.tar_shards import list_members
from inpaint_core.storage import S3Options, open_storage
from inpaint_core.storage.local import LocalStorage
from tests.s3.seaweedfs import S3Bucket
from tests.samples import encoded, photograph

AWS = S3Options()
KEYS = ["B.JPEG", "a/abbey/00000001.jpg", "a/abbey/00000002.jpg", "a-b/1.jpg", "z/é/ü #%2.png", "z/日本.webp"]
IN_ORDER = ["B.JPEG", "a-b/1.jpg", "a/abbey/00000001.jpg", "a/abbey/00000002.jpg", "z/é/ü #%2.png", "z/日本.webp"]


def jpeg(seed: int = 0, size: tuple[int, int] = (128, 128)) -> bytes:
    return encoded(photograph(size, seed=seed), "JPEG", quality=95)


def files(keys: list[str]) -> dict[str, bytes]:
    return {key: jpeg(seed) for seed, key in enumerate(sorted(keys))}


def put(folder: Path, contents: Mapping[str, bytes]) -> Path:
    for key, data in contents.items():
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(data)
    return folder


def tarred(contents: Mapping[str, bytes], prefix: str = "", form: int = tarfile.DEFAULT_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for key, data in contents.items():
            member = tarfile.TarInfo(prefix + key)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def load(uri: object, s3: S3Options = AWS, size: int = 128, **reading: Any) -> Photographs:
    return load_photographs(str(uri), s3, ReadingConfig(**reading), size, threads=2)


def listed(uri: object, **reading: Any) -> list[str]:
    options = ReadingConfig(**reading)
    return [item.key for item in list_photographs(str(uri), AWS, options.extensions, options.limit)[1]]


def pixels_of(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_a_folder_and_tars_of_it_give_the_same_images_in_the_same_order(tmp_path: Path) -> None:
    contents = files(KEYS)
    others = {"notes.txt": b"text", "a/._00000001.jpg": b"resource fork", "jpg": b"no ending", ".jpg.swp": b""}
    put(tmp_path / "folder", contents | others)
    # In another order than by key, as archives of interleaved categories have it.
    shuffled = dict(sorted((contents | others).items(), key=lambda item: item[1]))
    halves = dict(list(shuffled.items())[:5]), dict(list(shuffled.items())[5:])
    put(tmp_path / "one", {"all.tar": tarred(shuffled, prefix="./")})
    put(tmp_path / "two", {"0.tar": tarred(halves[0]), "deep/1.TAR": tarred(halves[1])})
    put(tmp_path / "mixed", {"0.tar": tarred(halves[0]), **halves[1]})
    first = load(tmp_path / "folder")
    assert first.keys == IN_ORDER
    assert first.failures == []
    assert first.pixels.shape == (6, 128, 128, 3)
    for key, image in zip(first.keys, first.pixels, strict=True):
        np.testing.assert_array_equal(image, pixels_of(contents[key]))
    for uri in ("one", "one/all.tar", "two", "mixed"):
        again = load(tmp_path / uri)
        assert again.keys == first.keys, uri
        np.testing.assert_array_equal(again.pixels, first.pixels)


def test_patterns_name_files_and_folders_of_the_last_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = {f"{name}.tar": tarred({f"{name}/1.jpg": jpeg()}) for name in ("train-0", "train-1", "val")}
    put(tmp_path / "a b", shards | {"train-2/x/1.jpg": jpeg(), "train-3.jpg": jpeg(), "deep/train-4.tar": b"not read"})
    assert listed(tmp_path / "a b" / "train-*") == ["train-0/1.jpg", "train-1/1.jpg", "train-2/x/1.jpg", "train-3.jpg"]
    assert listed(tmp_path / "a b" / "train-*.tar") == ["train-0/1.jpg", "train-1/1.jpg"]
    assert listed(tmp_path / "a b" / "train-[1-2]") == ["train-2/x/1.jpg"]
    assert listed(tmp_path / "a b" / "va?.tar") == ["val/1.jpg"]
    assert listed(f"{(tmp_path / 'a b').as_uri()}/train-0.tar") == ["train-0/1.jpg"]
    monkeypatch.chdir(tmp_path / "a b")
    assert listed("train-0.tar") == listed("train-0*") == listed("./train-0.tar") == ["train-0/1.jpg"]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"data: no photographs under .*b/Train-\*"):
        listed(tmp_path / "a b" / "Train-*")


def test_members_of_one_name_are_told_apart_and_later_ones_of_a_shard_count(tmp_path: Path) -> None:
    old, new = jpeg(1), jpeg(2)
    twice = io.BytesIO(tarred({"0.jpg": old, "1.jpg": old}))
    with tarfile.open(fileobj=twice, mode="a") as tar:
        member = tarfile.TarInfo("0.jpg")
        member.size = len(new)
        tar.addfile(member, io.BytesIO(new))
    put(tmp_path, {"a.tar": twice.getvalue(), "b.tar": tarred({"0.jpg": old, "2.jpg": old}), "1.jpg": new})
    got = load(tmp_path)
    assert got.keys == ["1.jpg", "2.jpg", "a.tar/0.jpg", "a.tar/1.jpg", "b.tar/0.jpg"]
    expected = [pixels_of(data) for data in (new, old, new, old, old)]
    np.testing.assert_array_equal(got.pixels, expected)


def test_shards_that_are_waited_for_are_listed_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, {f"{number}.tar": tarred({f"{number}.jpg": b"data"}) for number in range(4)})
    at_once = threading.Barrier(3, timeout=60)
    open_read = LocalStorage.open_read

    def slow(storage: LocalStorage, key: str) -> BinaryIO:
        if key == "0.tar":
            time.sleep(0.1)
        else:
            at_once.wait()  # raises an error if the other two do not come
        return open_read(storage, key)

    monkeypatch.setattr(LocalStorage, "open_read", slow)
    assert listed(tmp_path) == [f"{number}.jpg" for number in range(4)]


def test_links_and_folders_in_tars(tmp_path: Path) -> None:
    data = jpeg()
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        folder = tarfile.TarInfo("folder.jpg")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        member = tarfile.TarInfo("folder.jpg/1.jpg")
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
        for name, kind in (("hard.jpg", tarfile.LNKTYPE), ("soft.jpg", tarfile.SYMTYPE)):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, "folder.jpg/1.jpg"
            tar.addfile(link)
    got = load(tmp_path / "x.tar")
    assert got.keys == ["folder.jpg/1.jpg", "hard.jpg"]
    np.testing.assert_array_equal(got.pixels[0], got.pixels[1])


def test_sources_divide_the_listing_and_read_shards_as_they_lie(tmp_path: Path) -> None:
    put(tmp_path, files(["5.jpg", "6.jpg", "7.jpg"]))
    put(tmp_path, {"s.tar": tarred(dict(reversed(files(["1.jpg", "2.jpg", "3.jpg", "4.jpg"]).items())))})
    sources = list_sources(str(tmp_path), AWS, ReadingConfig(), per_block=2)
    assert [[item.key for item in source.photographs] for source in sources] == [
        ["5.jpg", "6.jpg"],
        ["7.jpg"],
        ["4.jpg", "3.jpg"],
        ["2.jpg", "1.jpg"],
    ]
    block = read_source(pickle.loads(pickle.dumps(sources[2])), 64)
    assert block.keys == ["4.jpg", "3.jpg"]
    assert block.pixels.shape == (2, 64, 64, 3)
    assert block.pixels.dtype == np.uint8


def test_limit_takes_an_even_part_of_every_folder(tmp_path: Path) -> None:
    keys = [f"{category}/{number:02}.jpg" for category in "abcd" for number in range(10)]
    put(tmp_path / "folder", dict.fromkeys(keys, b""))
    put(tmp_path / "tars", {"x.tar": tarred(dict.fromkeys(reversed(keys), b""))})
    got = listed(tmp_path / "folder", limit=8)
    assert got == [f"{category}/{number:02}.jpg" for category in "abcd" for number in (0, 5)]
    assert listed(tmp_path / "tars", limit=8) == got
    assert listed(tmp_path / "folder", limit=40) == listed(tmp_path / "tars" / "x.tar", limit=1000) == keys
    assert len(listed(tmp_path / "folder", limit=39)) == 39


def oriented(image: NDArray[np.uint8], orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(image, "JPEG", quality=95, exif=exif)


def middle(image: Image.Image, size: int) -> NDArray[np.float64]:
    """What the square has to be, from all pixels and with the exact filter."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    return np.asarray(square.resize((size, size), Image.Resampling.LANCZOS)).astype(np.float64)


@pytest.mark.parametrize("size", [(300, 400), (400, 256), (128, 390), (90, 60)])
def test_the_middle_square_is_resized(size: tuple[int, int]) -> None:
    image = Image.fromarray(photograph((400, 400))).resize(size, Image.Resampling.LANCZOS)
    got = decode_square(encoded(np.asarray(image)), 128, max_pixels=10**6)
    assert got.shape == (128, 128, 3)
    # A square one pixel beside this one is 2 levels away and more.
    assert np.abs(got - middle(image, 128)).mean() < 0.5


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_upright_also_when_large_ones_are_decoded_at_a_fraction(orientation: int) -> None:
    image = Image.fromarray(photograph((560, 380))).resize((1680, 1140), Image.Resampling.LANCZOS)
    data = oriented(np.asarray(image), orientation)
    turned = Image.open(io.BytesIO(data))
    turned = {
        2: lambda i: i.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: lambda i: i.transpose(Image.Transpose.ROTATE_180),
        4: lambda i: i.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: lambda i: i.transpose(Image.Transpose.TRANSPOSE),
        6: lambda i: i.transpose(Image.Transpose.ROTATE_270),
        7: lambda i: i.transpose(Image.Transpose.TRANSVERSE),
        8: lambda i: i.transpose(Image.Transpose.ROTATE_90),
    }.get(orientation, lambda i: i)(turned)
    got = decode_square(data, 128, max_pixels=10**7)
    assert np.abs(got - middle(turned, 128)).mean() < 0.7
    small = decode_square(data, 512, max_pixels=10**7)  # all of its pixels are decoded
    assert np.abs(small - middle(turned, 512)).mean() < 0.7


def test_grey_transparent_16_bit_and_cmyk_photographs_are_rgb(tmp_path: Path) -> None:
    image = photograph((128, 128))
    grey = np.asarray(Image.fromarray(image).convert("L"))
    alpha = np.full((128, 128), 255, np.uint8)
    alpha[:64] = 0
    cmyk = io.BytesIO()
    Image.fromarray(image).convert("CMYK").save(cmyk, "JPEG", quality=95)
    put(
        tmp_path,
        {
            "1-grey.jpg": encoded(grey, "JPEG", quality=95),
            "2-large-grey.jpg": encoded(np.kron(grey, np.ones((8, 8), np.uint8)), "JPEG", quality=95),
            "3-deep.png": encoded(grey.astype(np.uint16) * 257),
            "4-alpha.png": encoded(np.dstack([image, alpha])),
            "5-cmyk.jpg": cmyk.getvalue(),
        },
    )
    got = load(tmp_path)
    assert got.failures == []
    as_rgb = np.repeat(grey[..., None], 3, axis=2)
    assert np.abs(got.pixels[0].astype(int) - as_rgb).mean() < 3
    assert np.abs(got.pixels[1].astype(int) - as_rgb).mean() < 3
    np.testing.assert_array_equal(got.pixels[2], as_rgb)
    assert got.pixels[3][:64].min() == 255, "transparent is white"
    np.testing.assert_array_equal(got.pixels[3][64:], image[64:])
    assert np.abs(got.pixels[4].astype(int) - image).mean() < 3


def test_unusable_photographs_are_failures_with_a_reason(tmp_path: Path) -> None:
    whole = jpeg()
    large = encoded(photograph((128, 128)).repeat(8, axis=0).repeat(8, axis=1), "JPEG")
    put(
        tmp_path,
        {
            "0.jpg": whole,
            "cut.jpg": whole[:-900],
            "empty.jpg": b"",
            "page.jpg": b"<html>",
            "large.jpg": large,
            "9.jpg": whole,
        }
        | {"cut-large.jpg": large[: len(large) // 2]},
    )
    (tmp_path / "lost.jpg").symlink_to(tmp_path / "nowhere.jpg")
    got = load(tmp_path, max_failed=0.8, max_pixels=1024 * 1024)
    assert got.keys == ["0.jpg", "9.jpg", "large.jpg"]
    assert got.pixels.shape == (3, 128, 128, 3)
    np.testing.assert_array_equal(got.pixels[0], got.pixels[1])
    reasons = dict(got.failures)
    assert list(reasons) == ["cut-large.jpg", "cut.jpg", "empty.jpg", "lost.jpg", "page.jpg"]
    assert "damaged" in reasons["cut.jpg"]
    assert "damaged" in reasons["cut-large.jpg"]
    assert reasons["empty.jpg"] == "The file is empty."
    assert reasons["lost.jpg"] == "is a symbolic link to nothing"
    assert "an HTML page" in reasons["page.jpg"]
    reasons = dict(load(tmp_path, max_failed=0.8, max_pixels=1024 * 1024 - 1).failures)
    assert "too large: 1024 x 1024" in reasons["large.jpg"]


def test_too_many_failures_stop_with_the_first_of_them(tmp_path: Path) -> None:
    put(tmp_path, {f"{number}.jpg": jpeg() if number > 3 else b"" for number in range(10)})
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, max_failed=0.39)
    assert str(caught.value) == (
        "data: 4 of 10 photographs cannot be used, but reading.max_failed=0.39 allows 3; repair them, remove them, or "
        "raise reading.max_failed. 0.jpg: The file is empty; 1.jpg: The file is empty; 2.jpg: The file is empty; and 1 more"
    )
    assert len(load(tmp_path, max_failed=0.4).keys) == 6


def test_the_part_that_may_fail() -> None:
    failure = ("x.jpg", "No.")
    check_failures(100, [failure], 0.01)
    check_failures(100, [failure] * 29, 0.29)  # 0.29 * 100 is less than 29 in floating point
    check_failures(100, [], 0.0)
    with pytest.raises(ConfigError, match="allows 0"):
        check_failures(99, [failure], 0.01)
    with pytest.raises(ConfigError, match=r"^validation.data: 2 of 2 photographs"):
        check_failures(
            2, [failure] * 2, 1.0, name="validation.data"
        )  # all of them failed: there is nothing to train on


def test_nothing_there(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    put(tmp_path / "texts", {"a.txt": b"text", "b.gif": b"GIF89a"})
    with pytest.raises(ConfigError, match=r"^data: no photographs under .*empty \(extensions: \.jpg, \.jpeg"):
        listed(tmp_path / "empty")
    with pytest.raises(ConfigError, match=r"extensions: \.png, \.tar\)"):
        listed(tmp_path / "texts", extensions=("PNG",))
    assert listed(tmp_path / "texts", extensions=(".Gif",)) == ["b.gif"]
    with pytest.raises(StorageError, match="there is no such folder"):
        listed(tmp_path / "missing")
    with pytest.raises(StorageError, match="missing: there is no such folder"):
        listed(tmp_path / "missing" / "train.tar")
    with pytest.raises(ConfigError, match=r"^data: there is no shard .*missing\.tar; check its name"):
        listed(tmp_path / "missing.tar")
    (tmp_path / "texts" / "empty.tar").write_bytes(tarred({}))
    with pytest.raises(ConfigError, match=r"no photographs under .*empty\.tar"):
        listed(tmp_path / "texts" / "empty.tar")


@pytest.mark.parametrize("end", ["inside a member", "inside a header", "before a member", "inside the last padding"])
def test_a_tar_that_is_cut_off(tmp_path: Path, end: str) -> None:
    data = tarred({"0.jpg": bytes(1000), "1.jpg": bytes(1000)})
    length = {
        "inside a member": 2200,
        "inside a header": 1700,
        "before a member": 1536,
        "inside the last padding": 3000,
    }
    (tmp_path / "x.tar").write_bytes(data[: length[end]])
    with pytest.raises(
        ConfigError, match=r"^data: the shard 'x\.tar' of .* is truncated, damaged or compressed \("
    ) as caught:
        listed(tmp_path)
    assert "\n" not in str(caught.value)


def test_damaged_and_compressed_tars(tmp_path: Path) -> None:
    data = bytearray(tarred({"0.jpg": bytes(1000), "1.jpg": bytes(1000), "2.jpg": bytes(1000)}))
    data[1536:1550] = b"\xff" * 14  # the second member's header
    put(tmp_path, {"bad/x.tar": bytes(data), "text/x.tar": b"no tar" * 200, "empty/x.tar": b""})
    (tmp_path / "zip").mkdir()
    with tarfile.open(tmp_path / "zip" / "x.tar", "w:gz") as tar:
        tar.add(tmp_path / "text")
    for folder in ("bad", "text", "empty", "zip"):
        with pytest.raises(ConfigError, match=r"the shard 'x\.tar' of .* is truncated, damaged or compressed"):
            listed(tmp_path / folder)
    with pytest.raises(ConfigError, match=r"x\.tar\.gz is compressed; unpack it"):
        listed(tmp_path / "x.tar.gz")


def test_a_shard_that_changes_between_listing_and_reading(tmp_path: Path) -> None:
    put(tmp_path, {"x.tar": tarred(files(["0.jpg", "1.jpg"]))})
    source = list_sources(str(tmp_path), AWS, ReadingConfig())[0]
    (tmp_path / "x.tar").write_bytes((tmp_path / "x.tar").read_bytes()[:3000])
    with pytest.raises(StorageError, match=r"the shard 'x\.tar' can no longer be read as it was listed"):
        read_source(source, 128)
    (tmp_path / "x.tar").unlink()
    with pytest.raises(StorageError, match=r"'x\.tar' no longer exists"):
        read_source(source, 128)


def test_an_object_that_goes_between_listing_and_reading_is_a_failure(tmp_path: Path) -> None:
    put(tmp_path, {"0.jpg": jpeg(), "1.jpg": jpeg()})
    source = list_sources(str(tmp_path), AWS, ReadingConfig())[0]
    (tmp_path / "1.jpg").unlink()
    block = read_source(source, 128)
    assert block.keys == ["0.jpg"]
    assert block.failures == [("1.jpg", f"{tmp_path}: '1.jpg' no longer exists")]


def test_photographs_smaller_than_they_are_stored_are_enlarged_and_counted(tmp_path: Path) -> None:
    sizes = [(128, 400), (300, 256), (256, 256), (100, 90)]
    put(
        tmp_path,
        {f"{place}.png": encoded(photograph(size, seed=place)) for place, size in enumerate(sizes)}
        | {"4.jpg": b"none"},
    )
    block = read_source(list_sources(str(tmp_path), AWS, ReadingConfig())[0], 256)
    assert (len(block.keys), len(block.failures), block.enlarged) == (4, 1, 2)
    small = photograph(sizes[0], seed=0)[136:264]
    expected = np.asarray(Image.fromarray(small).resize((256, 256), Image.Resampling.LANCZOS))
    assert np.abs(block.pixels[0].astype(int) - expected).mean() < 1


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_lie_where_tarfile_says(form: int, tmp_path: Path) -> None:
    """Names that fill the field, that go over it into the prefix or a header of their own, and names in UTF-8."""
    names = ["a.jpg", f"{'n' * 96}.jpg", f"{'d' * 90}/{'n' * 60}.jpg", "gr\u00fcn/\u6a39.jpg"]
    shard = tmp_path / "0.tar"
    shard.write_bytes(tarred({name: bytes(700 * number) for number, name in enumerate(names)}, form=form))
    with tarfile.open(shard) as tar:
        expected = [(item.name, item.offset_data, item.size) for item in tar]
    assert [item[0] for item in expected] == names
    assert list_members(open_storage(str(tmp_path)), "0.tar", "data") == expected


def test_headers_of_plain_files_are_not_decoded_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`tarfile` may come to read headers in another way, and every one of a million would take twice as long."""
    (tmp_path / "0.tar").write_bytes(tarred({"a.jpg": b"1", "b.jpg": b"2"}))
    monkeypatch.setattr(tarfile, "nti", lambda field: pytest.fail("a plain header is decoded"))
    members = list_members(open_storage(str(tmp_path)), "0.tar", "data")
    assert [member[0] for member in members] == ["a.jpg", "b.jpg"]


def test_a_header_with_a_wrong_checksum_is_damage(tmp_path: Path) -> None:
    data = bytearray(tarred({"a.jpg": b"1", "b.jpg": b"2"}))
    data[1024] ^= 1  # in the name of the second
    (tmp_path / "0.tar").write_bytes(data)
    with pytest.raises(ConfigError, match="no member and no end of the archive at byte 1,024"):
        list_members(open_storage(str(tmp_path)), "0.tar", "data")


def test_what_python_cannot_decode_in_names(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "0.jpg").write_bytes(jpeg())
    with open(bytes(tmp_path / "folder") + b"/caf\xe9.jpg", "wb") as file:
        file.write(jpeg())
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.add(tmp_path / "folder", arcname=".")
    got = load(tmp_path / "folder", max_failed=0.5)
    assert got.failures == [("./caf\\xe9.jpg", "the file name is not valid UTF-8; rename the file")]
    assert load(tmp_path / "x.tar").keys == ["0.jpg", "caf\\xe9.jpg"]  # a member is found by its place


@pytest.mark.s3
def test_folders_and_shards_of_a_bucket(s3_bucket: S3Bucket) -> None:
    options = S3Options(endpoint=s3_bucket.endpoint, region="us-east-1")
    store = open_storage(s3_bucket.uri, options)
    contents = files(KEYS) | files([f"more/{number:03}.jpg" for number in range(12)])
    for key, data in contents.items():
        store.write(f"data/folder/{key}", data)
    shards = dict(list(contents.items())[:10]), dict(list(contents.items())[10:])
    for number, members in enumerate(shards):
        store.write(f"data/train-{number}.tar", tarred(members))
    with pytest.raises(ConfigError, match=r"^data: there is no shard s3://.*/data/missing.tar"):
        load(f"{s3_bucket.uri}/data/missing.tar", options)
    first = load(f"{s3_bucket.uri}/data/folder", options)
    assert first.keys == sorted(contents, key=str.encode)
    np.testing.assert_array_equal(first.pixels[:2], [pixels_of(contents[key]) for key in first.keys[:2]])
    second = load(f"{s3_bucket.uri}/data/train-*.tar", options)
    assert second.keys == first.keys
    np.testing.assert_array_equal(second.pixels, first.pixels)
    assert set(load(f"{s3_bucket.uri}/data/train-0.tar", options).keys) == set(shards[0])
    with pytest.raises(ConfigError, match="no photographs under"):
        load(f"{s3_bucket.uri}/data/none", options)
    with pytest.raises(StorageError, match="no such bucket"):
        load("s3://no-such-bucket-here/x.tar", options)


@pytest.mark.shared
def test_miniplaces(shared_dir: Path) -> None:
    got = load(shared_dir / "data" / "miniplaces" / "train-*.tar", limit=400)
    assert len(got.keys) == 400
    assert got.failures == []
    categories = [key.split("/")[3] for key in got.keys]
    assert min(categories.count(category) for category in categories) == 4
    assert len(set(categories)) == 100
    assert got.pixels.shape == (400, 128, 128, 3)
    assert 90 < got.pixels.mean() < 130
