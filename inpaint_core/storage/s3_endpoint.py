"""Why an endpoint cannot be reached, in words for the user who has to fix it."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

from botocore.exceptions import ClientError, ConnectTimeoutError, ReadTimeoutError

from inpaint_core import errors

_SECONDS_TO_SHAKE_HANDS = 2.0

# What OpenSSL's versions call an answer that is no handshake.
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")
_TIMEOUTS = (TimeoutError, ConnectTimeoutError, ReadTimeoutError)
_NO_ROUTE = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN, errno.EADDRNOTAVAIL})


def has_user(url: str) -> bool:
    """Whether a URL holds a user name or password, which no request can be made with."""
    return "@" in url.partition("://")[2].partition("/")[0]


def connection_fault(error: BaseException) -> str | None:
    """A few words on why no connection was made; None where the error does not say, or there was one."""
    for cause in causes(error):
        if isinstance(cause, socket.gaierror):
            return "its host name is not known (DNS)"
        if isinstance(cause, ssl.SSLCertVerificationError):
            return None
        if isinstance(cause, ssl.SSLError):
            return "no TLS"
        if isinstance(cause, ConnectionRefusedError):
            return "connection refused"
        if isinstance(cause, OSError) and cause.errno in _NO_ROUTE:
            return "no route to the host"
    return None


def tls_mismatch(url: str, error: BaseException) -> str | None:
    """What is wrong with the scheme of an endpoint that was never reached; None: nothing that is known.

    Asks a server that broke off or refused a plain request for a TLS handshake.
    """
    found = list(causes(error))
    if urlsplit(url).scheme == "https":
        wrong = any(getattr(cause, "reason", None) in _NO_TLS for cause in found)
        return "it answers without TLS; use http:// in the endpoint, or the port of https" if wrong else None
    if isinstance(error, ClientError):
        response = error.response.get("Error", {})
        suspect = response.get("Code") in ("400", "BadRequest")  # what servers answer to a plain request, if anything
    else:
        suspect = connection_fault(error) is None and not any(isinstance(cause, _TIMEOUTS) for cause in found)
    if suspect and _shakes_hands(url):
        return "it answers with TLS; use https:// in the endpoint, or the port of http"
    return None


def is_certificate_fault(error: BaseException) -> bool:
    """Whether a certificate was refused."""
    return any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes(error))


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error, and those that it was made from: botocore keeps some of them only among its arguments."""

    def links(current: BaseException) -> tuple[BaseException | None, ...]:
        kept = getattr(current, "kwargs", {}).get("error")
        return current.__cause__, current.__context__, kept if isinstance(kept, BaseException) else None

    return errors.causes(error, links)


def _shakes_hands(url: str) -> bool:
    parts = urlsplit(url)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is sent
    try:
        address = (parts.hostname or "", parts.port or 80)
        with socket.create_connection(address, timeout=_SECONDS_TO_SHAKE_HANDS) as connection:
            context.wrap_socket(connection, server_hostname=parts.hostname).close()
    except (OSError, ValueError):
        return False
    return True
