"""The server of the page: one machine, one reviewer, any number of tabs."""

from __future__ import annotations

import json
import secrets
import socket
from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Any, Literal, assert_never, get_args

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from inpaint_core.errors import ConfigError, ImageError, ObjectError, UserError
from inpaint_core.progress import PrintLine
from inpaint_core.removal.catalogue.database import counts_by_label, counts_by_status, sort_expressions
from inpaint_core.removal.record import DECISIONS, SCHEMA
from inpaint_core.removal.report.page import FIGURES, sortable
from inpaint_core.removal.review.guard import Guard
from inpaint_core.removal.review.pictures import Served
from inpaint_core.removal.review.queries import Filter, UnknownValue
from inpaint_core.removal.review.session import Conflict, Review, Unknown

_PictureKind = Literal["thumbnail", "before", "after", "mask", "drawn", "fill"]
_MOST_BODY = 64 * 2**20
_PAGE = {
    "": ("page.html", "text/html; charset=utf-8"),
    "icon.svg": ("icon.svg", "image/svg+xml"),
    "page.css": ("page.css", "text/css; charset=utf-8"),
    "main.js": ("main.js", "text/javascript; charset=utf-8"),
    "list.js": ("list.js", "text/javascript; charset=utf-8"),
    "stage.js": ("stage.js", "text/javascript; charset=utf-8"),
    "brush.js": ("brush.js", "text/javascript; charset=utf-8"),
}

Endpoint = Callable[[Request], Awaitable[Response]]


def application(review: Review) -> Starlette:
    """The answers, without the guard before them."""
    answers = Answers(review)
    return Starlette(
        routes=[
            *[Route(f"/{name}", _page(*page)) for name, page in _PAGE.items()],
            Route("/api/about", _in_thread(answers.about)),
            Route("/api/records", _in_thread(answers.records)),
            Route("/api/record", _in_thread(answers.record)),
            Route("/api/changes", _in_thread(answers.changes)),
            Route("/api/decide", answers.decide, methods=["POST"]),
            Route("/api/fill", answers.fill, methods=["POST"]),
            Route("/picture", _in_thread(answers.picture)),
        ],
        exception_handlers={
            Conflict: _said(409),
            Unknown: _said(404),
            UnknownValue: _said(400),
            ImageError: _said(422),
            ObjectError: _said(404),
            UserError: _said(500),
            HTTPException: _said(None),
        },
    )


class Server:
    """The server of a review, on a port of 127.0.0.1.

    Args:
        review: what it shows.
        port: 0: a free one.

    Raises:
        ConfigError: the port cannot be had.
    """

    def __init__(self, review: Review, port: int = 0) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind(("127.0.0.1", port))
            self._socket.listen(128)  # the address is good as soon as it is printed
        except (OSError, OverflowError) as error:
            self._socket.close()
            raise ConfigError(f"--port: {port} cannot be used on 127.0.0.1 ({error}); choose another, or 0") from error
        self.port: int = self._socket.getsockname()[1]
        self.token = secrets.token_urlsafe(32)
        self.app: ASGIApp = Guard(application(review), self.token, self.port)
        self._server = uvicorn.Server(
            uvicorn.Config(
                self.app,
                log_level="warning",
                access_log=False,  # addresses hold the token
                server_header=False,
                proxy_headers=False,
                lifespan="off",
                ws="none",
                timeout_graceful_shutdown=3,
            )
        )

    @property
    def url(self) -> str:
        """The address with the token."""
        return f"http://127.0.0.1:{self.port}/{self.token}/"

    def run(self, print_line: PrintLine) -> None:
        """Serve until Ctrl-C, or until `stop`."""
        print_line(f"review: {self.url}\nCtrl-C ends it; decisions are stored at once")
        self._server.run(sockets=[self._socket])

    def stop(self) -> None:
        """End `run`, from another thread."""
        self._server.should_exit = True


