"""Storage over local folders and fsspec's own memory file system, and what a URI means."""

import errno
import os
import pickle
import resource
import signal
import socket
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter, ValidationError

from inpaint_core.errors import ConfigError, ObjectError, StorageError
from inpaint_core.storage import (
    TEMPORARY_FOLDER,
    IncompleteRead,
    MissingObject,
    S3Options,
    Storage,
    open_storage,
    refuse_relative_paths,
)

KEYS = [
    "plain.jpg",
    " leading",
    "trailing ",
    "per%20cent%2Fx",
    "q?versionId=3#x",
    "st*r/[ab]/{c,d}",
    "chain::memory:x",
    "caf\u00e9",
    "cafe\u0301",
    "\N{GRINNING FACE}",
    "new\nline",
    "back\\slash",
    "~/$HOME",
    "d/e/f",
    "d.e",
    "d-e",
    "n" * 255 + "/" + "m" * 255,
]


def keys(storage: Storage, under: str = "") -> list[str]:
    return [found.key for found in storage.list(under)]


def leftovers(folder: Path) -> list[str]:
    return os.listdir(folder / TEMPORARY_FOLDER)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(str(tmp_path / "root"))


def test_keys_come_back_exactly_and_in_utf8_order(storage: Storage) -> None:
    for key in KEYS:
        storage.write(key, key.encode())
    listed = list(storage.list())
    assert [found.key for found in listed] == sorted(KEYS, key=str.encode)
    for found in listed:
        assert storage.read(found.key) == found.key.encode()
        assert found.size == len(found.key.encode())
        assert found.problem is None
        assert found.modified.tzinfo is UTC
        assert abs(datetime.now(UTC) - found.modified) < timedelta(minutes=1)
    for key in KEYS:
        assert storage.exists(key)
        storage.delete(key)
        storage.delete(key)
        assert not storage.exists(key)
    assert keys(storage) == []


def test_list_under_a_folder(storage: Storage) -> None:
    for key in ("a/1", "a/b/2", "ab/3", "4"):
        storage.write(key, b"x")
    assert keys(storage, "a") == keys(storage, "a/") == ["a/1", "a/b/2"]
    assert keys(storage, "nothing/here") == []
    assert keys(storage, "4") == []


def test_listing_streams(storage: Storage) -> None:
    for number in range(20):
        storage.write(f"{number:02d}/x", b"")
    listing = storage.list()
    assert next(listing).key == "00/x"
    storage.write("19/y", b"")  # a folder is read when the listing gets there
    assert [found.key for found in listing][-1] == "19/y"


def test_etag_is_size_and_time(storage: Storage, tmp_path: Path) -> None:
    storage.write("x", b"abc")
    os.utime(tmp_path / "root/x", ns=(0, 1_700_000_000_123_456_789))
    (found,) = storage.list()
    assert found.etag == "3-1700000000123456789"
    assert found.modified == datetime(2023, 11, 14, 22, 13, 20, 123457, tzinfo=UTC)
    os.utime(tmp_path / "root/x", (0, -1e9))
    assert next(storage.list()).modified.year == 1970


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("", "empty"),
        ("/etc/passwd", "starts with '/'"),
        ("../x", "'..'"),
        ("a/../../x", "'..'"),
        ("a/./b", "'.'"),
        ("a//b", "empty"),
        ("a/", "'/' at the end"),
        ("a\0b", "NUL"),
        ("a/" + "n" * 256, "more than 255 bytes"),
        ("\u00e9" * 128, "more than 255 bytes"),
        ("\ud800", "not valid Unicode"),
        (f"{TEMPORARY_FOLDER}/x", "not whole yet"),
        (TEMPORARY_FOLDER, "not whole yet"),
    ],
)
def test_keys_that_are_no_file(storage: Storage, tmp_path: Path, key: str, reason: str) -> None:
    storage.write("a/b", b"x")
    before = sorted(tmp_path.rglob("*"))
    for use in (storage.read, storage.exists, storage.delete, storage.open_read, lambda key: storage.write(key, b"")):
        with pytest.raises(ObjectError, match=reason):
            use(key)
    assert sorted(tmp_path.rglob("*")) == before


