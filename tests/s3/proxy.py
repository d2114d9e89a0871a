"""An HTTP proxy before a real S3 server, which refuses, stalls, resets or cuts chosen requests.

Requests travel as they are (path, query, headers, body), so that their signatures stay valid.
"""

from __future__ import annotations

import random
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import unquote, urlsplit

Kind = Literal["refuse", "busy", "missing", "unknown", "stall", "reset", "cut", "short", "lose"]

_CODES = {
    "refuse": (403, "AccessDenied"),
    "busy": (503, "SlowDown"),
    "missing": (404, "NoSuchKey"),
    "unknown": (501, "NotImplemented"),
}
# Of one connection only; and what `Expect` asks for is answered here.
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "expect"})


@dataclass
class Fault:
    """What is done to requests.

    `refuse`, `busy`, `missing`, `unknown`: answered with 403, 503, 404, 501 instead of being sent on. `stall`: sent on, and the answer is
    held back for `seconds`. `reset`: the connection breaks before the request is sent on. `cut`: half of the answer's
    body comes, then the connection breaks. `short`: half of the body comes, as if that were all. `lose`: the request is
    done, and the connection breaks before the answer.
    """

    kind: Kind
    methods: tuple[str, ...] = ("GET",)
    keys: str = ".+"
    """Pattern that the whole key in the bucket matches; requests for a listing have the key ''."""
    query: str = ".*"
    """Pattern that the whole query matches."""
    header: str = ""
    """Only requests that have this header, in lower case; empty: all."""
    message: str = "by the proxy"
    """What an answer with an error says."""
    probability: float = 1.0
    times: int | None = None
    """How many requests at most; None: all."""
    seconds: float = 3600.0
    hits: int = 0


@dataclass
class Request:
    """A request that came to the proxy. `fault` is what was done to it, `sent` the size of its body in bytes.

    `status` is what the server answered, whether or not that reached the client, and `answered` when (`time.monotonic`).
    """

    method: str
    key: str
    fault: Kind | None
    query: str
    headers: dict[str, str]
    """By name in lower case."""
    sent: int
    status: int | None = None
    answered: float | None = None

    @property
    def copies(self) -> bool:
        """Whether it asks the server to copy an object."""
        return "x-amz-copy-source" in self.headers


@dataclass
class FaultyProxy:
    """Listens on a free port of 127.0.0.1 until it is closed.

    Args:
        upstream: endpoint of the server, such as `http://127.0.0.1:8333`.
        seed: of the draws of faults with a probability. The order in which requests come is that of their threads.
    """

    upstream: str
    seed: int = 0
    faults: list[Fault] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    answers: list[Request] = field(default_factory=list)
    """Those of the requests that the server has answered, in the order of its answers."""

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._lock = threading.Lock()
        self.closing = threading.Event()
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def endpoint(self) -> str:
        """URL to give as `s3.endpoint`."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def reset(self) -> None:
        """As new: no faults, nothing noted down, the draws of the seed from the first one; stalled requests are let go."""
        with self._lock:
            self._random.seed(self.seed)
            self.faults = []
            self.requests.clear()
            self.answers.clear()
        self.closing.set()
        self.closing = threading.Event()

    def close(self) -> None:
        """Let go of stalled requests, and stop listening."""
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @contextmanager
    def failing(self, *faults: Fault) -> Iterator[None]:
        """These faults in the block, before those that are there already."""
        before = self.faults
        self.faults = [*faults, *before]
        try:
            yield
        finally:
            self.faults = before

    def choose(self, request: Request) -> Fault | None:
        """The fault of a request, which is counted and noted down; None: it is sent on."""
        with self._lock:
            chosen = next((fault for fault in self.faults if self._hits(fault, request)), None)
            if chosen is not None:
                chosen.hits += 1
                request.fault = chosen.kind
            self.requests.append(request)
            return chosen

    def _hits(self, fault: Fault, request: Request) -> bool:
        return (
            request.method in fault.methods
            and re.fullmatch(fault.keys, request.key, re.DOTALL) is not None
            and re.fullmatch(fault.query, request.query) is not None
            and (not fault.header or fault.header in request.headers)
            and (fault.times is None or fault.hits < fault.times)
            and (fault.probability >= 1 or self._random.random() < fault.probability)
        )


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, proxy: FaultyProxy) -> None:
        self.proxy = proxy
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that went away are no news."""


@dataclass
class _Answer:
    status: int
    reason: str
    headers: HTTPMessage
    body: bytes


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        key = unquote(url.path).lstrip("/").partition("/")[2]
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, key, None, url.query, headers, len(body))
        fault = self.server.proxy.choose(request)
        if fault is not None and fault.kind == "reset":
            return self._break()
        if fault is not None and fault.kind in _CODES:
            return self._refuse(*_CODES[fault.kind], fault.message)
        try:
            answer = self._ask(body)
        except (OSError, HTTPException):
            return self._break()
        request.status, request.answered = answer.status, time.monotonic()
        self.server.proxy.answers.append(request)
        if fault is None:
            return self._send(answer, answer.body)
        half = answer.body[: len(answer.body) // 2]
        match fault.kind:
            case "short":
                self._send(answer, half)
            case "cut":
                self._send(answer, half, length=len(answer.body))
                self._break()
            case "stall":
                self.server.proxy.closing.wait(fault.seconds)
                self._send(answer, answer.body)
            case "lose":
                self._break()
            case _:
                raise AssertionError(f"no answer is changed by a fault of kind {fault.kind}")

    do_PUT = do_POST = do_DELETE = do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""

    def _ask(self, body: bytes) -> _Answer:
        upstream = urlsplit(self.server.proxy.upstream)
        connection = HTTPConnection(upstream.hostname or "", upstream.port, timeout=60)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in _HOP_BY_HOP:
                    connection.putheader(name, value)
            connection.endheaders(body or None)
            answer = connection.getresponse()
            return _Answer(answer.status, answer.reason, answer.headers, answer.read())
        finally:
            connection.close()

    def _send(self, answer: _Answer, body: bytes, length: int | None = None) -> None:
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.headers.items():
            if name.lower() not in _HOP_BY_HOP | {"content-length"}:
                self.send_header(name, value)
        if self.command == "HEAD":
            length = int(answer.headers.get("Content-Length") or 0)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def _refuse(self, status: int, code: str, message: str) -> None:
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
        self.send_response_only(status, code)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _break(self) -> None:
        """End the connection with a reset, not with an orderly end."""
        self.wfile.flush()
        time.sleep(0.01)  # what was sent is read before the reset throws it away
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()