class Answers:
    """The answers to the requests of the page.

    Args:
        review: what they are about.
    """

    def __init__(self, review: Review) -> None:
        self._review = review

    def about(self, request: Request) -> Response:
        """What does not change: places, columns, counts."""
        review = self._review
        return JSONResponse(
            {
                "output": review.output.uri,
                "input": review.source.uri if review.source else None,
                "reviewer": review.decided_by,
                "can_fill": review.can_fill,
                "seconds_between_looks": 2 * review.seconds_between_looks,
                "statuses": counts_by_status(review.database),
                "labels": counts_by_label(review.database, ("cleaned", "held", "unchanged")),
                "columns": {name: _label(name) for name in sort_expressions()},
                "docs": {name: SCHEMA.field(name).metadata[b"doc"].decode() for name in sort_expressions()},
                "counts": review.records.counts(),
                "sequence": review.records.sequence,
            }
        )

    def records(self, request: Request) -> Response:
        """A part of the list."""
        given = request.query_params
        self._review.look()
        wanted = Filter(
            sort=given.get("sort", ""),
            descending=given.get("dir") == "desc",
            status=given.get("status", ""),
            label=given.get("label", ""),
            text=given.get("q", ""),
            decided=given.get("decided", ""),
            until=_number(given.get("until"), "until") if "until" in given else None,
        )
        offset, limit = _number(given.get("offset", "0"), "offset"), _number(given.get("limit", "100"), "limit")
        return JSONResponse(self._review.records.page(wanted, offset, limit))

    def record(self, request: Request) -> Response:
        """One record with all its columns."""
        self._review.look()
        row = self._review.row(_key(request))
        figures = [
            [label, form.format(value)]
            for name, (label, form) in FIGURES.items()
            if (value := sortable(name, row[name])) is not None
        ]
        plain = {name: value.isoformat() if hasattr(value, "isoformat") else value for name, value in row.items()}
        return JSONResponse({**_finite(plain), "figures": figures})

    def changes(self, request: Request) -> Response:
        """Decisions since a number."""
        self._review.look()
        return JSONResponse(self._review.records.changes(_number(request.query_params.get("since", "0"), "since")))

    async def decide(self, request: Request) -> Response:
        """Keep a decision."""
        if request.headers.get("content-type", "").partition(";")[0] != "application/json":
            raise HTTPException(415, "send application/json")
        try:
            given = json.loads(await _body(request))
            texts = {name: given.get(name) for name in ("key", "decision", "fill", "mask", "seen")}
        except (ValueError, AttributeError, RecursionError) as error:
            raise HTTPException(400, "send a JSON object") from error
        if not all(value is None or isinstance(value, str) for value in texts.values()) or texts["key"] is None:
            raise HTTPException(400, "key, decision, fill, mask and seen are texts")
        if texts["decision"] not in (*DECISIONS, "none"):
            raise HTTPException(400, f"decision is one of {', '.join(DECISIONS)} and none")
        key, decision = texts.pop("key"), texts.pop("decision")
        decided = await run_in_threadpool(self._review.decide, key, decision, **texts)
        return JSONResponse(
            {
                "decision": None if decided.decision == "none" else decided.decision,
                "decision_id": decided.id,
                "decided_by": decided.decided_by,
                "decided_at": decided.decided_at.isoformat(),
                "mask": decided.mask,
                "counts": self._review.records.counts(),
            }
        )

    async def fill(self, request: Request) -> Response:
        """Fill the mask in the body, a PNG."""
        if request.headers.get("content-type") != "image/png":
            raise HTTPException(415, "send image/png")
        found = await run_in_threadpool(self._review.fill, _key(request), await _body(request))
        return JSONResponse({"fill": found.id})

    def picture(self, request: Request) -> Response:
        """A picture of an image."""
        kind, fill = _picture_kind(request.query_params.get("kind")), request.query_params.get("fill", "")
        row, pictures = self._review.row(_key(request)), self._review.pictures
        match kind:
            case "thumbnail":
                served = pictures.thumbnail(row)
            case "before":
                served = pictures.shown(pictures.original(row))
            case "after":
                served = pictures.shown(pictures.result(row))
            case "mask":
                served = pictures.mask(row)
            case "drawn":
                if row["mask"] is None:
                    raise Unknown("nobody drew a mask for this image")
                served = Served(pictures.drawn_mask(row["mask"]), "image/png")
            case "fill":
                served = pictures.shown(self._review.filled(row["key"], fill).data)
            case _:
                assert_never(kind)
        # The address of a picture changes with what it shows.
        return Response(served.data, media_type=served.media_type, headers={"Cache-Control": "private, max-age=600"})


def _label(name: str) -> str:
    return FIGURES[name][0] if name in FIGURES else name.replace("_", " ")


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    return {name: sortable("", value) for name, value in row.items()}


def _key(request: Request) -> str:
    if "key" not in request.query_params:
        raise HTTPException(400, "key is missing")
    return request.query_params["key"]


def _picture_kind(text: str | None) -> _PictureKind:
    kinds: tuple[_PictureKind, ...] = get_args(_PictureKind)
    for kind in kinds:
        if kind == text:
            return kind
    raise HTTPException(400, f"kind is one of {', '.join(kinds)}")


def _number(text: str | None, name: str) -> int:
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 12:
        raise HTTPException(400, f"{name} is a number")
    return int(text)


async def _body(request: Request) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > _MOST_BODY:
            raise HTTPException(413, "too large")
        parts.append(part)
    return b"".join(parts)


def _page(name: str, media_type: str) -> Endpoint:
    async def answer(request: Request) -> Response:
        data = files("inpaint_core.removal.review").joinpath("page", name).read_bytes()
        return Response(data, media_type=media_type)

    return answer


def _in_thread(answer: Callable[[Request], Response]) -> Endpoint:
    async def answered(request: Request) -> Response:
        return await run_in_threadpool(answer, request)

    return answered


def _said(code: int | None) -> Callable[[Request, Exception], Response]:
    def answer(request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException):
            return JSONResponse({"error": error.detail}, error.status_code)
        reason = error.reason if isinstance(error, ImageError) else str(error)
        return JSONResponse({"error": reason}, code or 500)

    return answer