def test_key_too_long_for_a_path(storage: Storage) -> None:
    with pytest.raises(ObjectError, match="File name too long"):
        storage.write("/".join(["n" * 200] * 30), b"")


def test_a_name_is_a_file_or_a_folder(storage: Storage, tmp_path: Path) -> None:
    storage.write("a", b"file")
    storage.write("b/c.jpg", b"in a folder")
    with pytest.raises(ObjectError, match=r"'a/b\.jpg' cannot be a file here: another object is a file"):
        storage.write("a/b.jpg", b"x")
    with pytest.raises(ObjectError, match="'b' cannot be a file here: there is a folder of this name"):
        storage.write("b", b"x")
    with pytest.raises(ObjectError, match="'b' is not a regular file"):
        storage.read("b")
    with pytest.raises(MissingObject):
        storage.read("a/b.jpg")
    assert not storage.exists("b")
    storage.delete("b")
    assert keys(storage) == ["a", "b/c.jpg"]
    assert leftovers(tmp_path / "root") == []


def test_missing_objects(storage: Storage) -> None:
    storage.write("x", b"")
    with pytest.raises(MissingObject, match=r"'gone/x\.jpg' no longer exists"):
        storage.read("gone/x.jpg")
    with pytest.raises(MissingObject):
        storage.open_read("gone")


def test_missing_root(storage: Storage, tmp_path: Path) -> None:
    for use in (storage.check_readable, lambda: list(storage.list())):
        with pytest.raises(StorageError, match="root: there is no such folder"):
            use()
    with pytest.raises(StorageError, match="the folder is gone"):
        storage.read("x")
    (tmp_path / "root").write_text("a file")
    for use in (storage.check_readable, lambda: list(storage.list())):
        with pytest.raises(StorageError, match="root: is a file"):
            use()
    with pytest.raises(StorageError, match="is not a folder"):
        storage.write("x", b"")
    (tmp_path / "root").unlink()
    (tmp_path / "root").mkdir()
    storage.check_readable()
    assert keys(storage) == []


def test_aborted_open_write_leaves_nothing(storage: Storage, tmp_path: Path) -> None:
    storage.write("kept", b"old")
    for key in ("new/x", "kept"):
        with pytest.raises(RuntimeError, match="half way"), storage.open_write(key) as file:  # noqa: PT012
            file.write(b"x" * 100_000)
            raise RuntimeError("half way")
    assert keys(storage) == ["kept"]
    assert storage.read("kept") == b"old"
    assert leftovers(tmp_path / "root") == []


def test_parquet_through_open_write_and_open_read(storage: Storage) -> None:
    table = pa.table({"n": [1, 2, 3]})
    with storage.open_write("records/x.parquet") as file:
        pq.write_table(table, file)
        assert not storage.exists("records/x.parquet")
    with storage.open_read("records/x.parquet") as file:
        assert pq.read_table(file) == table


def test_closed_file_is_refused(storage: Storage) -> None:
    with pytest.raises(ValueError, match="closed inside its block"), storage.open_write("x") as file:
        file.close()
    assert not storage.exists("x")


def test_written_files_have_the_usual_mode(storage: Storage, tmp_path: Path) -> None:
    storage.write("x", b"")
    usual = tmp_path / "usual"
    usual.touch()
    assert stat.S_IMODE((tmp_path / "root/x").stat().st_mode) == stat.S_IMODE(usual.stat().st_mode)


