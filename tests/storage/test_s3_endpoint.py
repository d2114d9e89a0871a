"""Endpoints that cannot be used: told within seconds, by their names, without their passwords."""

import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path

import pytest
from botocore.exceptions import EndpointConnectionError

from inpaint_core.errors import ConfigError, StorageError
from inpaint_core.storage import S3Options, open_storage
from inpaint_core.storage.s3_endpoint import connection_fault

SECRET = "correct-horse"


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Some, and no AWS config but these variables."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
    }.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "config").touch()
    (tmp_path / "credentials").touch()


@pytest.fixture
def tls(tmp_path: Path) -> ssl.SSLContext:
    """Of a server with a certificate that nobody knows."""
    command = "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost"
    subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    return context


class Server(threading.Thread):
    """Accepts connections; with TLS, and an answer to plain requests, or without."""

    def __init__(self, context: ssl.SSLContext | None = None, plain_answer: bytes = b"") -> None:
        super().__init__(daemon=True)
        self._context = context
        self._plain_answer = plain_answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.start()

    def run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        try:
            if self._context is None:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            elif connection.recv(1, socket.MSG_PEEK) == b"\x16":
                self._context.wrap_socket(connection, server_side=True).close()
            elif self._plain_answer:
                connection.recv(65536)
                connection.sendall(self._plain_answer)
        except OSError:
            pass

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def message(endpoint: str) -> str:
    """Why an endpoint cannot be used; after half a second instead of six."""
    storage = open_storage("s3://bucket", S3Options(endpoint=endpoint))
    storage.retry_seconds = 0.5
    started = time.monotonic()
    with pytest.raises(StorageError) as caught:
        storage.check_readable()
    assert time.monotonic() - started < 10
    assert str(caught.value).startswith(f"s3://bucket at {endpoint}: ")
    return str(caught.value)


BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 48\r\nConnection: close\r\n\r\nClient sent an HTTP request to an HTTPS server.\n\n"


@pytest.mark.parametrize("plain_answer", [b"", BAD_REQUEST], ids=["breaks off", "answers 400"])
def test_http_to_a_port_of_https(tls: ssl.SSLContext, plain_answer: bytes) -> None:
    server = Server(tls, plain_answer)
    assert "it answers with TLS; use https:// in the endpoint" in message(f"http://127.0.0.1:{server.port}")
    server.close()


def test_https_to_a_port_of_http_and_an_unknown_certificate(tls: ssl.SSLContext) -> None:
    plain, encrypted = Server(), Server(tls)
    assert "it answers without TLS; use http:// in the endpoint" in message(f"https://127.0.0.1:{plain.port}")
    assert "the endpoint's certificate was refused" in message(f"https://127.0.0.1:{encrypted.port}")
    plain.close()
    encrypted.close()


def test_unknown_host_and_refused_connection() -> None:
    assert "its host name is not known (DNS)" in message("http://no-such-host.invalid:8333")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert "connection refused, even after" in message(f"http://127.0.0.1:{unused.getsockname()[1]}")


def test_no_route_is_named_through_the_layers_of_libraries() -> None:
    error = RuntimeError("of a library")
    error.__cause__ = EndpointConnectionError(endpoint_url="http://host", error=OSError(113, "No route to host"))
    assert connection_fault(error) == "no route to the host"
    assert connection_fault(RuntimeError("of something else")) is None


@pytest.mark.slow
def test_a_silent_endpoint_is_given_up_within_ten_seconds_though_the_patience_is_long() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        storage = open_storage("s3://bucket", S3Options(endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}"))
        started = time.monotonic()
        with pytest.raises(StorageError, match="cannot list: no answer in time, even after 5 s of retries"):
            storage.check_readable()
        assert 4 < time.monotonic() - started < 10


@pytest.mark.parametrize("where", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "config"])
def test_user_and_password_in_the_endpoint_of_aws_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, where: str
) -> None:
    endpoint = f"http://user:{SECRET}@127.0.0.1:1"
    if where == "config":
        (tmp_path / "config").write_text(f"[default]\nendpoint_url = {endpoint}\n")
    else:
        monkeypatch.setenv(where, endpoint)
    started = time.monotonic()
    with pytest.raises(
        ConfigError, match=r"contains a user name or password \(the part before '@'\): remove it"
    ) as caught:
        open_storage("s3://bucket").check_readable()
    assert time.monotonic() - started < 5
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("endpoint", [f"http://user:{SECRET}@host", f"user:{SECRET}@host:8333"])
def test_user_and_password_in_the_setting(endpoint: str) -> None:
    with pytest.raises(ConfigError, match=r"^s3\.endpoint contains a user name or password") as caught:
        open_storage("s3://bucket", S3Options(endpoint=endpoint))
    assert SECRET not in str(caught.value)
