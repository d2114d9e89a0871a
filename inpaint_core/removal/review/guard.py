"""Who may send requests to the server of the page: only the page itself, in a browser of this machine, by an address with the token.

The token is part of the path, which other sites cannot know. The Host header is checked too: another site whose name resolves to
127.0.0.1 (DNS rebinding) is refused. No answer allows another origin to read it.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from types import MappingProxyType

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cache-Control": "no-store",
    }
)
"""Of every answer, unless it has its own."""


class Guard:
    """Refuses requests without the token, for another host, or from another site; the rest of the path is handed on.

    Args:
        app: answers the others.
        token: what the path begins with.
        port: of the server.
    """

    def __init__(self, app: ASGIApp, token: str, port: int) -> None:
        self._app = app
        self._token = token.encode()
        self._hosts = frozenset({f"127.0.0.1:{port}", f"localhost:{port}"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            await PlainTextResponse(f"{refusal}\n", 403)(scope, receive, with_headers)
            return
        path = "/" + scope["path"].split("/", 2)[2]
        await self._app({**scope, "path": path, "raw_path": None, "root_path": ""}, receive, with_headers)

    def _refusal(self, scope: Scope) -> str | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            return "Wrong Host header: open the address that inpaint review printed."
        parts = scope["path"].split("/", 2)
        if len(parts) != 3 or parts[0] or not hmac.compare_digest(parts[1].encode(), self._token):
            return "The address lacks the token of this review: open the address that inpaint review printed."
        if headers.get("origin", f"http://{hosts[0]}").lower() != f"http://{hosts[0].lower()}":
            return "The request came from another site."
        if scope["method"] not in ("GET", "HEAD") and headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return "The request came from another site."
        return None
