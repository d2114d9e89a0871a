"""Weights by path, URI and name."""

import hashlib
from pathlib import Path

import pytest

from inpaint_core.errors import ConfigError, StorageError, WeightsError
from inpaint_core.networks.weights.load import load_weights
from inpaint_core.storage import S3Options, open_storage
from tests.s3.seaweedfs import S3Bucket

DATA = b"not really a network"
DIGEST = hashlib.sha256(DATA).hexdigest()
KEY = "detector.weights"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "my net.pt"
    path.write_bytes(DATA)
    return path


def test_path(file: Path) -> None:
    weights = load_weights(str(file), None, S3Options(), key=KEY)
    assert (weights.name, weights.data, weights.sha256) == ("my net.pt", DATA, DIGEST)


def test_home_and_file_uri(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(file.parent))
    assert load_weights("~/my net.pt", DIGEST, S3Options(), key=KEY).data == DATA
    assert file.as_uri().endswith("my%20net.pt")
    assert load_weights(file.as_uri(), DIGEST.upper(), S3Options(), key=KEY).name == "my net.pt"


def test_a_file_of_that_name_comes_before_a_download(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    fetched: list[str] = []

    def download(name: str) -> bytes:
        fetched.append(name)
        return b"downloaded"

    assert load_weights("my net.pt", None, S3Options(), key=KEY, download=download).data == DATA
    weights = load_weights("yolov8n-seg.pt", None, S3Options(), key=KEY, download=download)
    assert (weights.name, weights.data) == ("yolov8n-seg.pt", b"downloaded")
    assert weights.sha256 == hashlib.sha256(b"downloaded").hexdigest()
    assert fetched == ["yolov8n-seg.pt"]
    with pytest.raises(WeightsError, match=r"SHA-256"):
        load_weights("yolov8n-seg.pt", DIGEST, S3Options(), key=KEY, download=download)


def test_a_path_is_never_downloaded(tmp_path: Path) -> None:
    def download(name: str) -> bytes:
        raise AssertionError(name)

    missing = tmp_path / "yolov8n-seg.pt"
    for reference in (str(missing), f"{tmp_path.as_uri()}/yolov8n-seg.pt"):
        with pytest.raises(WeightsError, match=rf"^detector\.weights: there is no file {missing}; give"):
            load_weights(reference, None, S3Options(), key=KEY, download=download)


def test_another_hash_is_refused_with_both(file: Path) -> None:
    wanted = "0" * 64
    with pytest.raises(WeightsError) as caught:
        load_weights(str(file), wanted, S3Options(), key="inpainter.weights")
    message = str(caught.value)
    assert message.startswith("inpainter.weights: ")
    assert DIGEST in message
    assert f"inpainter.sha256 is {wanted}" in message


def test_a_folder_is_no_weights_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot be read: Is a directory"):
        load_weights(str(tmp_path), None, S3Options(), key=KEY)


@pytest.mark.parametrize("reference", ["s3://bucket", "s3://bucket/nets/"])
def test_a_uri_without_a_file_name(reference: str) -> None:
    with pytest.raises(WeightsError, match="names no file"):
        load_weights(reference, None, S3Options(), key=KEY)


@pytest.mark.parametrize(
    "reference", ["s3://[abc/x.pt", "s3://bucke\u2100t/x.pt", "file://[abc/x.pt", "file://host/x.pt"]
)
def test_a_uri_with_a_host_that_cannot_be(reference: str) -> None:
    with pytest.raises((ConfigError, WeightsError), match="is not a valid URI"):
        load_weights(reference, None, S3Options(), key=KEY)


def test_file_uris_are_cut_nowhere(tmp_path: Path) -> None:
    (tmp_path / "a#1?b.pt").write_bytes(DATA)
    weights = load_weights(f"FILE://localhost{tmp_path}/a#1?b.pt", DIGEST, S3Options(), key=KEY)
    assert weights.name == "a#1?b.pt"


@pytest.mark.s3
def test_from_s3(s3_bucket: S3Bucket) -> None:
    options = S3Options(endpoint=s3_bucket.endpoint, region="us-east-1")
    storage = open_storage(f"{s3_bucket.uri}/nets", options)
    storage.write("a b.pt", DATA)
    weights = load_weights(f"{storage.uri}/a b.pt", DIGEST, options, key=KEY)
    assert (weights.name, weights.data) == ("a b.pt", DATA)
    with pytest.raises(WeightsError, match=r"there is no s3://.*/nets/other\.pt; give"):
        load_weights(f"{storage.uri}/other.pt", None, options, key=KEY)
    with pytest.raises(StorageError):
        load_weights("s3://no-such-bucket-here/other.pt", None, options, key=KEY)