def test_killed_while_writing(storage: Storage, tmp_path: Path) -> None:
    storage.write("x", b"old")
    code = (
        "import os, pickle, signal, sys\n"
        "storage = pickle.load(sys.stdin.buffer)\n"
        "with storage.open_write('x') as file:\n"
        "    file.write(b'half'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    child = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(storage), check=False)
    assert child.returncode == -signal.SIGKILL
    assert storage.read("x") == b"old"
    assert keys(storage) == ["x"]  # what the process left is no object
    assert len(leftovers(tmp_path / "root")) == 1
    assert storage.remove_leftovers(older_than=3600) == 0
    time.sleep(0.05)
    assert storage.remove_leftovers(older_than=0) == 1
    assert leftovers(tmp_path / "root") == []


def test_faults_of_the_disk(storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.write("x", b"old")
    for number, error, message in (
        (errno.ENOSPC, StorageError, "there is no space left"),
        (errno.EDQUOT, StorageError, "there is no space left"),
        (errno.EIO, StorageError, "cannot write 'x' .*; check the folder"),
        (errno.ESTALE, StorageError, "cannot write 'x' .*; check the folder"),
    ):

        def fail(descriptor: int, number: int = number) -> None:
            raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fail)
            with pytest.raises(error, match=message):
                storage.write("x", b"new")
            with pytest.raises(error, match=message), storage.open_write("x") as file:
                file.write(b"new")
    for number, error, message in (
        (errno.EROFS, StorageError, "cannot write 'x' .*; check the folder"),
        (errno.EXDEV, StorageError, "cannot write 'x' .*; check the folder"),
        (errno.EILSEQ, ObjectError, "cannot write 'x': "),
    ):

        def refuse(source: bytes, target: bytes, number: int = number) -> None:
            raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", refuse)
            with pytest.raises(error, match=message):
                storage.write("x", b"new")
    assert storage.read("x") == b"old"
    assert leftovers(tmp_path / "root") == []


@pytest.mark.parametrize("size", [2**20 + 1, 2**21])  # one is too large when it is flushed, the other when written
def test_a_file_larger_than_the_system_allows(storage: Storage, tmp_path: Path, size: int) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, limits[1]))
    try:
        with pytest.raises(ObjectError, match="cannot write 'x': File too large"):
            storage.write("x", bytes(size))
        with pytest.raises(ObjectError, match="cannot write 'x': File too large"), storage.open_write("x") as file:
            file.writelines([bytes(1000)] * (size // 1000 + 1))
        # Closing would try to write the rest: that is not what the caller is told.
        with pytest.raises(RuntimeError, match="own"), storage.open_write("x") as file:  # noqa: PT012
            file.write(bytes(2**20))
            file.write(b"rest")
            raise RuntimeError("own")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not storage.exists("x")
    assert leftovers(tmp_path / "root") == []


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_errors_of_the_block_itself_pass_unchanged(storage: Storage, tmp_path: Path, number: int) -> None:
    own = OSError(number, "of a file that the caller reads")
    with pytest.raises(OSError, match="the caller reads") as caught, storage.open_write("x") as file:  # noqa: PT012
        file.write(b"new")
        raise own
    assert caught.value is own
    assert leftovers(tmp_path / "root") == []


def test_permissions(storage: Storage, tmp_path: Path) -> None:
    storage.write("x", b"")
    storage.write("d/x", b"")
    (tmp_path / "root/x").chmod(0)
    if os.access(tmp_path / "root/x", os.R_OK):
        pytest.skip("this user may read and write everything (root)")
    with pytest.raises(ObjectError, match="cannot read 'x': Permission denied"):
        storage.read("x")
    (tmp_path / "root/d").chmod(0o500)
    with pytest.raises(StorageError, match=r"cannot write 'd/y' \(Permission denied\)"):
        storage.write("d/y", b"")
    (tmp_path / "root/d").chmod(0)
    with pytest.raises(StorageError, match=r"the folder .*root/d cannot be listed"):
        keys(storage)
    (tmp_path / "root/d").chmod(0o700)


def test_unlistable_folder_stops_the_listing(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.write("d/x", b"")
    scandir = os.scandir

    def refuse(path: bytes) -> object:
        if path.endswith(b"/d"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(StorageError, match=r"the folder .*root/d cannot be listed \(Permission denied\)"):
        keys(storage)


def test_unlistable_folder_is_told_of_and_passed_over(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("a/x", "d/x", "e/x"):
        storage.write(key, b"")
    scandir = os.scandir

    def refuse(path: bytes) -> object:
        if path.endswith((b"/d", b"/e")):
            raise PermissionError(errno.EACCES, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    told: dict[str, str] = {}
    found = [info.key for info in storage.list(skip=lambda folder: folder == "e", forbidden=told.__setitem__)]
    assert (found, told) == (["a/x"], {"d": "Permission denied"})


def test_disk_fault_in_a_folder_stops_the_listing_all_the_same(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.write("d/x", b"")
    scandir = os.scandir

    def refuse(path: bytes) -> object:
        if path.endswith(b"/d"):
            raise OSError(errno.EIO, "Input/output error")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(StorageError, match=r"root/d cannot be listed \(Input/output error\)"):
        list(storage.list(forbidden=lambda folder, reason: None))


def test_links_are_followed_and_loops_cut(storage: Storage, tmp_path: Path) -> None:
    storage.write("a/x", b"data")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "y").write_bytes(b"outside")
    root = tmp_path / "root"
    (root / "b").symlink_to("a")
    (root / "a/up").symlink_to("..")
    (root / "file").symlink_to("a/x")
    (root / "linked").symlink_to(outside)
    (outside / "back").symlink_to(root)
    (root / "dangling.jpg").symlink_to("nowhere")
    (root / "self").symlink_to("self")
    found = {info.key: info for info in storage.list()}
    assert sorted(found) == ["a/x", "b/x", "dangling.jpg", "file", "linked/y", "self"]
    assert found["file"].size == 4
    assert storage.read("linked/y") == b"outside"
    assert found["dangling.jpg"].problem == found["self"].problem == "is a symbolic link to nothing"
    assert {info.key for info in found.values() if info.problem} == {"dangling.jpg", "self"}


def test_special_files_are_named_and_never_waited_for(storage: Storage, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    os.mkfifo(root / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(root / "socket.jpg"))
        assert {info.key: (info.problem, info.size) for info in storage.list()} == {
            "pipe.jpg": ("is a named pipe, not a file", 0),
            "socket.jpg": ("is a socket, not a file", 0),
        }
        with pytest.raises(ObjectError, match=r"'pipe\.jpg' is not a regular file"):
            storage.read("pipe.jpg")
        with pytest.raises(ObjectError):
            storage.read("socket.jpg")
    assert not storage.exists("pipe.jpg")


def test_names_that_are_not_utf8(storage: Storage, tmp_path: Path) -> None:
    storage.write("good", b"")
    root = os.fsencode(tmp_path / "root")
    os.mkdir(root + b"/caf\xe9")
    for name in (b"/caf\xe9/x.jpg", b"/\xff.jpg", rb"/\xff.jpg", rb"/\xff" + b"\xff.jpg"):
        with open(root + name, "wb") as file:
            file.write(b"x")
    found = {info.key: info.problem for info in storage.list()}
    assert found == {
        "good": None,
        "\\xff.jpg": None,
        "./caf\\xe9/x.jpg": "the file name is not valid UTF-8; rename the file",
        "./\\xff.jpg": "the file name is not valid UTF-8; rename the file",
        "./\\\\xff\\xff.jpg": "the file name is not valid UTF-8; rename the file",
    }


def test_deep_folders(storage: Storage, tmp_path: Path) -> None:
    key = "/".join(["d"] * 1500)
    try:
        storage.write(key, b"deep")
        assert keys(storage) == [key]
    finally:  # shutil, with which pytest tidies up, cannot go that deep
        subprocess.run(["rm", "-rf", str(tmp_path / "root")], check=True)


def test_many_threads_write_the_same_keys(storage: Storage, tmp_path: Path) -> None:
    def work(thread: int) -> None:
        for number in range(50):
            storage.write(f"{number % 5}/{number}", bytes([thread]) * 1000)
            data = storage.read(f"{number % 5}/{number}")
            assert len(data) == 1000
            assert len(set(data)) == 1

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))
    assert len(keys(storage)) == 50
    assert leftovers(tmp_path / "root") == []


def test_uris_of_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "my photos"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for uri in (str(folder), f"{folder}/", "my photos", "./x/../my photos/", "~/my photos", folder.as_uri()):
        assert open_storage(uri).uri == str(folder)
    assert open_storage(f"FILE://localhost{folder}").uri == str(folder)
    (tmp_path / "elsewhere/deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to("elsewhere/deep")
    assert open_storage("link/..").uri == str(tmp_path / "elsewhere")
    assert open_storage("bad\nname").uri == f"{tmp_path}/bad\\nname"


def test_a_relative_folder_in_what_a_submitted_job_runs_in_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "working_dir_files" / "_ray_pkg_0123abcd"
    package.mkdir(parents=True)
    monkeypatch.chdir(package)
    monkeypatch.setattr("inpaint_core.storage.open._refused", {})
    assert open_storage("runs/x").uri == f"{package}/runs/x"
    refuse_relative_paths("/_ray_pkg_", "a submitted job ends")
    for uri in ("runs/x", "."):
        with pytest.raises(
            ConfigError, match=r"is relative, and a submitted job ends: give an absolute path, or a bucket"
        ):
            open_storage(uri)
    assert open_storage(str(tmp_path)).uri == str(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert open_storage("runs/x").uri == f"{tmp_path}/runs/x"


@pytest.mark.parametrize(
    "uri",
    ["", "a\0b", "file://host/x", "file://x", "s3:/bucket", "gs:bucket", "foo://x", "a::s3://b", "://x", "memory://"],
)
def test_bad_uris(uri: str) -> None:
    with pytest.raises(ConfigError, match=r"s3://bucket/prefix|file:///folder|memory://bucket/prefix"):
        open_storage(uri)


@pytest.mark.parametrize("uri", ["s3://[abc/x", "gs://[a", "s3://bucke\u2100t/x", "sftp://[a/x", "hdfs://[a/x"])
def test_hosts_that_urllib_raises_for(uri: str) -> None:
    with pytest.raises(ConfigError):
        open_storage(uri)


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(ConfigError, match=r"gs:// needs a package that is not installed .*gcsfs"):
        open_storage("gs://bucket/x")


def test_a_password_in_a_uri_is_refused_unseen() -> None:
    with pytest.raises(ConfigError, match="remove it") as caught:
        open_storage("sftp://user:hunter2@host/x")
    assert "hunter2" not in str(caught.value)


def test_contains(tmp_path: Path) -> None:
    def opened(path: str) -> Storage:
        return open_storage(str(tmp_path / path))

    (tmp_path / "photos/deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to("photos")
    (tmp_path / "photos/out").symlink_to(tmp_path / "elsewhere")
    assert opened("photos").contains(opened("photos/"))
    assert opened("photos").contains(opened("photos/deep/not yet there"))
    assert opened("link").contains(opened("photos/deep"))
    assert opened("photos").contains(opened("link/deep"))
    assert opened("photos").contains(opened("photos/deep/../deep"))
    assert open_storage("/").contains(opened("photos"))
    assert not opened("photos/deep").contains(opened("photos"))
    assert not opened("photos").contains(opened("photos-clean"))
    assert not opened("photos").contains(opened("photos/../clean"))
    assert not opened("photos").contains(opened("photos/out"))
    assert not opened("photos").contains(open_storage("memory://photos"))


def test_any_scheme_of_fsspec(tmp_path: Path) -> None:
    storage = open_storage(f"memory://{tmp_path.name}/root")
    with pytest.raises(StorageError, match="there is no such bucket or folder"):
        storage.check_readable()
    open_storage(f"memory://{tmp_path.name}").write("beside", b"")
    assert keys(storage) == []
    stored = sorted({*KEYS} - {"st*r/[ab]/{c,d}"}, key=str.encode)
    for key in stored:
        storage.write(key, key.encode())
    listed = list(storage.list())
    assert [found.key for found in listed] == stored
    assert all(storage.read(found.key) == found.key.encode() for found in listed)
    assert {found.size for found in listed} == {len(key.encode()) for key in stored}
    assert keys(storage, "d") == ["d/e/f"]
    with pytest.raises(MissingObject):
        storage.read("gone")
    for key in ("", "a//b", "../x", "a/"):
        with pytest.raises(ObjectError):
            storage.write(key, b"")
    with pytest.raises(RuntimeError, match="half way"), storage.open_write("new") as file:  # noqa: PT012
        file.write(b"x")
        raise RuntimeError("half way")
    assert not storage.exists("new")
    with storage.open_write("d/new") as file:
        file.write(b"whole")
    with pickle.loads(pickle.dumps(storage)).open_read("d/new") as file:
        assert file.read() == b"whole"
    storage.delete("d/new")
    storage.delete("d/new")
    assert not storage.exists("d/new")
    assert open_storage(f"memory://{tmp_path.name}").contains(storage)
    assert not storage.contains(open_storage(f"memory://{tmp_path.name}"))


def test_s3_options_in_a_config_file() -> None:
    options = TypeAdapter(S3Options)
    assert options.validate_python({"endpoint": "http://127.0.0.1:8333"}) == S3Options(endpoint="http://127.0.0.1:8333")
    with pytest.raises(ValidationError):
        options.validate_python({"secret": "x"})


def test_writes_and_deletes_do_not_leave_the_folder_by_a_link(storage: Storage, tmp_path: Path) -> None:
    storage.write("a/x", b"inside")
    root, outside = tmp_path / "root", tmp_path / "outside"
    (outside / "deep").mkdir(parents=True)
    (outside / "x").write_bytes(b"outside")
    (root / "out").symlink_to(outside)
    (root / "dangling").symlink_to(tmp_path / "nowhere")
    (root / "a" / "up").symlink_to(tmp_path)
    for key in ("out/x", "out/new/x", "out/deep/x", "dangling/x", "a/up/outside/x"):
        with pytest.raises(
            StorageError, match=rf"'{key}' would be written .* is a symbolic link to .*; remove the link"
        ):
            storage.write(key, b"new")
        with pytest.raises(StorageError, match="symbolic link"), storage.open_write(key) as file:
            file.write(b"new")
        with pytest.raises(StorageError, match="symbolic link"):
            storage.delete(key)
    assert storage.read("out/x") == b"outside"  # reading through a link is fine
    assert sorted(path.name for path in outside.rglob("*")) == ["deep", "x"]
    assert not (tmp_path / "nowhere").exists()
    assert leftovers(root) == []
    (root / "file").symlink_to(outside / "x")  # in place of the file itself: the link is replaced, not what it leads to
    storage.write("file", b"new")
    assert (outside / "x").read_bytes() == b"outside"
    assert not (root / "file").is_symlink()
    (root / "within").symlink_to("a")
    storage.write("within/y", b"inside")
    assert storage.read("a/y") == b"inside"


def test_a_temporary_folder_elsewhere_is_not_tidied_up(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "tmp").mkdir(parents=True)
    (outside / "tmp" / "mine").write_bytes(b"mine")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "_removal").symlink_to(outside)
    storage = open_storage(str(tmp_path / "root"), temporary_folder="_removal/tmp")
    with pytest.raises(StorageError, match="symbolic link"):
        storage.remove_leftovers(older_than=-1)
    with pytest.raises(StorageError, match="symbolic link"):
        storage.write("x", b"")
    assert [path.name for path in outside.rglob("*") if path.is_file()] == ["mine"]


def test_a_file_that_changes_while_it_is_read_is_read_again(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.write("x", b"half")
    fstat, calls = os.fstat, 0

    def growing(descriptor: int) -> os.stat_result:
        nonlocal calls
        calls += 1
        if calls == 3:  # after the first reading
            (tmp_path / "root" / "x").write_bytes(b"whole")
        return fstat(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", growing)
        assert storage.read("x", 5) == b"whole"
    assert storage.read("x") == b"whole"
    started = time.monotonic()
    with pytest.raises(IncompleteRead, match="came with 5 bytes where the listing said 9"):
        storage.read("x", 9)
    assert time.monotonic() - started < 3
