"""Published weights: fetched from a server of this process, checked, kept. The real files are never fetched here."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from inpaint_core.config import load_config
from inpaint_core.errors import WeightsError
from inpaint_core.networks.weights import published
from inpaint_core.networks.weights.published import PUBLISHED, cache_folder, read_published
from inpaint_core.removal.config import RemoveConfig
from inpaint_core.removal.config_hash import config_hash
from inpaint_core.removal.job import model_weights

DATA = bytes(range(256)) * 9000  # more than two chunks
MD5 = hashlib.md5(DATA).hexdigest()
NAMES = ("lama", "big-lama.pt", "migan", "migan_traced.pt")


class Server(ThreadingHTTPServer):
    """Answers every request with `body`, under a `Content-Length` that may promise more; counts requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.promised, self.status = DATA, len(DATA), 200
        self.requests: list[str] = []
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(self.server.promised))
        self.end_headers()
        self.wfile.write(self.server.body)

    def do_CONNECT(self) -> None:
        self.server.requests.append(self.path)
        self.send_error(403)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    """In place of the publisher, with an empty cache folder, and no proxy in between."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("INPAINT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        monkeypatch.setitem(PUBLISHED, name, replace(PUBLISHED[name], md5=MD5))
    server = Server()
    monkeypatch.setattr(published, "RELEASES", f"{server.address}/releases")
    yield server
    server.shutdown()
    server.server_close()


def refused(name: str = "lama") -> str:
    """The one line that a user reads; nothing is left in the cache."""
    with pytest.raises(WeightsError) as caught:
        read_published(name, name)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(
        f"inpainter.weights: {PUBLISHED[name].file} could not be downloaded from {published.RELEASES}/"
    )
    assert f"copy it to {cache_folder() / PUBLISHED[name].file}" in message
    assert list(cache_folder().iterdir()) == []
    return message


def test_the_table_has_the_files_of_the_publisher() -> None:
    assert tuple(PUBLISHED) == NAMES
    places = {
        PUBLISHED[name].kinds[0]: (f"{published.RELEASES}/{PUBLISHED[name].path}", PUBLISHED[name].md5)
        for name in NAMES
    }
    assert places == {
        "lama": (
            "https://github.com/Sanster/models/releases/download/add_big_lama/big-lama.pt",
            "e3aa4aaa15225a33ec84f9f4bc47e500",
        ),
        "migan": (
            "https://github.com/Sanster/models/releases/download/migan/migan_traced.pt",
            "76eb3b1a71c400ee3290524f7a11b89c",
        ),
    }


def test_a_file_is_fetched_once_and_kept(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert read_published("lama", "lama") == DATA
    assert server.requests == ["/releases/add_big_lama/big-lama.pt"]
    path = cache_folder() / "big-lama.pt"
    assert capsys.readouterr().err == f"downloading {published.RELEASES}/add_big_lama/big-lama.pt (2 MB) to {path}\n"
    assert [found.name for found in cache_folder().iterdir()] == ["big-lama.pt"]
    server.shutdown()
    server.server_close()
    for name, kind in (("lama", "lama"), ("big-lama.pt", "torchscript")):
        assert read_published(name, kind) == DATA
    assert capsys.readouterr().err == ""


def test_a_file_put_there_by_hand_needs_no_network(server: Server) -> None:
    cache_folder().mkdir()
    (cache_folder() / "migan_traced.pt").write_bytes(DATA)
    assert read_published("migan", "migan") == DATA
    assert server.requests == []


def test_a_file_put_there_by_hand_is_checked_and_left(server: Server) -> None:
    cache_folder().mkdir()
    path = cache_folder() / "migan_traced.pt"
    path.write_bytes(DATA[:-1])
    with pytest.raises(WeightsError, match=rf"^inpainter.weights: {path} has MD5 \w+, but .* has {MD5}: .* delete it"):
        read_published("migan", "migan")
    assert path.read_bytes() == DATA[:-1]
    assert server.requests == []


def test_another_content_is_not_kept(server: Server) -> None:
    server.body = bytes(len(DATA))
    assert f"the downloaded file has MD5 {hashlib.md5(server.body).hexdigest()}, the published one {MD5}" in refused()


def test_a_body_that_is_cut_off(server: Server) -> None:
    server.body = DATA[:2_000_000]
    assert f"the connection ended after 2,000,000 of {len(DATA):,} bytes" in refused("migan")


def test_a_body_that_does_not_end(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "LARGEST", 2**20)
    assert "the response has more than 1,048,576 bytes" in refused()


def test_a_server_that_stalls(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()

    def do_GET(self: Handler) -> None:
        answered.wait(60)

    monkeypatch.setattr(Handler, "do_GET", do_GET)
    monkeypatch.setattr(published, "STALLED_SECONDS", 0.1)
    try:
        assert "(no answer in time)" in refused()
    finally:
        answered.set()


@pytest.mark.parametrize(("status", "reason"), [(404, "HTTP 404 Not Found"), (503, "HTTP 503 Service Unavailable")])
def test_an_error_of_the_server(server: Server, status: int, reason: str) -> None:
    server.status = status
    assert f"({reason})" in refused()


def test_no_server(server: Server) -> None:
    server.shutdown()
    server.server_close()
    assert "(Connection refused)" in refused()


def test_no_name_service(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "RELEASES", "https://releases.invalid")
    refused()


def test_a_proxy_that_refuses(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "RELEASES", "https://releases.invalid")
    monkeypatch.setenv("HTTPS_PROXY", server.address)
    assert "(Tunnel connection failed: 403 Forbidden)" in refused()
    assert server.requests == ["releases.invalid:443"]


def test_a_proxy_whose_address_is_none_keeps_its_password(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "RELEASES", "https://releases.invalid")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:secret")
    message = refused()
    assert "HTTPS_PROXY is not valid" in message
    assert "secret" not in message


def test_a_cache_that_cannot_be_written(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    monkeypatch.setenv("INPAINT_CACHE", str(tmp_path / "taken" / "cache"))
    with pytest.raises(WeightsError, match=r"^inpainter\.weights: .*big-lama\.pt cannot be read \(Not a directory\)"):
        read_published("lama", "lama")
    monkeypatch.setenv("INPAINT_CACHE", "/proc/cache")
    with pytest.raises(
        WeightsError, match=r"^inpainter\.weights: big-lama\.pt cannot be stored in /proc/cache .*INPAINT_CACHE"
    ):
        read_published("lama", "lama")


def test_a_kind_of_another_signature_is_named(server: Server) -> None:
    with pytest.raises(
        WeightsError, match=r"migan is a network that inpainter\.kind=torchscript cannot run; .*kind=migan"
    ):
        read_published("migan", "torchscript")
    assert server.requests == []


def test_the_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("INPAINT_CACHE", "")
    assert cache_folder() == Path("/home/someone/.cache/inpaint-core")
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert cache_folder() == Path("/elsewhere/inpaint-core")
    monkeypatch.setenv("INPAINT_CACHE", "~/networks")
    assert cache_folder() == Path("/home/someone/networks")


# --- as the removal job asks for them


def inpainter_weights(*settings: str) -> bytes | None:
    config = load_config(RemoveConfig, None, ["input=in", "output=out", "detector.kind=masks", *settings])
    _, weights = model_weights(config)
    assert len(config_hash(config, None, weights)) == 16
    return weights.data if weights else None


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        (["inpainter.kind=lama"], "add_big_lama/big-lama.pt"),
        (["inpainter.kind=torchscript", "inpainter.weights=lama"], "add_big_lama/big-lama.pt"),
        (["inpainter.kind=torchscript"], "add_big_lama/big-lama.pt"),
        (["inpainter.kind=migan"], "migan/migan_traced.pt"),
    ],
)
def test_a_job_fetches_what_its_settings_name(server: Server, settings: list[str], path: str) -> None:
    assert inpainter_weights(*settings) == DATA
    assert server.requests == [f"/releases/{path}"]


def test_a_job_refuses_a_published_file_of_another_sha256(server: Server) -> None:
    with pytest.raises(WeightsError, match=r"inpainter\.weights: lama has SHA-256 .* but inpainter\.sha256 is 0"):
        inpainter_weights("inpainter.kind=lama", f"inpainter.sha256={'0' * 64}")


def test_a_path_is_taken_as_it_is(server: Server, tmp_path: Path) -> None:
    (tmp_path / "mine.pt").write_bytes(b"mine")
    (tmp_path / "lama").mkdir()  # as a clone of LaMa's repository has it
    for kind in ("lama", "migan", "torchscript"):
        assert inpainter_weights(f"inpainter.kind={kind}", f"inpainter.weights={tmp_path / 'mine.pt'}") == b"mine"
        with pytest.raises(WeightsError, match="there is no file"):
            inpainter_weights(f"inpainter.kind={kind}", "inpainter.weights=missing.pt")
    assert server.requests == []
    assert inpainter_weights("inpainter.kind=lama") == DATA
